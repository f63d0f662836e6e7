"""HiGHS behind a few functions: a model by columns, solved as it is or with whole units.

Source: Q. Huangfu and J. A. J. Hall, Mathematical Programming Computation 10, 2018.
"""

from __future__ import annotations

import time
from typing import Any

import highspy
import msgspec
import numpy as np
from scipy import sparse

from polysilicon.errors import InfeasibleError, PolysiliconError
from polysilicon.placement.certify import Duals
from polysilicon.placement.effort import BESIDES, CHECK_S, ITERATION_S, LAST_RESORT, SLOW
from polysilicon.placement.program import Codes, Numbers, Program

TOLERANCE = 1e-7
_INFEASIBLE = (
    highspy.HighsModelStatus.kInfeasible,
    highspy.HighsModelStatus.kUnboundedOrInfeasible,
)


class Whole(msgspec.Struct, frozen=True, kw_only=True):
    """An answer with whole units.

    Attributes:
        units: shape (pools,).
        share: of the chosen pairs.
        bound: no answer over these pairs costs less.
    """

    units: Numbers
    share: Numbers
    bound: float


class Model:
    """The relaxation of a program over some of its pairs, to which further pairs can be added.

    Args:
        program: the whole of it.
        chosen: pairs to begin with.
        shortfall: cost of leaving all of a class unserved; None where that is not allowed.
        scale: what all costs are multiplied by, so that tolerances mean something.

    Attributes:
        effort_s: nominal seconds that it has taken so far.
    """

    def __init__(
        self, program: Program, chosen: Codes, scale: float, shortfall: Numbers | None = None
    ) -> None:
        self.program, self.scale = program, scale
        self.chosen = chosen
        self._slack = 0 if shortfall is None else program.classes
        self._highs = _new()
        self.effort_s = 0.0
        k, r = program.classes, len(program.row_pool)
        matrix = program.matrix(chosen)
        costs = np.concatenate([program.unit_cost, program.pair_cost[chosen]]) * scale
        if shortfall is not None:
            slack = sparse.eye(matrix.shape[0], k, format="csc")
            matrix = sparse.hstack([slack, matrix], format="csc")
            costs = np.concatenate([shortfall * scale, costs])
        limits = np.array([row.limit for row in program.rows])
        self._model = highspy.HighsLp()
        model = self._model
        model.num_col_, model.num_row_ = matrix.shape[1], matrix.shape[0]
        model.col_cost_ = costs
        model.col_lower_ = np.zeros(len(costs))
        model.col_upper_ = np.full(len(costs), highspy.kHighsInf)
        model.row_lower_ = np.concatenate(
            [np.ones(k), np.full(r + len(limits), -highspy.kHighsInf)]
        )
        model.row_upper_ = np.concatenate([np.ones(k), np.zeros(r), limits])
        model.a_matrix_.format_ = highspy.MatrixFormat.kColwise
        model.a_matrix_.start_ = matrix.indptr
        model.a_matrix_.index_ = matrix.indices
        model.a_matrix_.value_ = matrix.data

    def relax(self) -> bool:
        """Solve with units in fractions; tell whether there is an answer."""
        if self._highs.getNumCol() == 0:
            self._highs.passModel(self._model)
            if len(self.program.row_pool) == len(self.program.unit_cost):
                self._highs.setBasis(self._start())
        self._run()
        if self._highs.getModelStatus() == highspy.HighsModelStatus.kUnknown:
            # Simplex lost its way from where it stood; from the beginning it finds it.
            self._highs.clearSolver()
            self._run()
        return _solved(self._highs)

    def _run(self) -> None:
        self._highs.run()
        steps = max(int(self._highs.getInfo().simplex_iteration_count), 0)
        self.effort_s += ITERATION_S * steps * self._highs.getNumNz()

    def _start(self) -> Any:
        """Return the basis of the optimum without side rows: each class where it is cheapest.

        Its duals are those of that optimum, so that only the side rows are left to be met.
        """
        program, chosen = self.program, self.chosen
        pools, side = len(program.unit_cost), len(program.rows)
        order = np.lexsort((program.money[chosen], program.pair_class[chosen]))
        _, first = np.unique(program.pair_class[chosen][order], return_index=True)
        basic = np.zeros(self._model.num_col_, dtype=bool)
        basic[self._slack : self._slack + pools] = True
        basic[self._slack + pools + order[first]] = True
        status = highspy.HighsBasisStatus
        found = highspy.HighsBasis()
        found.col_status = [status.kBasic if one else status.kLower for one in basic]
        found.row_status = [
            *[status.kLower] * program.classes,
            *[status.kUpper] * len(program.row_pool),
            *[status.kBasic] * side,
        ]
        found.valid = True
        return found

    def add(self, pairs: Codes) -> None:
        """Add pairs."""
        columns = self.program.matrix(pairs)[:, len(self.program.unit_cost) :]
        costs = self.program.pair_cost[pairs] * self.scale
        most = np.full(len(pairs), highspy.kHighsInf)
        self._highs.addCols(
            len(pairs),
            costs,
            np.zeros(len(pairs)),
            most,
            columns.nnz,
            columns.indptr[:-1].astype(np.int32),
            columns.indices,
            columns.data,
        )
        self.chosen = np.concatenate([self.chosen, pairs])

    def fix(self, pools: Codes, units: Numbers) -> None:
        """Hold the units of some pools at numbers."""
        at = (self._slack + pools).astype(np.int32)
        self._highs.changeColsBounds(len(at), at, units, units)

    def values(self) -> tuple[Numbers, Numbers, Numbers]:
        """Return unserved shares of classes, units, and shares of the chosen pairs."""
        found = np.asarray(self._highs.getSolution().col_value)
        pools = self._slack + len(self.program.unit_cost)
        return found[: self._slack], found[self._slack : pools], found[pools:]

    def duals(self) -> Duals:
        """Return the duals of all rows.

        A pool without machines has many: the solver may price its room at nothing. The largest that
        its units allow are taken, which leave the fewest pairs worth a look.
        """
        found = np.asarray(self._highs.getSolution().row_dual) / self.scale
        k = self.program.classes
        r = k + len(self.program.row_pool)
        capacity, side = np.maximum(-found[k:r], 0.0), np.maximum(-found[r:], 0.0)
        over = np.maximum(self.program.reduced_units(capacity, side), 0.0)
        rows = np.bincount(self.program.row_pool, minlength=len(over))
        capacity = capacity + (over / np.maximum(rows, 1))[self.program.row_pool]
        return Duals(demand=found[:k], capacity=capacity, side=side)

    def whole(
        self, gap: float, limit_s: float, start: tuple[Numbers, Numbers] | None
    ) -> Whole | None:
        """Solve with whole units; None where no answer was found in time.

        Args:
            gap: relative, at which to stop.
            limit_s: nominal seconds after which the best answer so far is taken.
            start: units and shares of an answer that is known.

        Raises:
            InfeasibleError: there is none over these pairs.
        """
        assert not self._slack
        highs, pools = _new(), len(self.program.unit_cost)
        kinds = np.zeros(self._model.num_col_, dtype=np.uint8)
        kinds[:pools] = 1
        self._model.integrality_ = [
            highspy.HighsVarType.kInteger if kind else highspy.HighsVarType.kContinuous
            for kind in kinds
        ]
        highs.setOptionValue("mip_rel_gap", gap)
        highs.setOptionValue("time_limit", LAST_RESORT * max(limit_s, 0.1))
        highs.passModel(self._model)
        check_s = CHECK_S * (highs.getNumNz() + BESIDES)
        until_s = self.effort_s + limit_s
        clock_s = time.thread_time() + SLOW * limit_s

        def looked(event: Any) -> None:
            self.effort_s += check_s
            if self.effort_s > until_s or time.thread_time() > clock_s:
                event.interrupt()

        highs.cbMipInterrupt += looked
        if start is not None:
            known = highspy.HighsSolution()
            known.col_value = list(np.concatenate(start))
            highs.setSolution(known)
        highs.run()
        if highs.getModelStatus() in _INFEASIBLE:
            raise InfeasibleError("no whole number of machines will do")
        info = highs.getInfo()
        if info.primal_solution_status != highspy.SolutionStatus.kSolutionStatusFeasible:
            return None
        found = np.asarray(highs.getSolution().col_value)
        return Whole(
            units=np.round(found[:pools]),
            share=found[pools:],
            bound=info.mip_dual_bound / self.scale,
        )


def _new() -> Any:
    """Return a solver: quiet, one thread."""
    highs = highspy.Highs()
    for name, value in (
        ("output_flag", False),
        ("threads", 1),
        ("primal_feasibility_tolerance", TOLERANCE),
        ("dual_feasibility_tolerance", TOLERANCE),
        ("mip_feasibility_tolerance", TOLERANCE),
    ):
        highs.setOptionValue(name, value)
    return highs


def _solved(highs: Any) -> bool:
    """Tell whether there is an answer.

    Raises:
        PolysiliconError: the solver gave up.
    """
    status = highs.getModelStatus()
    if status in _INFEASIBLE:
        return False
    if status not in (highspy.HighsModelStatus.kOptimal, highspy.HighsModelStatus.kTimeLimit):
        raise PolysiliconError(f"HiGHS: {highs.modelStatusToString(status)}")
    return True

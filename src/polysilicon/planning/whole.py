"""The master program with whole units."""

from __future__ import annotations

import highspy
import numpy as np

from polysilicon.planning.clock import Clock, OutOfTime
from polysilicon.planning.linear import LIMITED, InfeasibleMaster, check, new, stopped_by
from polysilicon.planning.master import Master
from polysilicon.planning.problem import Numbers


def whole_units(
    master: Master, gap: float, clock: Clock, fixed: Numbers | None = None
) -> tuple[Numbers, float]:
    """Solve with whole units; return x, shape (N,), and a bound.

    Args:
        master: with its cuts.
        gap: relative, at which to stop.
        clock: says when to take the best that was found.
        fixed: units of all columns, of which the whole ones are kept; the bound is of these only.

    Raises:
        InfeasibleMaster: there are none.
        OutOfTime: none were found in time.
    """
    while True:
        highs = new()
        highs.passModel(master.highs.getLp())
        inside = np.flatnonzero(master.whole[master.inside])
        for at in inside.tolist():
            if fixed is None:
                highs.changeColIntegrality(master.base + at, highspy.HighsVarType.kInteger)
            else:
                units = float(fixed[master.inside[at]])
                highs.changeColBounds(master.base + at, units, units)
        highs.setOptionValue("presolve", "choose")
        highs.setOptionValue("mip_rel_gap", gap)
        highs.setOptionValue("mip_abs_gap", 0.0)
        stopped_by(highs, clock)
        highs.run()
        info, status = highs.getInfo(), highs.getModelStatus()
        if info.primal_solution_status != highspy.SolutionStatus.kSolutionStatusFeasible:
            if status in LIMITED:
                raise OutOfTime("no whole units were found in time")
            check(highs, status)
        x = master.values(np.asarray(highs.getSolution().col_value))
        x[master.whole] = np.round(x[master.whole])
        broken = master.limits(x)
        if not broken:
            return x, master.money * float(info.mip_dual_bound)
        for limit in broken:
            master.add_limit(limit)


def nearly(master: Master, x: Numbers, gap: float, limit_s: float) -> Numbers:
    """Return an answer in whole units that is found at once, or nearly.

    Args:
        master: with its cuts.
        x: an answer in parts of units, shape (N,).
        gap: relative, at which to stop.
        limit_s: seconds for each of three attempts.

    Raises:
        OutOfTime: none was found.
    """
    near = np.abs(x - np.round(x)) < 1e-6
    for fixed in (None, np.where(near, np.round(x), np.ceil(x)), np.floor(x + 1e-6)):
        try:
            return whole_units(master, gap, Clock(limit_s), fixed)[0]
        except (OutOfTime, InfeasibleMaster):
            continue
    raise OutOfTime("no whole units were found in time")

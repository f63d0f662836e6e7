"""Whole units for the master program: searched for, or rounded where the time is too short."""

from __future__ import annotations

import time
from typing import Any

import highspy
import numpy as np

from polysilicon.errors import PolysiliconError
from polysilicon.planning.linear import INFEASIBLE, UNBOUNDED, check, new
from polysilicon.planning.problem import INF, Numbers
from polysilicon.planning.supply import Codes

_PATIENCE_S = 60.0
"""For the first plan in whole units, where rounding gives none."""

Found = tuple[Numbers, float]
"""Values of the program's columns, and a bound on its objective."""


def whole(lp: Any, places: Codes, parts: Numbers, gap: float, until: float) -> Found:
    """Return a solution in whole units, and a bound that may tell nothing.

    Args:
        lp: the program in parts of units, as HiGHS has it.
        places: columns that must be whole.
        parts: a solution in parts of units.
        gap: at which to stop.
        until: when to stop, by `time.perf_counter`.

    Raises:
        InfeasibleMaster: there is none.
        PolysiliconError: none was found, long after the time was over.
    """
    left_s = until - time.perf_counter()
    found = searched(lp, places, gap, left_s) if left_s > 0 else None
    if found is not None and time.perf_counter() < until:
        return found
    # The best of too short a search may be much worse than parts of units, rounded.
    near = rounded(lp, places, parts)
    both = [one for one in (found, near) if one is not None]
    if not both:
        both = [one for one in (searched(lp, places, INF, _PATIENCE_S),) if one is not None]
    if not both:
        mend = "give it more with --time"
        raise PolysiliconError(f"no plan in whole units was found in time; {mend}")
    price = np.asarray(lp.col_cost_)
    best = min(both, key=lambda one: float(price @ one[0]))
    return best[0], max(bound for _, bound in both)


def searched(lp: Any, places: Codes, gap: float, limit_s: float) -> Found | None:
    """Return the best that is found in some seconds; None where that is nothing."""
    highs = new()
    highs.passModel(lp)
    for at in places.tolist():
        highs.changeColIntegrality(at, highspy.HighsVarType.kInteger)
    highs.setOptionValue("presolve", "choose")
    highs.setOptionValue("mip_rel_gap", gap)
    highs.setOptionValue("mip_abs_gap", 0.0)
    highs.setOptionValue("time_limit", limit_s)
    highs.run()
    status, info = highs.getModelStatus(), highs.getInfo()
    if status in (*INFEASIBLE, *UNBOUNDED):
        check(highs, status)
    if info.primal_solution_status != highspy.SolutionStatus.kSolutionStatusFeasible:
        return None
    return np.asarray(highs.getSolution().col_value), float(info.mip_dual_bound)


def rounded(lp: Any, places: Codes, parts: Numbers) -> Found | None:
    """Return a solution with its units rounded up, or else to the nearest.

    The other columns are solved around them. None where that breaks a row; the bound tells nothing.
    """
    low, high = (np.asarray(ends)[places] for ends in (lp.col_lower_, lp.col_upper_))
    for units in (np.ceil(parts[places] - 1e-6), np.round(parts[places])):
        highs = new()
        highs.passModel(lp)
        fixed = np.clip(units, low, high)
        highs.changeColsBounds(len(places), places.astype(np.int32), fixed, fixed)
        highs.run()
        if highs.getModelStatus() == highspy.HighsModelStatus.kOptimal:
            return np.asarray(highs.getSolution().col_value), -INF
    return None

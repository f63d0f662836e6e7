"""The cheapest plan, or why there is none."""

from __future__ import annotations

from collections.abc import Callable

from polysilicon.errors import PolysiliconError
from polysilicon.planning.answer import Answer, Progress, Warm
from polysilicon.planning.check import check
from polysilicon.planning.clock import Clock, Stop
from polysilicon.planning.conflict import refusal
from polysilicon.planning.linear import InfeasibleMaster
from polysilicon.planning.problem import Problem
from polysilicon.planning.search import LATE, SERVED, searched


def solve(
    problem: Problem,
    *,
    gap: float = 0.005,
    time_s: float = 60.0,
    progress: Callable[[Progress], None] | None = None,
    stop: Stop | None = None,
    warm: Warm | None = None,
) -> Answer:
    """Return the cheapest plan within a gap, or the best that was found in time.

    Args:
        problem: what is planned.
        gap: relative, at which to stop.
        time_s: seconds after which to stop.
        progress: told after each round.
        stop: asked often; True ends the search as time does.
        warm: what an earlier solve of a similar problem left.

    Raises:
        InputError: numbers that make no sense.
        ConflictError: no plan exists.
        PolysiliconError: none was found in time.
    """
    found = attempt(problem, gap=gap, time_s=time_s, progress=progress, stop=stop, warm=warm)
    if found is None:
        raise refusal(problem, stop)
    return found


def attempt(
    problem: Problem,
    *,
    gap: float,
    time_s: float,
    progress: Callable[[Progress], None] | None = None,
    stop: Stop | None = None,
    warm: Warm | None = None,
) -> Answer | None:
    """Return what `solve` does; None, and not why, where there is no plan.

    Raises:
        PolysiliconError: none was found in time.
    """
    clock = Clock(time_s, stop)
    check(problem)
    try:
        search, status = searched(problem, warm, clock, gap, progress)
    except InfeasibleMaster:
        return None
    if search.unserved() > SERVED:
        if status != "optimal":
            raise PolysiliconError(LATE)
        return None
    return search.answer(status)

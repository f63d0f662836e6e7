"""What is asked of a plan beside itself: regret, worth of scenarios, and of signing anything."""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec
import numpy as np

from polysilicon.errors import InfeasibleError
from polysilicon.planning.answer import Answer
from polysilicon.planning.compose import Composed
from polysilicon.planning.plan import Worth
from polysilicon.planning.problem import Problem, only
from polysilicon.planning.solve import solve
from polysilicon.planning.summary import Explored

GAP = 0.005
"""Of the problems that are solved beside the plan."""

LEAST_S = 0.2


class Asking:
    """Solves problems beside the plan until its time is over.

    Args:
        time_s: for all of them.
        stop: says that no more are to be solved.
    """

    def __init__(self, time_s: float, stop: Callable[[], bool] | None) -> None:
        self._end_s = time.perf_counter() + time_s
        self._stop = stop

    def cost_usd(self, problem: Problem) -> float | None:
        """Return what a problem costs at best; None where time is over or no plan exists."""
        left_s = self._end_s - time.perf_counter()
        if left_s < LEAST_S or (self._stop is not None and self._stop()):
            return None
        try:
            found = solve(problem, gap=GAP, time_s=left_s, stop=self._stop)
        except InfeasibleError:
            return None
        return found.cost_usd if found.status == "optimal" else None


def explore(
    composed: Composed, answer: Answer, time_s: float, stop: Callable[[], bool] | None
) -> Explored:
    """Return what was found out within some seconds; what was not stays unknown.

    Args:
        composed: the problem.
        answer: to it.
        time_s: for all of it.
        stop: ends it.
    """
    asking, problem = Asking(time_s, stop), composed.problem
    nothing = asking.cost_usd(unsigned(problem)) if problem.contracts else None
    if len(problem.scenarios) == 1:
        return Explored(worth=Worth(nothing_usd=nothing))
    best = [asking.cost_usd(only(problem, [at])) for at in range(len(problem.scenarios))]
    known = [cost for cost in best if cost is not None]
    if len(known) < len(best):
        return Explored(worth=Worth(nothing_usd=nothing))
    regret = np.maximum(answer.scenario_usd - np.array(known), 0.0)
    # Against the mean, whatever risk counts: what knowing saves on average.
    worth = Worth(perfect_usd=float(problem.probability @ regret), nothing_usd=nothing)
    return Explored(regret_usd=regret.tolist(), worth=worth)


def unsigned(problem: Problem) -> Problem:
    """Return a problem in which nothing more can be signed."""
    contracts = tuple(msgspec.structs.replace(one, orders=()) for one in problem.contracts)
    return msgspec.structs.replace(problem, contracts=contracts)

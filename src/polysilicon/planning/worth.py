"""What it is worth to plan for all scenarios, and to know which one comes.

    WS   wait and see: each scenario planned by itself, as if it were known
    SP   the plan for all scenarios
    EEV  the plan for mean demand and prices, priced on all scenarios
    WS ≤ SP ≤ EEV; perfect information is worth SP - WS, the plan for all scenarios EEV - SP.

Source: J. R. Birge and F. Louveaux, Introduction to Stochastic Programming, 2011, chapter 4.
"""

from __future__ import annotations

import msgspec
import numpy as np

from polysilicon.errors import InfeasibleError, PolysiliconError
from polysilicon.planning.answer import Answer
from polysilicon.planning.clock import Stop
from polysilicon.planning.derive import mean_of, only
from polysilicon.planning.fix import cost, units_of
from polysilicon.planning.problem import Numbers, Problem
from polysilicon.planning.solve import solve


class Worth(msgspec.Struct, frozen=True, kw_only=True):
    """What planning for all scenarios is worth.

    Attributes:
        wait_and_see_usd: of each scenario planned by itself, shape (S,).
        mean_plan_usd: the plan for the mean, priced on all scenarios by the problem's own weight of
            risk; inf where it leaves demand that must be served.
        perfect_information_usd: what it is worth to know the scenario, at the most by the gaps.
        stochastic_solution_usd: what it is worth not to plan for the mean only, by the problem's
            own weight of risk.
        regret_usd: of the plan in each scenario, against the plan for it alone; shape (S,).
    """

    wait_and_see_usd: Numbers
    mean_plan_usd: float
    perfect_information_usd: float
    stochastic_solution_usd: float
    regret_usd: Numbers


def worth(
    problem: Problem,
    answer: Answer,
    *,
    gap: float = 0.001,
    time_s: float = 60.0,
    stop: Stop | None = None,
) -> Worth:
    """Return what an answer is worth beside plans for single scenarios and for the mean.

    What it is worth to know is a mean over scenarios; plans are compared by the weight of risk.

    Args:
        problem: that the answer is of.
        answer: priced as it is.
        gap: of each smaller solve.
        time_s: of all of them.
        stop: ends it.

    Raises:
        PolysiliconError: there was no time for the gap; what a worse plan tells is of no worth.
    """
    s = problem.shape[0]
    neutral = msgspec.structs.replace(problem, risk_weight=0.0)
    share = time_s / (s + 2)

    def best(case: Problem) -> Answer:
        found = solve(case, gap=gap, time_s=share, stop=stop)
        if found.status != "optimal":
            raise PolysiliconError("no time for what the plan is worth; allow more")
        return found

    alone = np.array([best(only(neutral, [one])).lower_bound_usd for one in range(s)])
    middle = best(mean_of(neutral))
    try:
        mean_plan = cost(problem, units_of(middle), gap=gap, time_s=share, stop=stop).cost_usd
    except InfeasibleError:
        mean_plan = float("inf")
    here = answer.mean_usd
    return Worth(
        wait_and_see_usd=alone,
        mean_plan_usd=mean_plan,
        perfect_information_usd=max(here - float(problem.probability @ alone), 0.0),
        stochastic_solution_usd=max(mean_plan - answer.cost_usd, 0.0),
        regret_usd=np.maximum(answer.scenario_usd - alone, 0.0),
    )

"""Sums that a plan tells, and what they rest on."""

from __future__ import annotations

from collections.abc import Sequence

from polysilicon.planning.answer import Answer
from polysilicon.planning.plan import ScenarioCost
from polysilicon.planning.problem import Problem

_RIGHTS = (
    "rights are used as the months before tell; scenarios that differ early are told apart early, "
    "so rights may be worth less than is reckoned"
)


def left_usd(problem: Problem, answer: Answer) -> float:
    """Return dollars paid by the hour, mean over scenarios."""
    return sum(
        float(problem.probability @ one.usd @ problem.money)
        for one in answer.served
        if one.kind in ("on_demand", "spot")
    )


def scenario_costs(
    problem: Problem, answer: Answer, regret_usd: Sequence[float]
) -> list[ScenarioCost]:
    """Return what each scenario costs.

    Args:
        problem: of the scenarios.
        answer: to it.
        regret_usd: of each scenario; empty where it was not worked out.
    """
    regret: list[float | None] = [*regret_usd] or [None] * len(problem.scenarios)
    return [
        ScenarioCost(scenario=name, probability=float(p), cost_usd=float(usd), regret_usd=r)
        for name, p, usd, r in zip(
            problem.scenarios, problem.probability, answer.scenario_usd, regret, strict=True
        )
    ]


def told_of_rights(problem: Problem) -> list[str]:
    """Return what the worth of rights rests on, where there are any and several scenarios."""
    some = any(getattr(one, "rights", ()) for one in problem.contracts)
    return [_RIGHTS] if some and len(problem.scenarios) > 1 else []

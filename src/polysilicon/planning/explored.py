"""What is asked of a plan beside itself: regret, worth of scenarios, alternatives."""

from __future__ import annotations

from collections.abc import Callable

from polysilicon.planning.answer import Answer
from polysilicon.planning.compose import Composed
from polysilicon.planning.summary import NOTHING, Explored


def explore(
    composed: Composed, answer: Answer, time_s: float, stop: Callable[[], bool] | None
) -> Explored:
    return NOTHING

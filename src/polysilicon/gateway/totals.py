"""The ledger so far: sums of the steps by what they belong to, kept as steps end."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from polysilicon.workload.record import StepRecord

_MOST_GROUPS = 2000
_OTHERS = "(others)"

Group = tuple[str, str, str, str]
"""Agent, kind, model (or the step's name where it has none) and pool."""


@dataclass(slots=True)
class Sums:
    """Sums of the steps of one group; `unpriced` of them have no cost, which is in no sum."""

    steps: int = 0
    failed: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    busy_s: float = 0.0
    cost_usd: float = 0.0
    energy_j: float = 0.0
    unpriced: int = 0

    def add(self, step: StepRecord) -> None:
        """Count a step."""
        self.steps += 1
        self.failed += step.outcome != "ok"
        self.prompt_tokens += step.prompt_tokens or 0
        self.cached_tokens += step.cached_tokens or 0
        self.output_tokens += step.output_tokens or 0
        if step.start_s is not None and step.end_s is not None:
            self.busy_s += step.end_s - step.start_s
        self.cost_usd += step.cost_usd or 0.0
        self.energy_j += step.energy_j or 0.0
        self.unpriced += step.cost_usd is None

    def include(self, other: Sums) -> None:
        """Add the sums of another group."""
        self.steps += other.steps
        self.failed += other.failed
        self.prompt_tokens += other.prompt_tokens
        self.cached_tokens += other.cached_tokens
        self.output_tokens += other.output_tokens
        self.busy_s += other.busy_s
        self.cost_usd += other.cost_usd
        self.energy_j += other.energy_j
        self.unpriced += other.unpriced


class Totals:
    """Sums by group; agents' names come from callers, so there are at most so many groups."""

    def __init__(self) -> None:
        self.by_group: dict[Group, Sums] = {}
        self.all = Sums()

    def include(self, groups: Iterable[tuple[Group, Sums]]) -> None:
        """Add sums of steps that are no more."""
        for group, sums in groups:
            self.by_group.setdefault(group, Sums()).include(sums)
            self.all.include(sums)

    def add(self, step: StepRecord) -> None:
        """Count a step."""
        group = (step.agent or "", step.kind, step.model or step.name, step.pool or "")
        if group not in self.by_group and len(self.by_group) >= _MOST_GROUPS:
            group = (_OTHERS, step.kind, _OTHERS, step.pool or "")
        self.by_group.setdefault(group, Sums()).add(step)
        self.all.add(step)

"""What came of a simulation, counted while it goes on, in memory that does not grow with it.

Seconds are counted in bins that are 0.2 % wide, so that a quantile is within 0.1 % of the exact
one. Zero has a bin of its own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from polysilicon.schedule.types import Codes, Floats

SHARES = (0.5, 0.9, 0.99)

# Less than this is what is left of a difference of large numbers.
_LEAST_WAIT_S = 1e-9

_WIDTH = math.log1p(0.002)
_LEAST = math.log(1e-9)
_BINS = 2 + math.ceil((math.log(1e10) - _LEAST) / _WIDTH)


class Quantiles(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds that a half, nine and ninety-nine of a hundred do not exceed; None of none."""

    p50: float | None
    p90: float | None
    p99: float | None


def binned(values: Floats) -> Codes:
    """Return the bin of each of some seconds, -1 of what is not a number."""
    with np.errstate(divide="ignore"):
        place = np.floor((np.log(np.maximum(values, 0.0)) - _LEAST) / _WIDTH) + 1.0
    place = np.clip(place, 0, _BINS - 1)
    return np.where(np.isnan(place), -1.0, place).astype(np.int64)


class Seconds:
    """Seconds by group, of any number of values."""

    def __init__(self) -> None:
        self._counts = np.zeros((0, _BINS), np.int64)

    def add(self, bins: Codes, groups: Codes) -> None:
        """Count values.

        Args:
            bins: of the values, by `binned`; those of -1 are left out.
            groups: codes from 0, shape (n,).
        """
        if (bins < 0).any():
            bins, groups = bins[bins >= 0], groups[bins >= 0]
        if not len(bins):
            return
        more = int(groups.max()) + 1 - len(self._counts)
        if more > 0:
            self._counts = np.concatenate((self._counts, np.zeros((more, _BINS), np.int64)))
        flat = np.bincount(groups * _BINS + bins, minlength=self._counts.size)
        self._counts += flat.reshape(self._counts.shape)

    def count(self, group: int) -> int:
        """Return how many values a group has."""
        return int(self._counts[group].sum()) if group < len(self._counts) else 0

    def of(self, group: int | None = None) -> Quantiles:
        """Return quantiles of a group, or of all together."""
        if group is None:
            counts = self._counts.sum(axis=0)
        elif group < len(self._counts):
            counts = self._counts[group]
        else:
            counts = np.zeros(_BINS, np.int64)
        p50, p90, p99 = (_quantile(counts, share) for share in SHARES)
        return Quantiles(p50=p50, p90=p90, p99=p99)


def _quantile(counts: Codes, share: float) -> float | None:
    """Return the middle of the bin in which the nearest rank lies."""
    total = int(counts.sum())
    if total == 0:
        return None
    place = int(np.searchsorted(np.cumsum(counts), math.ceil(share * total)))
    return 0.0 if place == 0 else math.exp(_LEAST + (place - 0.5) * _WIDTH)


class Tally:
    """Counts steps and tasks as they end.

    Args:
        agents: names by code.
        slo_s: seconds by agent; NaN where none is wanted.
        pools: how many.
    """

    def __init__(self, agents: Sequence[str], slo_s: Floats, pools: int) -> None:
        self.agents, self.slo_s = agents, slo_s
        self.steps, self.tasks, self.again = 0, 0, 0
        self.task_s, self.own_s = Seconds(), Seconds()
        self.ttft_s, self.tpot_s = Seconds(), Seconds()
        self.wait_s, self.service_s = Seconds(), Seconds()
        self.kept = np.zeros(len(agents), np.int64)
        self.pool_steps = np.zeros(pools, np.int64)
        self.pool_usd, self.pool_slot_s = np.zeros(pools), np.zeros(pools)
        self.pool_wait_s, self.pool_service_s, self.pool_ttft_s = Seconds(), Seconds(), Seconds()
        # Of agents, what their steps took on each pool, and at last where none was needed.
        self.agent_pool_s = np.zeros((len(agents), pools + 1))
        self.prompt_tokens, self.found_tokens = 0.0, 0.0
        self.first_s, self.last_s = math.inf, 0.0

    def add_tasks(self, arrival_s: Floats, end_s: Floats, paused_s: Floats, agent: Codes) -> None:
        """Count tasks that ended.

        Args:
            arrival_s: of each.
            end_s: of its last step.
            paused_s: of that, pauses of persons.
            agent: its code.
        """
        if not len(end_s):
            return
        self.tasks += len(end_s)
        lasted_s = np.maximum(end_s - arrival_s, 0.0)
        self.task_s.add(binned(lasted_s), agent)
        own_s = np.maximum(lasted_s - paused_s, 0.0)
        self.own_s.add(binned(own_s), agent)
        self.kept += np.bincount(agent[own_s <= self.slo_s[agent]], minlength=len(self.kept))
        self.first_s = min(self.first_s, float(arrival_s.min()))
        self.last_s = max(self.last_s, float(end_s.max()))

    def add_steps(self, steps: Any, agent: Codes, kind: Codes, way_s: Floats) -> None:
        """Count steps of tasks that ended.

        Args:
            steps: their records.
            agent: code of each one's task.
            kind: code of each.
            way_s: seconds from readiness to its pool.
        """
        self.steps += len(steps)
        self.again += int((steps["attempts"] > 1).sum())
        sent = steps["pool"] >= 0
        llm = steps["engine"] & sent
        later = steps["output"] - 1.0
        with np.errstate(divide="ignore", invalid="ignore"):
            each_s = np.where(later > 0, (steps["end_s"] - steps["first_s"]) / later, np.nan)
        first = binned((steps["first_s"] - steps["ready_s"])[llm])
        self.ttft_s.add(first, agent[llm])
        self.pool_ttft_s.add(first, steps["pool"][llm])
        self.tpot_s.add(binned(each_s[llm]), agent[llm])
        wait_s = np.maximum(steps["start_s"] - steps["ready_s"] - way_s, 0.0)
        wait_s[wait_s < _LEAST_WAIT_S] = 0.0
        waited = binned(wait_s[sent])
        self.wait_s.add(waited, kind[sent])
        self.pool_wait_s.add(waited, steps["pool"][sent])
        took_s = steps["end_s"] - steps["start_s"]
        took = binned(took_s)
        self.service_s.add(took, kind)
        self.pool_service_s.add(took[sent], steps["pool"][sent])
        pools = len(self.pool_steps)
        at = agent * (pools + 1) + np.where(sent, steps["pool"], pools)
        found = np.bincount(at, weights=np.nan_to_num(took_s), minlength=self.agent_pool_s.size)
        self.agent_pool_s += found.reshape(self.agent_pool_s.shape)
        self.pool_steps += np.bincount(steps["pool"][sent], minlength=pools)
        usd = np.bincount(steps["pool"][sent], weights=steps["usd"][sent], minlength=pools)
        self.pool_usd += usd
        held_s = (steps["end_s"] - steps["start_s"])[llm]
        self.pool_slot_s += np.bincount(steps["pool"][llm], weights=held_s, minlength=pools)
        self.prompt_tokens += float(steps["prompt"][llm].sum(dtype=np.float64))
        self.found_tokens += float(steps["found"][llm].sum(dtype=np.float64))

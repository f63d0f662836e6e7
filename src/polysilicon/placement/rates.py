"""How many tasks of each agent arrive a second: on average, or in its busiest window."""

from __future__ import annotations

from typing import Literal

import msgspec
import numpy as np

from polysilicon.errors import InputError
from polysilicon.workload.arrivals import arrival_rate
from polysilicon.workload.groups import TaskTimes

Sizing = Literal["peak", "mean"]

WINDOWS_S = (3600.0, 600.0, 60.0)
"""Windows in which the busiest moment is looked for: the first of which the span holds ten."""

_FEWEST = 10


class AgentRate(msgspec.Struct, frozen=True, kw_only=True):
    """Arrivals of an agent's tasks.

    Attributes:
        agent: its name.
        tasks: how many there are.
        tasks_per_s: that the fleet is sized for.
        mean_per_s: over the time that arrivals of the workload cover.
    """

    agent: str
    tasks: int
    tasks_per_s: float
    mean_per_s: float


class Rates(msgspec.Struct, frozen=True, kw_only=True):
    """Arrivals by agent.

    Attributes:
        agents: by name.
        window_s: length of the windows in which the busiest moment was looked for; None where the
            mean is taken.
        span_s: that the arrivals cover.
    """

    agents: dict[str, AgentRate]
    window_s: float | None
    span_s: float


def rates_of(times: TaskTimes, sizing: Sizing, where: str = "workload") -> Rates:
    """Return the arrivals of each agent's tasks.

    The busiest window of each agent counts, also where those of two agents are hours apart: each
    SLO must hold in it.

    Args:
        times: of all tasks.
        sizing: by which rate.
        where: the workload, named in errors.

    Raises:
        InputError: there is no task, or arrivals say nothing of a rate.
    """
    arrival_s = np.asarray(times.arrival_s, dtype=np.float64)
    if not len(arrival_s):
        raise InputError("the workload has no steps", where=where)
    if np.isnan(arrival_s).any() or arrival_rate(arrival_s) is None:
        missing = int(np.isnan(arrival_s).sum())
        what = f"{missing} tasks do not say when they arrive" if missing else "all arrive at once"
        mend = (
            "make traffic of it: polysilicon workload generate --like W --rate 1 -o traffic.parquet"
        )
        raise InputError(f"no rate of arrivals: {what}", where=where, mend=mend)
    begin_s = float(arrival_s.min())
    span_s = float(arrival_s.max()) - begin_s
    fits = (w for w in WINDOWS_S if span_s >= _FEWEST * w)
    window_s = next(fits, None) if sizing == "peak" else None
    agents = np.asarray(times.agents)
    found = {}
    for name in dict.fromkeys(times.agents):
        mine = arrival_s[agents == name] - begin_s
        mean = len(mine) / span_s
        most = mean
        if window_s is not None:
            _, counts = np.unique(np.floor(mine / window_s), return_counts=True)
            most = max(mean, float(counts.max()) / window_s)
        found[name] = AgentRate(agent=name, tasks=len(mine), tasks_per_s=most, mean_per_s=mean)
    return Rates(agents=found, window_s=window_s, span_s=span_s)

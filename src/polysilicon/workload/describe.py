"""What a workload is made of: kinds, models, arrivals, durations, tokens, and where time goes."""

from __future__ import annotations

import msgspec
import numpy as np

from polysilicon.workload.groups import (
    NONE,
    Codes,
    Floats,
    count_by,
    known,
    labelled,
    quantiles,
    quantiles_by,
    service_s,
    sum_by,
    task_times,
)
from polysilicon.workload.workload import Workload


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """The steps of one agent, kind and name.

    Attributes:
        agent: name of the agent.
        kind: `llm`, `embed`, `tool` or `train`.
        name: the operation.
        steps: how many.
        p50_s: median service time, start to end; None where no step says.
        p99_s: 99th percentile of it.
        time_s: service time of all of them.
        share_of_time: of the service time of the whole workload.
        cost_usd: dollars of those that have a price; None where none has.
        unpriced: how many have no price.
        failed: how many did not end `ok`.
    """

    agent: str
    kind: str
    name: str
    steps: int
    p50_s: float | None
    p99_s: float | None
    time_s: float
    share_of_time: float | None
    cost_usd: float | None
    unpriced: int
    failed: int


class Spread(msgspec.Struct, frozen=True, kw_only=True):
    """How a number is spread over steps or tasks: how many have it, mean, quantiles, largest."""

    n: int
    mean: float | None
    p50: float | None
    p90: float | None
    p99: float | None
    max: float | None


class Description(msgspec.Struct, frozen=True, kw_only=True):
    """What a workload is made of; shares are fractions, quantiles are nearest-rank.

    Attributes:
        tasks: how many tasks.
        steps: how many steps.
        kinds: steps of each kind.
        models: steps of each model.
        agents: tasks of each agent.
        outcomes: steps of each outcome.
        arrival_rate_per_s: tasks a second between the first and the last arrival; None where all
            arrive at once or no step says when.
        p50_s: median time of a task from its arrival to the end of its last step.
        p99_s: 99th percentile of it.
        llm_share: share of the summed service time of steps that `llm` steps take.
        tool_share: the same of `tool` steps.
        prefix_reuse: share of prompt tokens that a prefix cache held, over the steps that tell.
        prompt_tokens: spread over the steps that have them.
        cached_tokens: the same.
        output_tokens: the same.
        steps_per_task: spread over tasks.
        service_s: service time of all steps.
        cost_usd: dollars of the steps that have a price; None where none has.
        unpriced: steps without a price.
        groups: by agent, kind and name, the most time first.
    """

    tasks: int
    steps: int
    kinds: dict[str, int]
    models: dict[str, int]
    agents: dict[str, int]
    outcomes: dict[str, int]
    arrival_rate_per_s: float | None
    p50_s: float | None
    p99_s: float | None
    llm_share: float | None
    tool_share: float | None
    prefix_reuse: float | None
    prompt_tokens: Spread
    cached_tokens: Spread
    output_tokens: Spread
    steps_per_task: Spread
    service_s: float
    cost_usd: float | None
    unpriced: int
    groups: list[Group]


def describe(workload: Workload) -> Description:
    """Describe a workload; a million steps take about a second."""
    times = task_times(workload)
    service = service_s(workload)
    total_s = float(np.nansum(service))
    p50, p99 = quantiles(times.end_s - times.arrival_s, (0.5, 0.99))
    cost = workload.numbers("cost_usd")
    shares = _kind_shares(workload, service)
    return Description(
        tasks=len(times.names),
        steps=len(workload),
        kinds=_tally(*labelled(workload, "kind")),
        models=_tally(*workload.codes("model")),
        agents=dict(_sorted_counts(times.agents)),
        outcomes=_tally(*labelled(workload, "outcome")),
        arrival_rate_per_s=arrival_rate(times.arrival_s),
        p50_s=p50,
        p99_s=p99,
        llm_share=shares.get("llm", 0.0) if total_s > 0 else None,
        tool_share=shares.get("tool", 0.0) if total_s > 0 else None,
        prefix_reuse=prefix_reuse(workload),
        prompt_tokens=spread(workload.numbers("prompt_tokens")),
        cached_tokens=spread(workload.numbers("cached_tokens")),
        output_tokens=spread(workload.numbers("output_tokens")),
        steps_per_task=spread(times.steps.astype(np.float64)),
        service_s=total_s,
        cost_usd=_sum_or_none(cost),
        unpriced=int(np.isnan(cost).sum()),
        groups=groups_of(workload),
    )


def arrival_rate(arrival_s: Floats) -> float | None:
    """Return arrivals a second from the first to the last one; None where there is no such span.

    Args:
        arrival_s: shape (tasks,), NaN where unknown.
    """
    seen = arrival_s[~np.isnan(arrival_s)]
    span_s = float(seen.max() - seen.min()) if len(seen) else 0.0
    return (len(seen) - 1) / span_s if span_s > 0 else None


def prefix_reuse(workload: Workload) -> float | None:
    """Return cached over prompt tokens of the steps that have both; None where none has."""
    prompt, cached = workload.numbers("prompt_tokens"), workload.numbers("cached_tokens")
    both = ~np.isnan(prompt) & ~np.isnan(cached)
    total = float(prompt[both].sum())
    return float(cached[both].sum()) / total if total > 0 else None


def spread(values: Floats) -> Spread:
    """Return how the known values of an array are spread."""
    seen = values[~np.isnan(values)]
    p50, p90, p99, largest = quantiles(seen, (0.5, 0.9, 0.99, 1.0))
    mean = float(seen.mean()) if len(seen) else None
    return Spread(n=len(seen), mean=mean, p50=p50, p90=p90, p99=p99, max=largest)


def groups_of(workload: Workload) -> list[Group]:
    """Return count, durations, share of time and cost by agent, kind and name."""
    agents, kinds, names = (labelled(workload, column) for column in ("agent", "kind", "name"))
    mixed = (agents[0] * len(kinds[1]) + kinds[0]) * len(names[1]) + names[0]
    used, codes = np.unique(mixed, return_inverse=True)
    service, cost = service_s(workload), workload.numbers("cost_usd")
    size = len(used)
    steps = count_by(codes, size)
    time_s = sum_by(service, codes, size)
    tails = quantiles_by(service, codes, size, (0.5, 0.99))
    usd, unpriced = sum_by(cost, codes, size), count_by(codes[np.isnan(cost)], size)
    outcome, outcome_names = labelled(workload, "outcome")
    fine = [code for code, name in enumerate(outcome_names) if name in ("ok", NONE)]
    failed = count_by(codes[~np.isin(outcome, fine)], size)
    total_s = float(time_s.sum())
    groups = [
        Group(
            agent=agents[1][code // len(names[1]) // len(kinds[1])],
            kind=kinds[1][code // len(names[1]) % len(kinds[1])],
            name=names[1][code % len(names[1])],
            steps=int(steps[i]),
            p50_s=known(tails[i, 0]),
            p99_s=known(tails[i, 1]),
            time_s=float(time_s[i]),
            share_of_time=float(time_s[i]) / total_s if total_s > 0 else None,
            cost_usd=float(usd[i]) if unpriced[i] < steps[i] else None,
            unpriced=int(unpriced[i]),
            failed=int(failed[i]),
        )
        for i, code in enumerate(used.tolist())
    ]
    return sorted(groups, key=lambda g: (-g.time_s, -g.steps, g.agent, g.kind, g.name))


def _kind_shares(workload: Workload, service: Floats) -> dict[str, float]:
    """Return the share of the summed service time of each kind."""
    codes, names = labelled(workload, "kind")
    sums = sum_by(service, codes, len(names))
    total = float(sums.sum())
    return {n: float(s) / total for n, s in zip(names, sums, strict=True)} if total > 0 else {}


def _tally(codes: Codes, names: list[str]) -> dict[str, int]:
    """Return rows of each name, the most frequent first; rows with code -1 are not counted."""
    counts = count_by(codes[codes >= 0], len(names)).tolist()
    return dict(sorted(zip(names, counts, strict=True), key=lambda item: (-item[1], item[0])))


def _sorted_counts(values: list[str]) -> list[tuple[str, int]]:
    """Return how often each value is there, the most frequent first."""
    counts: dict[str, int] = {}
    for value in values:
        counts[value] = counts.get(value, 0) + 1
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def _sum_or_none(values: Floats) -> float | None:
    """Return the sum of the known values, or None where there are none."""
    return None if np.isnan(values).all() else float(np.nansum(values))

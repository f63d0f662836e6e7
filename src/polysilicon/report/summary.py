"""The summary of a run: the keys that `demo`, `run` and `report` print with `--json`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgspec
import numpy as np

from polysilicon.ledger.ledger import Entry, ledger
from polysilicon.report.source import ElsewhereRow, Source, TaskTime, of_folder
from polysilicon.workload.groups import labelled, quantiles, service_s, sum_by
from polysilicon.workload.record import TaskRecord
from polysilicon.workload.run_folder import RunFolder
from polysilicon.workload.workload import Workload


class AgentSummary(msgspec.Struct, frozen=True, kw_only=True):
    """One agent of a run.

    Attributes:
        tasks: how many tasks ended, well or not.
        ok: how many ended as the agent means them to end; None where only steps are known.
        quality: mean grade of the graded tasks; None where none is graded.
        p50_s: median seconds of a task from its arrival to its end.
        p99_s: 99th percentile of it.
        cost_usd: dollars of its priced steps; None where none has a price.
    """

    tasks: int
    ok: int | None
    quality: float | None
    p50_s: float | None
    p99_s: float | None
    cost_usd: float | None


class KindSummary(msgspec.Struct, frozen=True, kw_only=True):
    """One step kind of a run: steps, and their share of the summed service time."""

    steps: int
    share_of_time: float | None


class ElsewhereSummary(msgspec.Struct, frozen=True, kw_only=True):
    """The same work on one offer; see `ElsewhereRow`."""

    offer: str
    region: str | None
    usd_per_1000_tasks: float | None
    p50_s: float | None
    basis: str
    low_s: float | None
    high_s: float | None
    note: str | None


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """The summary of a run; times in seconds, money in dollars, shares as fractions.

    Attributes:
        tasks: how many tasks ended, well or not.
        ok: how many ended as their agent means them to end; None where only steps are known.
        wall_s: how long the run took; None where nothing tells.
        tasks_per_min: tasks that ended in a minute of it.
        steps: how many steps.
        prefix_reuse: pool → share of its prompt tokens that its prefix cache held, over the steps
            that tell.
        agents: by name.
        kinds: by step kind.
        elsewhere: the same work on other offers.
        run: path of the run folder or the workload file.
        report: path of the HTML report.
    """

    tasks: int
    ok: int | None
    wall_s: float | None
    tasks_per_min: float | None
    steps: int
    prefix_reuse: dict[str, float]
    agents: dict[str, AgentSummary]
    kinds: dict[str, KindSummary]
    elsewhere: list[ElsewhereSummary]
    run: str
    report: str


def summarise(
    run: Source | RunFolder, elsewhere: Iterable[ElsewhereRow] = (), report: Path | None = None
) -> Summary:
    """Summarise a run.

    Args:
        run: a run folder, or a source that `report.source.load` read.
        elsewhere: the same work on other offers.
        report: where its report is, if not at its usual place.

    Raises:
        InputError: a file of the run folder is missing or broken.
    """
    source = of_folder(run) if isinstance(run, RunFolder) else run
    times, wall_s = source.times(), source.wall_s()
    return Summary(
        tasks=len(times),
        ok=None if source.tasks is None else sum(task.ok for task in source.tasks),
        wall_s=wall_s,
        tasks_per_min=60 * len(times) / wall_s if wall_s else None,
        steps=len(source.workload),
        prefix_reuse=_prefix_reuse(source.workload),
        agents=_agents(source, times),
        kinds=_kinds(source.workload),
        elsewhere=[_row(row) for row in elsewhere],
        run=str(source.path),
        report=str(report or source.report_path),
    )


def quality(tasks: Iterable[TaskRecord]) -> float | None:
    """Return the mean grade of the graded tasks, or None where none is graded."""
    grades = [task.quality for task in tasks if task.quality is not None]
    return sum(grades) / len(grades) if grades else None


def _agents(source: Source, times: list[TaskTime]) -> dict[str, AgentSummary]:
    """Return the summary of each agent, by name."""
    costs: dict[str, Entry] = ledger(source.workload).by_agent
    times_of: dict[str, list[TaskTime]] = {}
    for time in times:
        times_of.setdefault(time.agent, []).append(time)
    tasks_of: dict[str, list[TaskRecord]] = {}
    for task in source.tasks or ():
        tasks_of.setdefault(task.agent, []).append(task)
    agents = {}
    for name in sorted(times_of):
        taken = [time.seconds for time in times_of[name] if time.seconds is not None]
        p50, p99 = quantiles(np.array(taken, dtype=np.float64), (0.5, 0.99))
        records = tasks_of.get(name, [])
        agents[name] = AgentSummary(
            tasks=len(times_of[name]),
            ok=None if source.tasks is None else sum(record.ok for record in records),
            quality=quality(records),
            p50_s=p50,
            p99_s=p99,
            cost_usd=costs[name].cost_usd if name in costs else None,
        )
    return agents


def _prefix_reuse(workload: Workload) -> dict[str, float]:
    """Return cached over prompt tokens by pool, where steps tell both."""
    codes, names = labelled(workload, "pool")
    prompt, cached = workload.numbers("prompt_tokens"), workload.numbers("cached_tokens")
    both = ~np.isnan(prompt) & ~np.isnan(cached)
    asked, found = (sum_by(np.where(both, of, 0.0), codes, len(names)) for of in (prompt, cached))
    return {names[i]: float(found[i] / asked[i]) for i in np.flatnonzero(asked > 0).tolist()}


def _kinds(workload: Workload) -> dict[str, KindSummary]:
    """Return the summary of each step kind, the most time first."""
    codes, names = labelled(workload, "kind")
    time_s = sum_by(service_s(workload), codes, len(names))
    total_s = float(time_s.sum())
    counts = np.bincount(codes, minlength=len(names))
    return {
        names[i]: KindSummary(
            steps=int(counts[i]), share_of_time=float(time_s[i]) / total_s if total_s > 0 else None
        )
        for i in np.argsort(-time_s, kind="stable").tolist()
    }


def _row(row: ElsewhereRow) -> ElsewhereSummary:
    """Return an estimate in the words of the summary."""
    return ElsewhereSummary(
        offer=row.offer,
        region=row.region,
        usd_per_1000_tasks=row.usd_per_1000_tasks,
        p50_s=row.p50_s,
        basis=row.basis,
        low_s=row.low_s,
        high_s=row.high_s,
        note=row.note,
    )

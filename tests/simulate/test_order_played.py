"""Who goes next in the simulator is who would in the runtime, which knows what is left of tasks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from polysilicon import schedule
from polysilicon.catalog.fleet import Fleet, OwnPrice, Pool
from polysilicon.runtime.lengths import Lengths
from polysilicon.simulate import simulate
from polysilicon.workload.files import read
from polysilicon.workload.record import StepRecord
from polysilicon.workload.workload import Workload

POOL = Pool(
    name="p", offer="aws/m7g.large", units=1, serves=("tool:*",), price=OwnPrice(usd_per_hour=1.0)
)
AGENTS = {"short": (0.3, 0.3), "long": (6.0, 6.0), "either": (0.2, 9.0)}
"""Seconds of a step with both threads; half of the tasks have the one, half the other."""


def crowd(count: int = 150) -> Workload:
    """Return tasks of two steps, each of which takes both threads of the machine."""
    rng = np.random.default_rng(3)
    records, arrival_s = [], 0.0
    for at in range(count):
        arrival_s += float(rng.exponential(7.0))
        agent = list(AGENTS)[int(rng.integers(3))]
        core_s = 2.0 * AGENTS[agent][int(rng.integers(2))] * rng.uniform(0.7, 1.3)
        for step, before in (("1", ()), ("2", ("1",))):
            records.append(
                StepRecord(task_id=f"{at:03d}", step_id=step, parent_ids=before, agent=agent,
                           kind="tool", name="job", arrival_s=arrival_s, cpu_s=core_s, cores=2.0,
                           offer=POOL.offer)
            )  # fmt: skip
    return Workload.from_records(records)


def attained(steps: list[StepRecord], moment_s: float) -> float:
    return sum(step.end_s - step.start_s for step in steps if step.end_s <= moment_s)


def expected(steps: list[StepRecord]) -> tuple[dict[tuple[str, str], int], dict[str, Any]]:
    """Return the level of each task in the runtime when each of its steps is ready."""
    tasks: dict[str, list[StepRecord]] = {}
    for step in steps:
        tasks.setdefault(step.task_id, []).append(step)
    ends = {task: max(step.end_s for step in of) for task, of in tasks.items()}
    lengths, levels = Lengths(), {}
    moments = [(end_s, 0, task, None) for task, end_s in ends.items()]
    moments += [(step.ready_s, 1, step.task_id, step) for step in steps]
    for moment_s, _, task, step in sorted(moments, key=lambda one: one[:3]):
        attained_s = attained(tasks[task], moment_s)
        if step is None:
            lengths.ended(tasks[task][0].agent, attained_s)
        else:
            levels[task, step.step_id] = lengths.level(step.agent, attained_s)
    return levels, tasks


def chosen(waiting: list[StepRecord], levels: list[int], now_s: float) -> StepRecord:
    n = len(waiting)
    since = np.array([step.ready_s for step in waiting])
    klass, never = np.full(n, schedule.BATCH), np.full(n, np.inf)
    at = schedule.next_step(
        np.array(levels), since, klass, never, np.zeros(n), now_s, schedule.STARVE_S
    )
    return waiting[at]


def test_the_simulator_takes_who_the_runtime_would(tmp_path: Path) -> None:
    simulate(crowd(), Fleet(pool=(POOL,)), output=tmp_path / "played.parquet")
    steps = list(read(tmp_path / "played.parquet").steps())
    levels, tasks = expected(steps)
    crowded = other = 0
    for step in steps:
        waiting = [one for one in steps if one.ready_s <= step.start_s <= one.start_s]
        known = [levels[one.task_id, one.step_id] for one in waiting]
        assert chosen(waiting, known, step.start_s) is step
        had = [schedule.doublings(attained(tasks[one.task_id], one.ready_s)) for one in waiting]
        crowded += len(waiting) > 1
        other += chosen(waiting, had, step.start_s) is not step
    # Others would have gone first by the service that their tasks have had.
    assert crowded > 100
    assert other > 20


def single(moments_s: list[float], agent: str, service_s: list[float]) -> list[StepRecord]:
    """Return tasks of one step that takes both threads of the machine."""
    return [
        StepRecord(task_id=f"{agent}-{at:05d}", step_id="1", agent=agent, kind="tool", name="job",
                   arrival_s=moment_s, cpu_s=2.0 * seconds, cores=2.0, offer=POOL.offer)
        for at, (moment_s, seconds) in enumerate(zip(moments_s, service_s, strict=True))
    ]  # fmt: skip


def played(tasks: list[StepRecord], folder: Path) -> list[StepRecord]:
    """Return the steps as they were played, in the order of arrival."""
    output = folder / "played.parquet"
    simulate(Workload.from_records(tasks), Fleet(pool=(POOL,)), output=output)
    return sorted(read(output).steps(), key=lambda step: step.arrival_s)


def test_like_tasks_are_served_in_order_though_their_mean_is_at_an_edge(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    count, mean_s = 3000, 0.8
    arrival_s = np.cumsum(rng.exponential(mean_s / 0.95, count)).tolist()
    steps = played(single(arrival_s, "a", rng.exponential(mean_s, count).tolist()), tmp_path)
    seconds = np.array([step.end_s - step.start_s for step in steps])
    means = np.convolve(seconds, np.ones(256) / 256, "valid")
    assert len({schedule.doublings(mean) for mean in means}) == 2  # the mean does cross it
    later = [step.start_s for step in steps[400:]]
    assert later == sorted(later)
    assert max(step.start_s - step.ready_s for step in steps) > 10.0


def test_short_tasks_pass_long_ones_until_these_starve(tmp_path: Path) -> None:
    known = single([0.0, 20.0], "long", [8.0, 8.0]) + single([10.0], "short", [0.5])
    crowd = single(np.arange(40.0, 400.0, 0.48).tolist(), "short", [0.5] * 750)
    late = single([60.2], "long", [8.0])
    tasks = known + [
        msgspec.structs.replace(step, task_id=f"{step.task_id}-{part}")
        for part, steps in enumerate((crowd, late))
        for step in steps
    ]
    steps = played(tasks, tmp_path)
    waits_s = {step.task_id: step.start_s - step.ready_s for step in steps}
    assert waits_s["long-00000-1"] == pytest.approx(schedule.STARVE_S, abs=1.0)
    assert max(wait_s for task, wait_s in waits_s.items() if task.startswith("short")) < 40.0

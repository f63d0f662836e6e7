"""Who goes next in the simulator is who would in the runtime, which knows what is left of tasks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

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


def expected(steps: list[StepRecord]) -> tuple[dict[tuple[str, str], float], dict[str, Any]]:
    """Return what the runtime expects to be left of each task when each of its steps is ready."""
    tasks: dict[str, list[StepRecord]] = {}
    for step in steps:
        tasks.setdefault(step.task_id, []).append(step)
    ends = {task: max(step.end_s for step in of) for task, of in tasks.items()}
    lengths, left = Lengths(), {}
    moments = [(end_s, 0, task, None) for task, end_s in ends.items()]
    moments += [(step.ready_s, 1, step.task_id, step) for step in steps]
    for moment_s, _, task, step in sorted(moments, key=lambda one: one[:3]):
        attained_s = attained(tasks[task], moment_s)
        if step is None:
            lengths.ended(tasks[task][0].agent, attained_s)
        else:
            left[task, step.step_id] = lengths.left_s(step.agent, attained_s)
    return left, tasks


def chosen(waiting: list[StepRecord], left_s: list[float], now_s: float) -> StepRecord:
    n = len(waiting)
    since = np.array([step.ready_s for step in waiting])
    klass, never = np.full(n, schedule.BATCH), np.full(n, np.inf)
    at = schedule.next_step(
        np.array(left_s), since, klass, never, np.zeros(n), now_s, schedule.STARVE_S
    )
    return waiting[at]


def test_the_simulator_takes_who_the_runtime_would(tmp_path: Path) -> None:
    simulate(crowd(), Fleet(pool=(POOL,)), output=tmp_path / "played.parquet")
    steps = list(read(tmp_path / "played.parquet").steps())
    left, tasks = expected(steps)
    crowded = other = 0
    for step in steps:
        waiting = [one for one in steps if one.ready_s <= step.start_s <= one.start_s]
        known = [left[one.task_id, one.step_id] for one in waiting]
        assert chosen(waiting, known, step.start_s) is step
        had = [attained(tasks[one.task_id], one.ready_s) for one in waiting]
        crowded += len(waiting) > 1
        other += chosen(waiting, had, step.start_s) is not step
    # Others would have gone first by the service that their tasks have had.
    assert crowded > 100
    assert other > 20

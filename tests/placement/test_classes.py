"""Classes of steps, the rates at which they come, and tasks as graphs."""

from __future__ import annotations

import numpy as np
import pytest

from placement_workloads import steps, workload
from polysilicon.placement.classes import Classes, classes_of
from polysilicon.placement.rates import rates_of
from polysilicon.placement.tasks import MOST_TASKS, tasks_of
from polysilicon.workload.groups import task_times
from polysilicon.workload.record import StepRecord
from polysilicon.workload.workload import Workload


def classes(load: Workload) -> Classes:
    times = task_times(load)
    return classes_of(load, times, rates_of(times, "mean"), "aws/m7g.xlarge")


def tool(task: int, step: str, cpu_s: float, **more: object) -> StepRecord:
    return StepRecord(
        task_id=str(task),
        step_id=step,
        name="shell",
        kind="tool",
        agent="a",
        arrival_s=float(task),
        cpu_s=cpu_s,
        **more,  # type: ignore[arg-type]
    )


def test_rates_of_classes_add_up_to_those_of_tasks() -> None:
    load = workload(tasks=50, rate=2.0)
    found = classes(load)
    assert sum(one.steps for one in found.each) == 150
    rate = sum(one.rate_per_s for one in found.each)
    assert rate == pytest.approx(3 * 50 / (49 / 2.0))
    assert found.untold == {"only waits (no core-seconds)": 50}
    assert len({one.name for one in found.each}) == len(found.each)


def test_bins_are_octaves_and_their_step_is_the_mean() -> None:
    sizes = [0.5, 0.7, 0.9, 1.1, 1.9, 4.0]
    found = classes(Workload.from_records(tool(i, "0", s) for i, s in enumerate(sizes)))
    means = sorted(found.batch["cpu_s"].tolist())
    assert means == pytest.approx([0.7, 1.5, 4.0])
    assert found.code.tolist()[:3] == [found.code[0]] * 3


def test_what_differs_is_told_apart() -> None:
    one = tool(0, "0", 1.0)
    others = [
        tool(1, "0", 1.0, data_class="personal"),
        tool(2, "0", 1.0, region="eu-west-1"),
        tool(3, "0", 1.0, offer="aws/c7i.xlarge"),
        tool(4, "0", 1.0, offer="aws/m7g.xlarge"),
    ]
    found = classes(Workload.from_records([one, *others]))
    assert len(found.each) == 4
    assert found.code[0] == found.code[4]  # what is not told was measured where the caller says


def test_steps_that_tell_too_little_are_counted() -> None:
    silent = StepRecord(task_id="9", step_id="0", name="chat", kind="llm", arrival_s=9.0)
    odd = tool(1, "0", 1.0)
    none = StepRecord(task_id="2", step_id="0", name="shell", kind="tool", arrival_s=2.0)
    found = classes(Workload.from_records([odd, silent, none]))
    assert len(found.each) == 1
    assert found.untold == {
        "llm step chat does not tell model, prompt_tokens and output_tokens": 1,
        "tool step shell does not tell cpu_s": 1,
    }


def test_the_busiest_window_is_each_agents_own() -> None:
    calm = [tool(i, "0", 1.0) for i in range(0, 1200, 10)]
    rush = [
        StepRecord(
            task_id=f"r{i}", step_id="0", name="x", kind="tool", agent="b", arrival_s=600 + i / 10
        )
        for i in range(300)
    ]
    times = task_times(Workload.from_records([*calm, *rush]))
    peak, mean = (rates_of(times, sizing).agents for sizing in ("peak", "mean"))
    assert rates_of(times, "peak").window_s == 60.0
    assert peak["b"].tasks_per_s == pytest.approx(5.0)
    assert mean["b"].tasks_per_s == pytest.approx(300 / 1190)
    assert peak["a"].tasks_per_s == pytest.approx(0.1, rel=0.02)


def test_tasks_take_their_longest_path() -> None:
    load = Workload.from_records(
        [
            tool(0, "a", 1.0),
            tool(0, "b", 2.0, parent_ids=("a",)),
            tool(0, "c", 5.0, parent_ids=("a",)),
            tool(0, "d", 1.0, parent_ids=("b", "c"), wait_s=0.5),
            tool(1, "a", 1.0),
            tool(1, "b", 1.0),  # no parents: one after the other
        ]
    )
    found = tasks_of(load, task_times(load), classes(load))
    seconds = load.numbers("cpu_s") + found.pause_s
    finish, ends = found.finish_s(seconds)
    assert ends.tolist() == [7.5, 2.0]
    path = found.longest(finish, np.array([0, 1]))
    assert sorted(path.tolist()) == [0, 2, 3, 4, 5]


def test_a_persons_pause_is_nobodys_wait() -> None:
    load = workload(tasks=4)
    found = tasks_of(load, task_times(load), classes(load))
    assert found.pause_s.max() == pytest.approx(0.05)


def test_of_many_tasks_some_are_followed() -> None:
    load = Workload.from_records(tool(i, "0", 1.0) for i in range(MOST_TASKS + 500))
    found = tasks_of(load, task_times(load), classes(load))
    assert len(found.agents) == MOST_TASKS
    several = Workload.from_records([*steps(tasks=3), *steps(tasks=2, agent="other")])
    found = tasks_of(several, task_times(several), classes(several))
    assert [len(found.of(name)) for name in ("helper", "other")] == [3, 2]

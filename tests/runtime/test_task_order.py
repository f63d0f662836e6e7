"""Which task begins next, and on which level one is, by the tasks of its agent that ended."""

from __future__ import annotations

import random

import numpy as np

from polysilicon import schedule
from polysilicon.catalog.policy import Policy, Slo
from polysilicon.runtime.backlog import Backlog
from polysilicon.runtime.journal import PendingTask
from polysilicon.runtime.lengths import Lengths
from polysilicon.runtime.scope import TaskState


def pending(**counts: int) -> list[PendingTask]:
    return [
        PendingTask(task_id=f"{agent}-{n}", agent=agent, input={})
        for agent, count in counts.items()
        for n in range(count)
    ]


def taken(backlog: Backlog) -> list[str]:
    found = []
    while (task := backlog.next()) is not None:
        found.append(task.task_id)
    return found


def test_the_level_is_that_of_what_is_left() -> None:
    lengths = Lengths()
    assert lengths.level("a", 3.0) == 5  # nothing known: least attained service goes first
    for seconds in (4.0, 4.0):
        lengths.ended("a", seconds)
    assert [lengths.level("a", had_s) for had_s in (0.0, 2.0, 3.0, 3.99, 8.0)] == [6, 5, 4, 0, 7]
    assert lengths.level("b", 0.5) == 3


def test_old_tasks_are_forgotten() -> None:
    lengths = Lengths()
    for seconds in [100.0] * 10 + [2.0] * (2 * schedule.REMEMBERED - 10):
        lengths.ended("a", seconds)
    assert lengths.level("a", 0.0) == schedule.doublings(2.0)


def test_a_task_that_was_served_has_less_left() -> None:
    lengths = Lengths()
    lengths.ended("a", 10.0)
    state = TaskState("t", "a", 0.0, random.Random(1), lengths=lengths)
    assert state.level == 7
    state.served(7.0)
    assert (state.attained_s, state.level) == (7.0, 5)


def test_agents_that_are_not_known_are_mixed_evenly() -> None:
    backlog = Backlog(pending(a=4, b=2), Lengths(), Policy())
    assert (len(backlog), backlog.agents) == (6, ["a", "b"])
    assert taken(backlog) == ["a-0", "b-0", "a-1", "a-2", "b-1", "a-3"]


def test_whoever_is_waited_for_begins_first() -> None:
    policy = Policy(slo=(Slo(agent="b", p99_s=9.0, interactive=True),))
    assert taken(Backlog(pending(a=2, b=2), Lengths(), policy)) == ["b-0", "b-1", "a-0", "a-1"]


def test_short_tasks_first_halves_the_median_of_a_mix() -> None:
    """One server, 64 tasks of four agents, 0.5 to 8 s: against first come, first served."""
    service_s = {"a": 8.0, "b": 4.0, "c": 1.0, "d": 0.5}
    lengths, ends = Lengths(), []
    backlog, now_s = Backlog(pending(a=16, b=16, c=16, d=16), lengths, Policy()), 0.0
    while (task := backlog.next()) is not None:
        now_s += service_s[task.agent]
        ends.append(now_s)
        lengths.ended(task.agent, service_s[task.agent])
    fifo = np.cumsum([service_s[agent] for _ in range(16) for agent in "abcd"])
    assert now_s == fifo[-1]
    assert np.median(fifo) > 2.5 * np.median(ends)
    assert np.percentile(ends, 90) <= np.percentile(fifo, 90)

"""The order of those that wait is that of `schedule.next_step` over all of them."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from polysilicon import schedule
from polysilicon.runtime.queues import Entry, Queue

TASKS = 6
OPS = st.one_of(
    st.tuples(st.just("add"), st.integers(0, TASKS - 1)),
    st.tuples(st.just("pop"), st.sampled_from(["all", "interactive", "starved"])),
    st.tuples(st.just("remove"), st.integers(0, 20)),
    st.tuples(st.just("wait"), st.sampled_from([0, 1, 7, 20, 61])),
    st.tuples(st.just("mean"), st.integers(0, 40)),
    st.tuples(st.just("serve"), st.tuples(st.integers(0, TASKS - 1), st.integers(0, 30))),
    st.tuples(st.just("prompt"), st.tuples(st.integers(0, TASKS - 1), st.integers(0, 3))),
)
TASK = st.tuples(st.sampled_from([schedule.BATCH, schedule.INTERACTIVE]),
                 st.sampled_from([math.inf, 10.0, 30.0, 90.0, 200.0]))  # fmt: skip


def a_task(klass: int, deadline_s: float) -> Any:
    return SimpleNamespace(level=0, klass=klass, deadline_s=deadline_s, prompts={}, queues=[])


def a_turn(*, done: bool = False) -> Any:
    return SimpleNamespace(done=lambda: done)


def by_all(entries: list[Entry], which: str, now_s: float, mean_s: float) -> Entry | None:
    """Return the one that `next_step` takes of those asked for."""

    def starved(entry: Entry) -> bool:
        return (entry.task.klass == schedule.BATCH
                and now_s - entry.since_s >= schedule.STARVE_S)  # fmt: skip

    if which == "interactive":
        entries = [e for e in entries if e.task.klass == schedule.INTERACTIVE]
    elif which == "starved":
        entries = [e for e in entries if starved(e)]
    index = schedule.next_step(
        np.array([e.task.level for e in entries], np.int64),
        np.array([e.since_s for e in entries], np.float64),
        np.array([e.task.klass for e in entries], np.int64),
        np.array([e.task.deadline_s for e in entries], np.float64) - now_s - mean_s,
        np.array([e.task.prompts.get("p", 0) for e in entries], np.float64),
        now_s,
        schedule.STARVE_S,
    )
    return entries[index] if index >= 0 else None


def changed(queue: Queue, task: Any, kind: str, value: int) -> None:
    if kind == "serve":
        task.level = value // 3
    else:
        task.prompts["p"] = value
    queue.touch(task)


@settings(max_examples=150, deadline=None)
@given(st.lists(TASK, min_size=TASKS, max_size=TASKS), st.lists(OPS, max_size=60))
def test_the_order_is_that_of_the_rule_over_all_that_wait(tasks: Any, ops: Any) -> None:
    made = [a_task(*given_) for given_ in tasks]
    queue, waiting = Queue(lambda prompts: prompts.get("p", 0)), list[Entry]()
    now_s, mean_s = 0.0, 5.0
    for kind, what in ops:
        now_s += what if kind == "wait" else 0.0
        mean_s = float(what) if kind == "mean" else mean_s
        if kind == "add":
            waiting.append(queue.add(a_turn(), made[what], now_s))
        elif kind == "remove" and what < len(waiting):
            queue.remove(waiting.pop(what))
        elif kind in {"serve", "prompt"}:
            changed(queue, made[what[0]], kind, what[1])
        elif kind == "pop":
            expected = by_all(waiting, what, now_s, mean_s)
            assert queue.has(what, now_s, mean_s) == (expected is not None)
            found = queue.pop(what, now_s, mean_s)
            assert found is expected
            if found is not None:
                waiting.remove(found)
        assert len(queue) == len(waiting)
    while waiting:
        expected = by_all(waiting, "all", now_s, mean_s)
        assert queue.pop("all", now_s, mean_s) is expected
        waiting.remove(expected)
    assert all(not task.queues for task in made)


def test_who_was_cancelled_is_passed_over() -> None:
    queue, first, second = Queue(), a_task(schedule.BATCH, math.inf), a_task(schedule.BATCH, 9.0)
    cancelled = queue.add(a_turn(done=True), first, 0.0)
    entry = queue.add(a_turn(), second, 1.0)
    assert queue.waits(first)
    assert queue.pop("all", 2.0, 0.0) is entry
    queue.remove(cancelled)  # as it does when it comes to it
    assert len(queue) == 0
    assert queue.pop("all", 2.0, 0.0) is None


def test_an_operation_costs_no_more_where_many_wait() -> None:
    """Comparisons of heaps' entries, which are what grows."""

    class Counted(float):
        compared = 0

        def __lt__(self, other: float) -> bool:
            Counted.compared += 1
            return float(self) < float(other)

    def cost(count: int) -> float:
        queue = Queue()
        for n in range(count):
            task = a_task(schedule.BATCH, math.inf)
            task.level = n % 10
            queue.add(a_turn(), task, Counted(n * 1e-6))
        Counted.compared = 0
        for n in range(100):
            assert queue.pop("all", 1.0, 0.0) is not None
            queue.add(a_turn(), a_task(schedule.BATCH, math.inf), Counted(1.0 + n))
        return Counted.compared / 100

    assert cost(256) < 64  # the heaps are 8 and 14 deep
    assert cost(16_384) < 64

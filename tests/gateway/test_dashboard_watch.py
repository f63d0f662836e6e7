"""What the dashboard has seen, and what it forgets."""

from __future__ import annotations

from typing import Any

from polysilicon.gateway.dashboard import watch as watching
from polysilicon.gateway.dashboard.watch import BUCKET_S, MOST_STEPS_OF_TASK, MOST_TASKS, Watch
from polysilicon.gateway.feed import Feed
from polysilicon.gateway.tasks.types import Status, TaskEvent
from polysilicon.gateway.totals import Totals
from polysilicon.workload.record import StepRecord


class Seen:
    """A watch over a feed, with a clock that is set."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.totals = Totals()
        self.feed = Feed(lambda: self.now_s)
        self.watch = Watch(self.feed, self.totals, lambda: self.now_s)

    def begin(self, task: str, step: str) -> None:
        self.feed.publish("begin", record(task, step, start_s=self.now_s))

    def end(self, task: str, step: str, **fields: Any) -> None:
        ended = record(task, step, start_s=self.now_s, end_s=self.now_s + 1, **fields)
        self.totals.add(ended)
        self.feed.publish("step", ended)

    def look(self) -> dict[str, str]:
        self.watch.look()
        return {task.task_id: task.state for task in self.watch.tasks(MOST_TASKS)[0]}


def record(task: str, step: str, **fields: Any) -> StepRecord:
    given = {"outcome": "ok", "cost_usd": 0.5, "pool": "far"} if "end_s" in fields else {}
    return StepRecord(task_id=task, step_id=step, name="chat", kind="llm", **given | fields)


def test_a_task_is_what_its_last_step_was() -> None:
    seen = Seen()
    seen.begin("a", "1")
    seen.begin("b", "1")
    assert seen.look() == {"a": "running", "b": "running"}
    seen.end("a", "1")
    seen.end("b", "1", outcome="error")
    assert seen.look() == {"a": "ok", "b": "failed"}
    task = seen.watch.task("a")
    assert task is not None
    assert [step.step_id for step in task.steps] == ["1"]
    assert (task.end_s, task.cost_usd) == (101.0, 0.5)
    seen.begin("a", "2")
    assert seen.look() == {"a": "running", "b": "failed"}  # those under way come first
    assert seen.watch.task("c") is None


def test_dollars_fall_into_the_minutes_in_which_they_were_spent() -> None:
    seen = Seen()
    seen.end("a", "1")
    seen.look()
    seen.now_s += BUCKET_S
    seen.end("a", "2")
    seen.end("a", "3", cost_usd=None)
    seen.look()
    spending = seen.watch.spending()
    assert spending.usd == (0.5, 0.5)
    assert spending.start_s == 100.0
    assert seen.watch.spent_usd("far") == 1.0
    seen.now_s += 1000 * BUCKET_S
    seen.look()
    assert sum(seen.watch.spending().usd) == 0.0


def test_what_was_before_the_start_is_not_counted_again() -> None:
    seen = Seen()
    seen.end("a", "1")
    later = Watch(seen.feed, seen.totals, lambda: seen.now_s)
    seen.end("a", "2")
    later.look()
    assert later.spending().usd == (0.5,)
    assert later.spent_usd("far") == 0.5


def test_it_keeps_no_more_than_it_may() -> None:
    seen = Seen()
    seen.begin("first", "1")
    for n in range(MOST_STEPS_OF_TASK + 3):
        seen.end("long", str(n))
        seen.look()
    task = seen.watch.task("long")
    assert task is not None
    assert len(task.steps) == MOST_STEPS_OF_TASK
    assert task.steps_left_out == 3
    assert task.cost_usd == 0.5 * (MOST_STEPS_OF_TASK + 3)
    assert seen.watch.whole_tasks() == []  # a part of a task would be estimated too cheap
    for n in range(MOST_TASKS + 10):
        seen.now_s += 1
        seen.end(f"t{n}", "1")
        seen.look()
    states = seen.look()
    assert len(states) == MOST_TASKS
    assert "first" in states  # it goes on
    assert "long" not in states
    assert seen.watch.task("t0") is None
    assert len(seen.watch.whole_tasks()) == MOST_TASKS - 1


def test_what_never_ends_is_bounded() -> None:
    seen = Seen()
    for n in range(watching.MOST_UNDER_WAY + 5):
        seen.begin(f"t{n}", "1")
        if n % 1000 == 0:
            seen.look()
    seen.look()
    assert seen.watch.task("t4") is None
    assert seen.watch.tasks(50)[1] == watching.MOST_UNDER_WAY - 50


def test_tasks_that_end_behind_many_that_wait_are_forgotten() -> None:
    seen = Seen()

    def told(status: Status, *numbers: int) -> None:
        for n in numbers:
            event = TaskEvent(task_id=f"t{n}", agent="a", caller="c", status=status)
            seen.feed.publish("task", event)
            if n % 1000 == 0:
                seen.look()
        seen.look()

    waiting, ended = range(MOST_TASKS + 400), range(10_000, 10_200)
    told("queued", *waiting, *ended)
    told("completed", *ended[:40])  # too few to look through all for them
    assert seen.watch.task("t10000") is not None
    told("completed", *ended[40:])
    assert all(seen.watch.task(f"t{n}") is None for n in ended)
    assert all(seen.watch.task(f"t{n}") is not None for n in waiting)
    told("completed", *waiting)
    assert len(seen.watch.tasks(MOST_TASKS)[0]) == MOST_TASKS


def test_steps_are_bounded_over_all_tasks() -> None:
    seen = Seen()
    tasks = watching.MOST_STEPS // MOST_STEPS_OF_TASK + 5
    for task in range(tasks):
        for n in range(MOST_STEPS_OF_TASK):
            seen.end(f"t{task}", str(n))
        seen.look()
    shown, _ = seen.watch.tasks(MOST_TASKS)
    assert sum(len(task.steps) for task in shown) <= watching.MOST_STEPS
    assert len(shown) == tasks - 5


def test_events_that_were_missed_are_counted() -> None:
    seen = Seen()
    kept = 2000
    for n in range(kept + 7):
        seen.end(f"t{n % 5}", str(n))
    seen.look()
    assert seen.watch.missed == 7
    assert sum(seen.watch.spending().usd) == 0.5 * (kept + 7)  # sums miss nothing

"""Which task begins next, and on which level one is, by the tasks of its agent that ended."""

from __future__ import annotations

import asyncio
import json
import random
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from polysilicon import Agent, Context, schedule
from polysilicon.catalog.policy import Policy, Slo
from polysilicon.runtime.backlog import Backlog
from polysilicon.runtime.journal import PendingTask
from polysilicon.runtime.lengths import KEPT, Lengths, kept_lengths
from polysilicon.runtime.run import Job, Run, RunOptions
from polysilicon.runtime.scope import TaskState
from served_gateway import TOOLS_HERE


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


def test_what_tasks_took_is_known_to_the_next_run(tmp_path: Path) -> None:
    path = tmp_path / "data" / "lengths.json"
    known = kept_lengths(path)
    for seconds in [50.0] * 10 + [8.0] * KEPT:
        known.ended("long", seconds)
    known.ended("short", 0.5)
    known.keep(path)
    known.keep(path)  # again: nothing has ended since
    assert json.loads(path.read_text())["service_s"] == {"long": [8.0] * KEPT, "short": [0.5]}
    known = kept_lengths(path)
    known.keep(path)  # as nothing ended here
    assert [known.level(agent, 0.0) for agent in ("long", "short")] == [7, 3]
    backlog = Backlog(pending(long=2, short=2), known, Policy())
    assert taken(backlog) == ["short-0", "short-1", "long-0", "long-1"]
    known.ended("long", 1.0)
    known.keep(path)
    assert json.loads(path.read_text())["service_s"]["long"] == [8.0] * (KEPT - 1) + [1.0]


def test_the_next_run_begins_with_what_was_short(tmp_path: Path) -> None:
    """Two agents, of which the first one sleeps: in the second run the other goes before it."""
    begun: list[str] = []

    def agent(name: str, seconds: float) -> Agent:
        async def run(ctx: Context, _value: Any) -> None:
            begun.append(name)
            await ctx.call(time.sleep, seconds)

        return Agent(name=name, run=run)

    for number in range(2):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "tools.toml").write_text(TOOLS_HERE)
        jobs = [Job(agent=agent(name, seconds), given_as=name, inputs=[{}, {}])
                for name, seconds in (("long", 0.5), ("short", 0.0))]  # fmt: skip
        options = RunOptions(fleet=str(folder / "tools.toml"), concurrency=1)
        asyncio.run(Run(folder, jobs, options).execute())
    assert begun == ["long", "short", "short", "long", "short", "short", "long", "long"]


def test_of_very_many_agents_those_that_ran_last_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "lengths.json"
    for first, count in ((0, 300), (40, 1)):
        known = kept_lengths(path)
        for n in range(first, first + count):
            known.ended(f"a{n}", 1.0)
        known.keep(path)
    names = list(json.loads(path.read_text())["service_s"])
    assert (len(names), names[0], names[-1]) == (256, "a45", "a40")


@pytest.mark.parametrize(
    "content",
    [b"{", b"\xff", b'{"format": 2, "service_s": {"a": [9.0]}}', b'{"service_s": {"a": [-1.0]}}'],
)
def test_a_file_that_tells_nothing_is_made_anew(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "lengths.json"
    path.write_bytes(content)
    known = kept_lengths(path)
    assert known.level("a", 0.0) == 0
    known.ended("a", 2.0)
    known.keep(path)
    assert json.loads(path.read_text()) == {"format": 1, "service_s": {"a": [2.0]}}


def test_lengths_that_cannot_be_kept_stop_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    known = kept_lengths(tmp_path / "file" / "lengths.json")
    known.ended("a", 2.0)
    known.keep(tmp_path / "file" / "lengths.json")
    assert known.level("a", 0.0) == schedule.doublings(2.0)
    known.keep(tmp_path / "lengths.json")  # as soon as it can be
    assert json.loads((tmp_path / "lengths.json").read_text())["service_s"] == {"a": [2.0]}


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

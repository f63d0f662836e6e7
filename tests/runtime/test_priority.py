"""Who goes before whom on the cores: real processes, and what the kernel says of them."""

from __future__ import annotations

import asyncio
import math
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Self

import pytest

from polysilicon import schedule
from polysilicon.catalog.fleet import Pool
from polysilicon.runtime import priority
from polysilicon.runtime.context import Context
from polysilicon.runtime.dispatch import Dispatcher
from polysilicon.runtime.here import Here
from polysilicon.runtime.journals.sqlite import SqliteJournal
from polysilicon.runtime.pools import RunningPool
from polysilicon.runtime.priority import TOOL_NICE, StandingBack, yield_to_engine
from polysilicon.runtime.resources import Resources
from polysilicon.runtime.scope import Scope, TaskState
from polysilicon.runtime.steps import StepRunner

CORES = 2
needs_idle = pytest.mark.skipif(
    not priority._may_come_back(), reason="this system lets no process come back from SCHED_IDLE"
)


def spin(seconds: float, folder: str, until: str = "") -> int:
    """Compute, with a file there meanwhile that has the number of this process as its name.

    It does so for some seconds, or until another file is there.
    """
    mark = Path(folder) / str(os.getpid())
    mark.touch()
    until_s = time.monotonic() + seconds
    while time.monotonic() < until_s and not (until and Path(until).exists()):
        pass
    mark.unlink()
    return os.getpid()


async def until(what: Callable[[], bool]) -> None:
    until_s = time.monotonic() + 60
    while not what():
        assert time.monotonic() < until_s
        await asyncio.sleep(0.01)


def policies(pids: list[int]) -> set[int]:
    return {os.sched_getscheduler(pid) for pid in pids}


@contextmanager
def sleeping() -> Iterator[int]:
    command = [sys.executable, "-S", "-c", "import time; print(flush=True); time.sleep(60)"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield process.pid
        finally:
            process.kill()


@needs_idle
def test_processes_stand_back_for_a_stretch_and_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    async def policies_of(pid: int) -> list[int]:
        found = []
        for _ in range(40):
            found.append(os.sched_getscheduler(pid))
            await asyncio.sleep(priority._MOST_S / 20)
        return found

    async def main(pid: int) -> None:
        others = StandingBack(lambda: [pid, 2**22 - 1])  # one of them is gone
        with others.while_this_runs():
            assert os.sched_getscheduler(pid) == os.SCHED_IDLE
            with others.while_this_runs():
                pass
            assert os.sched_getscheduler(pid) == os.SCHED_IDLE
        await asyncio.sleep(0)
        assert os.sched_getscheduler(pid) == os.SCHED_IDLE  # the next one may come at once
        monkeypatch.setattr(priority, "_LINGER_S", 0.1)
        await until(lambda: os.sched_getscheduler(pid) == os.SCHED_OTHER)
        assert os.getpriority(os.PRIO_PROCESS, pid) == max(os.nice(0), TOOL_NICE)
        with others.while_this_runs():
            assert set(await policies_of(pid)) == {os.SCHED_IDLE}  # it sleeps, and misses nothing
        await until(lambda: os.sched_getscheduler(pid) == os.SCHED_OTHER)
        await asyncio.sleep(2 * priority._MOST_S)  # else it counts together
        monkeypatch.setattr(priority, "_ready", lambda thread: thread == pid)
        since_s = time.monotonic()
        with others.while_this_runs():
            # For the longest stretch, then not for as long, whoever goes before it still.
            assert os.sched_getscheduler(pid) == os.SCHED_IDLE
            await until(lambda: os.sched_getscheduler(pid) == os.SCHED_OTHER)
            assert time.monotonic() - since_s >= priority._MOST_S

    monkeypatch.setattr(priority, "_LINGER_S", 60.0)
    with sleeping() as pid:
        yield_to_engine(pid)
        asyncio.run(main(pid))


_STARTS = """
import subprocess, sys, threading, time
sys.stdin.readline()
threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
child = subprocess.Popen(["sleep", "60"])
print(child.pid, flush=True)
sys.stdin.readline()
child.kill()
"""


@needs_idle
def test_what_was_started_while_standing_back_comes_back_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def main(process: subprocess.Popen[str]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        yield_to_engine(process.pid)
        with StandingBack(lambda: [process.pid]).while_this_runs():
            process.stdin.write("\n")
            process.stdin.flush()
            child = int(process.stdout.readline())
            started = [*priority._threads(process.pid), child]
            assert len(started) == 3
            assert policies(started) == {os.SCHED_IDLE}
        await until(lambda: policies(started) == {os.SCHED_OTHER})

    monkeypatch.setattr(priority, "_LINGER_S", 0.1)
    monkeypatch.setattr(priority, "_ready", lambda _thread: False)  # nothing starves meanwhile
    command, pipe = [sys.executable, "-S", "-c", _STARTS], subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        asyncio.run(main(process))
        process.communicate("\n")


@needs_idle
def test_those_that_come_later_stand_back_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(priority, "_MOST_S", 0.1)
    monkeypatch.setattr(priority, "_LINGER_S", 600.0)  # nobody else comes

    async def main(pids: list[int]) -> None:
        there = pids[:1]
        others = StandingBack(lambda: there)
        with others.while_this_runs():
            there.append(pids[1])
            with others.while_this_runs():
                assert [os.sched_getscheduler(pid) for pid in pids[:2]] == 2 * [os.SCHED_IDLE]
        there.append(pids[2])
        await until(lambda: os.sched_getscheduler(pids[2]) == os.SCHED_IDLE)
        assert others._back == set(pids)
        os.kill(pids[0], signal.SIGKILL)
        os.waitpid(pids[0], 0)  # noqa: ASYNC222 - it is gone at once
        there.pop(0)
        await until(lambda: others._back == set(pids[1:]))  # whoever is gone is forgotten

    with sleeping() as one, sleeping() as two, sleeping() as three:
        asyncio.run(main([one, two, three]))


class Played(StandingBack):
    """Its timers are played, not waited for."""

    def __init__(self) -> None:
        super().__init__(lambda: [1])
        self.now_s, self.idle_s, self.idle = 100.0, 0.0, False
        self.timer: tuple[float, Callable[[], None]] = (math.inf, lambda: None)

    def _at(self, moment_s: float, then: Callable[[], None]) -> None:
        self.timer = moment_s, then

    def play(self, seconds: float) -> None:
        until_s = self.now_s + seconds
        while self.now_s < until_s:
            moment_s, then = self.timer
            next_s = min(max(moment_s, self.now_s), until_s)
            self.idle_s += (next_s - self.now_s) * self.idle
            self.now_s = next_s
            if moment_s <= next_s:
                self.timer = (math.inf, lambda: None)
                then()


@pytest.mark.parametrize(("job_s", "gap_s", "gets", "least", "most"), [
    (0.43, 0.06, 0.01, 0.4, 0.55),  # the timer that ends a stretch comes between, again and again
    (5.0, 0.06, 0.01, 0.4, 0.55),
    (5.0, 0.06, 0.4, 0.4, 0.55),
    (0.1, 0.3, 0.01, 0.4, 0.55),  # while none is there the next one is waited for
    (0.1, 3.9, 0.6, 0.2, 0.5),  # it does not come
    (5.0, 0.06, 0.6, 0.97, 1.01),  # they get on: there is nothing to come back for
    (0.43, 0.06, 0.6, 0.97, 1.01),
])  # fmt: skip
def test_others_are_not_starved_by_jobs_with_short_pauses(
    monkeypatch: pytest.MonkeyPatch,
    job_s: float,
    gap_s: float,
    gets: float,
    least: float,
    most: float,
) -> None:
    """Others get some share of a core while they stand back, and a tenth when they do not."""
    others = Played()

    def scheduled(_threads: list[int], policy: str) -> None:
        others.idle = policy == "SCHED_IDLE"

    monkeypatch.setattr(priority, "time", SimpleNamespace(monotonic=lambda: others.now_s))
    monkeypatch.setattr(priority, "_may_come_back", lambda: True)
    monkeypatch.setattr(priority, "_threads", lambda pid: [pid])
    monkeypatch.setattr(priority, "_family", lambda pid: [pid])
    monkeypatch.setattr(priority, "_idle", lambda _: others.idle)
    monkeypatch.setattr(priority, "_schedule", scheduled)
    monkeypatch.setattr(priority, "_ready", lambda _: True)
    monkeypatch.setattr(
        priority,
        "_core_s",
        lambda _: gets * others.idle_s + 0.1 * (others.now_s - 100.0 - others.idle_s),
    )
    while others.now_s < 200.0:
        with others.while_this_runs():
            others.play(job_s)
        others.play(gap_s)
    assert least < others.idle_s / (others.now_s - 100.0) < most


class Watched:
    """Counts again and again how many tools compute at one moment and do not stand back."""

    def __init__(self, folder: Path, seen: Path) -> None:
        self._folder, self._seen = folder, seen
        self._stopped = threading.Event()
        self.counts: list[int] = []
        self.back = 0
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stopped.wait(0.002):
            # What is there in both looks was so between them, whenever this thread had a core.
            before, after = self._look(), self._look()
            computing = [before[mark] for mark in before if before[mark] == after.get(mark)]
            self.back += computing.count(os.SCHED_IDLE)
            self.counts.append(len(computing) - computing.count(os.SCHED_IDLE))
            if self.counts[-1] >= CORES:
                self._seen.touch()

    def _look(self) -> dict[tuple[str, int], int]:
        """Return the policies of processes that compute, by what each does."""
        found = {}
        for mark in self._folder.iterdir():
            with suppress(OSError):  # it has just ended
                key = mark.name, mark.stat().st_mtime_ns
                found[key] = os.sched_getscheduler(int(mark.name))
        return found


@needs_idle
def test_no_more_tools_than_cores_compute_that_do_not_stand_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However tools come and go that somebody waits for, or nobody, within one stretch."""
    monkeypatch.setattr(priority, "_MOST_S", 60.0)
    marks, seen = str(tmp_path / "marks"), str(tmp_path / "seen")
    Path(marks).mkdir()

    async def main() -> Watched:
        journal = SqliteJournal(tmp_path)
        pool = RunningPool(Pool(name="local"), None, CORES, lambda c, _s: (c, None), 1.0)
        runner = StepRunner(journal, Dispatcher([pool]), time.monotonic)
        resources = Resources(runner, Here.opened(CORES), "none", time.monotonic)

        def context(name: str, klass: int) -> Context:
            task = TaskState(name, "agent", 0.0, random.Random(1), klass=klass)
            return Context(resources, Scope(task), tmp_path)

        async def nobody(number: int) -> None:
            ctx = context(f"batch{number}", schedule.BATCH)
            for step in range(3):
                await ctx.call(spin, 0.15 + 0.01 * step, marks)

        async def somebody(number: int) -> None:
            ctx = context(f"front{number}", schedule.INTERACTIVE)
            for step in range(4):
                await asyncio.sleep(0.07 * ((number + step) % 3))
                await ctx.call(spin, 0.03 + 0.001 * step, marks)
            await ctx.call(spin, 60.0, marks, seen, name="until_seen")

        await asyncio.gather(  # so that all processes are there
            *(context(f"first{k}", k).call(spin, 0.01, marks) for k in (schedule.BATCH, 0))
        )
        with Watched(Path(marks), Path(seen)) as watched:
            await asyncio.gather(*(nobody(n) for n in range(4)), *(somebody(n) for n in range(3)))
        await resources.here.close()
        journal.close()
        return watched

    watched = asyncio.run(main())
    assert max(watched.counts) == CORES
    assert watched.back > 0

"""Runs that are broken at random moments and go on, and what must hold of them.

Each start of a run is a process of its own, forked from one that has all modules loaded, so that a
break costs little more than the work that it cuts off.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import resource
import sqlite3
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from typing import Any

import chaos_posttrain
from chaos_agents import NOTES
from chaos_engine import Engine, pool_of
from chaos_forks import context
from polysilicon.errors import PolysiliconError
from polysilicon.runtime.journal import Committed
from polysilicon.runtime.journals import open_journal
from polysilicon.runtime.loader import load_agent, sample_inputs
from polysilicon.runtime.run import Job, Run, RunOptions
from polysilicon.workload.record import TaskRecord
from polysilicon.workload.run_folder import RunFolder
from postgres_server import Server

_FLEET = '[[pool]]\nname = "local"\noffer = "local"\nserves = ["tool:*"]\n'
_TASKS = 6
_BUNDLED_TASKS = 1
_LIMIT_S = 180.0


@dataclass(slots=True)
class Tally:
    """What was done to runs, and how often it found them at work."""

    starts: int = 0
    mishaps: Counter[str] = field(default_factory=Counter)
    kept: int = 0
    again: int = 0


def _jobs(agent: str, root: Path) -> list[Job]:
    if agent in chaos_posttrain.WAYS:
        given, inputs = chaos_posttrain.AGENT, [chaos_posttrain.value(root.parent, agent)]
    elif agent in ("light", "full"):
        given = f"{Path(__file__).with_name('chaos_agents.py')}:{agent}"
        inputs = [{"width": 2 + n % 3} for n in range(_TASKS)]
    else:
        given, inputs = agent, sample_inputs(load_agent(agent))[:_BUNDLED_TASKS]
    return [Job(agent=load_agent(given), given_as=given, inputs=inputs)]


def _start(folder: str, agent: str, address: str | None, number: int, file_bytes: int) -> None:
    """Run or go on with a run; the whole of a process."""
    main = sys.modules["__main__"]  # the tests or the benchmark, which each worker would import
    main.__spec__ = main.__file__ = None
    log = os.open(f"{folder}/../log", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.environ |= {NOTES: f"{folder}/../notes", "CHAOS_START": str(number)}
    if file_bytes:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, resource.RLIM_INFINITY))
    root = Path(folder).parent
    fleet = str(root / "fleet.toml")
    if agent in chaos_posttrain.WAYS:
        chaos_posttrain.script()
    try:
        run = Run(Path(folder), _jobs(agent, root), RunOptions(fleet=fleet, journal=address))
        asyncio.run(run.execute())
    except PolysiliconError as error:
        print(f"start {number}: {error}", flush=True)
        sys.exit(3)


def _needed(label: str) -> str | None:
    """Return the effect whose result an effect waits for, as the agents here are written."""
    task, _, name = label.partition(":")
    stem, number = name.rstrip("0123456789"), name.lstrip("abcdefghijklmnopqrstuvwxyz")
    if stem == "tail" and int(number):
        return f"{task}:tail{int(number) - 1}"
    needed = {"then": f"map{number}", "map": "first", "after": "before", "tail": "first"}.get(stem)
    return f"{task}:{needed}" if needed else None


class Trial:
    """One run in a folder of its own, started until it is finished.

    Args:
        folder: where it is made.
        agent: `light`, `full`, or a bundled agent; those of `chaos_posttrain.WAYS` have an
            engine of their own.
        address: of the journal; None is a file in the run's folder.
        tally: counts over all trials.
        server: the journal's, where it is to crash.
        engine: answers the bundled agents.
    """

    def __init__(
        self,
        folder: Path,
        agent: str,
        address: str | None,
        tally: Tally,
        server: Server | None = None,
        engine: Engine | None = None,
    ) -> None:
        self.root, self.run, self.agent, self.address = folder, folder / "run", agent, address
        self.tally, self._server, self._engine = tally, server, engine
        self.finished = False
        self._number = 0
        self._ended: list[Committed] = []
        self.run.mkdir(parents=True)
        told = _FLEET if engine is None else _FLEET + pool_of(engine.address)
        if agent in chaos_posttrain.WAYS:
            told = chaos_posttrain.fleet(folder.parent)
        (folder / "fleet.toml").write_text(told)
        (folder / "notes").touch()
        self._context = context()

    @property
    def steps(self) -> int:
        """How many steps of the run have ended."""
        return len(self._ended)

    def start(self, after_s: float | None = None, mishap: str = "kill") -> float:
        """Start the run once, and let `mishap` happen to it `after_s` seconds later.

        Returns:
            Seconds until it ended.
        """
        if not (self.run / "run.json").exists():
            # Nobody was told of the run yet, so nothing of it was promised.
            for path in self.run.iterdir():
                if path.name != "journal.json":
                    path.unlink()
            self._ended.clear()
        self._number += 1
        self.tally.starts += 1
        file_bytes = random.Random(after_s).randrange(40_000, 200_000) if mishap == "full" else 0
        file_bytes = 0 if after_s is None else file_bytes
        arguments = (str(self.run), self.agent, self.address, self._number, file_bytes)
        process = self._context.Process(target=_start, args=arguments)
        begin_s = time.monotonic()
        answered = 0 if self._engine is None else self._engine.answered
        process.start()
        try:
            if after_s is not None and mishap == "engine":
                self._kill_engine(process, answered)
            elif after_s is not None:
                self._break(process, after_s, mishap)
            process.join(_LIMIT_S)
        finally:
            process.kill()
            process.join()
        seconds = time.monotonic() - begin_s
        self.tally.mishaps["full"] += bool(file_bytes) and process.exitcode == 3
        self._look(process.exitcode)
        return seconds

    def _break(self, process: Any, after_s: float, mishap: str) -> None:
        process.join(after_s)
        if process.exitcode is not None or mishap == "full":
            return
        path = self.run / "journal.sqlite"
        if mishap == "kill":
            process.kill()
        elif mishap == "restart" and self._server is not None:
            self._server.kill()
            self._server.start()
        elif mishap == "busy" and path.exists():
            other = sqlite3.connect(path, timeout=5, isolation_level=None)
            other.execute("BEGIN IMMEDIATE")
            time.sleep(0.2)
            other.execute("COMMIT")
            other.close()
        else:
            return
        self.tally.mishaps[mishap] += 1

    def _kill_engine(self, process: Any, answered: int) -> None:
        """Kill the engine once this start has had an answer, and start it again."""
        assert self._engine is not None
        while process.exitcode is None and self._engine.answered <= answered + 1:
            process.join(0.005)
        if process.exitcode is None:
            self._engine.kill()
            self.tally.mishaps["engine"] += 1
            self._engine.start()

    def _look(self, exitcode: int | None) -> None:
        """Check what must hold whenever the run's process is gone."""
        if not (self.run / "run.json").exists():
            return
        log = (self.root / "log").read_text()
        assert exitcode in (0, 3, -9), log
        ended = self._journaled()
        # A step that ran again would have other times and another number.
        assert ended[: len(self._ended)] == self._ended, "steps that ended were lost or ran again"
        before = {f"{step.record.task_id}:{step.record.name}" for step in self._ended}
        now = {f"{step.record.task_id}:{step.record.name}" for step in ended}
        for line in (self.root / "notes").read_text().splitlines():
            start, label, _ = line.split()
            again = int(start) == self._number and label in before
            assert not again, f"start {start} did {label} again, which had ended"
            needed = _needed(label)
            assert needed is None or needed in now, f"{label} began before {needed} was committed"
        self._ended = ended
        self.finished = RunFolder(self.run).info().finished
        assert self.finished or exitcode != 0, log

    def _journaled(self) -> list[Committed]:
        """Return the steps that ended, in the order of commits."""
        journal = open_journal(self.run, self.address, follows=True)
        try:
            return journal.ended(0, 1_000_000)
        finally:
            journal.close()

    def checked(self) -> dict[str, Any]:
        """Check what must hold of a finished run, and return what must be as in any other."""
        assert self.finished
        files = RunFolder(self.run)
        tasks = files.tasks()
        assert len(tasks) == files.info().tasks == len(_jobs(self.agent, self.root)[0].inputs)
        keys: dict[str, set[str]] = {}
        for line in (self.root / "notes").read_text().splitlines():
            _, label, key = line.split()
            keys.setdefault(label, set()).add(key)
            self.tally.again += 1
        self.tally.again -= len(keys)  # effects tried again: begun, cut off, and not known to end
        assert all(len(found) == 1 for found in keys.values()), keys
        assert len(set.union(set(), *keys.values())) == len(keys)
        steps = list(files.workload().steps())
        self.tally.kept += len(steps)
        what = attrgetter("task_id", "name", "kind", "model", "outcome")
        own = self.agent in ("light", "full", *chaos_posttrain.WAYS)
        # The bundled agents give their tools files of the run's folder, so ids differ by run there.
        known = {(s.task_id, s.step_id): s.step_id if own else s.name for s in steps}
        return {
            "steps": Counter(
                (
                    *what(step),
                    known[step.task_id, step.step_id],
                    *sorted(known[step.task_id, parent] for parent in step.parent_ids),
                )
                for step in steps
            ),
            "count": len(steps),
            "tasks": {t.task_id: self._told(t) for t in tasks},
            "effects": set(keys),
        }

    def _told(self, task: TaskRecord) -> tuple[Any, ...]:
        """Return what became of a task, with no name of this trial's folder in it."""
        output = json.dumps(task.output, sort_keys=True).replace(str(self.root), "")
        return task.ok, output, task.quality, task.error

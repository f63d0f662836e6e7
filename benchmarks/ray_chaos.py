"""Nodes of a Ray cluster, killed at random moments while runs go on over them.

SIGKILL ends all processes of a node, as a crash of its machine would, and another one joins in its
place. There are four, of one core each; where root runs this, one of them is in a network namespace
of its own. The journal is PostgreSQL's. Rounds take turns: tasks whose steps do nothing but leave a
line, until 20 nodes were killed, and the four bundled agents until they are done, their engine a
process beside the cluster that answers at once. After each round it is checked that every accepted
task finished, that each step is recorded once, and

- of the lines: that no step that had ended was begun again (a task's steps follow each other, so no
  line may come after one of a later step), and that each step began under one key alone;
- of the bundled agents: that steps, parents, outcomes and outputs are those of a run on the local
  executor that nothing broke.

Any broken promise ends the benchmark with what was broken.

    python benchmarks/ray_chaos.py              40 kills
    python benchmarks/ray_chaos.py 200 FILE     200, less those that FILE tells of; each round adds
                                                a line to it, so that it can be done in several goes
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import namespaces
from chaos_engine import Engine, pool_of
from executor_jobs import marks
from polysilicon import Agent
from polysilicon.runtime.loader import load_agent, sample_inputs
from polysilicon.runtime.run import Job, Run, RunOptions
from polysilicon.workload.run_folder import RunFolder
from postgres_server import Server
from postgres_server import missing as no_postgres
from ray_nodes import LOOPBACK, Nodes
from ray_nodes import missing as no_ray
from rounds import keep, kept

OFFER = "lab/box"
NODES, KILLS, A_ROUND = 4, 40, 20
MARK_TASKS, MARK_S = 8, 0.05
BUNDLED = {"support": 32, "coder": 32, "researcher": 32, "pipeline": 16}
"""How many tasks of each."""
HELD = {
    "no-ops": "none that had ended begun again",
    "agents": "and outputs as of an unbroken run",
}
"""What was checked of each kind of round."""
_PAUSE_S = 1.0
_NOTICED_S = 3.0
"""A loss is noticed by then, or the machine did not serve yet."""
_PATIENCE_S = 120.0
# So that the head tells within three seconds, and not within twenty, that a node is gone.
_HEALTH = {"initial_delay": 3000, "period": 500, "timeout": 5000}

_POOL = (
    '[[pool]]\nname = "box"\noffer = "{offer}"\nunits = {units}\nserves = ["tool:*", "embed:*"]\n'
)
_PRICE = "price = { usd_per_hour = 1.0 }\n"


class Round(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a round.

    Attributes:
        what: no-ops or agents.
        kills: nodes killed while it went on.
        lost: machines that the driver noticed to be lost.
        tasks: accepted and finished.
        steps: recorded, each once.
        again: of those that leave lines, begun again as they had been cut off.
        wall_s: seconds.
    """

    what: str
    kills: int
    lost: int
    tasks: int
    steps: int
    again: int
    wall_s: float


class Serving(logging.Handler):
    """Hears from the driver's log which machines serve."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.count = self.lost = 0
        logger = logging.getLogger("polysilicon.cluster")
        logger.setLevel(logging.INFO)
        logger.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Count."""
        text = record.getMessage()
        gone = " is lost to pool " in text
        self.count += (" serves pool " in text) - gone
        self.lost += gone

    def reset(self) -> None:
        """Begin a round."""
        self.count = self.lost = 0


class Lab:
    """The cluster and its machines."""

    def __init__(self, nodes: Nodes, apart: namespaces.Namespace | None) -> None:
        self.nodes, self.serving = nodes, Serving()
        self._machines = [nodes.add(OFFER) for _ in range(NODES - (apart is not None))]
        if apart is not None:
            self._machines.append(nodes.add_apart(OFFER, apart))

    def replace(self, rng: random.Random) -> None:
        """Kill a machine, and have another one join."""
        victim = self._machines.pop(rng.randrange(NODES))
        self.nodes.kill(victim)
        apart = isinstance(victim, namespaces.Namespace)
        joined = self.nodes.add_apart(OFFER, victim) if apart else self._added()
        self._machines.append(joined)

    def _added(self) -> Any:
        """Add a machine; where Ray cannot start one in half a minute, as it does, another."""
        for left in range(2, -1, -1):
            try:
                return self.nodes.add(OFFER)
            except Exception:  # Ray raises no other
                if not left:
                    raise
        return None


class Killer(threading.Thread):
    """Kills a machine now and then, as long as there is something to break.

    Args:
        lab: has the machines.
        rng: chooses them, and the moments.
        most: kills.
        at_work: tells whether the run has anything left to do.
        ended: is called after the last kill.
    """

    def __init__(
        self, lab: Lab, rng: random.Random, most: int, at_work: Callable[[], bool],
        ended: Callable[[], None],
    ) -> None:  # fmt: skip
        super().__init__(daemon=True)
        self._lab, self._rng, self._most = lab, rng, most
        self._at_work, self._ended = at_work, ended
        self._ending = threading.Event()
        self.killed, self._lost = 0, -1
        self.failed: list[BaseException] = []

    def run(self) -> None:
        """Kill."""
        try:
            while self.killed < self._most and self._next():
                self._lost = self._lab.serving.lost
                self._lab.replace(self._rng)
                self.killed += 1
                print(f"{self.killed} of {self._most} nodes killed in this round", file=sys.stderr)
        except BaseException as error:  # noqa: BLE001 - raised in `end`
            self.failed.append(error)
        finally:
            self._ended()

    def _next(self) -> bool:
        """Wait for the next moment: any, once half the machines serve; False where none comes.

        So most are killed at work, some before they serve, and steps do get somewhere.
        """
        serving, begin_s = self._lab.serving, time.monotonic()

        def ready() -> bool:
            noticed = serving.lost > self._lost or time.monotonic() > begin_s + _NOTICED_S
            return noticed and serving.count >= NODES // 2 and self._at_work()

        while not ready():
            assert time.monotonic() < begin_s + _PATIENCE_S, f"{serving.count} machines serve"
            if self._ending.wait(0.02):
                return False
        return not self._ending.wait(self._rng.uniform(0.0, _PAUSE_S)) and self._at_work()

    def end(self) -> None:
        """Kill no more, and raise what went wrong."""
        self._ending.set()
        self.join()
        for error in self.failed:
            raise error


def broken(
    lab: Lab, run: Run, rng: random.Random, most: int, ended: Callable[[], None] = lambda: None
) -> tuple[RunFolder, Killer]:
    """Run to the end, while machines are killed."""

    def at_work() -> bool:
        told = run.progress
        return told.phase == "running" and told.done < told.tasks

    lab.serving.reset()
    killer = Killer(lab, rng, most, at_work, ended)
    killer.start()
    try:
        done = asyncio.run(run.execute())
    finally:
        killer.end()
    return done, killer


def no_ops(lab: Lab, root: Path, address: str, rng: random.Random, most: int) -> Round:
    """Let tasks leave lines until so many machines were killed; check, and tell."""
    begin_s = time.monotonic()
    path = root / "lines"
    path.touch()
    inputs = [{"path": str(path), "seconds": MARK_S} for _ in range(MARK_TASKS)]
    job = Job(agent=Agent(name="marks", run=marks), given_as="-", inputs=inputs)
    options = RunOptions(fleet=fleet(root), ray=lab.nodes.address, journal=address,
                         task_timeout_s=1e5)  # fmt: skip
    (root / "run").mkdir()
    run = Run(root / "run", [job], options)
    stop = Path(f"{path}.stop").touch
    done, killer = broken(lab, run, rng, most, stop)
    steps, again = checked(done, path)
    return Round(what="no-ops", kills=killer.killed, lost=lab.serving.lost, tasks=MARK_TASKS,
                 steps=steps, again=again, wall_s=time.monotonic() - begin_s)  # fmt: skip


def checked(done: RunFolder, path: Path) -> tuple[int, int]:
    """Check a run of `marks`; return its steps, and how many were begun more than once."""
    tasks = {task.task_id: task for task in done.tasks()}
    assert len(tasks) == MARK_TASKS
    assert all(task.ok for task in tasks.values()), [t.error for t in tasks.values()]
    steps = list(done.workload().steps())
    wanted = {f"{t.task_id}:{number}" for t in tasks.values() for number in range(t.output)}
    assert len(steps) == len({(s.task_id, s.step_id) for s in steps}) == len(wanted)
    assert all(step.outcome == "ok" for step in steps)
    begun = [line.split() for line in path.read_text().splitlines()]
    last: Counter[str] = Counter()
    for label, _, _ in begun:
        task, _, number = label.partition(":")
        assert int(number) >= last[task], f"{label} began again after it had ended"
        last[task] = int(number)
    assert {label for label, _, _ in begun} == wanted
    assert len({(label, key) for label, _, key in begun}) == len(wanted), "one step, two keys"
    return len(steps), len(begun) - len(wanted)


def fleet(root: Path, engine: str | None = None, *, local: bool = False) -> str:
    """Write a fleet file: tools on the nodes, or here, and an engine that is elsewhere."""
    text = _POOL.format(offer="local" if local else OFFER, units=1 if local else NODES)
    text += "" if local else _PRICE
    if engine is not None:
        text += pool_of(engine)
    path = root / f"fleet{int(local)}.toml"
    path.write_text(text)
    return str(path)


def bundled() -> list[Job]:
    """Return the tasks of the bundled agents: their samples, over and over."""
    jobs = []
    for name, count in BUNDLED.items():
        agent = load_agent(name)
        samples = sample_inputs(agent)
        inputs = [samples[n % len(samples)] for n in range(count)]
        jobs.append(Job(agent=agent, given_as=name, inputs=inputs))
    return jobs


def ledger(done: RunFolder) -> dict[str, Any]:
    """Return what must not depend on how a run went: its steps by what they are, and its tasks.

    Step ids are left out: the agents give their tools files of the run's folder.
    """
    steps = list(done.workload().steps())
    assert len(steps) == len({(step.task_id, step.step_id) for step in steps})
    names = {(step.task_id, step.step_id): step.name for step in steps}
    told = Counter(
        (step.task_id, step.name, step.kind, step.model, step.outcome,
         *sorted(names[step.task_id, parent] for parent in step.parent_ids))
        for step in steps
    )  # fmt: skip
    root = str(done.path.parent)
    tasks = {
        task.task_id: (task.ok, json.dumps(task.output, sort_keys=True).replace(root, ""),
                       task.quality, task.error)
        for task in done.tasks()
    }  # fmt: skip
    return {"steps": told, "tasks": tasks}


def unbroken(root: Path, engine: str) -> dict[str, Any]:
    """Return the ledger of the bundled agents on the local executor."""
    (root / "run").mkdir(parents=True)
    options = RunOptions(fleet=fleet(root, engine, local=True))
    return ledger(asyncio.run(Run(root / "run", bundled(), options).execute()))


def agents(
    lab: Lab, root: Path, address: str, rng: random.Random, most: int, expected: dict[str, Any],
    engine: str,
) -> Round:  # fmt: skip
    """Run the bundled agents while machines are killed; check, and tell."""
    begin_s = time.monotonic()
    (root / "run").mkdir()
    options = RunOptions(fleet=fleet(root, engine), ray=lab.nodes.address, journal=address)
    done, killer = broken(lab, Run(root / "run", bundled(), options), rng, most)
    found = ledger(done)
    assert len(found["tasks"]) == sum(BUNDLED.values())
    for what, value in expected.items():
        assert found[what] == value, f"{what} differ: {_differing(found[what], value)}"
    return Round(what="agents", kills=killer.killed, lost=lab.serving.lost,
                 tasks=len(found["tasks"]), steps=found["steps"].total(), again=0,
                 wall_s=time.monotonic() - begin_s)  # fmt: skip


def _differing(found: dict[Any, Any], value: dict[Any, Any]) -> list[Any]:
    return [(key, found.get(key), value.get(key)) for key in {*found, *value}
            if found.get(key) != value.get(key)][:5]  # fmt: skip


def rounds(lab: Lab, folder: Path, address: str, engine: str, wanted: int, path: Path | None) -> (
    list[Round]
):  # fmt: skip
    """Do rounds until so many nodes were killed, in all that the file tells of."""
    found, expected = kept(path, Round), None
    while (killed := sum(done.kills for done in found)) < wanted:
        number, most = len(found), min(A_ROUND, wanted - killed)
        root, rng = folder / str(number), random.Random(number)
        root.mkdir()
        if number % 2:
            expected = expected or unbroken(folder / "unbroken", engine)
            done = agents(lab, root, address, rng, most, expected, engine)
        else:
            done = no_ops(lab, root, address, rng, most)
        found.append(done)
        print(msgspec.json.encode(done).decode(), file=sys.stderr, flush=True)
        keep(path, done)
    return found


def main() -> None:
    """Kill nodes, and print what came of it."""
    given = sys.argv[1:]
    wanted = int(given[0]) if given else KILLS
    path = Path(given[1]) if len(given) > 1 else None
    if (reason := no_ray() or no_postgres()) is not None:
        sys.exit(reason)
    os.environ |= {f"RAY_health_check_{name}_ms": str(ms) for name, ms in _HEALTH.items()}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        apart = None
        if (no_namespace := namespaces.missing()) is None:
            apart = stack.enter_context(namespaces.Namespace())
        address = stack.enter_context(Server()).address()
        engine = stack.enter_context(Engine(folder)).address
        host = LOOPBACK if apart is None else namespaces.HOST
        lab = Lab(stack.enter_context(Nodes(host=host)), apart)
        found = rounds(lab, folder, address, engine, wanted, path)
    print(no_namespace or "one of the four nodes is in a network namespace of its own")
    for what, held in HELD.items():
        of = [done for done in found if done.what == what]
        print(f"{what}: {sum(d.kills for d in of)} nodes killed in {len(of)} rounds and "
              f"{sum(d.wall_s for d in of):.0f} s; {sum(d.tasks for d in of)} tasks accepted and "
              f"finished, {sum(d.steps for d in of):,} steps, each recorded once, {held}; "
              f"{sum(d.again for d in of)} effects were cut off and tried again")  # fmt: skip


if __name__ == "__main__":
    main()

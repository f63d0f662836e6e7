"""What a scheduling decision costs, as the runtime makes it: by pools, and by what is queued.

- Which pool takes a step: `Dispatcher.choose` over 10 to 1,000 pools, at every one of which steps
  come and go between the decisions.
- Which step is next: a slot of a gate becomes free while 1,000 to 1,000,000 steps wait there, and
  another comes; beside it the same rule over an array of all that wait, as it was done before.
- Both at once: 1,000 pools with up to 1,000,000 steps queued before them.
- Which task begins: `Backlog.next` with up to 1,000,000 tasks.

Times are those of the core, so that other programs do not count. The calls of functions that a
decision makes, in Python and below it, are counted by the interpreter, and are the same on every
machine.

    python benchmarks/scheduling.py [FOLDER]    writes scheduling.svg into the folder
"""

from __future__ import annotations

import asyncio
import math
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from polysilicon import schedule
from polysilicon.catalog.fleet import Pool
from polysilicon.catalog.policy import Policy
from polysilicon.report.loglog import Plot, axis_around
from polysilicon.runtime.backlog import Backlog
from polysilicon.runtime.dispatch import Dispatcher
from polysilicon.runtime.gates import Gate
from polysilicon.runtime.journal import PendingTask
from polysilicon.runtime.lengths import Lengths
from polysilicon.runtime.pools import RunningPool
from polysilicon.runtime.scope import StepCall, TaskState

POOLS = (10, 32, 100, 316, 1000)
QUEUED = (1_000, 10_000, 100_000, 1_000_000)
DECISIONS = 2000
_CALL = StepCall(kind="llm", name="chat", model="m", resource="engine", timeout_s=60.0)
_STYLE = """
text{font:12px sans-serif;fill:#555}.grid{stroke:#ddd}.line{fill:none;stroke-width:2}
.next{stroke:#c33}.scan{stroke:#999;stroke-dasharray:4 3}.pool{stroke:#27c}.both{stroke:#283}
.next-t{fill:#c33}.scan-t{fill:#777}.both-t{fill:#283}
"""

Measured = tuple[float, float, float]
"""Microseconds of a decision, median and 99th percentile, and calls that it makes."""


def calls_of(work: Callable[[], object], times: int = 50) -> float:
    """Return how many functions are called by some work, on the mean."""
    count = 0

    def seen(_frame: Any, event: str, _argument: Any) -> None:
        nonlocal count
        count += event in {"call", "c_call"}

    sys.setprofile(seen)
    try:
        for _ in range(times):
            work()
    finally:
        sys.setprofile(None)
    return count / times - 1


def measured(work: Callable[[], object], between: Callable[[], object] | None = None) -> Measured:
    """Time some work again and again, with something else between."""
    times_us = np.empty(DECISIONS)
    for n in range(DECISIONS):
        if between is not None:
            between()
        begin_ns = time.thread_time_ns()
        work()
        times_us[n] = (time.thread_time_ns() - begin_ns) / 1e3
    p50, p99 = np.percentile(times_us[DECISIONS // 10 :], [50, 99])
    return float(p50), float(p99), calls_of(work)


def fleet(count: int, rng: random.Random) -> list[RunningPool]:
    """Return pools that differ in vendor, region, price and speed."""
    made = []
    for n in range(count):
        pool = Pool(name=f"p{n}", offer=f"vendor{n % 7}/machine{n % 50}", region=f"r-{n % 20}",
                    concurrency=8, serves=("llm:m",))  # fmt: skip
        engine: Any = SimpleNamespace(model="m")
        running = RunningPool(pool, engine, 0, lambda _c, s: (s, None), rng.uniform(1e-4, 1e-2))
        running.gates["engine"].mean_s = rng.uniform(0.1, 10.0)
        made.append(running)
    return made


def task(number: int, rng: random.Random) -> TaskState:
    """Return a task; some have deadlines, some are waited for."""
    deadline_s = time.monotonic() + rng.uniform(1.0, 1e4) if number % 4 == 0 else math.inf
    klass = schedule.INTERACTIVE if number % 10 == 0 else schedule.BATCH
    state = TaskState(f"t{number}", "a", 0.0, rng, klass=klass, deadline_s=deadline_s)
    state.level = schedule.doublings(rng.expovariate(0.1))
    return state


def wait(gate: Gate, number: int, rng: random.Random, loop: asyncio.AbstractEventLoop) -> None:
    """Let a step wait at a gate, as `Gate.enter` does."""
    gate._waiting.add(loop.create_future(), task(number, rng), time.monotonic())  # noqa: SLF001
    gate.changed()


def choosing(count: int, rng: random.Random) -> Measured:
    """Measure which pool takes a step."""
    pools = fleet(count, rng)
    dispatcher = Dispatcher(pools, Policy(), lambda _decision: None)
    tasks = [task(n, rng) for n in range(100)]

    def between() -> None:
        for pool in rng.choices(pools, k=4):
            gate = pool.gates["engine"]
            gate.running = 1
            gate.leave(rng.expovariate(1.0), "chat")

    return measured(lambda: dispatcher.choose(_CALL, rng.choice(tasks)), between)


def nexting(count: int, rng: random.Random, loop: asyncio.AbstractEventLoop) -> Measured:
    """Measure which of many steps is next at one gate, as one ends and another comes."""
    gate = Gate(8)
    gate.running = 8
    for n in range(count):
        wait(gate, n, rng, loop)

    def decide() -> None:
        wait(gate, rng.randrange(10**6), rng, loop)
        gate.leave(1.0, "chat")

    return measured(decide)


def scanning(count: int, rng: random.Random) -> float:
    """Return the microseconds that the rule takes over arrays of all that wait."""
    tasks = [task(n, rng) for n in range(count)]
    now_s = time.monotonic()
    times_us = []
    for _ in range(5):
        begin_ns = time.thread_time_ns()
        schedule.next_step(
            np.array([t.level for t in tasks], np.int64),
            np.full(count, now_s),
            np.array([t.klass for t in tasks], np.int64),
            np.array([t.deadline_s for t in tasks], np.float64) - now_s,
            np.zeros(count),
            now_s,
            schedule.STARVE_S,
        )
        times_us.append((time.thread_time_ns() - begin_ns) / 1e3)
    return float(np.median(times_us))


def both(pools_: int, count: int, rng: random.Random, loop: asyncio.AbstractEventLoop) -> Measured:
    """Measure both: a step's pool is chosen, it waits there, and another one's turn comes."""
    pools = fleet(pools_, rng)
    dispatcher = Dispatcher(pools, Policy(), lambda _decision: None)
    for pool in pools:
        pool.gates["engine"].running = 8
    for n in range(count):
        wait(pools[n % pools_].gates["engine"], n, rng, loop)
    tasks = [task(n, rng) for n in range(100)]

    def decide() -> None:
        choice = dispatcher.choose(_CALL, rng.choice(tasks))
        assert choice is not None
        wait(choice.pool.gates["engine"], rng.randrange(10**6), rng, loop)
        rng.choice(pools).gates["engine"].leave(1.0, "chat")

    return measured(decide)


def beginning(count: int) -> Measured:
    """Measure which task begins next."""
    lengths = Lengths()
    tasks = (PendingTask(task_id=str(n), agent=f"a{n % 8}", input=None) for n in range(count))
    backlog = Backlog(tasks, lengths, Policy())
    rng = random.Random(1)
    for _ in range(500):
        lengths.ended(f"a{rng.randrange(8)}", rng.expovariate(1.0))
    return measured(backlog.next)


def drawn(rows: dict[str, list[tuple[float, float]]]) -> str:
    """Return the chart of what a decision costs by what is queued."""
    every = [point for points in rows.values() for point in points]
    plot = Plot(
        x=axis_around([x for x, _ in every], "steps queued", lambda v: f"{v:,.0f}"),
        y=axis_around([y for _, y in every], "µs a decision, median", lambda v: f"{v:,.0f}"),
    )
    shapes = []
    for (name, points), style in zip(rows.items(), ("next", "scan", "both"), strict=True):
        shapes.append(plot.line(points, f"line {style}"))
        shapes.append(plot.words(points[1], name, f"{style}-t"))
    label = "Microseconds of a decision by how many steps are queued, both logarithmic"
    return str(plot.svg(label, shapes, _STYLE))


def row(table: Table, what: str, size: str, found: Measured) -> None:
    """Add a row."""
    table.add_row(what, size, f"{found[0]:,.1f}", f"{found[1]:,.1f}", f"{found[2]:,.0f}")


def main() -> None:
    """Measure, print the table, and draw the chart."""
    rng, loop = random.Random(5), asyncio.new_event_loop()
    table = Table("decision", "of", "µs p50", "µs p99", "calls")
    for count in POOLS:
        row(table, "which pool", f"{count:,} pools", choosing(count, rng))
    ways: dict[str, list[tuple[float, float]]] = {
        "next at one gate": [], "the rule over all": [], "1,000 pools, pool and next": [],
    }  # fmt: skip
    for count in QUEUED:
        found = nexting(count, rng, loop)
        row(table, "which is next", f"{count:,} at one gate", found)
        scan_us = scanning(count, rng)
        table.add_row("  the rule over all", f"{count:,}", f"{scan_us:,.1f}", "", "")
        ways["next at one gate"].append((count, found[0]))
        ways["the rule over all"].append((count, scan_us))
    for count in QUEUED:
        found = both(1000, count, rng, loop)
        row(table, "pool and next", f"{count:,} before 1,000 pools", found)
        ways["1,000 pools, pool and next"].append((count, found[0]))
    for count in QUEUED[1:]:
        row(table, "which task begins", f"{count:,} tasks", beginning(count))
    loop.close()
    Console(file=sys.stdout).print(table)
    if len(sys.argv) > 1:
        (Path(sys.argv[1]) / "scheduling.svg").write_text(drawn(ways))


if __name__ == "__main__":
    main()

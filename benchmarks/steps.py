"""Overhead of a durable, scheduled, metered step that does nothing, on this machine.

Prints steps a second and latency percentiles for one task at a time and for 64 at once.

    python benchmarks/steps.py
"""

from __future__ import annotations

import asyncio
import random
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from polysilicon.catalog.fleet import Pool
from polysilicon.runtime.journal import Journal
from polysilicon.runtime.pools import RunningPool
from polysilicon.runtime.steps import Scope, StepCall, StepRunner, TaskState, Usage

STEPS = 5000
REPEATS = 5


async def nothing(_pool: RunningPool, _usage: Usage) -> int:
    """Do nothing."""
    return 1


async def measure(tasks: int) -> tuple[float, list[float]]:
    """Run STEPS steps in `tasks` tasks at once; return seconds in all and of each step."""
    with tempfile.TemporaryDirectory() as folder:
        journal = Journal(Path(folder))
        pool = RunningPool(Pool(name="local"), None, 64, lambda c, _s: (c, None), 1.0)
        runner = StepRunner(journal, [pool], time.perf_counter)
        each: list[float] = []

        async def task(number: int) -> None:
            scope = Scope(TaskState(f"t{number}", "bench", 0.0, random.Random(number)))
            for index in range(STEPS // tasks):
                begin_s = time.perf_counter()
                call = StepCall(kind="tool", name="nothing", arguments=index, timeout_s=10.0)
                await runner.run(scope, call, nothing, int)
                each.append(time.perf_counter() - begin_s)

        begin_s = time.perf_counter()
        await asyncio.gather(*(task(n) for n in range(tasks)))
        wall_s = time.perf_counter() - begin_s
        journal.close()
        return wall_s, each


def main() -> None:
    """Print the table."""
    table = Table(
        "tasks at once", "steps/s", "p50 ms", "p99 ms", title=f"no-op steps, median of {REPEATS}"
    )
    for tasks in (1, 64):
        runs = [asyncio.run(measure(tasks)) for _ in range(REPEATS)]
        wall_s, each = sorted(runs, key=lambda run: run[0])[REPEATS // 2]
        p50, p99 = np.percentile(each, [50, 99]) * 1e3
        table.add_row(str(tasks), f"{len(each) / wall_s:,.0f}", f"{p50:.3f}", f"{p99:.3f}")
    Console(file=sys.stdout).print(table)


if __name__ == "__main__":
    main()

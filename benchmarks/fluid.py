"""How far the fluid mode is from exact play, by load and size, and what a very large fleet takes.

python benchmarks/fluid.py [STEPS]
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
from rich.console import Console
from rich.table import Table

from events import LLM, TOOLS, chats, tools
from polysilicon.catalog.fleet import Fleet, Pool
from polysilicon.simulate import Result, simulate
from polysilicon.workload.files import stream
from polysilicon.workload.workload import Workload

STEPS = 60_000
LARGE = 12_000_000
VCPUS = 192


def main() -> None:
    """Print both tables."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else STEPS
    table = Table(title=f"fluid over exact, {count:,} steps", box=None)
    for heading in ("fleet", "in use", "cost", "mean wait", "wait p99", "step p50", "step p99"):
        table.add_column(heading, justify="left" if heading == "fleet" else "right")
    for units in (1, 8, 32):
        for load in (1.0, 1.3, 1.37, 1.6):  # its vCPUs do 1.39 core-seconds a second
            pool = msgspec.structs.replace(TOOLS, units=units)
            work = tools(max(count, 40 * units * VCPUS), load * units / TOOLS.units)
            table.add_row(*compared(f"{units * VCPUS:,} vCPUs", pool, work))
    for units, slots in ((1, 64), (1, 512), (4, 64)):
        for rate in (50.0, 90.0, 120.0):
            pool = msgspec.structs.replace(LLM, units=units, concurrency=slots)
            table.add_row(*compared(f"{units * 8} engines, {slots // 8} slots each", pool,
                                    chats(count // 2, rate * units / 2)))  # fmt: skip
    Console(width=110).print(table)
    large()


def compared(name: str, pool: Pool, work: Workload) -> list[str]:
    """Return a row."""
    fleet = Fleet(pool=(pool,))
    one, two = (simulate(work, fleet, mode=mode) for mode in ("exact", "fluid"))  # type: ignore[arg-type]
    waits = [mean_wait_s(result) for result in (one, two)]
    return [
        name,
        f"{one.utilisation[pool.name]:.1%} {two.utilisation[pool.name]:.1%}",
        f"{two.cost_usd / one.cost_usd:.3f}",
        " ".join(f"{value:.4g}" for value in waits),
        f"{one.wait_s.p99:.3g} {two.wait_s.p99:.3g}",
        f"{(two.task_s.p50 or 0) / (one.task_s.p50 or 1):.3f}",
        f"{(two.task_s.p99 or 0) / (one.task_s.p99 or 1):.3f}",
    ]


def mean_wait_s(result: Result) -> float:
    """Return the mean of steps that waited, by the series."""
    waited = np.array(list(result.series["waiting"].values())).sum()
    at_s = result.series["at_s"]
    width_s = at_s[1] - at_s[0] if len(at_s) > 1 else 0.0
    return float(waited * width_s / result.steps)


def large() -> None:
    """Print what ten million vCPUs take, whose steps are read from a file."""
    units, each_s = 52_083, 100.0
    rate = 1.3 * units * VCPUS / each_s
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "w.parquet"
        now_s = 0.0
        with stream(path) as put:
            for piece in range(LARGE // 1_000_000):
                work = tools(1_000_000)
                arrival_s = now_s + np.cumsum(rng.exponential(1.0 / rate, 1_000_000))
                now_s = float(arrival_s[-1])
                ids = [f"{piece:04d}{n:07d}" for n in range(1_000_000)]
                columns = {
                    "task_id": ids,
                    "arrival_s": arrival_s,
                    "cpu_s": rng.exponential(each_s, 1_000_000),
                }
                table = work.table
                for name, values in columns.items():
                    at = table.schema.get_field_index(name)
                    table = table.set_column(at, name, pa.array(values))
                put(table)
        fleet = Fleet(pool=(msgspec.structs.replace(TOOLS, units=units),))
        begun = time.perf_counter()
        result = simulate(path, fleet, mode="fluid")
        took_s = time.perf_counter() - begun
    gigabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    flying = max(result.series["running"]["tools"])
    print(f"{units * VCPUS:,} vCPUs, {LARGE:,} steps: {took_s:.0f} s, {gigabytes:.1f} GB, "
          f"{flying:,.0f} in flight, mode {result.mode}")  # fmt: skip


if __name__ == "__main__":
    main()

"""How fast a workload file of a million steps is read, described and summed.

python benchmarks/records.py
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from rich.console import Console
from rich.table import Table

from polysilicon.ledger.ledger import ledger
from polysilicon.workload.describe import describe
from polysilicon.workload.files import read, write
from polysilicon.workload.workload import Workload

STEPS = 1_000_000
PER_TASK = 10
REPEATS = 3


def workload(rng: np.random.Generator) -> Workload:
    """Return STEPS steps: chats and searches in turns."""
    number = np.arange(STEPS)
    start_s = number * 1e-3
    service_s = rng.lognormal(0.0, 1.0, STEPS)
    llm = number % 2 == 0
    columns = {
        "task_id": pa.array([f"t{n // PER_TASK}" for n in range(STEPS)]),
        "step_id": pa.array([f"s{n % PER_TASK}" for n in range(STEPS)]),
        "agent": pa.array(["support"] * STEPS),
        "name": pa.array(np.where(llm, "chat", "search")),
        "kind": pa.array(np.where(llm, "llm", "tool")),
        "start_s": pa.array(start_s),
        "end_s": pa.array(start_s + service_s),
        "prompt_tokens": pa.array(rng.integers(10, 2000, STEPS), mask=~llm),
        "output_tokens": pa.array(rng.integers(1, 200, STEPS), mask=~llm),
        "cpu_s": pa.array(service_s),
        "outcome": pa.array(["ok"] * STEPS),
        "cost_usd": pa.array(service_s * 1e-5),
    }
    return Workload(pa.table(columns), where="generated")


def timed(what: Callable[[], Any]) -> float:
    """Return the median of REPEATS times, in seconds."""
    times = []
    for _ in range(REPEATS):
        begin_s = time.perf_counter()
        what()
        times.append(time.perf_counter() - begin_s)
    return sorted(times)[REPEATS // 2]


def main() -> None:
    """Print the table."""
    table = Table("what", "seconds", title=f"one million steps, median of {REPEATS}")
    made = workload(np.random.default_rng(1))
    with tempfile.TemporaryDirectory() as folder:
        for suffix in ("parquet", "jsonl"):
            path = Path(folder) / f"w.{suffix}"
            write(made, path)
            size = path.stat().st_size / 1e6
            table.add_row(f"read {suffix}, {size:.0f} MB", f"{timed(lambda p=path: read(p)):.2f}")
    table.add_row("describe", f"{timed(lambda: describe(made)):.2f}")
    table.add_row("ledger", f"{timed(lambda: ledger(made)):.2f}")
    Console(file=sys.stdout).print(table)


if __name__ == "__main__":
    main()

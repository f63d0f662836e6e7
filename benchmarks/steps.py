"""Overhead of a durable, scheduled, metered step that does nothing, beside its peers.

Peers are installed into `build/peers` from `peers/requirements.txt`. All keep each step in SQLite
before the next begins; the turns of all are mixed, and the median of REPEATS is shown.

    python benchmarks/steps.py
"""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from polysilicon.catalog.fleet import Pool
from polysilicon.runtime.dispatch import Dispatcher
from polysilicon.runtime.journal import Journal
from polysilicon.runtime.journals import open_journal, open_shared
from polysilicon.runtime.pools import RunningPool
from polysilicon.runtime.scope import Scope, StepCall, TaskState, Usage
from polysilicon.runtime.steps import StepRunner

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from postgres_server import Server, missing

STEPS = 5000
PEER_STEPS = 500
REPEATS = 5
HERE = Path(__file__).resolve().parent
PEERS = HERE.parent / "build" / "peers"

Measured = tuple[float, list[float]]
"""Seconds in all, and of each step."""


async def nothing(_pool: RunningPool, _usage: Usage) -> int:
    """Do nothing."""
    return 1


async def ours(tasks: int, address: str | None = None, *, shared: bool = False) -> Measured:
    """Run STEPS steps in `tasks` tasks at once, with the journal at `address`, or in SQLite.

    A shared one is that of a gateway: each commit checks and holds its lease.
    """
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        journal: Journal = (
            open_journal(Path(folder), address)
            if not shared
            else _leased(stack, Path(folder), address or "")
        )
        pool = RunningPool(Pool(name="local"), None, 64, lambda c, _s: (c, None), 1.0)
        runner = StepRunner(journal, Dispatcher([pool]), time.perf_counter)
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


def _leased(stack: ExitStack, folder: Path, address: str) -> Journal:
    """Open a shared journal, and let all that is written be of its lease's tasks."""
    from polysilicon.runtime.journals.lease import holding  # noqa: PLC0415 - an extra

    journal = open_shared(folder, address, 10.0)
    journal.begin()
    stack.enter_context(holding(journal.lease.token))
    return journal


def peer(script: str) -> Measured:
    """Run a peer's script in the peers' environment."""
    python = PEERS / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(PEERS)], check=True)
        install = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        subprocess.run([*install, "-r", str(HERE / "peers" / "requirements.txt")], check=True)
    command = [str(python), str(HERE / "peers" / script), str(PEER_STEPS)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    result = json.loads(done.stdout.splitlines()[-1])
    return result["wall_s"], result["each_s"]


def main() -> None:
    """Measure, with a PostgreSQL server where there can be one."""
    if missing() is None:
        with Server() as server:
            compare(server.address())
    else:
        print(missing())
        compare(None)


def compare(address: str | None) -> None:
    """Print the table."""
    contenders: dict[str, Callable[[], Measured]] = {
        "Polysilicon, one task": lambda: asyncio.run(ours(1)),
        "Polysilicon, 64 tasks at once": lambda: asyncio.run(ours(64)),
        "Polysilicon, one task, PostgreSQL": lambda: asyncio.run(ours(1, address)),
        "Polysilicon, 64 tasks at once, PostgreSQL": lambda: asyncio.run(ours(64, address)),
        "Polysilicon, 64 tasks at once, PostgreSQL shared by gateways": lambda: asyncio.run(
            ours(64, address, shared=True)
        ),
        "DBOS 3.4, SQLite": lambda: peer("dbos_steps.py"),
        "LangGraph 1.2, SQLite, sync": lambda: peer("langgraph_steps.py"),
    }
    if address is None:
        contenders = {name: run for name, run in contenders.items() if "PostgreSQL" not in name}
    runs: dict[str, list[Measured]] = {name: [] for name in contenders}
    for _ in range(REPEATS):
        for name, measure in contenders.items():
            runs[name].append(measure())
    table = Table("no-op steps", "steps/s", "p50 ms", "p99 ms", "our p50 is")
    best_ms = 0.0
    for name, measured in runs.items():
        wall_s, each = sorted(measured, key=lambda run: run[0] / len(run[1]))[REPEATS // 2]
        p50, p99 = np.percentile(each, [50, 99]) * 1e3
        best_ms = best_ms or p50
        rate, ratio = len(each) / wall_s, f"{p50 / best_ms:.0f} x less"
        ours_too = name.startswith("Polysilicon")
        table.add_row(name, f"{rate:,.0f}", f"{p50:.3f}", f"{p99:.3f}", "" if ours_too else ratio)
    Console(file=sys.stdout).print(table)


if __name__ == "__main__":
    main()

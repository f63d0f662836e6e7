"""How many tasks may be under way at once in one process, and what memory they take.

Each task awaits one tool that waits for half a second. All tasks are under way from the start; of
those tools 256 wait at once.

    python benchmarks/many.py
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from polysilicon import Agent, Context
from polysilicon.runtime.run import Job, Run, RunOptions

COUNTS = (1, 1_000, 10_000)
_FLEET = '[[pool]]\nname = "local"\nserves = ["tool:*"]\n'


async def waited(number: int) -> int:
    """Wait for something else than this machine."""
    await asyncio.sleep(0.5)
    return number


async def waits(ctx: Context, value: dict[str, Any]) -> Any:
    """The agent."""
    return await ctx.call(waited, value["n"])


def run(count: int) -> tuple[int, float, int]:
    """Run the tasks, all at once: how many went well, seconds, bytes of memory at most."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "fleet.toml").write_text(_FLEET)
        (folder / "run").mkdir()
        inputs = [{"n": number} for number in range(count)]
        job = Job(agent=Agent(name="waits", run=waits), given_as="waits", inputs=inputs)
        options = RunOptions(concurrency=count, fleet=str(folder / "fleet.toml"))
        begin_s = time.monotonic()
        tasks = asyncio.run(Run(folder / "run", [job], options).execute()).tasks()
        seconds = time.monotonic() - begin_s
    return sum(task.ok for task in tasks), seconds, _peak_bytes()


def _peak_bytes() -> int:
    status = Path(f"/proc/{psutil.Process().pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def main() -> None:
    """Run each count in a process of its own, and print."""
    if len(sys.argv) > 1:
        print(*run(int(sys.argv[1])))
        return
    table = Table(title="tasks under way at once")
    for heading in ("tasks", "went well", "seconds", "peak memory"):
        table.add_column(heading)
    for count in COUNTS:
        command = [sys.executable, __file__, str(count)]
        out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        well, seconds, peak_bytes = out.split()
        table.add_row(
            f"{count:,}", f"{int(well):,}", f"{float(seconds):.1f}", f"{int(peak_bytes) >> 20} MiB"
        )
    Console(width=100).print(table)


if __name__ == "__main__":
    main()

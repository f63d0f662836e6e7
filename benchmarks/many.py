"""How many tasks one process may have, under way at once or queued, and what they take.

Under way at once: each task awaits one tool that waits for half a second. All tasks are under way
from the start; of those tools 256 wait at once.

Queued: tasks of one step that does nothing, in a file of inputs for `polysilicon run`, the command
as it is; 16 are under way at once, the others wait in the journal's order. Given `--ray local`,
they run on an embedded cluster. Core-seconds are those of the command and its processes.

Submitted: the same tasks, each by a `POST /v1/tasks` of its own to `polysilicon serve`, from
programs that wait for each answer. Core-seconds are the gateway's.

    python benchmarks/many.py                       all
    python benchmarks/many.py queued --ray local    one of them; what follows goes to `run`
    python benchmarks/many.py submitted             one of them
"""

from __future__ import annotations

import asyncio
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
from rich.console import Console
from rich.table import Table

from polysilicon import Agent, Context
from polysilicon.runtime.run import Job, Run, RunOptions
from polysilicon.workload.run_folder import RunFolder

COUNTS = (1, 1_000, 10_000)
QUEUED = (1_000, 10_000, 100_000)
SUBMITTED = ((5_000, 1), (20_000, 16), (100_000, 16))
"""Tasks, and connections."""

_FLEET = '[[pool]]\nname = "local"\nserves = ["tool:*"]\n'


async def waited(number: int) -> int:
    """Wait for something else than this machine."""
    await asyncio.sleep(0.5)
    return number


async def waits(ctx: Context, value: dict[str, Any]) -> Any:
    """The agent."""
    return await ctx.call(waited, value["n"])


async def same(number: int) -> int:
    """Do nothing."""
    return number


async def trivial(ctx: Context, value: dict[str, Any]) -> Any:
    """Take one step that does nothing."""
    return await ctx.call(same, value["n"])


quick = Agent(name="quick", run=trivial)


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


def _peak_bytes(pid: int | str = "self") -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def queued(count: int, more: list[str]) -> tuple[int, float, float, int]:
    """Run a file of tasks: how many went well, seconds of the run, core-seconds, peak bytes."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "fleet.toml").write_text(_FLEET)
        (folder / "in.jsonl").write_text("".join(f'{{"n": {n}}}\n' for n in range(count)))
        command = [sys.executable, "-m", "polysilicon", "run", f"{Path(__file__).resolve()}:quick",
                   "--fleet", "fleet.toml", "--input", "in.jsonl", *more]  # fmt: skip
        subprocess.run(command, check=True, capture_output=True, cwd=folder)
        found = RunFolder(next((folder / "runs").iterdir()))
        well, wall_s = sum(task.ok for task in found.tasks()), found.info().wall_s
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return well, wall_s or 0.0, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024


def submitted(count: int, lines: int) -> tuple[int, float, float, float, float, int]:
    """Submit tasks to a gateway, and wait for their ends.

    Returns:
        How many went well; seconds until all were accepted, and until all had ended; core-seconds
        until then, of both; peak bytes.
    """
    with tempfile.TemporaryDirectory() as name, _gateway(Path(name)) as (process, address):
        begin_s, begun_s = time.monotonic(), _cpu_s(process)
        asyncio.run(_submit(address, count, lines))
        accepted_s, accepted_cpu_s = time.monotonic() - begin_s, _cpu_s(process) - begun_s
        while sum(_ended(address).values()) < count:
            time.sleep(0.2)
        ended_s, ended_cpu_s = time.monotonic() - begin_s, _cpu_s(process) - begun_s
        well = int(_ended(address).get("completed", 0))
        peak_bytes = _peak_bytes(process.pid)
    return well, accepted_s, ended_s, accepted_cpu_s, ended_cpu_s, peak_bytes


@contextmanager
def _gateway(folder: Path) -> Iterator[tuple[psutil.Popen, str]]:
    """Serve the agent; yield the process and its address."""
    (folder / "fleet.toml").write_text(_FLEET)
    command = [sys.executable, "-m", "polysilicon", "serve", "--port", "0", "--fleet", "fleet.toml",
               "--folder", "gateway", "--agent", f"{Path(__file__).resolve()}:quick"]  # fmt: skip
    with (folder / "log").open("w") as log:
        process = psutil.Popen(command, cwd=folder, stderr=log)
        try:
            while "/v1 serves" not in (said := (folder / "log").read_text()):
                if process.poll() is not None:
                    raise SystemExit(said)
                time.sleep(0.1)
            yield process, said.partition("/v1 serves")[0].split()[-1]
        finally:
            process.terminate()
            process.wait()


def _cpu_s(process: psutil.Popen) -> float:
    used = process.cpu_times()
    return float(used.user + used.system)


def _ended(address: str) -> dict[str, float]:
    """Return how many tasks have ended, by status."""
    found = {}
    for line in httpx.get(f"{address}/metrics").text.splitlines():
        if line.startswith("polysilicon_tasks_ended_total{"):
            labels, _, value = line.partition(" ")
            found[labels.partition('status="')[2].partition('"')[0]] = float(value)
    return found


async def _submit(address: str, count: int, lines: int) -> None:
    """Submit tasks from so many connections, each of which waits for its answers."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    numbers = iter(range(count))

    async def line() -> None:
        reader, writer = await asyncio.open_connection(host, int(port))
        for number in numbers:
            body = json.dumps({"agent": "quick", "input": {"n": number}})
            head = f"POST /v1/tasks HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}"
            writer.write(f"{head}\r\n\r\n{body}".encode())
            answer = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = answer.partition(b"content-length:")[2].partition(b"\r\n")[0]
            await reader.readexactly(int(length))
            if answer.split()[1] != b"202":
                raise SystemExit(answer.decode())
        writer.close()

    await asyncio.gather(*(line() for _ in range(lines)))


def under_way_table() -> Table:
    """Run each count of tasks at once in a process of its own."""
    table = Table(title="tasks under way at once")
    for heading in ("tasks", "went well", "seconds", "peak memory"):
        table.add_column(heading)
    for count in COUNTS:
        well, seconds, peak_bytes = _apart("once", count, [])
        table.add_row(f"{count:,}", well, f"{float(seconds):.1f}", f"{int(peak_bytes) >> 20} MiB")
    return table


def queued_table(more: list[str]) -> Table:
    """Run each count of queued tasks."""
    table = Table(title="tasks queued")
    for heading in ("tasks", "went well", "seconds", "steps/s", "core-seconds", "peak memory"):
        table.add_column(heading)
    for count in QUEUED:
        well, wall_s, cpu_s, peak_bytes = _apart("file", count, more)
        table.add_row(
            f"{count:,}", well, f"{float(wall_s):.1f}", f"{count / float(wall_s):,.0f}",
            f"{float(cpu_s):.1f}", f"{int(peak_bytes) >> 20} MiB",
        )  # fmt: skip
    return table


def submitted_table() -> Table:
    """Submit each number of tasks to a gateway."""
    table = Table(title="tasks submitted to a gateway")
    headings = ("tasks", "connections", "went well", "accepted/s", "ended/s", "core-ms of a task",
                "until accepted", "peak memory")  # fmt: skip
    for heading in headings:
        table.add_column(heading)
    for count, lines in SUBMITTED:
        well, accepted_s, ended_s, accepted_cpu_s, cpu_s, peak_bytes = submitted(count, lines)
        table.add_row(
            f"{count:,}", str(lines), str(well), f"{count / accepted_s:,.0f}",
            f"{count / ended_s:,.0f}", f"{cpu_s / count * 1000:.2f}",
            f"{accepted_cpu_s / count * 1000:.2f}", f"{peak_bytes >> 20} MiB",
        )  # fmt: skip
    return table


def _apart(what: str, count: int, more: list[str]) -> list[str]:
    """Measure one count in a process of its own; return what it prints."""
    command = [sys.executable, __file__, what, str(count), *more]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()


def main() -> None:
    """Measure what was asked for, or all, and print."""
    given = sys.argv[1:]
    if given[:1] == ["once"]:
        print(*run(int(given[1])))
    elif given[:1] == ["file"]:
        print(*queued(int(given[1]), given[2:]))
    elif given[:1] == ["queued"]:
        Console(width=100).print(queued_table(given[1:]))
    elif given[:1] == ["submitted"]:
        Console(width=100).print(submitted_table())
    else:
        Console(width=100).print(under_way_table(), queued_table([]), submitted_table())


if __name__ == "__main__":
    main()

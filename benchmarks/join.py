"""How long a machine takes from `pool join` to its first step: both commands as they are.

python benchmarks/join.py [TIMES]

A gateway that serves tools only runs in a process of its own; this machine joins it, is asked for
one token through it as soon as it takes calls, and leaves, three times by default. The machine must
have a profile (`polysilicon calibrate`). What other programs compute meanwhile is told, too: each
core-second of theirs is one that joining has to wait for.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
import psutil
from rich.console import Console
from rich.table import Table

from polysilicon.catalog.machine import detect
from polysilicon.cost.profile_found import find_profile
from polysilicon.runtime.servers.launch import free_port

MODEL = "smollm2-135m-instruct"
FLEET = '[[pool]]\nname = "here"\noffer = "local"\nserves = ["tool:*"]\n'
BODY = {"model": MODEL, "max_tokens": 1, "messages": [{"role": "user", "content": "hi"}]}
LIMIT_S = 300.0


def until(client: httpx.Client, method: str, path: str, **options: object) -> None:
    """Ask until the answer is no error."""
    end_s = time.monotonic() + LIMIT_S
    while time.monotonic() < end_s:
        try:
            if client.request(method, path, **options).is_success:
                return
        except httpx.ConnectError:
            pass
        time.sleep(0.02)
    sys.exit(f"{path} was not answered within {LIMIT_S:g} s")


def joined(gateway: str, folder: Path) -> tuple[float, float]:
    """Join and leave; return seconds to the first step, and core-seconds that joining took."""
    command = [sys.executable, "-m", "polysilicon", "pool", "join", gateway, "--name", "node"]
    begin_s = time.monotonic()
    with (
        subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL) as process,
        httpx.Client(base_url=gateway, timeout=LIMIT_S) as client,
    ):
        until(client, "POST", "/v1/chat/completions", json=BODY)
        first_s = time.monotonic() - begin_s
        cpu = psutil.Process(process.pid).cpu_times()
        process.send_signal(signal.SIGINT)
    return first_s, cpu.user + cpu.system


def main() -> None:
    """Measure, and print a line for each time."""
    times = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    if find_profile(detect()).profile is None:
        sys.exit("this machine has no profile: run `polysilicon calibrate`")
    table = Table("first step after", "core-seconds", "load average")
    with tempfile.TemporaryDirectory() as name:
        folder, port = Path(name), free_port()
        (folder / "fleet.toml").write_text(FLEET)
        serve = [sys.executable, "-m", "polysilicon", "serve", "--port", str(port)]
        with subprocess.Popen([*serve, "--fleet", "fleet.toml"], cwd=folder) as gateway:
            address = f"http://127.0.0.1:{port}"
            with httpx.Client(base_url=address) as client:
                until(client, "GET", "/readyz")
            for _ in range(times):
                load = os.getloadavg()[0]
                first_s, cpu_s = joined(address, folder)
                table.add_row(f"{first_s:.1f} s", f"{cpu_s:.1f}", f"{load:.1f}")
            gateway.terminate()
    Console().print(table)


if __name__ == "__main__":
    main()

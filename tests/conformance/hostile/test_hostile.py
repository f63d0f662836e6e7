"""Every sandbox stops every hostile program, and the next step is unharmed.

What the programs do is seen from outside: files, listeners, signals, processes, memory and time.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest
from attack import Attack
from attacks_on_both import ATTACKS as ON_BOTH
from attacks_on_bubblewrap import ATTACKS as ON_BUBBLEWRAP
from attacks_on_monty import ATTACKS as ON_MONTY

from polysilicon.runtime.sandboxes import available, open_sandbox, seccomp
from polysilicon.runtime.types import CodeResult, Limits, Sandbox

LIMITS = Limits(time_s=30.0, memory_bytes=64 * 2**20, output_bytes=2000)
SHORT_S = 0.4
"""Time limit of programs that may end by it; a busy machine must not end the others."""

GRACE_S = 30.0
"""Beyond the time limit: monty kills its worker a second late, and machines may be busy."""

HOST_GROWTH_BYTES = 160 * 2**20
"""What this process may need for a value or a text as long as the sandbox's memory."""

SECRET = "hush-7c1f"
_HARMLESS = """
try:
    print(kept_by_the_attack)
except NameError:
    pass
import json, math, os
assert json.loads(json.dumps([n, 'é'])) == [n, 'é'] and math.sqrt(n * n) == n
assert os.getcwd() in ('/', '/tmp')
print(len(str(n)), isinstance(n, int), sum(range(n)))
"""
PROGRAMS = [
    pytest.param(sandbox, attack, id=f"{sandbox}-{attack.category}-{attack.name}")
    for sandbox, attacks in (("monty", ON_BOTH + ON_MONTY), ("bubblewrap", ON_BOTH + ON_BUBBLEWRAP))
    for attack in attacks
]
CONTROLS = {
    "files": "open(canary, 'w').write('x')",
    "secret": "import os; os.remove(home + '/secret')",
    "tcp": "import socket; socket.create_connection(('127.0.0.1', tcp), 1)",
    "udp": "import socket; socket.socket(2, 2).sendto(b'x', ('127.0.0.1', udp))",
    "abstract": "import socket; socket.socket(1, 2).sendto(b'x', '\\0' + abstract)",
    "path": "import socket; socket.socket(1, 2).sendto(b'x', path)",
    "signals": "import os, signal; os.kill(parent, signal.SIGURG)",
    "processes": "import os, time\nif os.fork() == 0:\n    os.setsid()\n    time.sleep(1)",
}


class Outside:
    """The machine around a sandbox: what an attack may aim at, and whether it was hit."""

    def __init__(self, folder: Path) -> None:
        self._stack = ExitStack()
        self._home = folder / "home"
        self._home.mkdir()
        (self._home / "secret").write_text(SECRET)
        self._folder = folder
        self._token = f"polysilicon-{os.getpid()}-{time.monotonic_ns()}"
        self._tcp = self._listener(socket.AF_INET, "127.0.0.1")
        self._tcp6 = self._listener(socket.AF_INET6, "::1")
        self._udp = self._datagrams(socket.AF_INET, ("127.0.0.1", 0))
        self._abstract = self._datagrams(socket.AF_UNIX, "\0" + self._token)
        self._path = self._datagrams(socket.AF_UNIX, os.path.relpath(folder / "socket"))
        self._signals: list[int] = []
        before = signal.signal(signal.SIGURG, lambda number, _frame: self._signals.append(number))
        self._stack.callback(signal.signal, signal.SIGURG, before)
        # Processes that lose their parent become this one's, and are found below it.
        _adopt(True)
        self._stack.callback(_adopt, False)
        self._devices = _devices()
        self._asynchronous = _asynchronous_io()
        self._processes = _below()
        self._files = self._list()

    def close(self) -> None:
        self._stack.close()

    def _listener(self, family: int, host: str) -> socket.socket | None:
        server = self._stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
        try:
            server.bind((host, 0))
        except OSError:  # no IPv6 here
            return None
        server.listen()
        server.setblocking(False)
        return server

    def _datagrams(self, family: int, address: Any) -> socket.socket:
        server = self._stack.enter_context(socket.socket(family, socket.SOCK_DGRAM))
        server.bind(address)
        server.setblocking(False)
        return server

    def _list(self) -> dict[str, int]:
        return {str(f): f.lstat().st_mode for f in self._folder.rglob("*")}

    def inputs(self) -> dict[str, Any]:
        return {
            "home": str(self._home),
            "canary": str(self._folder / "canary"),
            "token": self._token,
            "parent": os.getpid(),
            "tcp": _port(self._tcp),
            "tcp6": _port(self._tcp6),
            "udp": _port(self._udp),
            "abstract": self._token,
            "path": str(self._folder / "socket"),
        }

    def hits(self) -> list[str]:
        """Return what an attack has changed out here, or reached."""
        found = []
        if self._list() != self._files or (self._home / "secret").read_text() != SECRET:
            found.append("files")
        folders = ("/tmp", "/dev/shm", "/var/tmp", "/run", "/", ".", str(Path.home()))
        found += [f"file in {f}" for f in folders if os.path.lexists(f"{f}/{self._token}")]
        for server in (self._tcp, self._tcp6):
            with suppress(BlockingIOError):
                if server is not None:
                    server.accept()[0].close()
                    found.append("connection")
        for server in (self._udp, self._abstract, self._path):
            with suppress(BlockingIOError):
                found.append(f"datagram {server.recv(9)!r}")
        found += [f"signal {number}" for number in self._signals]
        if _devices() != self._devices:
            found.append("devices")
        if _asynchronous_io() > self._asynchronous:
            found.append("asynchronous I/O")
        return found

    def left_over(self, patience_s: float) -> set[int]:
        """Return the processes that are here since, after waiting for them to end."""
        deadline_s = time.monotonic() + patience_s
        while (left := _below() - self._processes) and time.monotonic() < deadline_s:
            time.sleep(0.02)
        return left


def _port(server: socket.socket | None) -> int:
    return 9 if server is None else server.getsockname()[1]


def _below() -> set[int]:
    """Return the processes below this one; zombies have ended."""
    found = set()
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if process.status() != psutil.STATUS_ZOMBIE:
                found.add(process.pid)
    return found


def _adopt(on: bool) -> None:
    assert ctypes.CDLL(None).prctl(36, int(on), 0, 0, 0) == 0  # PR_SET_CHILD_SUBREAPER


def _devices() -> list[tuple[int, int]]:
    """Return modes and times of change of the devices that a sandbox is given."""
    stats = [Path("/dev", name).stat() for name in ("null", "zero", "full", "random", "urandom")]
    return [(stat.st_mode, stat.st_ctime_ns) for stat in stats]


def _asynchronous_io() -> int:
    return int(Path("/proc/sys/fs/aio-nr").read_text())


def _peak_bytes(*, reset: bool = False) -> int:
    """Return this process's peak memory, since the last reset."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    text = Path("/proc/self/status").read_text()
    return int(re.findall(r"VmHWM:\s+(\d+) kB", text)[0]) * 1024


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Outside]:
    if sys.platform != "linux":
        pytest.skip("what happens outside is seen through Linux's /proc")
    monkeypatch.setenv("POLYSILICON_TEST_SECRET", SECRET)
    machine = Outside(tmp_path)
    yield machine
    machine.close()


def _limits(attack: Attack) -> Limits:
    short = "timeout" in attack.ends.split()
    return msgspec.structs.replace(LIMITS, time_s=SHORT_S) if short else LIMITS


async def _attacked(
    sandbox: Sandbox, attack: Attack, inputs: dict[str, Any]
) -> tuple[CodeResult, float, list[CodeResult], float]:
    """Run an attack beside a harmless step, then more of these, on every worker."""

    def harmless(n: int) -> Any:
        return sandbox.run(_HARMLESS, {"n": n}, Limits())

    begin_s = time.monotonic()
    neighbour = asyncio.create_task(harmless(11))
    result = await sandbox.run(attack.code, inputs, _limits(attack))
    wall_s = time.monotonic() - begin_s
    begin_s = time.monotonic()
    # monty keeps its two workers; bubblewrap starts a process for each run.
    steps = [neighbour, harmless(12)] + ([harmless(13)] if sandbox.name == "monty" else [])
    following = await asyncio.gather(*steps)
    return result, wall_s, following, time.monotonic() - begin_s


@pytest.mark.parametrize(("name", "attack"), PROGRAMS)
def test_an_attack_is_stopped_and_the_next_step_unharmed(
    name: str, attack: Attack, outside: Outside
) -> None:
    reason = available(name)
    if reason is not None:
        pytest.skip(f"{name}: {reason}")

    async def main() -> Any:
        sandbox = open_sandbox(name, 2)
        try:
            return await _attacked(sandbox, attack, outside.inputs() | _extra(name))
        finally:
            await sandbox.close()

    peak_bytes = _peak_bytes(reset=True)
    result, wall_s, following, following_s = asyncio.run(main())
    _check_result(attack, result)
    assert wall_s < _limits(attack).time_s + GRACE_S
    right = [f"2 True {n * (n - 1) // 2}\n" for n in (11, 12, 13)]
    assert [r.stdout for r in following] == right[: len(following)]
    assert following_s < GRACE_S
    assert outside.hits() == []
    assert outside.left_over(GRACE_S) == set()
    assert _peak_bytes() - peak_bytes < HOST_GROWTH_BYTES


def _extra(name: str) -> dict[str, Any]:
    if name != "bubblewrap":
        return {}
    return {"calls": seccomp._MACHINES[os.uname().machine].denied}


def _check_result(attack: Attack, result: CodeResult) -> None:
    told = f"{result.stdout} {result.error} {result.value}"
    assert "BREACH" not in told, result
    assert SECRET not in told
    assert (result.error_kind or "ok") in attack.ends.split(), result
    assert result.ok is (result.error_kind is None)
    assert (result.error is None) is result.ok
    assert len(result.stdout.encode()) <= LIMITS.output_bytes + 2
    assert len(result.error or "") <= 500
    assert (result.error or "").isprintable(), result.error
    assert result.memory_bytes is None or 0 <= result.memory_bytes < 2**62


@pytest.mark.parametrize("name", CONTROLS)
def test_an_attack_that_gets_through_is_seen(name: str, outside: Outside) -> None:
    """The same things done without a sandbox: a check that sees nothing would prove nothing."""
    bind = "".join(f"{key} = {value!r}\n" for key, value in outside.inputs().items())
    subprocess.run([sys.executable, "-c", bind + CONTROLS[name]], check=True)
    assert outside.hits() or outside.left_over(0)
    assert outside.left_over(GRACE_S) == set()

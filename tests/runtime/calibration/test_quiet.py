from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
from types import SimpleNamespace

import psutil
import pytest

from polysilicon.runtime.calibration import quiet
from polysilicon.runtime.calibration.quiet import Watch, listening, repeat


class Shares:
    """Watches that see given shares, one after the other."""

    def __init__(self, *shares: float) -> None:
        self.shares = list(shares)

    def __call__(self, cores: int, beside: object = ()) -> Shares:
        return self

    def elsewhere(self) -> float:
        return self.shares.pop(0)


def measured(monkeypatch, shares, **limits):
    monkeypatch.setattr(quiet, "Watch", Shares(*shares))
    numbers = iter(range(100))

    async def measure() -> int:
        return next(numbers)

    return asyncio.run(repeat(measure, cores=2, **limits))


def test_quiet_measurements_are_enough(monkeypatch):
    found, share = measured(monkeypatch, [0, 0, 0.04], want=3, most=6, until_s=1e12)
    assert found == [0, 1, 2]
    assert share < 0.05


def test_disturbed_ones_are_done_again_and_left_out(monkeypatch):
    found, share = measured(monkeypatch, [0.5, 0, 0.9, 0], want=2, most=6, until_s=1e12)
    assert found == [1, 3]
    assert share == 0


def test_without_quiet_the_least_disturbed_are_kept(monkeypatch):
    found, share = measured(monkeypatch, [0.9, 0.3, 0.5], want=2, most=3, until_s=1e12)
    assert found == [1, 2]
    assert share == 0.4


def test_after_its_time_one_is_enough(monkeypatch):
    found, _ = measured(monkeypatch, [0.9, 0.3], want=3, most=6, until_s=0.0)
    assert found == [0]


def test_own_work_is_not_others():
    watch = Watch(1)
    end_s = time.monotonic() + 0.3
    while time.monotonic() < end_s:
        pass
    # Children count as own work too.
    spin = "import time; e = time.monotonic() + 0.3\nwhile time.monotonic() < e: pass"
    subprocess.run([sys.executable, "-c", spin], check=True)
    assert 0.0 <= watch.elsewhere() <= 1.0


class Computer:
    """Two cores on which 10 s pass: core-seconds of all programs, and of processes by id."""

    Error = psutil.Error

    def __init__(self, busy_s: float, used_s: dict[int, float]) -> None:
        self.busy_s, self.used_s, self.now_s = busy_s, used_s, 0.0

    def monotonic(self) -> float:
        return self.now_s

    def cpu_times(self) -> SimpleNamespace:
        return SimpleNamespace(user=self.busy_s * self.now_s / 10)

    def Process(self, pid: int) -> SimpleNamespace:  # noqa: N802 - as in psutil
        if pid not in self.used_s:
            raise psutil.NoSuchProcess(pid)
        user = self.used_s[pid] * self.now_s / 10
        used = SimpleNamespace(user=user, system=0.0, children_user=0.0, children_system=0.0)
        # The engine of a server is a child of it.
        below = [self.Process(pid + 1)] if pid == 7 else []
        return SimpleNamespace(pid=pid, cpu_times=lambda: used, children=lambda recursive: below)


@pytest.mark.parametrize(
    ("beside", "share"),
    [((), 0.85), ((7,), 0.1), ((7, 8), 0.1), ((7, 999), 0.1), (None, 0.0)],
)
def test_a_server_that_is_measured_is_no_other_program(monkeypatch, beside, share):
    computer = Computer(busy_s=19.0, used_s={os.getpid(): 2.0, 7: 1.0, 8: 14.0})
    monkeypatch.setattr(quiet, "psutil", computer)
    monkeypatch.setattr(quiet, "time", computer)
    watch = Watch(2, beside)
    computer.now_s = 10.0
    assert watch.elsewhere() == pytest.approx(share, abs=0.002)


def test_who_listens_at_a_port_of_loopback_is_told():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert listening(port) == {os.getpid()}
    assert listening(port) is None


def test_where_the_system_does_not_tell_nobody_knows(monkeypatch):
    def refused(kind: str) -> None:
        raise psutil.AccessDenied

    monkeypatch.setattr(psutil, "net_connections", refused)
    assert listening(1) is None
    hidden = SimpleNamespace(
        status=psutil.CONN_LISTEN, laddr=SimpleNamespace(ip="127.0.0.1", port=1), pid=None
    )
    monkeypatch.setattr(psutil, "net_connections", lambda kind: [hidden])
    assert listening(1) is None

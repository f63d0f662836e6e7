from __future__ import annotations

import asyncio
import subprocess
import sys
import time

from polysilicon.runtime.calibration import quiet
from polysilicon.runtime.calibration.quiet import Watch, repeat


class Shares:
    """Watches that see given shares, one after the other."""

    def __init__(self, *shares: float) -> None:
        self.shares = list(shares)

    def __call__(self, cores: int) -> Shares:
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

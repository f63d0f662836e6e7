"""The end of a sandbox's processes is waited for, and not for ever."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Iterator
from types import SimpleNamespace

import psutil
import pytest

from polysilicon.runtime.sandboxes import monty, usage
from polysilicon.runtime.sandboxes.usage import await_end, process_of
from polysilicon.runtime.types import Limits


@pytest.fixture
def resting() -> Iterator[subprocess.Popen[bytes]]:
    """A process that sleeps."""
    with subprocess.Popen(["sleep", "600"]) as process:
        until_s = time.monotonic() + 60
        while psutil.Process(process.pid).status() != psutil.STATUS_SLEEPING:
            assert time.monotonic() < until_s
            time.sleep(0.01)
        yield process
        process.kill()


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What is waited for between looks, by a clock that nothing else moves."""
    found: list[float] = []
    clock = SimpleNamespace(monotonic=lambda: sum(found), sleep=found.append)
    monkeypatch.setattr(usage, "time", clock)
    return found


def test_one_that_runs_on_is_looked_at_now_and_then_up_to_the_limit(
    resting: subprocess.Popen[bytes], pauses: list[float]
) -> None:
    process = process_of(resting.pid)
    assert process is not None
    await_end([process, process], limit_s=1.0)
    assert pauses[:6] == [0.001] * 5 + [0.01]
    assert 1.0 <= sum(pauses) < 1.02
    assert process.is_running()


def test_one_that_rests_is_waited_for_only_where_it_was_killed(
    resting: subprocess.Popen[bytes], pauses: list[float]
) -> None:
    process = process_of(resting.pid)
    assert process is not None
    await_end([process], or_rest=True)
    assert not pauses
    assert process.is_running()


def test_one_that_was_killed_has_ended_before_it_is_asked_how(
    resting: subprocess.Popen[bytes],
) -> None:
    process = process_of(resting.pid)
    assert process is not None
    resting.kill()
    await_end([process], limit_s=60.0)
    assert process.status() == psutil.STATUS_ZOMBIE
    resting.wait()
    await_end([process], limit_s=60.0)
    assert process_of(resting.pid) is None
    assert process_of(None) is None


def test_of_a_run_that_is_cancelled_twice_no_process_is_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its number may be another process's soon, which would be made to stand back."""

    async def scenario() -> None:
        sandbox, awaited = monty.Monty(1), asyncio.Event()

        async def ended(_feed: object) -> None:
            awaited.set()
            await asyncio.Event().wait()

        monkeypatch.setattr(monty._Feed, "_ended", ended)
        task = asyncio.create_task(sandbox.run("while True: pass", {}, Limits(time_s=600.0)))
        async with asyncio.timeout(60):
            while not sandbox.processes:  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.01)
            task.cancel()
            await awaited.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert not sandbox.processes
        await sandbox.close()

    asyncio.run(scenario())

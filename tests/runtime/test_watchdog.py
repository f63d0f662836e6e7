from __future__ import annotations

import asyncio
import signal
import time

import pytest

from polysilicon.runtime.watchdog import TaskBlockedError, Watchdog

LIMIT_S = 1.2
"""Longer than between two beats by as much as a busy machine may hold one up."""


def test_a_loop_without_await_is_ended_and_others_go_on() -> None:
    async def endless() -> None:
        while True:
            pass

    async def sleeper() -> None:
        time.sleep(60)

    async def scenario() -> str:
        async with Watchdog(LIMIT_S):
            for blocker in (endless, sleeper):
                with pytest.raises(TaskBlockedError, match="without an await"):
                    await asyncio.create_task(blocker())
            await asyncio.sleep(0.01)
            return "alive"

    before = signal.getsignal(signal.SIGALRM)
    assert asyncio.run(scenario()) == "alive"
    assert signal.getsignal(signal.SIGALRM) == before


def test_a_task_that_awaits_is_left_alone() -> None:
    async def scenario() -> int:
        async with Watchdog(LIMIT_S):
            await asyncio.sleep(2 * LIMIT_S)
            return 1

    assert asyncio.run(scenario()) == 1


def test_nobody_is_blamed_while_the_interpreter_stands_still() -> None:
    async def standing() -> str:
        time.sleep(2 * LIMIT_S)
        watchdog.rest(resting=False)
        return "innocent"

    async def endless() -> None:
        while True:
            pass

    watchdog = Watchdog(LIMIT_S)

    async def scenario() -> str:
        async with watchdog:
            watchdog.rest(resting=True)
            told = await asyncio.create_task(standing())
            with pytest.raises(TaskBlockedError, match="without an await"):
                await asyncio.create_task(endless())
        return told

    assert asyncio.run(scenario()) == "innocent"

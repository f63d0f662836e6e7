from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import psutil
import pytest

from polysilicon.errors import InputError, StepTimeoutError, ToolError
from polysilicon.runtime.executor import Workers
from polysilicon.runtime.priority import TOOL_NICE, yield_to_engine


def add(a: int, b: int = 0) -> int:
    return a + b


def fail(text: str) -> None:
    raise ValueError(text)


def not_json() -> object:
    return object()


def die() -> None:
    os._exit(3)


def spin(seconds: float) -> int:
    end_s = time.process_time() + seconds
    while time.process_time() < end_s:
        pass
    return os.getpid()


def niceness() -> int:
    return os.nice(0)


@asynccontextmanager
async def workers() -> AsyncIterator[Workers]:
    pool = Workers(1)
    try:
        yield pool
    finally:
        await pool.close()


def run(scenario: Callable[[Workers], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        async with workers() as pool:
            await scenario(pool)

    asyncio.run(main())


def test_results_core_seconds_and_niceness() -> None:
    async def scenario(pool: Workers) -> None:
        result = await pool.call(add, (1,), {"b": 2}, 30)
        assert msgspec.msgpack.decode(result.data) == 3
        spun = await pool.call(spin, (0.2,), {}, 30)
        assert 0.19 < spun.cpu_s < 0.6
        nice = await pool.call(niceness, (), {}, 30)
        assert msgspec.msgpack.decode(nice.data) == max(os.nice(0), TOOL_NICE)

    run(scenario)


def test_what_a_function_raises_is_one_line() -> None:
    async def scenario(pool: Workers) -> None:
        with pytest.raises(ToolError, match="^ValueError: no such order$"):
            await pool.call(fail, ("no such order",), {}, 30)
        with pytest.raises(ToolError, match="TypeError"):
            await pool.call(not_json, (), {}, 30)

    run(scenario)


def test_a_worker_that_dies_is_replaced() -> None:
    async def scenario(pool: Workers) -> None:
        with pytest.raises(ToolError, match="die: its worker process died"):
            await pool.call(die, (), {}, 30)
        assert msgspec.msgpack.decode((await pool.call(add, (4,), {}, 30)).data) == 4

    run(scenario)


def test_time_limits_and_cancelling_kill_the_worker() -> None:
    async def scenario(pool: Workers) -> None:
        pid = msgspec.msgpack.decode((await pool.call(spin, (0.0,), {}, 30)).data)
        with pytest.raises(StepTimeoutError, match="ran past 0.5 s"):
            await pool.call(spin, (60.0,), {}, 0.5)
        assert not psutil.pid_exists(pid)
        pid = msgspec.msgpack.decode((await pool.call(spin, (0.0,), {}, 30)).data)
        call = asyncio.create_task(pool.call(spin, (60.0,), {}, 60))
        await asyncio.sleep(0.5)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert msgspec.msgpack.decode((await pool.call(add, (5,), {}, 30)).data) == 5
        assert not psutil.pid_exists(pid)

    run(scenario)


def test_yielding_of_a_process_that_is_gone_is_passed_over() -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    yield_to_engine(gone.pid)
    assert os.nice(0) < TOOL_NICE


@pytest.mark.parametrize("fn", [lambda: 1, Workers.close], ids=["lambda", "method"])
def test_functions_that_a_worker_cannot_import(fn) -> None:
    async def scenario(pool: Workers) -> None:
        with pytest.raises(InputError, match="top level"):
            await pool.call(fn, (), {}, 30)

    run(scenario)

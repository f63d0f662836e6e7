from __future__ import annotations

import asyncio
import operator
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from polysilicon.errors import StepTimeoutError
from polysilicon.runtime.executor import THREADS, Workers, take_one_core
from polysilicon.runtime.here import Here
from polysilicon.runtime.jobs import Call


def test_the_loop_goes_on_while_workers_start(monkeypatch: pytest.MonkeyPatch) -> None:
    started, go = Workers._started, threading.Event()

    def waits(pool: Workers) -> Any:
        assert go.wait(60)  # for what the loop does beside it
        return started(pool)

    async def scenario() -> None:
        pool = Workers(1)
        try:
            calls = [asyncio.create_task(pool.call(operator.neg, (n,), {}, 30)) for n in range(2)]
            await asyncio.sleep(0.01)
            go.set()
            assert [msgspec.msgpack.decode((await call).data) for call in calls] == [0, -1]
            assert len(pool.processes()) == 1
        finally:
            await pool.close()

    monkeypatch.setattr(Workers, "_started", waits)
    asyncio.run(scenario())


def test_libraries_are_told_to_compute_with_one_thread_unless_they_are_told() -> None:
    environment = {"OMP_NUM_THREADS": "3", "HOME": "/"}
    take_one_core(environment)
    told = {"OMP_NUM_THREADS": "3", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    assert environment == {"HOME": "/"} | told


def multiplied(size: int) -> tuple[list[str | None], int]:
    """Multiply matrices; return what libraries are told, and how many threads that took."""
    before = threads()
    import numpy as np  # noqa: PLC0415 - it starts its threads where it is imported first

    ones = np.ones((size, size))
    assert (ones @ ones)[0, 0] == size
    return [os.environ.get(name) for name in THREADS], threads() - before


def threads() -> int:
    return len(os.listdir("/proc/self/task"))  # noqa: PTH208 - as quick as it is short


@pytest.mark.skipif(sys.platform != "linux", reason="threads are counted in /proc")
def test_a_function_computes_with_one_thread() -> None:
    async def main() -> Any:
        workers = Workers(1)
        try:
            return msgspec.msgpack.decode((await workers.call(multiplied, (500,), {}, 60.0)).data)
        finally:
            await workers.close()

    told, more = asyncio.run(main())
    assert told == [os.environ.get(name, "1") for name in THREADS]
    assert more == 0 or "1" not in told


def process_after(path: str) -> int:
    """Return which process this is, once a file is there."""
    while not Path(path).exists():
        time.sleep(0.01)
    return os.getpid()


def test_what_keeps_goes_where_it_went_before(tmp_path: Path) -> None:
    async def main() -> None:
        here, there = Here.opened(4), tmp_path / "there"

        async def process(path: Path = tmp_path, timeout_s: float = 60.0) -> int:
            call = Call(process_after, (str(path),), {}, timeout_s, keeps=True)
            return int(msgspec.msgpack.decode((await here.run(call)).result))

        try:
            first = await process()
            assert [await process() for _ in range(4)] == [first] * 4
            slow = asyncio.create_task(process(there))
            await asyncio.sleep(0)  # it takes its process
            beside = await process()
            there.touch()
            assert (await slow, beside != first) == (first, True)
            assert await process() == first  # which was used last
            assert sorted(here.keepers.processes()) == sorted([first, beside])
            with pytest.raises(StepTimeoutError, match="ran past 0.1 s"):
                await process(tmp_path / "never", timeout_s=0.1)
            assert await process() not in (first, beside)  # in place of the one that was killed
            assert not here.workers.processes()
        finally:
            await here.close()
        assert not here.keepers.processes()

    asyncio.run(main())

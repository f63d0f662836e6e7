from __future__ import annotations

import asyncio
import operator
import threading
from typing import Any

import msgspec
import pytest

from polysilicon.runtime.executor import Workers


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

"""The sandboxes of a machine that joined, as the gateway's executor of its pool."""

from __future__ import annotations

import asyncio
import math
import time
from contextlib import closing

import msgspec

from polysilicon.errors import EngineError, InputError, LostError, UnreachedError
from polysilicon.gateway.code import BYTES
from polysilicon.gateway.guard import MOST_BODY_BYTES
from polysilicon.runtime.cluster.wire import Ended, Failed, encode, error_of, message_of
from polysilicon.runtime.engines.forward import Forwarder
from polysilicon.runtime.jobs import Code, Done, Job
from polysilicon.runtime.types import MAX_RESULT_BYTES, CodeResult

_WAY_S = 8.0
"""Beside the code's own limit: the way there and back, and the sandbox's start."""

_MOST_BYTES = MAX_RESULT_BYTES + 2**20
_AGAIN = (502, 503, 504)

_decode_event = msgspec.msgpack.Decoder(Ended | Failed).decode
_decode_result = msgspec.msgpack.Decoder(CodeResult).decode


class FarSandboxes:
    """Runs code on a machine that joined, one request a step; whoever asks keeps what comes of it.

    A request that breaks off, or is told nothing for longer than its code may take, fails as an
    engine that is gone does: the step is then for another pool. Code in a sandbox changes nothing
    outside it, so that it may run again.

    Args:
        name: of the pool.
        endpoint: base URL of the machine, with `/v1`.
        key: that it asks for.
        cores: of the machine; no step is taken to have used more of them than its time had.
    """

    def __init__(self, name: str, endpoint: str, key: str | None, cores: int) -> None:
        self._name, self._cores = name, cores
        self._forwarder = Forwarder(endpoint, key)
        self._lost = asyncio.Event()

    async def run(self, job: Job, *, front: bool = False) -> Done:
        """Do a job, which is code; see `Executor.run`.

        Raises:
            InputError: it is another job, or cannot be sent.
            EngineError: the machine did not do it.
            StepError: the sandbox failed.
        """
        if not isinstance(job, Code):
            what = f"pool {self._name!r} runs code in sandboxes, and no other tools"
            raise InputError(what)
        body = encode(message_of(0, job, front=front))
        if len(body) > MOST_BODY_BYTES:
            what = f"pool {self._name!r} takes code and inputs of {MOST_BODY_BYTES >> 20} MiB"
            raise LostError(what)
        asking = asyncio.create_task(self._asked(body, job.limits.time_s + _WAY_S))
        losing = asyncio.create_task(self._lost.wait())
        try:
            await asyncio.wait((asking, losing), return_when=asyncio.FIRST_COMPLETED)
            if not asking.done():
                what = f"pool {self._name!r} is lost: it says nothing any more"
                raise LostError(what, down=True, broke=True)
            return asking.result()
        finally:
            asking.cancel()
            losing.cancel()
            await asyncio.gather(asking, losing, return_exceptions=True)

    async def _asked(self, body: bytes, limit_s: float) -> Done:
        """Ask the machine, and return what it tells."""
        begin_s = time.monotonic()
        try:
            async with asyncio.timeout(limit_s):
                status, data = await self._answer(body)
        except TimeoutError as error:
            what = f"pool {self._name!r} told nothing of its code within {limit_s:g} s"
            raise EngineError(what, down=True, broke=True) from error
        except EngineError as error:
            broke = not isinstance(error, UnreachedError)
            raise EngineError(f"pool {self._name!r}: {error}", down=True, broke=broke) from error
        if status != 200:
            what = f"pool {self._name!r} answered HTTP {status} when asked to run code"
            raise EngineError(what, down=status in _AGAIN)
        return self._done(data, (time.monotonic() - begin_s) * self._cores)

    async def _answer(self, body: bytes) -> tuple[int, bytes]:
        with closing(await self._forwarder.post("code", body, BYTES)) as answer:
            return answer.status, await answer.whole(_MOST_BYTES)

    def _done(self, data: bytes, most_s: float) -> Done:
        """Return what a machine tells; core-seconds are not more than `most_s`.

        Raises:
            EngineError: it is nothing that could be.
            StepError: it tells of a failure.
        """
        try:
            event = _decode_event(data)
            result = _decode_result(event.data) if isinstance(event, Ended) else None
            numbers = event if result is None else result
            told = [numbers.cpu_s]
            if result is not None:
                told += [result.startup_s, result.memory_bytes]
            if not all(0 <= number < math.inf for number in told if number is not None):
                raise msgspec.ValidationError("its seconds and bytes are none")
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise EngineError(f"pool {self._name!r} told nonsense of its code: {error}") from error
        if isinstance(event, Failed):
            cpu_s = None if event.cpu_s is None else min(event.cpu_s, most_s)
            raise error_of(msgspec.structs.replace(event, cpu_s=cpu_s))
        assert result is not None
        result = msgspec.structs.replace(result, cpu_s=min(result.cpu_s, most_s))
        return Done(
            result, result.cpu_s, startup_s=result.startup_s, memory_bytes=result.memory_bytes
        )

    def lose(self) -> None:
        """Give the machine up: what is under way there fails, and is for other pools."""
        self._lost.set()

    async def close(self) -> None:
        """Close the connections."""
        self._forwarder.close()

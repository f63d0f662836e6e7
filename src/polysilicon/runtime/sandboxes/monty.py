"""Monty: a Python interpreter that has no files, no network and no environment to begin with.

The package pydantic-monty runs code in a pool of worker processes, each of which enforces limits on
time and memory itself. It knows a part of Python and of its standard library, starts in under a
millisecond, and needs nothing installed: the default.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial
from typing import Any, Literal

from pydantic_monty import AsyncMonty, MontyCrashedError, MontyError, MontySyntaxError

from polysilicon.errors import SandboxError
from polysilicon.runtime.priority import yield_to_engine
from polysilicon.runtime.sandboxes.tail import ForgedValueError, value_of, with_value
from polysilicon.runtime.sandboxes.usage import await_end, process_cpu_s, process_of
from polysilicon.runtime.sandboxes.values import (
    Collector,
    OutputLimitError,
    check_inputs,
    error_line,
)
from polysilicon.runtime.types import CodeError, CodeResult, Limits

_CHECKOUTS_PER_WORKER = 1000
"""A worker is replaced after so many runs, so that whatever it leaks stays bounded."""

_END_S = 1.0
"""So long the end of a worker is waited for whose run was cancelled; the pool kills it at once."""

_LIMIT_MESSAGES: tuple[tuple[str, CodeError], ...] = (
    ("TimeoutError: feed time limit exceeded", "timeout"),
    ("TimeoutError: sleep limit exceeded", "timeout"),
    ("MemoryError", "memory"),
)


class Monty:
    """The sandbox `monty`.

    `cpu_s` is the worker's time on a core, read from the kernel; where that cannot be read (the
    worker died, or this is not Linux) it is the wall time of the run, an upper bound.

    Args:
        workers: worker processes, hence runs at once.

    Attributes:
        processes: numbers of those that run something now.
    """

    name = "monty"

    def __init__(self, workers: int) -> None:
        self.yields = True
        self._workers = workers
        self._free = asyncio.Semaphore(workers)
        self._opening = asyncio.Lock()
        self._pool: AsyncMonty | None = None
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="monty")
        self.processes: set[int] = set()

    @staticmethod
    def missing() -> str | None:
        """Return None: the package comes with its interpreter."""
        return None

    async def run(self, code: str, inputs: Mapping[str, Any], limits: Limits) -> CodeResult:
        """Run `code` in a fresh session; see `Sandbox.run`."""
        check_inputs(inputs)
        pool = await self._opened()
        async with self._free:
            feed = _Feed(limits, self.processes, self._threads, yields=self.yields)
            return await feed.run(pool, code, dict(inputs))

    async def _opened(self) -> AsyncMonty:
        async with self._opening:
            if self._pool is None:
                pool = AsyncMonty(
                    min_processes=0,
                    max_processes=self._workers,
                    max_checkouts_per_worker=_CHECKOUTS_PER_WORKER,
                )
                try:
                    self._pool = await pool.__aenter__()
                except (OSError, RuntimeError, MontyError) as error:
                    raise SandboxError(f"monty cannot start: {error}") from error
            return self._pool

    async def close(self) -> None:
        """End the worker processes."""
        if self._pool is not None:
            pool, self._pool = self._pool, None
            await pool.__aexit__(None, None, None)
        self._threads.shutdown(wait=False)


class _Feed:
    """One run of one piece of code."""

    def __init__(
        self, limits: Limits, processes: set[int], threads: Executor, *, yields: bool
    ) -> None:
        self._limits, self._processes, self._yields = limits, processes, yields
        self._threads = threads
        self._loop = asyncio.get_running_loop()
        self._future: asyncio.Future[Any] | None = None
        self._collector = Collector(limits.output_bytes, self._end)
        self._startup_s = 0.0
        self._begin_s = 0.0
        self._cpu_begin_s: float | None = None
        self._pid: int | None = None

    def _end(self) -> None:
        """Kill the run from the thread that hands over printed text."""
        self._loop.call_soon_threadsafe(self._cancel)

    def _cancel(self) -> None:
        if self._future is not None:
            self._future.cancel()

    def _print(self, _stream: Literal["stdout", "stderr"], text: str) -> None:
        # One print may be as long as the worker's memory: a copy of all of it is not needed.
        text = text[: self._limits.output_bytes + 1]
        self._collector.write(text.encode(errors="replace"))

    async def run(self, pool: AsyncMonty, code: str, inputs: dict[str, Any]) -> CodeResult:
        """Run `code` on a worker of `pool`.

        Raises:
            SandboxError: the worker died.
        """
        begin_s = self._begin_s = time.perf_counter()
        try:
            code = with_value(code, self._limits.output_bytes)
        except SyntaxError as error:
            return self._failed("syntax", f"SyntaxError: {error}")
        session = pool.checkout(
            limits={
                "max_feed_duration_secs": self._limits.time_s,
                "max_total_sleep_secs": self._limits.time_s,
                "max_memory": self._limits.memory_bytes,
            }
        )
        try:
            async with session:
                self._begin_s = time.perf_counter()
                self._startup_s = self._begin_s - begin_s
                self._pid = session.worker_pid
                if self._pid is not None and self._yields:
                    yield_to_engine(self._pid)
                self._cpu_begin_s = process_cpu_s(self._pid)
                self._future = asyncio.ensure_future(
                    session.feed_run(code, inputs=inputs, print_callback=self._print)
                )
                if self._pid is not None:
                    self._processes.add(self._pid)
                return await self._outcome(self._future)
        except MontyCrashedError as error:
            raise SandboxError(f"monty: {error}") from error
        finally:
            try:
                if self._future is not None and self._future.cancelled():
                    await self._ended()
            finally:  # who waits may be cancelled again, and the number be another process's soon
                self._processes.discard(self._pid or 0)

    async def _ended(self) -> None:
        """Wait until the worker of a run that was cancelled computes no more: the pool kills it."""
        worker = process_of(self._pid)
        if worker is not None:
            waited = partial(await_end, [worker], or_rest=True, limit_s=_END_S)
            await self._loop.run_in_executor(self._threads, waited)

    async def _outcome(self, future: asyncio.Future[Any]) -> CodeResult:
        """Wait for the run and say how it ended."""
        try:
            value = value_of(await future, self._limits.output_bytes)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if not self._collector.overflowed or (task is not None and task.cancelling()):
                raise
        except OutputLimitError:
            return self._failed("output", f"its value is over {self._limits.output_bytes} bytes")
        except ForgedValueError:
            return self._failed("exception", "it wrote over the sandbox's value")
        except MontyError as error:
            return self._failed(*self._kind(error))
        if self._collector.overflowed:
            return self._failed("output", f"it printed over {self._limits.output_bytes} bytes")
        return self._result(ok=True, value=value)

    def _kind(self, error: MontyError) -> tuple[CodeError, str]:
        """Return what an error of monty means; a worker that died of nothing of ours is raised."""
        if isinstance(error, MontyCrashedError):
            if not error.timed_out:
                raise error
            return "timeout", f"it ran past {self._limits.time_s:g} s"
        # Errors that concern the inputs have no display of their own.
        display = getattr(error, "display", None)
        text = display("type-msg") if display is not None else f"{type(error).__name__}: {error}"
        if isinstance(error, MontySyntaxError):
            return "syntax", text
        kinds = [kind for prefix, kind in _LIMIT_MESSAGES if text.startswith(prefix)]
        return (kinds[0] if kinds else "exception"), text

    def _failed(self, kind: CodeError, error: str) -> CodeResult:
        return self._result(ok=False, error_kind=kind, error=error_line(error))

    def _result(
        self,
        *,
        ok: bool,
        value: Any = None,
        error_kind: CodeError | None = None,
        error: str | None = None,
    ) -> CodeResult:
        wall_s = time.perf_counter() - self._begin_s
        cpu_end_s = process_cpu_s(self._pid)
        known = self._cpu_begin_s is not None and cpu_end_s is not None
        return CodeResult(
            ok=ok,
            stdout=self._collector.text,
            value=value,
            error_kind=error_kind,
            error=error,
            cpu_s=(cpu_end_s or 0.0) - (self._cpu_begin_s or 0.0) if known else wall_s,
            startup_s=self._startup_s,
        )

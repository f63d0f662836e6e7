"""CPU-bound functions in worker processes: one pool for the run, killed jobs replaced."""

from __future__ import annotations

import asyncio
import fcntl
import importlib
import inspect
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, MutableMapping, Sequence
from concurrent.futures import BrokenExecutor
from concurrent.futures import CancelledError as FutureCancelledError
from contextlib import suppress
from functools import lru_cache
from multiprocessing.connection import wait
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
from pebble import ProcessExpired, ProcessPool

from polysilicon.errors import InputError, StepTimeoutError, ToolError, printable
from polysilicon.runtime.priority import yield_to_engine
from polysilicon.runtime.types import MAX_RESULT_BYTES, too_large

IDEMPOTENCY_KEY = "idempotency_key"
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
"""By these libraries are told with how many threads to compute."""

_LOOK_S = 2.0


class CallResult(msgspec.Struct, frozen=True, kw_only=True):
    """What a function returned.

    Attributes:
        data: its result as msgpack.
        cpu_s: core-seconds that it used.
        wait_s: seconds in which it waited for something else than a core; None where unknown.
        begin_s: when its worker took it up, by `time.monotonic`, which all processes share.
        end_s: when its worker was done with it.
    """

    data: bytes
    cpu_s: float
    wait_s: float | None
    begin_s: float
    end_s: float


class Workers:
    """Worker processes for `ctx.call`; started when first used.

    Args:
        count: processes; as many as cores, so that functions never fight over them.
        yields: to the engine and to whatever somebody waits for.
        modules: that each imports when it begins, so that no call waits for that.
    """

    def __init__(self, count: int, *, yields: bool = True, modules: Sequence[str] = ()) -> None:
        self.count = count
        self._modules = tuple(modules)
        self._yields = yields
        self._pool: Any = None
        self._starting = threading.Lock()

    def _started(self) -> Any:
        """Return the processes, started where they are not there: half a second, for a thread."""
        with self._starting:
            if self._pool is not None:
                return self._pool
            # Not fork: the engine's threads would leave locks held in the child.
            methods = multiprocessing.get_all_start_methods()
            method = "forkserver" if "forkserver" in methods else "spawn"
            context = multiprocessing.get_context(method)
            # With what agents import, so that each worker shares it instead of importing it again.
            context.set_forkserver_preload(["polysilicon.runtime.context"])
            pool = ProcessPool(
                max_workers=self.count,
                context=context,
                initializer=_begin,
                initargs=(self._yields, self._modules),
            )
            _ = pool.active  # which starts it
            self._pool = pool
            return pool

    async def start(self) -> None:
        """Start the processes, unless they are there; where they cannot, the first call says so."""
        with suppress(BrokenExecutor, OSError):
            await asyncio.to_thread(self._started)

    def processes(self) -> list[int]:
        """Return the numbers of the worker processes that there are."""
        if self._pool is None:
            return []
        return list(self._pool._pool_manager.worker_manager.workers)  # noqa: SLF001 - told nowhere else

    def _stop(self) -> None:
        with self._starting:
            if self._pool is not None:
                self._pool.stop()
                self._pool.join()
                self._pool = None

    async def call(
        self,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        timeout_s: float,
    ) -> CallResult:
        """Call a module-level function in a worker; cancelling or running late kills the worker.

        Raises:
            InputError: the function is not importable by name, or its arguments cannot be sent.
            ToolError: the function raised, returned something that is not JSON-like, or died.
            StepTimeoutError: it ran past `timeout_s`.
        """
        module, name = importable_name(fn)
        return await self.call_named(module, name, packed(args, kwargs), timeout_s)

    async def call_named(
        self, module: str, name: str, arguments: bytes, timeout_s: float
    ) -> CallResult:
        """Call a function by its name with arguments as msgpack, `[args, kwargs]`; see `call`."""
        pool = self._pool or await asyncio.to_thread(self._started)  # not on the loop
        future = pool.schedule(_run, args=[module, name, arguments], timeout=timeout_s)
        try:
            outcome = await self._outcome(name, future)
        except TimeoutError as error:
            raise StepTimeoutError(f"{name} ran past {timeout_s:g} s") from error
        except BrokenExecutor as error:
            raise ToolError(f"{name}: worker processes cannot start: {error}") from error
        except (ProcessExpired, FutureCancelledError) as error:
            raise ToolError(f"{name}: its worker process died") from error
        except asyncio.CancelledError:
            future.cancel()
            raise
        if outcome[0] == "error":
            failure = ToolError(outcome[1])
            failure.cpu_s = outcome[2]
            raise failure
        _, data, cpu_s, wait_s, begin_s, end_s = outcome
        return CallResult(data=data, cpu_s=cpu_s, wait_s=wait_s, begin_s=begin_s, end_s=end_s)

    async def _outcome(self, name: str, future: Any) -> Any:
        """Wait for a job, and look now and then whether there is still somebody to do it."""
        job = asyncio.wrap_future(future)
        while not job.done():
            await asyncio.wait([job], timeout=_LOOK_S)
            if not job.done() and not self._pool.active:
                raise ToolError(f"{name}: worker processes cannot start")
        return job.result()

    async def close(self) -> None:
        """End the worker processes."""
        await asyncio.to_thread(self._stop)


def importable_name(fn: Callable[..., Any]) -> tuple[str, str]:
    """Return module and qualified name of a module-level function.

    Raises:
        InputError: it is a lambda, a method or a nested function, which a worker cannot import.
    """
    module, name = getattr(fn, "__module__", ""), getattr(fn, "__qualname__", repr(fn))
    if not module or "." in name or "<" in name:
        mend = "move it to the top level of a module"
        raise InputError(f"ctx.call cannot send {name} to a worker process", mend=mend)
    return module, name


def packed(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
    """Return a function's arguments as msgpack, `[args, kwargs]`.

    Raises:
        InputError: they cannot be sent.
    """
    try:
        return msgspec.msgpack.encode([args, kwargs])
    except (TypeError, OverflowError, UnicodeEncodeError, RecursionError) as error:
        raise unsent(error) from error


def unsent(error: Exception) -> InputError:
    """Return what is said of a step's input that cannot be told to another process."""
    return InputError(f"it cannot be sent: {error}")


def has_effects(fn: Callable[..., Any]) -> bool:
    """Tell whether a function says, by its parameter `idempotency_key`, that it has effects."""
    return has_parameter(fn, IDEMPOTENCY_KEY)


@lru_cache
def has_parameter(fn: Callable[..., Any], name: str) -> bool:
    """Tell whether a function has a parameter of a name."""
    try:
        return name in inspect.signature(fn).parameters
    except (TypeError, ValueError):  # some built-in functions tell no signature
        return False


def _begin(yields: bool, modules: tuple[str, ...]) -> None:  # noqa: FBT001 - pebble passes it
    """Make this worker yield where it should, end when the run ends, and import modules."""
    take_one_core(os.environ)
    if yields:
        yield_to_engine()
    _end_when_the_run_ends()
    for name in modules:
        with suppress(Exception):  # foreign code; the call that needs it says what is wrong
            _module_named(name)


def take_one_core(environment: MutableMapping[str, str]) -> None:
    """Tell libraries that are imported later to compute with one thread, unless that is told.

    A function has one core of the budget. With a thread for each core OpenBLAS, for one, computes a
    little sooner where nobody else does, and else its threads wait for each other and for a core.
    """
    for name in THREADS:
        environment.setdefault(name, "1")


def _end_when_the_run_ends() -> None:
    """End this process when the run's ends, however that comes about.

    The fork server cannot be waited for instead: it lives as long as one of its workers. On Linux
    the kernel kills this process, whatever it is at; elsewhere a thread does, when it has its turn.
    """
    run = multiprocessing.parent_process()
    if run is None:
        return
    if sys.platform == "linux":
        # The run holds the other end of this pipe, which nobody writes to: its end is the signal.
        fcntl.fcntl(run.sentinel, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(run.sentinel, fcntl.F_SETSIG, signal.SIGKILL)
        flags = fcntl.fcntl(run.sentinel, fcntl.F_GETFL)
        fcntl.fcntl(run.sentinel, fcntl.F_SETFL, flags | os.O_ASYNC)
        if wait([run.sentinel], 0):  # it had ended before
            _end_with_the_run(run.sentinel)
    else:
        threading.Thread(target=_end_with_the_run, args=(run.sentinel,), daemon=True).start()


def _end_with_the_run(sentinel: int) -> None:
    """Wait until the run's process is no more, and kill this one."""
    wait([sentinel])
    os.kill(os.getpid(), signal.SIGKILL)


def _run(module: str, name: str, arguments: bytes) -> tuple[Any, ...]:
    """Run in the worker: import the function, call it, return its result as msgpack.

    Returns:
        `ok` and the result or `error` and its text, core-seconds, and of what went well seconds of
        waiting, begin and end by the worker.
    """
    begin_s, cpu_begin_s, queued_begin_s = time.monotonic(), time.process_time(), _queued_s()
    try:
        args, kwargs = msgspec.msgpack.decode(arguments)
        result = function_named(module, name)(*args, **kwargs)
        data = msgspec.msgpack.encode(result)
        if len(data) > MAX_RESULT_BYTES:  # before it is sent
            return "error", too_large("its result", len(data)), time.process_time() - cpu_begin_s
    except (Exception, SystemExit) as error:  # noqa: BLE001 - foreign: what it raises is its result
        text = printable(f"{type(error).__name__}: {error}")
        return "error", text, time.process_time() - cpu_begin_s
    queued_s, cpu_s, end_s = _queued_s(), time.process_time() - cpu_begin_s, time.monotonic()
    wait_s = None
    if queued_s is not None and queued_begin_s is not None:
        wait_s = max(end_s - begin_s - cpu_s - (queued_s - queued_begin_s), 0.0)
    return "ok", data, cpu_s, wait_s, begin_s, end_s


def _queued_s() -> float | None:
    """Return seconds that this thread was ready and waited for a core, or None if unknown.

    Source: the second field of schedstat, linux/Documentation/scheduler/sched-stats.rst.
    """
    try:
        return int(Path("/proc/thread-self/schedstat").read_text().split()[1]) * 1e-9
    except (OSError, ValueError, IndexError):
        return None


def function_named(module: str, name: str) -> Callable[..., Any]:
    """Import a function's module; return the function."""
    function: Callable[..., Any] = getattr(_module_named(module), name)
    return function


def _module_named(name: str) -> ModuleType:
    """Import a module, or an agent's file by the name that `load_file` gave it."""
    from polysilicon.runtime.loader import FILE_PREFIX, load_file  # noqa: PLC0415 - a cycle otherwise

    return load_file(name) if name.startswith(FILE_PREFIX) else importlib.import_module(name)

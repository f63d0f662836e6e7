"""One step, from the call to the journal: pool, queue, time limit, retries, metering, record."""

from __future__ import annotations

import asyncio
import hashlib
import random
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any, TypeVar, cast

import msgspec

from polysilicon.errors import (
    EngineError,
    InputError,
    StepError,
    StepTimeoutError,
)
from polysilicon.runtime.dispatch import Choice, Dispatcher
from polysilicon.runtime.journal import Journal, JournalError
from polysilicon.runtime.pools import RunningPool
from polysilicon.runtime.results import decode_result, encode_error, encode_result
from polysilicon.runtime.scope import ANY_MODEL, CHECK, Scope, StepCall, TaskState, Usage
from polysilicon.workload.record import StepRecord

T = TypeVar("T")
_BACKOFF_S = 0.1
_encode = msgspec.msgpack.Encoder(order="deterministic").encode


@dataclass(slots=True)
class Counters:
    """Totals that a live view reads."""

    steps: int = 0
    replayed: int = 0
    output_tokens: int = 0
    prompt_tokens: int = 0


@dataclass(slots=True)
class _Way:
    """Where a step is on its way: the pool chosen last, and when a first one took it up."""

    choice: Choice | None
    ready_s: float
    start_s: float | None = None

    @property
    def pool(self) -> RunningPool | None:
        """The pool; None where none may take it."""
        return None if self.choice is None else self.choice.pool


class StepRunner:
    """Runs steps for all tasks of a run.

    Args:
        journal: where steps that ended are kept.
        dispatcher: chooses the pools.
        clock: seconds since the start of the run.
    """

    def __init__(
        self, journal: Journal, dispatcher: Dispatcher, clock: Callable[[], float]
    ) -> None:
        self._journal = journal
        self._dispatcher = dispatcher
        self.policy = dispatcher.policy
        self._clock = clock
        self.counters = Counters()
        self.fatal: JournalError | None = None
        self.on_begin: Callable[[StepRecord], None] | None = None
        self.on_end: Callable[[StepRecord], None] | None = None

    def dispatch_by(self, dispatcher: Dispatcher) -> None:
        """Choose pools by another dispatcher from now on; steps under way keep their pools."""
        self._dispatcher, self.policy = dispatcher, dispatcher.policy

    def try_out(self, call: StepCall, task: TaskState) -> None:
        """Choose a pool for a step that will not run: that compiles the rules, or loads them."""
        choice = self._dispatcher.choose(call, task)
        if choice is not None:
            self._dispatcher.settle(choice, None)

    async def run(
        self,
        scope: Scope,
        call: StepCall,
        work: Callable[[RunningPool, Usage], Awaitable[T]],
        result_type: type[T] | Any,
    ) -> T:
        """Run a step, or give its journaled result where it ended before.

        Raises:
            StepError: the step failed, timed out, or was refused; also on replay.
        """
        if scope.task.only is not None and call.only is None:
            call = replace(call, only=scope.task.only)
        step_id = scope.step_id(call.kind, call.name, call.model, self._identity(call))
        parents = scope.frontier
        if self.fatal is not None:
            raise self.fatal
        known = scope.task.history.get(step_id)
        if known is not None:
            return cast("T", await self._replayed(scope, *known, result_type))
        ready_s = self._clock()
        way = _Way(self._dispatcher.choose(call, scope.task), ready_s)
        error: StepError | None
        usage = Usage(step_id=step_id)
        times: dict[str, Any] = {"step_id": step_id, "parent_ids": parents, "ready_s": ready_s}
        if call.effects:
            usage.idempotency_key = self._key(scope.task.task_id, step_id)
            # Unless an end comes, all that will be known of it is that it was cut off.
            mark = _record(scope, call, way.pool, usage, {**times, "outcome": "cancelled"})
            await self._kept(self._journal.begin_step(mark))
        if way.choice is None:
            refusal = self._dispatcher.refusal(call, scope.task)
            data, error = encode_error(refusal), refusal
        else:
            try:
                data, error = await self._attempts(scope, call, way, step_id, work, usage)
            except asyncio.CancelledError:
                if call.once:
                    times |= {"start_s": way.start_s, "end_s": self._clock()}
                    times["outcome"] = "cancelled"
                    await self._end(scope, _record(scope, call, way.pool, usage, times), b"")
                raise
        start_s = ready_s if way.start_s is None else way.start_s
        outcome = "ok" if error is None else error.outcome
        end_s = self._clock()
        if usage.ended_s is not None:
            end_s = min(end_s, usage.ended_s)
        times |= {"start_s": start_s, "end_s": end_s, "outcome": outcome}
        record = _record(scope, call, way.pool, usage, times)
        await self._end(scope, record, data)
        scope.task.attained_s += end_s - start_s
        self._count(usage)
        if error is not None:
            raise error
        return cast("T", decode_result("ok", data, result_type))

    def _begun(self, scope: Scope, call: StepCall, way: _Way, step_id: str, usage: Usage) -> None:
        """Tell whoever looks on that a step has begun."""
        if self.on_begin is not None:
            times = {"step_id": step_id, "ready_s": way.ready_s, "start_s": way.start_s}
            self.on_begin(_record(scope, call, way.pool, usage, times))

    async def _end(self, scope: Scope, record: StepRecord, data: bytes) -> None:
        """Journal a step that ended, before anybody hears of it."""
        await self._kept(self._journal.end_step(record, data))
        scope.followed(record.parent_ids, record.step_id)
        if self.on_end is not None:
            self.on_end(record)

    async def _kept(self, writing: Coroutine[Any, Any, None]) -> None:
        """Await a write of the journal; where it fails the run must stop, whoever catches that."""
        try:
            await writing
        except JournalError as failure:
            self.fatal = failure
            raise

    def _key(self, task_id: str, step_id: str) -> str:
        """Return what names a step to the outside: 32 hexadecimal digits."""
        what = f"{self._journal.run}\0{task_id}\0{step_id}".encode()
        return hashlib.blake2b(what, digest_size=16).hexdigest()

    async def _replayed(
        self, scope: Scope, record: StepRecord, data: bytes, result_type: Any
    ) -> Any:
        """Give the journaled result of a step."""
        await asyncio.sleep(0)  # steps begun beside it must see the frontier that they saw before
        self.counters.replayed += 1
        scope.followed(record.parent_ids, record.step_id)
        if record.start_s is not None and record.end_s is not None:
            scope.task.attained_s += record.end_s - record.start_s
        return decode_result(record.outcome, data, result_type)

    def _identity(self, call: StepCall) -> bytes:
        try:
            return _encode(call.arguments)
        except (TypeError, OverflowError, UnicodeEncodeError) as error:
            mend = "pass numbers, strings, lists and dictionaries"
            raise InputError(f"step {call.name!r}: {error}", mend=mend) from error

    async def _attempts(
        self,
        scope: Scope,
        call: StepCall,
        way: _Way,
        step_id: str,
        work: Callable[[RunningPool, Usage], Awaitable[Any]],
        usage: Usage,
    ) -> tuple[bytes, StepError | None]:
        """Try until it succeeds or retries run out: encoded result, error.

        A pool whose engine fails costs no retry while another one may take the step.
        """
        failed: list[RunningPool] = []
        tries, retries = 0, call.retries
        choice = way.choice
        while choice is not None:
            way.choice = choice = await self._entered(scope.task, call, choice, failed)
            self._dispatcher.tell(choice, scope.task, step_id, tries)
            pool, begin_s = choice.pool, self._clock()
            if way.start_s is None:
                way.start_s = begin_s
                self._begun(scope, call, way, step_id, usage)
            usage.again()
            result, failure = await self._attempt(scope.task, call, choice, work, usage)
            if failure is None:
                if tries == 0 and usage.began_s is not None:
                    way.start_s = usage.began_s
                self._learn(scope.task, call, pool, usage, begin_s)
                return result, None
            tries += 1
            following = None
            begun = isinstance(failure, EngineError) and failure.begun
            if isinstance(failure, EngineError) and not failure.of_request and not begun:
                failed.append(pool)
                following = self._dispatcher.choose(call, scope.task, without=failed)
            if following is None and retries > 0 and not begun:
                usage.wait_s = (usage.wait_s or 0.0) + await _back_off(
                    scope.task.rng, call.retries - retries
                )
                retries -= 1
                failed.clear()
                following = self._dispatcher.choose(call, scope.task, without=[pool])
                following = following or self._dispatcher.choose(call, scope.task)
            choice = following
        assert failure is not None
        return encode_error(failure), failure

    async def _entered(
        self, task: TaskState, call: StepCall, choice: Choice, failed: list[RunningPool]
    ) -> Choice:
        """Wait for room; a pool that failed for others meanwhile is left for one that is up."""
        while True:
            gate = choice.pool.gates[call.resource]
            entered = False
            try:
                await gate.enter(task)
                entered = True
                now_s = time.monotonic()
                if gate.health.up(now_s):
                    return choice
                other = self._dispatcher.choose(call, task, without=[choice.pool, *failed])
                if other is None:
                    return choice
                if not other.pool.gates[call.resource].health.up(now_s):
                    self._dispatcher.settle(other, None)
                    return choice
            except BaseException:
                self._dispatcher.settle(choice, None)
                if entered:
                    gate.leave()
                raise
            gate.leave()
            self._dispatcher.settle(choice, None)
            choice = other

    async def _attempt(
        self,
        task: TaskState,
        call: StepCall,
        choice: Choice,
        work: Callable[[RunningPool, Usage], Awaitable[Any]],
        usage: Usage,
    ) -> tuple[bytes, StepError | None]:
        """Try once where there is room: the encoded result, and what went wrong."""
        pool, gate = choice.pool, choice.pool.gates[call.resource]
        begin_s, cpu_before_s = self._clock(), usage.cpu_s
        tells = False  # whether its seconds tell how fast the pool is
        task.running.append(call.name)
        try:
            result = encode_result(await self._watched(call, pool, work, usage))
            tells = True
        except StepError as error:
            tells = not isinstance(error, EngineError)
            usage.cpu_s = _sum(usage.cpu_s, error.cpu_s)
            return b"", error
        else:
            return result, None
        finally:
            task.running.remove(call.name)
            served_s = self._clock() - begin_s
            cpu_s = None if usage.cpu_s is None else usage.cpu_s - (cpu_before_s or 0.0)
            cost_usd, energy_j = pool.price(cpu_s, served_s)
            usage.cost_usd = _sum(usage.cost_usd, cost_usd)
            usage.energy_j = _sum(usage.energy_j, energy_j)
            self._dispatcher.settle(choice, cost_usd)
            gate.leave(served_s if tells else None, call.name)

    async def _watched(
        self,
        call: StepCall,
        pool: RunningPool,
        work: Callable[[RunningPool, Usage], Awaitable[Any]],
        usage: Usage,
    ) -> Any:
        """Do the work, and note what that tells of the pool's engine.

        Raises:
            StepError: it failed, or ran late.
        """
        health = pool.gates[call.resource].health
        probe = health.begun()
        try:
            async with asyncio.timeout(call.timeout_s):
                result = await work(pool, usage)
        except TimeoutError as error:
            if call.resource == "engine":
                health.failed(time.monotonic(), probe=probe, doubtful=call.name != CHECK)
            raise StepTimeoutError(f"{call.name} ran past {call.timeout_s:g} s") from error
        except EngineError as error:
            if error.of_request:
                health.succeeded()
            else:
                health.failed(time.monotonic(), probe=probe, doubtful=error.doubtful)
            raise
        except BaseException:
            health.left(probe=probe)
            raise
        health.succeeded()
        return result

    def _learn(
        self, task: TaskState, call: StepCall, pool: RunningPool, usage: Usage, begin_s: float
    ) -> None:
        """Note what a prompt tells of a pool's prefix cache and of how fast it takes prompts in."""
        if usage.prompt_tokens is None or call.kind != "llm":
            return
        task.prompts[pool.name] = usage.prompt_tokens
        if usage.first_token_s is not None:
            new = usage.prompt_tokens - (usage.cached_tokens or 0)
            pool.prefilled(new, usage.first_token_s - begin_s)

    def _count(self, usage: Usage) -> None:
        self.counters.steps += 1
        self.counters.output_tokens += usage.output_tokens or 0
        self.counters.prompt_tokens += (usage.prompt_tokens or 0) - (usage.cached_tokens or 0)


async def _back_off(rng: random.Random, number: int) -> float:
    """Wait before a retry, the first of which has number 0, and return for how many seconds."""
    back_off_s: float = _BACKOFF_S * 2**number * (0.5 + rng.random())
    await asyncio.sleep(back_off_s)
    return back_off_s


def _record(
    scope: Scope, call: StepCall, pool: RunningPool | None, usage: Usage, times: dict[str, Any]
) -> StepRecord:
    """Return the step record; without a pool where none might take the step."""
    return StepRecord(
        task_id=scope.task.task_id,
        agent=scope.task.agent,
        name=call.name,
        kind=call.kind,
        model=_model(call, pool),
        pool=None if pool is None else pool.name,
        offer=None if pool is None else pool.offer_name,
        region=None if pool is None else pool.region,
        data_class=scope.task.data_class,
        arrival_s=scope.task.arrival_s,
        first_token_s=usage.first_token_s,
        prompt_tokens=usage.prompt_tokens,
        cached_tokens=usage.cached_tokens,
        output_tokens=usage.output_tokens,
        cpu_s=usage.cpu_s,
        cores=usage.cores,
        wait_s=usage.wait_s,
        startup_s=usage.startup_s,
        memory_bytes=usage.memory_bytes,
        cost_usd=usage.cost_usd,
        energy_j=usage.energy_j,
        **times,
    )


def _model(call: StepCall, pool: RunningPool | None) -> str | None:
    """Return the model that served a step."""
    if call.model == ANY_MODEL and pool is not None and pool.engine is not None:
        return pool.engine.model
    return call.model


def _sum(one: float | None, other: float | None) -> float | None:
    return None if one is None and other is None else (one or 0.0) + (other or 0.0)

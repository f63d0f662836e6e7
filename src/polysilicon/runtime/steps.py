"""One step, from the call to the journal: its pool, its attempts, its record."""

from __future__ import annotations

import asyncio
import functools
import hashlib
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any, TypeVar, cast

import msgspec

from polysilicon.errors import (
    InputError,
    PolysiliconError,
    StepError,
)
from polysilicon.runtime.attempts import Attempts, Outcome, Way
from polysilicon.runtime.dispatch import Dispatcher
from polysilicon.runtime.engines.late import UnloadedError
from polysilicon.runtime.journal import Journal, JournalError
from polysilicon.runtime.pools import RunningPool
from polysilicon.runtime.results import decode_result, encode_error
from polysilicon.runtime.scope import ANY_MODEL, Scope, StepCall, TaskState, Usage
from polysilicon.workload.record import StepRecord

T = TypeVar("T")
_encode = msgspec.msgpack.Encoder(order="deterministic").encode


@dataclass(slots=True)
class Counters:
    """Totals that a live view reads."""

    steps: int = 0
    replayed: int = 0
    output_tokens: int = 0
    prompt_tokens: int = 0


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
        self._attempts = Attempts(dispatcher, clock)
        self.policy = dispatcher.policy
        self._clock = clock
        self.counters = Counters()
        self.fatal: PolysiliconError | None = None
        self.on_begin: Callable[[StepRecord], None] | None = None
        self.on_end: Callable[[StepRecord], None] | None = None

    def dispatch_by(self, dispatcher: Dispatcher) -> None:
        """Choose pools by another dispatcher from now on; steps under way keep their pools."""
        self._dispatcher, self.policy = dispatcher, dispatcher.policy
        self._attempts.dispatcher = dispatcher

    def ended(self, task: TaskState) -> None:
        """Forget a task that takes no more steps."""
        self._dispatcher.ended(task)

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
            InputError: it cannot have that name, or no pool serves such steps.
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
        way = Way(self._dispatcher.choose(call, scope.task), ready_s)
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
                begun = functools.partial(self._begun, scope, call, way, step_id, usage)
                data, error = await self._attempted(scope.task, call, way, usage, work, begun)
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
        scope.task.served(end_s - start_s)
        self._count(usage)
        if error is not None:
            raise error
        return cast("T", decode_result("ok", data, result_type))

    async def _attempted(self, *given: Any) -> Outcome:
        """Make the attempts; where the model cannot be loaded the run must stop, as for `_kept`."""
        try:
            return await self._attempts.make(*given)
        except UnloadedError as failure:
            self.fatal = failure
            raise

    def _begun(self, scope: Scope, call: StepCall, way: Way, step_id: str, usage: Usage) -> None:
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
            scope.task.served(record.end_s - record.start_s)
        return decode_result(record.outcome, data, result_type)

    def _identity(self, call: StepCall) -> bytes:
        try:
            return _encode(call.arguments)
        except (TypeError, OverflowError, UnicodeEncodeError, RecursionError) as error:
            mend = "pass numbers, strings, lists and dictionaries"
            raise InputError(f"step {call.name!r}: {error}", mend=mend) from error

    @property
    def hedged(self) -> int:
        """How many steps were asked of a second pool, too."""
        return self._attempts.hedged

    def _count(self, usage: Usage) -> None:
        self.counters.steps += 1
        self.counters.output_tokens += usage.output_tokens or 0
        self.counters.prompt_tokens += (usage.prompt_tokens or 0) - (usage.cached_tokens or 0)


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

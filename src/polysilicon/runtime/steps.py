"""One step, from the call to the journal: pool, queue, time limit, retries, metering, record."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

import msgspec
import numpy as np

from polysilicon import schedule
from polysilicon.errors import InputError, StepError, StepTimeoutError, ToolError, printable
from polysilicon.runtime.journal import Journal, JournalError
from polysilicon.runtime.pools import RunningPool
from polysilicon.runtime.types import MAX_RESULT_BYTES, too_large
from polysilicon.workload.record import Kind, StepRecord

T = TypeVar("T")
_BACKOFF_S = 0.1
_FAILURES: dict[str, type[StepError]] = {k.__name__: k for k in StepError.__subclasses__()}
_encode = msgspec.msgpack.Encoder(order="deterministic").encode


@dataclass(slots=True)
class Usage:
    """What a step used, filled in by the work as it goes; names as in the step record.

    `served_s` is the seconds of all attempts, without the back-off between them. `began_s` and
    `ended_s` are told by work that runs in a thread or process of its own, which has to wait for a
    core before it begins, and whose result waits for this one: neither is service. Of a step with
    effects, `idempotency_key` is the same however often it is tried, also on resumption.
    """

    cpu_s: float | None = None
    cores: float | None = None
    wait_s: float | None = None
    startup_s: float | None = None
    memory_bytes: int | None = None
    first_token_s: float | None = None
    began_s: float | None = None
    ended_s: float | None = None
    served_s: float = 0.0
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    output_tokens: int | None = None
    idempotency_key: str = ""

    def again(self) -> None:
        """Forget the moments of an attempt that failed."""
        self.first_token_s = self.began_s = self.ended_s = None


@dataclass(slots=True)
class TaskState:
    """What the runtime keeps of a task while it runs."""

    task_id: str
    agent: str
    arrival_s: float
    rng: random.Random
    history: dict[str, tuple[StepRecord, bytes]] = field(default_factory=dict)
    occurrences: dict[str, int] = field(default_factory=dict)
    attained_s: float = 0.0
    running: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Scope:
    """A line of steps within a task: the task itself, or one item of a `map`.

    `frontier` holds the steps that ended and that no later step has followed yet: the parents of
    the next one.
    """

    task: TaskState
    path: str = ""
    frontier: tuple[str, ...] = ()

    def step_id(self, kind: Kind, name: str, model: str | None, what: bytes) -> str:
        """Return the id of a step: the same in every run of the same work.

        It names the content, not the moment, so that steps that run at once keep their ids
        however they interleave; equal steps of one scope are counted, and are interchangeable.
        """
        head = f"{kind}\0{name}\0{model or ''}\0".encode()
        digest = hashlib.blake2b(head + what, digest_size=5).hexdigest()
        base = f"{self.path}{name}-{digest}"
        occurrence = self.task.occurrences.get(base, 0)
        self.task.occurrences[base] = occurrence + 1
        return f"{base}.{occurrence}" if occurrence else base

    def followed(self, parents: tuple[str, ...], step_id: str) -> None:
        """Put a step that ended in place of its parents."""
        self.frontier = (*(s for s in self.frontier if s not in parents), step_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepCall:
    """What a step is.

    Attributes:
        kind: as in the step record.
        name: the operation.
        model: of `llm` and `embed` steps, else None.
        resource: what it waits for: `engine` (a slot), `cpu` (a core), or `wait` (others).
        arguments: what, with kind, name and model, makes its identity.
        timeout_s: limit of one attempt.
        retries: further attempts after a failure.
        effects: it changes something outside, so that it is journaled before it begins, too.
    """

    kind: Kind
    name: str
    model: str | None = None
    resource: str = "cpu"
    arguments: Any = None
    timeout_s: float
    retries: int = 0
    effects: bool = False


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
        pools: the fleet.
        clock: seconds since the start of the run.
    """

    def __init__(
        self, journal: Journal, pools: list[RunningPool], clock: Callable[[], float]
    ) -> None:
        self._journal = journal
        self._pools = pools
        self._clock = clock
        self.counters = Counters()
        self.fatal: JournalError | None = None

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
        step_id = scope.step_id(call.kind, call.name, call.model, self._identity(call))
        parents = scope.frontier
        if self.fatal is not None:
            raise self.fatal
        known = scope.task.history.get(step_id)
        if known is not None:
            return cast("T", await self._replayed(scope, *known, result_type))
        ready_s = self._clock()
        pool = self._choose(call)
        usage = Usage()
        times: dict[str, Any] = {"step_id": step_id, "parent_ids": parents, "ready_s": ready_s}
        if call.effects:
            usage.idempotency_key = self._key(scope.task.task_id, step_id)
            # Unless an end comes, all that will be known of it is that it was cut off.
            mark = _record(scope, call, pool, usage, {**times, "outcome": "cancelled"})
            await self._kept(self._journal.begin_step(mark))
        start_s, outcome, data, error = await self._attempts(scope, call, pool, work, usage)
        end_s = self._clock()
        if usage.ended_s is not None:
            end_s = min(end_s, usage.ended_s)
        times |= {"start_s": start_s, "end_s": end_s, "outcome": outcome}
        record = _record(scope, call, pool, usage, times)
        await self._kept(self._journal.end_step(record, data))
        scope.followed(parents, step_id)
        scope.task.attained_s += end_s - start_s
        self._count(usage)
        if error is not None:
            raise error
        return cast("T", _decode("ok", data, result_type))

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
        return _decode(record.outcome, data, result_type)

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
        pool: RunningPool,
        work: Callable[[RunningPool, Usage], Awaitable[Any]],
        usage: Usage,
    ) -> tuple[float, str, bytes, StepError | None]:
        """Try until it succeeds or retries run out: start, outcome, encoded result, error."""
        start_s: float | None = None
        for attempt in range(call.retries + 1):
            gate = pool.gates[call.resource]
            await gate.enter(scope.task)
            begin_s = self._clock()
            start_s = begin_s if start_s is None else start_s
            usage.again()
            scope.task.running.append(call.name)
            try:
                async with asyncio.timeout(call.timeout_s):
                    result = await work(pool, usage)
                if attempt == 0 and usage.began_s is not None:
                    start_s = usage.began_s
                return start_s, "ok", _encode_result(result), None
            except TimeoutError:
                failure: StepError = StepTimeoutError(f"{call.name} ran past {call.timeout_s:g} s")
            except StepError as error:
                failure = error
                usage.cpu_s = _sum(usage.cpu_s, error.cpu_s)
            finally:
                scope.task.running.remove(call.name)
                served_s = self._clock() - begin_s
                usage.served_s += served_s
                gate.leave(served_s)
            if attempt < call.retries:
                back_off_s = _BACKOFF_S * 2**attempt * (0.5 + scope.task.rng.random())
                usage.wait_s = (usage.wait_s or 0.0) + back_off_s
                await asyncio.sleep(back_off_s)
        assert start_s is not None
        return start_s, failure.outcome, _encode_error(failure), failure

    def _choose(self, call: StepCall) -> RunningPool:
        """Return the pool that takes the step.

        Raises:
            InputError: no pool serves it.
        """
        what = call.model or call.name
        eligible = np.array([p.serves(call.kind, what, call.resource) for p in self._pools])
        loads = [p.load(call.resource) if ok else (0.0, 0.0, 0.0)
                 for p, ok in zip(self._pools, eligible, strict=True)]  # fmt: skip
        price, work_s, queue_s = (np.array(column) for column in zip(*loads, strict=True))
        index = schedule.choose(
            price, work_s, np.zeros(len(price)), queue_s, eligible, np.inf, 1e-6
        )
        if index < 0:
            mend = "add it to `serves` of a pool, or choose another model"
            raise InputError(f"no pool serves {call.kind}:{what}", mend=mend)
        return self._pools[index]

    def _count(self, usage: Usage) -> None:
        self.counters.steps += 1
        self.counters.output_tokens += usage.output_tokens or 0
        self.counters.prompt_tokens += (usage.prompt_tokens or 0) - (usage.cached_tokens or 0)


def _record(
    scope: Scope, call: StepCall, pool: RunningPool, usage: Usage, times: dict[str, Any]
) -> StepRecord:
    """Return the step record, priced."""
    cost_usd, energy_j = pool.price(usage.cpu_s, usage.served_s)
    return StepRecord(
        task_id=scope.task.task_id,
        agent=scope.task.agent,
        name=call.name,
        kind=call.kind,
        model=call.model,
        pool=pool.name,
        offer=pool.offer_name,
        region=pool.region,
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
        cost_usd=cost_usd,
        energy_j=energy_j,
        **times,
    )


def _sum(one: float | None, other: float | None) -> float | None:
    return None if one is None and other is None else (one or 0.0) + (other or 0.0)


def _encode_result(result: Any) -> bytes:
    """Return a step's result as msgpack.

    Raises:
        ToolError: it holds what JSON cannot, or is too large.
    """
    try:
        data = msgspec.msgpack.encode(result)
    except (TypeError, OverflowError, UnicodeEncodeError, RecursionError) as error:
        raise ToolError(f"its result is not JSON: {error}") from error
    if len(data) > MAX_RESULT_BYTES:
        raise ToolError(too_large("its result", len(data)))
    return data


def _encode_error(error: StepError) -> bytes:
    return msgspec.msgpack.encode([type(error).__name__, printable(str(error))])


def _decode(outcome: str | None, data: bytes, result_type: Any) -> Any:
    """Return a journaled result, or raise the journaled error."""
    if outcome == "ok":
        return msgspec.msgpack.decode(data, type=result_type)
    name, text = msgspec.msgpack.decode(data, type=tuple[str, str])
    raise _FAILURES.get(name, StepError)(text)

"""A step's attempts: room, time limit, other pools, hedges, retries, and what each one tells."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from polysilicon.errors import EngineError, StepError, StepTimeoutError
from polysilicon.runtime.dispatch import Choice, Dispatcher
from polysilicon.runtime.pools import RunningPool
from polysilicon.runtime.results import encode_error, encode_result
from polysilicon.runtime.scope import CHECK, StepCall, TaskState, Usage, added, merge

Work = Callable[[RunningPool, Usage], Awaitable[Any]]
Outcome = tuple[bytes, StepError | None]
"""An encoded result, and what went wrong."""

PATIENCE_S = 60.0
"""So long a step waits for an engine that went away, as it does for the journal's database."""

_MOST_BREAKS = 3
"""A step whose engine went away so often while it answered is sent to it no more."""

_HUNG = 1.5
"""An attempt that lost a race after so many median services counts as a failure of its pool."""

_BACKOFF_S = 0.1
_MOST_DOUBLINGS = 4


@dataclass(slots=True)
class Way:
    """Where a step is on its way: the pool chosen last, and when a first one took it up."""

    choice: Choice | None
    ready_s: float
    start_s: float | None = None

    @property
    def pool(self) -> RunningPool | None:
        """The pool; None where none may take it."""
        return None if self.choice is None else self.choice.pool


@dataclass(slots=True)
class _Race:
    """Whether an attempt has won it, so that the other one is cancelled for being slower."""

    won: bool = False


@dataclass(frozen=True, slots=True)
class _Job:
    """What is attempted; `race` is common to the attempts of a step."""

    task: TaskState
    call: StepCall
    work: Work
    usage: Usage
    race: _Race


@dataclass(slots=True)
class _Left:
    """What a step that failed may still try: its retries, and waiting for an engine to return.

    `last` are the pools of the attempts that failed last, the one whose error counts at the end;
    `failed` those whose engines did since the step began, or began anew.
    """

    retries: int
    last: list[RunningPool] = field(default_factory=list)
    failed: list[RunningPool] = field(default_factory=list)
    waits: int = 0
    breaks: int = 0
    until_s: float | None = None

    def waits_on(self, now_s: float) -> bool:
        """Tell whether it waits for an engine that went away; the first to ask begins to wait."""
        self.until_s = now_s + PATIENCE_S if self.until_s is None else self.until_s
        self.waits += 1
        return now_s < self.until_s


class Attempts:
    """Makes the attempts of the steps of a run.

    Args:
        dispatcher: chooses the pools.
        clock: seconds since the start of the run.
    """

    def __init__(self, dispatcher: Dispatcher, clock: Callable[[], float]) -> None:
        self.dispatcher = dispatcher
        self._clock = clock
        self.hedged = 0

    async def make(
        self,
        task: TaskState,
        call: StepCall,
        way: Way,
        usage: Usage,
        work: Work,
        begun: Callable[[], None],
    ) -> Outcome:
        """Try until it succeeds or nothing is left to try; `begun` is called when it begins.

        A pool whose engine fails costs no retry while another one may take the step, nor does one
        that had answered before and cannot be reached, nor whatever comes of a trial.
        """
        job, left, tries = _Job(task, call, work, usage, _Race()), _Left(call.retries), 0
        choice = way.choice
        while choice is not None:
            way.choice = choice = await self._entered(job, choice, left.failed)
            self.dispatcher.tell(choice, task, usage.step_id, tries)
            gate, begin_s = choice.pool.gates[call.resource], self._clock()
            beside = gate.running
            if way.start_s is None:
                way.start_s = begin_s
                begun()
            usage.again()
            result, failure = await self._raced(job, way, tries, left)
            if failure is None:
                if tries == 0 and usage.began_s is not None:
                    way.start_s = usage.began_s
                if way.choice is choice:
                    self._learn(job, choice.pool, begin_s, (beside + gate.running + 1) / 2)
                return result, None
            tries += 1
            choice = await self._following(job, way.choice, failure, left)
        assert failure is not None
        return encode_error(failure), failure

    async def _following(
        self, job: _Job, choice: Choice, failure: StepError, left: _Left
    ) -> Choice | None:
        """Return where a step that failed goes next; None where it has failed for good."""
        call, task, choose, last = job.call, job.task, self.dispatcher.other, left.last
        left.last = []
        if isinstance(failure, EngineError) and failure.begun:
            return None
        own = call.once
        if isinstance(failure, EngineError):
            own = failure.of_request and failure.unasked
        if choice.trial and not own:  # whatever else goes wrong may be the engine's fault
            left.failed.append(choice.pool)
            if (other := choose(call, task, without=left.failed)) is not None:
                return other
        if isinstance(failure, EngineError) and not failure.of_request:
            left.failed.append(last[-1])
            if (other := choose(call, task, without=left.failed)) is not None:
                return other
            answered = last[-1].gates[call.resource].health.answered
            left.breaks += failure.broke
            returns = failure.down and answered and not call.once
            returns = returns and left.breaks < _MOST_BREAKS
            if returns and left.waits_on(time.monotonic()):
                await self._back_off(job, min(left.waits - 1, _MOST_DOUBLINGS))
                left.failed.clear()
                return choose(call, task)
        if left.retries <= 0:
            return None
        await self._back_off(job, call.retries - left.retries)
        left.retries -= 1
        left.failed.clear()
        return choose(call, task, without=last) or choose(call, task)

    async def _back_off(self, job: _Job, number: int) -> None:
        """Wait before another attempt, the first of which has number 0."""
        back_off_s = _back_off_s(job.task.rng, number)
        await asyncio.sleep(back_off_s)
        job.usage.wait_s = (job.usage.wait_s or 0.0) + back_off_s

    async def _entered(self, job: _Job, choice: Choice, failed: list[RunningPool]) -> Choice:
        """Wait for room; a pool that failed for others meanwhile is left for one that is up."""
        task, call = job.task, job.call
        while True:
            gate = choice.pool.gates[call.resource]
            entered = False
            try:
                await _loaded(job, choice.pool)
                is_tool = call.resource == "cpu" and call.kind != "train"
                quick = is_tool and choice.pool.cores.may_be_quick(task.agent, call.name)
                await gate.enter(task, call.width, quick=quick)
                entered = True
                now_s = time.monotonic()
                if gate.health.up(now_s):
                    return choice
                other = self.dispatcher.other(call, task, without=[choice.pool, *failed])
                if other is None:
                    return choice
                if not other.pool.gates[call.resource].health.up(now_s):
                    self.dispatcher.settle(other, None)
                    return choice
            except BaseException:
                self.dispatcher.settle(choice, None)
                if entered:
                    gate.leave(width=call.width)
                raise
            gate.leave(width=call.width)
            self.dispatcher.settle(choice, None)
            choice = other

    async def _raced(self, job: _Job, way: Way, tries: int, left: _Left) -> Outcome:
        """Try once; where that takes so long that it pays, on a second pool, too.

        The first to succeed counts, the other is cancelled, and both are paid for. Where none does,
        the pools are put into `left.last`, and those of engines that failed beside the one whose
        error counts into `left.failed`.
        """
        first = way.choice
        assert first is not None
        without = [first.pool, *left.failed]
        after_s = self.dispatcher.hedge_after_s(job.call, job.task, first, without)
        if after_s == math.inf:
            left.last = [first.pool]
            return await self._attempt(job, first)
        runs: dict[asyncio.Task[Outcome], tuple[Choice, Usage]] = {}

        def begin(choice: Choice) -> None:
            own = replace(job.usage, cost_usd=None, energy_j=None)
            run = asyncio.create_task(self._attempt(replace(job, usage=own), choice))
            runs[run] = choice, own

        begin(first)
        ended: asyncio.Task[Outcome] | None = None
        try:
            done, _ = await asyncio.wait(runs, timeout=after_s)
            second = None if done else await self._beside(job, without)
            if second is not None:
                self.dispatcher.tell(second, job.task, job.usage.step_id, tries)
                self.hedged += 1
                begin(second)
            ended = await _first_to_succeed(list(runs))
            job.race.won = ended.exception() is None and ended.result()[1] is None
        finally:
            for run in runs:
                run.cancel()
            await asyncio.gather(*runs, return_exceptions=True)
            counts = None if ended is None else runs[ended][1]
            merge(job.usage, [own for _, own in runs.values()], counts)
        way.choice = runs[ended][0]
        if not job.race.won:
            others = {run: choice.pool for run, (choice, _) in runs.items() if run is not ended}
            left.last = [*others.values(), way.choice.pool]
            left.failed += [pool for run, pool in others.items() if _of_engine(run)]
        return ended.result()

    async def _beside(self, job: _Job, without: list[RunningPool]) -> Choice | None:
        """Return a pool that takes a step beside others, entered; None where none has room."""
        other = self.dispatcher.other(job.call, job.task, without=without)
        if other is None:
            return None
        gate = other.pool.gates[job.call.resource]
        if not gate.has_room(job.task, job.call.width) or not gate.health.up(time.monotonic()):
            self.dispatcher.settle(other, None)
            return None
        await gate.enter(job.task, job.call.width)
        return other

    async def _attempt(self, job: _Job, choice: Choice) -> Outcome:
        """Try once where there is room: the encoded result, and what went wrong."""
        task, call, usage = job.task, job.call, job.usage
        pool, gate = choice.pool, choice.pool.gates[call.resource]
        begin_s, cpu_before_s = self._clock(), usage.cpu_s
        mark_s = 0.0 if pool.seconds is None else pool.seconds.begin()
        usage.cpu_s = None  # of this attempt, which may tell none
        tells = beaten = False  # whether its seconds tell how fast the pool is
        failure: StepError | None = None
        task.running.append(call.name)
        try:
            result = encode_result(await self._watched(job, pool))
            tells = True
        except StepError as error:
            failure, tells = error, not isinstance(error, EngineError)
            usage.cpu_s = added(usage.cpu_s, error.cpu_s)
            return b"", error
        except asyncio.CancelledError:
            beaten = job.race.won
            raise
        else:
            return result, None
        finally:
            task.running.remove(call.name)
            served_s = self._clock() - begin_s
            cpu_s, usage.cpu_s = usage.cpu_s, added(cpu_before_s, usage.cpu_s)
            cost_usd = None
            try:
                part_s = served_s if pool.seconds is None else pool.seconds.end(mark_s)
                cost_usd, energy_j = pool.price(cpu_s, part_s)
                usage.cost_usd = added(usage.cost_usd, cost_usd)
                usage.energy_j = added(usage.energy_j, energy_j)
            finally:
                self.dispatcher.settle(choice, cost_usd)
                # One that lost took longer than this: that tells something where it is long.
                tells = tells or (beaten and served_s > gate.service_s(call.name))
                if pool.beside and call.resource == "engine":
                    _tried(pool, call.name, failure, served_s)
                kept_for = None if beaten else task
                gate.leave(served_s if tells else None, call.name, kept_for, call.width)

    async def _watched(self, job: _Job, pool: RunningPool) -> Any:
        """Do the work, and note what that tells of the pool's engine.

        Raises:
            StepError: it failed, or ran late.
        """
        call = job.call
        gate = pool.gates[call.resource]
        health = gate.health
        probe, begin_s = health.begun(), time.monotonic()
        try:
            async with asyncio.timeout(call.timeout_s):
                reads = pool.reads.of(job.usage, self._clock())
                with reads if call.kind == "llm" else nullcontext():
                    result = await job.work(pool, job.usage)
        except TimeoutError as error:
            if call.resource == "engine":
                health.failed(time.monotonic(), probe=probe, doubtful=call.name != CHECK)
            raise StepTimeoutError(f"{call.name} ran past {call.timeout_s:g} s") from error
        except EngineError as error:
            if error.unasked:
                health.left(probe=probe)
            elif error.of_request:
                health.succeeded()
            else:
                health.failed(time.monotonic(), probe=probe, doubtful=error.doubtful)
            raise
        except BaseException:
            now_s, times_s = time.monotonic(), gate.times_s(call.name)
            lost = job.race.won and times_s.size > 0
            if lost and now_s - begin_s >= _HUNG * float(np.median(times_s)):
                health.failed(now_s, probe=probe, doubtful=True)
            else:
                health.left(probe=probe)
            raise
        health.succeeded()
        return result

    def _learn(self, job: _Job, pool: RunningPool, begin_s: float, batch: float) -> None:
        """Note what an answer tells of a pool: its prefix cache, its prefill, its batch."""
        usage = job.usage
        if usage.prompt_tokens is None or job.call.kind != "llm":
            return
        job.task.prompts[pool.name] = usage.prompt_tokens
        if usage.first_token_s is not None:
            new = usage.prompt_tokens - (usage.cached_tokens or 0)
            pool.prefilled(new, usage.first_token_s - begin_s)
            pool.decoded(usage.output_tokens or 0, usage.first_token_s, self._clock(), batch)


async def _loaded(job: _Job, pool: RunningPool) -> None:
    """Wait for a model that is loaded late: no service yet, nor of the time of the task."""
    if job.call.resource != "engine" or pool.late is None or pool.late.is_loaded:
        return
    begin_s, limit = time.monotonic(), job.task.limit
    with nullcontext() if limit is None else limit.stands():
        await pool.late.loaded()
    job.usage.startup_s = time.monotonic() - begin_s


async def _first_to_succeed(runs: list[asyncio.Task[Outcome]]) -> asyncio.Task[Outcome]:
    """Return the first attempt that went well; where none did, the one that failed last."""
    pending = set(runs)
    while True:
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        for run in done:
            if run.exception() is not None or run.result()[1] is None:
                return run
        if not pending:
            return done.pop()


def _of_engine(run: asyncio.Task[Outcome]) -> bool:
    """Tell whether an attempt that ended failed by its engine."""
    failure = None if run.cancelled() or run.exception() is not None else run.result()[1]
    return isinstance(failure, EngineError) and not failure.of_request


def _tried(pool: RunningPool, name: str, failure: StepError | None, served_s: float) -> None:
    """Note that an engine beside others has had a step, unless it was not there to answer."""
    if not isinstance(failure, EngineError) or (failure.of_request and not failure.unasked):
        pool.tried(name, refused=isinstance(failure, EngineError))
        for other in pool.beside:
            other.passed_by(name, served_s)


def _back_off_s(rng: random.Random, number: int) -> float:
    """Return for how many seconds to wait before a retry, the first of which has number 0."""
    back_off_s: float = _BACKOFF_S * 2**number * (0.5 + rng.random())
    return back_off_s

"""What the local model does here: seconds by prompt, batch, context and tools beside it."""

from __future__ import annotations

import asyncio
import random
import time
import zlib
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import NamedTuple, TypeVar

import msgspec
import numpy as np

from polysilicon.cost.engine_choice import engine_version
from polysilicon.cost.profile import (
    DecodePoint,
    LlmProfile,
    PrefillPoint,
    StretchPoint,
    TogetherPoint,
    spread,
)
from polysilicon.errors import EngineError
from polysilicon.runtime.calibration.extent import FULL, Extent
from polysilicon.runtime.calibration.quiet import repeat
from polysilicon.runtime.calibration.requests import (
    TOKENS_PER_WORD,
    Reply,
    ask,
    ask_all,
    iteration_seconds,
    unlike,
)
from polysilicon.runtime.executor import Workers
from polysilicon.runtime.types import Engine

_BESIDE = 4
"""Sequences that decode while tools compute."""

RATE_TOKENS = 512
"""Prompt for which the one rate of prefill is told."""


class _Part(NamedTuple):
    """Shares of the time until when a part is repeated, and until when more of it is begun."""

    repeated: float
    begun: float


_PROMPTS, _BATCHES, _TOOLS = _Part(0.3, 0.5), _Part(0.65, 0.85), _Part(0.75, 1.0)
"""Parts one after the other; a slow engine leaves each some time. What is left is the trial's."""

T = TypeVar("T")
Tell = Callable[[str], None]


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """How the runtime serves the model, and what is measured of it.

    Attributes:
        threads: that compute.
        slots: sequences at once.
        slot_tokens: of one sequence.
        batch_tokens: of an iteration, at most.
        begin_s: monotonic moment at which measuring begins.
        until_s: moment from which on nothing is measured that can be done without.
        engine_version: with what the model is served with; of the engine's package where blank.
        extent: what is measured.
        beside: ids of the processes that serve the model, where this one does not; None where they
            cannot be told.
    """

    threads: int
    slots: int
    slot_tokens: int
    batch_tokens: int
    begin_s: float = 0.0
    until_s: float
    engine_version: str = ""
    extent: Extent = FULL
    beside: frozenset[int] | None = frozenset()

    def after(self, share: float) -> float:
        """Return the moment at which a share of the time is over."""
        return self.begin_s + share * (self.until_s - self.begin_s)


class EngineBench:
    """Measures one engine.

    Args:
        engine: opened as the runtime opens it.
        setting: how, and what is measured.
        rng: for prompts.
        tell: takes what is being measured, for a person.
    """

    def __init__(self, engine: Engine, setting: Setting, rng: random.Random, tell: Tell) -> None:
        self._engine, self._setting, self._extent = engine, setting, setting.extent
        self._rng, self._tell = rng, tell
        self._per_word = TOKENS_PER_WORD
        self._part = _PROMPTS
        self._together: list[TogetherPoint] = []
        self.elsewhere: list[float] = []

    async def run(self, workers: Workers) -> LlmProfile:
        """Measure all of it.

        Args:
            workers: the runtime's worker processes, as tools beside the engine.

        Raises:
            EngineError: the engine failed, or answered too shortly to be timed.
        """
        self._tell("warming up")
        await self._warm_up()
        prefill = await self._prefills()
        decode = await self._decodes()
        stretch = await self._stretches(workers)
        plain = [point for point in prefill if point.fresh] or prefill
        near = min(plain, key=lambda p: abs(p.new_tokens - RATE_TOKENS))
        alone = min(decode, key=lambda p: (p.sequences, p.context_tokens))
        return LlmProfile(
            engine=self._engine.name,
            engine_version=self._setting.engine_version or engine_version(self._engine.name),
            model=self._engine.model,
            threads=self._setting.threads,
            slots=self._setting.slots,
            slot_tokens=self._setting.slot_tokens,
            batch_tokens=self._setting.batch_tokens,
            prefill_tokens_per_s=near.new_tokens / near.seconds.median,
            decode_tokens_per_s=1 / alone.seconds.median,
            prefill=tuple(prefill),
            decode=tuple(decode),
            together=tuple(self._together),
            stretch=stretch,
        )

    async def _warm_up(self) -> None:
        """Touch all weights, and learn how many tokens a word has."""
        few = await ask(self._engine, unlike(20, self._rng), self._extent.output)
        many = await ask(self._engine, unlike(100, self._rng), 1)
        self._per_word = max((many.new + many.cached - few.new - few.cached) / 80, 0.5)

    def _late(self) -> bool:
        """Whether what can be done without is left out."""
        return time.monotonic() > self._setting.after(self._part.begun)

    def _words(self, tokens: float) -> int:
        return max(int(tokens / self._per_word), 1)

    async def _prefills(self) -> list[PrefillPoint]:
        """Time prompts alone on the machine, and continuations of the long ones."""
        self._part = _PROMPTS
        most = 0.8 * self._setting.slot_tokens
        points: list[PrefillPoint] = []
        for tokens in (t for t in self._extent.prompts if t <= most):
            if len(points) >= 3 and self._late():
                break
            self._tell(f"prompt of {tokens} tokens")
            last: list[str] = []

            async def fresh(count: int = self._words(tokens), last: list[str] = last) -> Reply:
                last[:] = unlike(count, self._rng)
                return await ask(self._engine, last, 1)

            async def longer(last: list[str] = last) -> Reply:
                last.extend(unlike(self._words(self._extent.extension), self._rng))
                return await ask(self._engine, last, 1)

            points.append(_prefill_point(await self._repeat(fresh)))
            if (
                tokens > 4 * self._extent.extension
                and tokens + 8 * self._extent.extension < self._setting.slot_tokens
            ):
                points.append(_prefill_point(await self._repeat(longer)))
        return points

    async def _decodes(self) -> list[DecodePoint]:
        """Time iterations of one to all slots, with the same prompts growing longer."""
        self._part = _BATCHES
        points: list[DecodePoint] = []
        prompts = [unlike(1, self._rng) for _ in range(self._setting.slots)]
        counts = sorted({min(count, self._setting.slots) for count in self._extent.at_once})
        before = 0
        for context in (c for c in self._extent.contexts if c <= 0.8 * self._setting.slot_tokens):
            if points and self._late():
                break
            self._tell(f"decoding at {context} tokens of context")
            for prompt in prompts:
                prompt.extend(unlike(self._words(context - before), self._rng))
            before = context
            # Each finds its own slot again in what follows.
            self._together += [await self._all_at_once(prompts)]
            found: list[DecodePoint] = []
            for count in dict.fromkeys((counts[0], counts[-1], *counts)):
                if len(found) > 1 and self._late():  # between one and all others are interpolated
                    break
                point = await self._decode(prompts, count)
                found += [point] if point is not None else []
            points += sorted(found, key=lambda point: point.sequences)
        if not points:
            raise EngineError(f"{self._engine.model} ends its answers before they can be timed")
        return points

    async def _all_at_once(self, prompts: Sequence[Sequence[str]]) -> TogetherPoint:
        """Time prompts that come at once."""
        replies = await ask_all(self._engine, prompts, 1)
        begin_s = min(reply.start_s for reply in replies)
        last_s = max(reply.start_s + reply.ttft_s for reply in replies)
        return TogetherPoint(
            sequences=len(replies),
            new_tokens=sum(reply.new for reply in replies),
            pairs=sum(reply.new * (reply.cached + reply.new / 2) for reply in replies),
            seconds=spread([last_s - begin_s]),
        )

    async def _decode(self, prompts: Sequence[Sequence[str]], count: int) -> DecodePoint | None:
        """Time iterations of some of the prompts together; None where answers were too short.

        They are neighbours, as those of a run are (`native/slots.py`): each finds its own slot
        again, and slots that follow each other are computed in one pass.
        """

        async def some() -> list[Reply]:
            first = self._rng.randrange(len(prompts) - count + 1)
            asked = prompts[first : first + count]
            return await ask_all(self._engine, asked, self._extent.output)

        replies = await self._repeat(some)
        seconds = [s for s in map(iteration_seconds, replies) if s is not None]
        if not seconds:
            return None
        held = [reply.new + reply.cached + reply.output / 2 for reply in replies[0]]
        return DecodePoint(
            sequences=count,
            context_tokens=sum(held) / len(held),
            seconds=spread(seconds),
        )

    async def _stretches(self, workers: Workers) -> tuple[StretchPoint, ...]:
        """Time iterations while one to all worker processes compute, and those processes."""
        self._part = _TOOLS
        prompts = [unlike(self._words(self._extent.contexts[0]), self._rng) for _ in range(_BESIDE)]
        prompts = prompts[: self._setting.slots]
        await asyncio.gather(*(spinning(workers, 0.05) for _ in range(workers.count)))
        points = []
        for busy in range(1, workers.count + 1):
            if self._late():
                break
            self._tell(f"decoding beside {busy} busy {'tool' if busy == 1 else 'tools'}")
            found = await self._repeat(partial(self._stretch, prompts, busy, workers))
            pairs = [pair for pair in found if pair is not None]
            if pairs:
                engine, tool = (float(np.median(column)) for column in zip(*pairs, strict=True))
                points.append(StretchPoint(busy=busy, engine=engine, tool=tool))
        return tuple(points)

    async def _stretch(
        self, prompts: Sequence[Sequence[str]], busy: int, workers: Workers
    ) -> tuple[float, float] | None:
        """Return how much longer iterations and tools take beside each other."""
        spin_s = self._extent.spin_s
        quiet = iteration_seconds(await ask_all(self._engine, prompts, self._extent.output))
        alone = await asyncio.gather(*(spinning(workers, spin_s / 3) for _ in range(busy)))
        tools = [asyncio.ensure_future(spinning(workers, spin_s)) for _ in range(busy)]
        seconds: list[float] = []
        while not all(tool.done() for tool in tools):
            found = iteration_seconds(await ask_all(self._engine, prompts, self._extent.output))
            # The last round may have gone on alone; it counts only where there is no other.
            if found is not None and not (seconds and all(tool.done() for tool in tools)):
                seconds.append(found)
        beside = await asyncio.gather(*tools)
        if quiet is None or not seconds:
            return None
        return float(np.median(seconds)) / quiet, float(np.median(alone) / np.median(beside))

    async def _repeat(self, measure: Callable[[], Awaitable[T]]) -> list[T]:
        """Measure until it was quiet often enough."""
        results, share = await repeat(
            measure,
            cores=self._setting.threads,
            want=self._extent.repeats,
            most=self._extent.most,
            until_s=self._setting.after(self._part.repeated),
            beside=self._setting.beside,
        )
        self.elsewhere.append(share)
        return results


async def spinning(workers: Workers, seconds: float) -> float:
    """Let a worker process compute; return its rounds a second."""
    result = await workers.call(spin, (seconds,), {}, 60.0 + seconds)
    return float(msgspec.msgpack.decode(result.data))


def spin(seconds: float) -> float:
    """Compute for some seconds of wall time, as a tool does; return rounds a second."""
    begin_s = time.monotonic()
    rounds = 0
    text = b"the same few words again and again, for a tool to chew on" * 20
    while (passed_s := time.monotonic() - begin_s) < seconds:
        zlib.compress(text, 6)
        rounds += 1
    return rounds / max(passed_s, 1e-9)


def _prefill_point(replies: Sequence[Reply]) -> PrefillPoint:
    """Return the point of some prompts of about one length, scaled to one length exactly."""
    new = float(np.median([reply.new for reply in replies]))
    return PrefillPoint(
        new_tokens=round(new),
        cached_tokens=round(float(np.median([reply.cached for reply in replies]))),
        seconds=spread([reply.ttft_s * new / reply.new for reply in replies]),
    )

"""How fast a model is with a setup: prompts alone, and batches of sequences."""

from __future__ import annotations

import asyncio
import math
import random
import time
from pathlib import Path
from statistics import median

import msgspec

from polysilicon.errors import EngineError
from polysilicon.runtime.calibration.requests import Reply, ask, ask_all, iteration_seconds, unlike
from polysilicon.runtime.engines.native.choice import Setup
from polysilicon.runtime.types import Engine

SEED = 5
_WARM_WORDS = 40
_WORDS = 160


class Extent(msgspec.Struct, frozen=True, kw_only=True):
    """What is measured.

    Attributes:
        prompt_words: lengths of prompts, in words of about two tokens.
        sequences: numbers of sequences that are decoded at once.
        context_words: before what is decoded.
        output: tokens of each sequence.
        repeats: of each measurement.
        budget_s: of a measurement, after which it is not made a second time; None is no limit.
        whole_s: after which no further measurement is begun; None is no limit.
    """

    prompt_words: tuple[int, ...] = (220,)
    sequences: tuple[int, ...] = (1, 8)
    context_words: tuple[int, ...] = (_WORDS,)
    output: int = 40
    repeats: int = 2
    budget_s: float | None = None
    whole_s: float | None = None

    def until_s(self) -> float:
        """Return the time of the monotonic clock after which nothing is measured again."""
        return _after(self.budget_s)


def _after(seconds: float | None) -> float:
    return time.monotonic() + (math.inf if seconds is None else seconds)


class Prompt(msgspec.Struct, frozen=True, kw_only=True):
    """A prompt alone: its words, its tokens that were computed, and seconds to the first token."""

    words: int
    tokens: int
    seconds: float


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """Sequences that were decoded at once.

    Attributes:
        sequences: how many.
        context_tokens: mean of them.
        seconds: of an iteration.
        prompt_tokens_per_s: of their prompts, which came at once, until all had a first token.
    """

    sequences: int
    context_tokens: float
    seconds: float
    prompt_tokens_per_s: float


class Speed(msgspec.Struct, frozen=True, kw_only=True):
    """Medians of what was measured."""

    prompts: tuple[Prompt, ...]
    batches: tuple[Batch, ...]

    def rates(self) -> dict[str, float]:
        """Return tokens a second by what was measured."""
        found = {f"prompt of {p.words} words": p.tokens / p.seconds for p in self.prompts}
        for batch in self.batches:
            of = "a prompt" if batch.sequences == 1 else f"{batch.sequences} prompts at once"
            found[of] = batch.prompt_tokens_per_s
            found[f"{batch.sequences} at once"] = batch.sequences / batch.seconds
        return found


def measure(model: Path, setup: Setup, extent: Extent) -> Speed:
    """Measure a model with a setup, in this process.

    Raises:
        PolysiliconError: the engine cannot be opened, fails, or answers too shortly to be timed.
    """
    return asyncio.run(_measure(model, setup, extent))


async def _measure(model: Path, setup: Setup, extent: Extent) -> Speed:
    from polysilicon.runtime.engines.llamacpp import LlamaCpp  # noqa: PLC0415 - it imports this

    rng = random.Random(SEED)  # noqa: S311 - no secret
    longest = max((*extent.prompt_words, *extent.context_words))
    engine = LlamaCpp(
        model,
        concurrency=max((1, *extent.sequences)),
        context_tokens=256 + 4 * longest + extent.output,
        setup=setup,
    )
    try:
        await ask(engine, unlike(_WARM_WORDS, rng), 8)
        end_s = _after(extent.whole_s)
        prompts = [await _prompt(engine, words, extent, rng) for words in extent.prompt_words]
        batches = [
            await _batch(engine, sequences, words, extent, rng)
            for sequences in extent.sequences
            for words in extent.context_words
            if time.monotonic() < end_s
        ]
        return Speed(prompts=tuple(prompts), batches=tuple(batches))
    finally:
        await engine.close()


async def _prompt(engine: Engine, words: int, extent: Extent, rng: random.Random) -> Prompt:
    """Time a prompt that nothing is known of."""
    until_s = extent.until_s()
    replies = [await ask(engine, unlike(words, rng), 1)]
    while len(replies) < extent.repeats and time.monotonic() < until_s:
        replies.append(await ask(engine, unlike(words, rng), 1))
    middle = sorted(replies, key=lambda reply: reply.ttft_s / reply.new)[len(replies) // 2]
    return Prompt(words=words, tokens=middle.new, seconds=middle.ttft_s)


async def _batch(
    engine: Engine, sequences: int, words: int, extent: Extent, rng: random.Random
) -> Batch:
    """Time the iterations of sequences that are decoded at once."""
    found: list[tuple[float, float, float]] = []
    until_s = extent.until_s()
    for _ in range(3 * extent.repeats):
        if found and time.monotonic() > until_s:
            break
        prompts = [unlike(words, rng) for _ in range(sequences)]
        replies = await ask_all(engine, prompts, extent.output)
        seconds = iteration_seconds(replies) or _mean_gap(replies)
        if seconds is not None:
            context = sum(r.new + r.cached + r.output / 2 for r in replies) / len(replies)
            found.append((seconds, context, _prompt_rate(replies)))
        if len(found) == extent.repeats:
            break
    if not found:
        raise EngineError("the engine answered too shortly to be timed")
    return Batch(
        sequences=sequences,
        context_tokens=median(context for _, context, _ in found),
        seconds=median(seconds for seconds, *_ in found),
        prompt_tokens_per_s=median(rate for *_, rate in found),
    )


def _prompt_rate(replies: list[Reply]) -> float:
    """Return prompt tokens a second from the first request to the last first token."""
    last_s = max(reply.start_s + reply.ttft_s for reply in replies)
    return sum(reply.new for reply in replies) / (last_s - min(reply.start_s for reply in replies))


def _mean_gap(replies: list[Reply]) -> float | None:
    """Return seconds an iteration where some answers ended early; None where nearly all did.

    Tokens that came after all had begun, over the seconds in which most were still at work.
    """
    begin_s = max(reply.start_s + reply.ttft_s for reply in replies)
    ends = sorted(reply.end_s for reply in replies)
    end_s = ends[len(ends) // 4]
    inside = sum(1 for reply in replies for t in reply.token_s if begin_s <= t <= end_s)
    if end_s <= begin_s or inside < 4 * len(replies):
        return None
    return (end_s - begin_s) * len(replies) / inside

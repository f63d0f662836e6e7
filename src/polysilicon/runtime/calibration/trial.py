"""A mixed load, served and predicted: what the bands of the local law rest on."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from polysilicon.cost.llm.iterations import Engine as PlayedEngine
from polysilicon.cost.llm.iterations import EngineSteps, Recorded, Taken, cores_taken, play_each
from polysilicon.cost.llm.law import Numbers
from polysilicon.cost.llm.local import rates_of
from polysilicon.cost.profile import LlmProfile, Trial
from polysilicon.runtime.calibration.engine import Setting, spin
from polysilicon.runtime.calibration.quiet import repeat
from polysilicon.runtime.calibration.requests import TOKENS_PER_WORD, Reply, ask, unlike
from polysilicon.runtime.executor import CallResult, Workers
from polysilicon.runtime.types import Engine

PROMPT_TOKENS = (20, 400)
OUTPUT_TOKENS = (3, 60)
TOOL_S = (0.002, 0.5)
"""Ranges from which the steps are drawn, evenly in the logarithm."""

LINES_PER_SLOT = 1.5
"""Tasks at once, so that some wait for a slot while others are at their tools."""

ROUNDS = 3
MOST_ROUNDS = 5
FEWEST_STEPS = 8
"""Of a round, however slow the engine is: as many as slots are usual."""

LONG_TOKENS = 8
"""Answers from which on the time of a later token is scored: one stall is not all of it."""


async def trial(
    engine: Engine, measured: LlmProfile, rng: random.Random, setting: Setting, workers: Workers
) -> Trial:
    """Serve steps as agents make them, and score the prediction of each.

    Prompts, answers and tools between them are of mixed lengths, and half of the answers are
    chosen from a schema. The load comes in rounds, so that those which other programs disturbed
    can be left out. Which cores tools had is told to the prediction, as it is to that of a run.

    Args:
        engine: the one that was measured.
        measured: what was measured of it.
        rng: for prompts, lengths and tools.
        setting: how the engine is served, and how many steps a round has.
        workers: worker processes of the runtime, for the tools.
    """
    count = _steps(measured, setting)
    rounds, _ = await repeat(
        lambda: _Round(engine, measured.slots, rng, workers).run(count),
        cores=setting.threads,
        want=min(ROUNDS, setting.extent.most),
        most=min(MOST_ROUNDS, setting.extent.most),
        until_s=setting.until_s,
        beside=setting.beside,
    )
    return score(measured, rounds)


def _steps(measured: LlmProfile, setting: Setting) -> int:
    """Return how many steps a round has: fewer where the engine is too slow for all of them."""
    most = setting.extent.trial_steps
    left_s = setting.until_s - time.monotonic()
    batch = min(measured.decode, key=lambda point: (-point.sequences, point.context_tokens))
    each_s = (
        _mean(PROMPT_TOKENS) / measured.prefill_tokens_per_s
        + _mean(OUTPUT_TOKENS) * batch.seconds.median / batch.sequences
    )
    return max(min(most, FEWEST_STEPS), min(most, int(left_s / each_s)))


def _mean(between: tuple[float, float]) -> float:
    """Return the mean of what is drawn evenly in the logarithm."""
    low, high = between
    return (high - low) / math.log(high / low)


class Served(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a round.

    Attributes:
        replies: to its chats.
        tools: between them.
    """

    replies: list[Reply]
    tools: list[CallResult]


class _Round:
    """Some steps, in lines that go from a tool to a chat and on."""

    def __init__(self, engine: Engine, slots: int, rng: random.Random, workers: Workers) -> None:
        self._engine, self._rng, self._workers = engine, rng, workers
        self._gate = asyncio.Semaphore(slots)
        self._lines = round(slots * LINES_PER_SLOT)
        self._served = Served(replies=[], tools=[])

    async def run(self, count: int) -> Served:
        """Serve `count` steps."""
        jobs = iter(range(count))

        async def line() -> None:
            for _ in jobs:
                await self._step()

        await asyncio.gather(*(line() for _ in range(self._lines)))
        return self._served

    async def _step(self) -> None:
        """Chat, and then run a tool."""
        prompt = unlike(round(self._draw(PROMPT_TOKENS) / TOKENS_PER_WORD), self._rng)
        output = round(self._draw(OUTPUT_TOKENS))
        schema: dict[str, Any] | None = None
        if self._rng.random() < 0.5:
            choices = [" ".join(unlike(output // 2, self._rng)) for _ in range(6)]
            schema = {"type": "string", "enum": choices}
        ready_s = time.monotonic()
        async with self._gate:
            waited_s = time.monotonic() - ready_s
            reply = await ask(self._engine, prompt, output, schema)
        self._served.replies.append(msgspec.structs.replace(reply, waited_s=waited_s))
        tool_s = self._draw(TOOL_S)
        self._served.tools.append(await self._workers.call(spin, (tool_s,), {}, 60.0 + tool_s))

    def _draw(self, between: tuple[float, float]) -> float:
        low, high = between
        drawn: float = low * (high / low) ** self._rng.random()
        return drawn


def score(measured: LlmProfile, rounds: Sequence[Served]) -> Trial:
    """Compare replies with what the profile predicts of them.

    Args:
        measured: the profile.
        rounds: at least one; nothing of one reaches into another.
    """
    parts = [_ratios(measured, served) for served in rounds]
    service, first, later = (np.concatenate(column) for column in zip(*parts, strict=True))
    later = later if len(later) else service
    return Trial(
        steps=len(service),
        median_error=float(np.median(np.abs(1 / service - 1))),
        service_low=_at(service, 0.05),
        service_high=_at(service, 0.95),
        ttft_low=_at(first, 0.05),
        ttft_high=_at(first, 0.95),
        tpot_low=_at(later, 0.05),
        tpot_high=_at(later, 0.95),
    )


def _ratios(measured: LlmProfile, served: Served) -> tuple[Numbers, Numbers, Numbers]:
    """Return measured over predicted seconds: whole, to the first token, and after it."""
    replies = served.replies
    start_s = np.array([reply.start_s for reply in replies])
    begin_s = float(start_s.min())
    output = np.array([float(max(reply.output, 1)) for reply in replies])
    steps = EngineSteps(
        start_s=start_s - begin_s,
        new=np.array([float(reply.new) for reply in replies]),
        cached=np.array([float(reply.cached) for reply in replies]),
        output=output,
    )
    whole_s = np.array([reply.end_s for reply in replies]) - start_s
    first_s = np.array([reply.ttft_s for reply in replies])
    recorded = Recorded(
        first_token_s=steps.start_s + first_s,
        end_s=steps.start_s + whole_s,
        ready_s=steps.start_s - np.array([reply.waited_s for reply in replies]),
    )
    engine = PlayedEngine(
        rates=rates_of(measured),
        slots=measured.slots,
        batch_tokens=measured.batch_tokens,
        taken=_taken(served.tools, begin_s),
    )
    played = play_each(steps, recorded, engine)
    several = output >= LONG_TOKENS
    rest_s = (played.end_s - played.first_token_s)[several]
    return (
        whole_s / (played.end_s - steps.start_s),
        first_s / (played.first_token_s - steps.start_s),
        (whole_s - first_s)[several] / rest_s,
    )


def _taken(tools: Sequence[CallResult], begin_s: float) -> Taken:
    """Return which cores the tools of a round had, in seconds from its beginning."""
    starts = np.array([tool.begin_s for tool in tools]) - begin_s
    spans = np.array([tool.end_s - tool.begin_s for tool in tools])
    return cores_taken(starts, spans, np.array([tool.cpu_s for tool in tools]))


def _at(ratios: Numbers, level: float) -> float:
    """Return a quantile of ratios."""
    return float(np.quantile(ratios, level))

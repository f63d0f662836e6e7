"""A mixed load, served and predicted: what the bands of the local law rest on."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

import numpy as np

from polysilicon.cost.llm.iterations import Engine as PlayedEngine
from polysilicon.cost.llm.iterations import EngineSteps, Recorded, play_each
from polysilicon.cost.llm.law import Numbers
from polysilicon.cost.llm.local import rates_of
from polysilicon.cost.profile import LlmProfile, Trial
from polysilicon.runtime.calibration.engine import Setting
from polysilicon.runtime.calibration.quiet import repeat
from polysilicon.runtime.calibration.requests import TOKENS_PER_WORD, Reply, ask, unlike
from polysilicon.runtime.types import Engine

PROMPT_TOKENS = (30, 420)
OUTPUT_TOKENS = (4, 40)
ROUNDS = 3
MOST_ROUNDS = 6


async def trial(
    engine: Engine, measured: LlmProfile, rng: random.Random, setting: Setting
) -> Trial:
    """Serve steps of mixed lengths on all slots, and score the prediction of each.

    The load comes in rounds, so that those which other programs disturbed can be left out.

    Args:
        engine: the one that was measured.
        measured: what was measured of it.
        rng: for prompts and lengths.
        setting: how the engine is served, and how many steps a round has.
    """
    rounds, _ = await repeat(
        lambda: _round(engine, measured.slots, rng, setting.extent.trial_steps),
        cores=setting.threads,
        want=min(ROUNDS, setting.extent.most),
        most=min(MOST_ROUNDS, setting.extent.most),
        until_s=setting.until_s,
    )
    return score(measured, rounds)


async def _round(engine: Engine, lines: int, rng: random.Random, count: int) -> list[Reply]:
    """Serve some steps, each line going on when its last one ended."""
    sizes = [(rng.randint(*PROMPT_TOKENS), rng.randint(*OUTPUT_TOKENS)) for _ in range(count)]
    jobs = iter([(unlike(int(p / TOKENS_PER_WORD), rng), output) for p, output in sizes])
    replies: list[Reply] = []

    async def line() -> None:
        for prompt, output in jobs:
            replies.append(await ask(engine, prompt, output))

    await asyncio.gather(*(line() for _ in range(lines)))
    return replies


def score(measured: LlmProfile, rounds: Sequence[Sequence[Reply]]) -> Trial:
    """Compare replies with what the profile predicts of them.

    Args:
        measured: the profile.
        rounds: of replies, at least one; nothing of one reaches into another.
    """
    parts = [_ratios(measured, replies) for replies in rounds]
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


def _ratios(measured: LlmProfile, replies: Sequence[Reply]) -> tuple[Numbers, Numbers, Numbers]:
    """Return measured over predicted seconds: whole, to the first token, and after it."""
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
        # A line goes on when its last step ended, which is as if it had waited for a slot.
        queued=np.argsort(np.argsort(start_s, kind="stable")) >= measured.slots,
    )
    engine = PlayedEngine(
        rates=rates_of(measured), slots=measured.slots, batch_tokens=measured.batch_tokens
    )
    played = play_each(steps, recorded, engine)
    several = output > 2
    rest_s = (played.end_s - played.first_token_s)[several]
    return (
        whole_s / (played.end_s - steps.start_s),
        first_s / (played.first_token_s - steps.start_s),
        (whole_s - first_s)[several] / rest_s,
    )


def _at(ratios: Numbers, level: float) -> float:
    """Return a quantile of ratios."""
    return float(np.quantile(ratios, level))

"""A mixed load, served and predicted: what the bands of the local law rest on."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence

import numpy as np

from polysilicon.cost.llm.iterations import EngineSteps, play
from polysilicon.cost.llm.local import rates_of
from polysilicon.cost.profile import LlmProfile, Trial
from polysilicon.runtime.calibration.requests import TOKENS_PER_WORD, Reply, ask, unlike
from polysilicon.runtime.types import Engine

PROMPT_TOKENS = (30, 420)
OUTPUT_TOKENS = (4, 40)
FEWEST = 8
"""Steps without which a trial says nothing."""


async def trial(
    engine: Engine, measured: LlmProfile, rng: random.Random, count: int, until_s: float
) -> Trial | None:
    """Serve steps of mixed lengths on all slots, and score the prediction of each.

    Args:
        engine: the one that was measured.
        measured: what was measured of it.
        rng: for prompts and lengths.
        count: of steps.
        until_s: no further step begins after this moment of the monotonic clock.

    Returns:
        None where too few steps were served by then.
    """
    sizes = [(rng.randint(*PROMPT_TOKENS), rng.randint(*OUTPUT_TOKENS)) for _ in range(count)]
    jobs = iter([(unlike(int(p / TOKENS_PER_WORD), rng), out) for p, out in sizes])
    replies: list[Reply] = []

    async def line() -> None:
        for prompt, output in jobs:
            if time.monotonic() > until_s and len(replies) >= FEWEST:
                return
            replies.append(await ask(engine, prompt, output))

    await asyncio.gather(*(line() for _ in range(measured.slots)))
    return score(measured, replies) if len(replies) >= FEWEST else None


def score(measured: LlmProfile, replies: Sequence[Reply]) -> Trial:
    """Compare replies with what the profile predicts of them.

    Args:
        measured: the profile.
        replies: at least one.
    """
    start_s = np.array([reply.start_s for reply in replies])
    begin_s = float(start_s.min())
    output = np.array([float(max(reply.output, 1)) for reply in replies])
    steps = EngineSteps(
        start_s=start_s - begin_s,
        new=np.array([float(reply.new) for reply in replies]),
        cached=np.array([float(reply.cached) for reply in replies]),
        output=output,
    )
    played = play(
        steps, rates_of(measured), slots=measured.slots, batch_tokens=measured.batch_tokens
    )
    end_s = np.array([reply.end_s for reply in replies])
    ttft_s = np.array([reply.ttft_s for reply in replies])
    service = (end_s - start_s) / (played.end_s - steps.start_s)
    first = ttft_s / (played.first_token_s - steps.start_s)
    later = output > 2
    taken = (end_s - start_s - ttft_s)[later]
    rest = taken / np.maximum(played.end_s - played.first_token_s, 1e-9)[later]
    return Trial(
        steps=len(replies),
        median_error=float(np.median(np.abs(1 / service - 1))),
        service_low=_at(service, 0.05),
        service_high=_at(service, 0.95),
        ttft_low=_at(first, 0.05),
        ttft_high=_at(first, 0.95),
        tpot_low=_at(rest, 0.05) if later.any() else _at(service, 0.05),
        tpot_high=_at(rest, 0.95) if later.any() else _at(service, 0.95),
    )


def _at(ratios: np.ndarray[tuple[int, ...], np.dtype[np.float64]], level: float) -> float:
    """Return a quantile of ratios."""
    return float(np.quantile(ratios, level))

"""Requests to an engine with prompts of known length, timed token by token."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from typing import Any

import msgspec

from polysilicon.runtime.calibration.text import words
from polysilicon.runtime.types import ChatRequest, Engine

TOKENS_PER_WORD = 2.0
"""First guess; the engine says how many it were."""

_FEWEST = 4
"""Tokens of an answer that is timed."""


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """A request that was answered, in seconds of `time.monotonic`.

    Attributes:
        start_s: when it was sent.
        token_s: when each piece of text came, or the first one only.
        end_s: when the answer was complete.
        new: prompt tokens computed.
        cached: prompt tokens found in a cache.
        output: tokens generated.
        waited_s: for a slot, before it was sent.
    """

    start_s: float
    token_s: tuple[float, ...]
    end_s: float
    new: int
    cached: int
    output: int
    waited_s: float = 0.0

    @property
    def ttft_s(self) -> float:
        """Seconds to the first token; one without text tells of itself only by its end."""
        return (self.token_s[0] if self.token_s else self.end_s) - self.start_s


async def ask(
    engine: Engine,
    prompt: Sequence[str],
    output: int,
    schema: dict[str, Any] | None = None,
    adapter: str | None = None,
    *,
    each: bool = False,
) -> Reply:
    """Send one request and time its tokens.

    Steps of agents are told of their first token and their end, and to be told of each takes time.

    Args:
        engine: which answers.
        prompt: words of the user's message.
        output: tokens, at most.
        schema: of the answer; None for free text.
        adapter: file of an adapter that is added to the model.
        each: time each token, and not only the first.

    Raises:
        EngineError: the engine refused or failed.
    """
    times: list[float] = []
    request = ChatRequest(
        messages=({"role": "user", "content": " ".join(prompt)},),
        max_tokens=output,
        schema=schema,
        adapter=adapter,
    )

    def came(_text: str) -> bool:
        if each or not times:
            times.append(time.monotonic())
        return each

    start_s = time.monotonic()
    result = await engine.chat(request, came)
    return Reply(
        start_s=start_s,
        token_s=tuple(times),
        end_s=time.monotonic(),
        new=max(result.prompt_tokens - result.cached_tokens, 1),
        cached=result.cached_tokens,
        output=result.output_tokens,
    )


async def ask_all(
    engine: Engine, prompts: Sequence[Sequence[str]], output: int, adapter: str | None = None
) -> list[Reply]:
    """Send requests at once; of several each token is timed."""
    each = len(prompts) > 1
    asked = (ask(engine, prompt, output, adapter=adapter, each=each) for prompt in prompts)
    return list(await asyncio.gather(*asked))


def unlike(count: int, rng: random.Random) -> list[str]:
    """Return a prompt of `count` words that no earlier prompt begins like."""
    return [f"{rng.randrange(10**6)}:", *words(max(count - 1, 1), rng)]


def iteration_seconds(replies: Sequence[Reply]) -> float | None:
    """Return mean seconds between tokens while all requests were being answered.

    Returns:
        None where they were not all at work for long enough.
    """
    if len(replies) == 1:
        return _alone(replies[0])
    begin_s = max(reply.start_s + reply.ttft_s for reply in replies)
    end_s = min(reply.token_s[-1] if reply.token_s else reply.end_s for reply in replies)
    gaps = []
    for reply in replies:
        inside = [t for t in reply.token_s if begin_s <= t <= end_s]
        if len(inside) >= _FEWEST:
            gaps.append((inside[-1] - inside[0]) / (len(inside) - 1))
    return sum(gaps) / len(gaps) if len(gaps) == len(replies) else None


def _alone(reply: Reply) -> float | None:
    """Return mean seconds from the first token of a lone answer to its end, for each later one."""
    if not reply.token_s or reply.output < _FEWEST:
        return None
    return (reply.end_s - reply.token_s[0]) / (reply.output - 1)

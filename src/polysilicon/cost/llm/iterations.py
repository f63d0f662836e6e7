"""LLM steps played iteration by iteration: when each of given steps has its first and last token.

What is given is when steps begin and how many tokens they have; what comes out is when they end.
The engine is one process with slots and continuous batching, as in llama.cpp's server: an
iteration takes one token of each sequence that decodes and as many waiting prompt tokens as a batch
holds, and whatever begins meanwhile waits for its end.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import numpy as np

from polysilicon.cost.llm.law import Numbers
from polysilicon.cost.llm.local import Rates

Busy = Callable[[float], float]
"""`busy(t)` is how many tool processes compute at second t."""


class EngineSteps(msgspec.Struct, frozen=True, kw_only=True):
    """Steps of one engine; all arrays have one shape (n,).

    Attributes:
        start_s: when each begins.
        new: prompt tokens that no cache holds; at least 1.
        cached: prompt tokens that a cache holds.
        output: tokens generated; at least 1.
    """

    start_s: Numbers
    new: Numbers
    cached: Numbers
    output: Numbers


class Played(msgspec.Struct, frozen=True, kw_only=True):
    """When things happen; arrays of shape (n,).

    Attributes:
        first_token_s: of each step.
        end_s: of each step.
    """

    first_token_s: Numbers
    end_s: Numbers


# Reading a request takes about as long, so that one a little later is in the same iteration.
_TOGETHER_S = 0.002


@dataclass(slots=True)
class _Sequence:
    """A step in a slot: what is left of its prompt and of its answer."""

    step: int
    prompt: float
    context: float
    left: float


def play(
    steps: EngineSteps, rates: Rates, *, slots: int, batch_tokens: int, busy: Busy | None = None
) -> Played:
    """Play steps.

    Args:
        steps: in any order.
        rates: seconds of iterations.
        slots: sequences at once; further steps wait for one.
        batch_tokens: that one iteration takes, at most.
        busy: tool processes over time; none by default.
    """
    first_s, end_s = np.zeros_like(steps.start_s), np.zeros_like(steps.start_s)
    queue = list(np.argsort(steps.start_s, kind="stable")[::-1])
    active: list[_Sequence] = []
    now_s = 0.0
    while queue or active:
        if not active:
            now_s = max(now_s, float(steps.start_s[queue[-1]]))
        while queue and len(active) < slots and steps.start_s[queue[-1]] <= now_s + _TOGETHER_S:
            active.append(_begun(steps, int(queue.pop())))
        now_s += _iterate(active, rates, batch_tokens, busy(now_s) if busy is not None else 0.0)
        for sequence in active:
            if sequence.prompt > 0:
                continue
            if sequence.left == max(float(steps.output[sequence.step]), 1.0) - 1:
                first_s[sequence.step] = now_s
            if sequence.left <= 0:
                end_s[sequence.step] = now_s
        active = [s for s in active if s.prompt > 0 or s.left > 0]
    return Played(first_token_s=first_s, end_s=end_s)


def _begun(steps: EngineSteps, index: int) -> _Sequence:
    """Put a step in a slot."""
    return _Sequence(
        step=index,
        prompt=max(float(steps.new[index]), 1.0),
        context=float(steps.cached[index]),
        left=max(float(steps.output[index]), 1.0),
    )


def _iterate(active: list[_Sequence], rates: Rates, batch_tokens: int, busy: float) -> float:
    """Do one iteration on the sequences; return its seconds."""
    decoding = [s for s in active if s.prompt <= 0]
    decodes = len(decoding)
    context = sum(s.context for s in decoding) / decodes if decodes else 0.0
    room, tokens, pairs = float(batch_tokens - decodes), 0.0, 0.0
    for sequence in decoding:
        sequence.context += 1
        sequence.left -= 1
    for sequence in active:
        taken = min(sequence.prompt, room)
        if taken <= 0:
            continue
        tokens, room = tokens + taken, room - taken
        pairs += taken * (sequence.context + taken / 2)
        sequence.context += taken
        sequence.prompt -= taken
        if sequence.prompt <= 0:
            sequence.left -= 1
    seconds = 0.0
    if tokens:
        seconds = float(rates.prefill(tokens + decodes, pairs + decodes * context))
    if decodes:
        seconds = max(seconds, float(rates.decode(decodes, context)))
    return seconds * float(rates.slower(busy))

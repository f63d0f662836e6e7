"""How fast pools serve as more of their steps run at once: cores that slow each other, engines.

What an engine takes for a sequence is found for a constant number of others in its batch: its
iterations take longer by them, and their prompts take turns with its tokens. With b sequences that
each take T(b) an engine ends b / T(b) in a second, whatever the order of their ends.
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from polysilicon.schedule.types import Floats

_ROUNDS = 14
_MOST_STOLEN = 0.999


class Sequences(msgspec.Struct, frozen=True, kw_only=True):
    """Sequences of an engine, on average.

    Attributes:
        prompt_s: seconds of an iteration that takes its prompt alone.
        varied: mean square of that over the squared mean.
        later: tokens after the first.
        context: tokens in the cache while it decodes.
    """

    prompt_s: float
    varied: float
    later: float
    context: float


class Times(msgspec.Struct, frozen=True, kw_only=True):
    """What sequences take; arrays by how many run on an engine.

    Attributes:
        whole_s: from slot to last token.
        first_s: of that, what the first token takes beside its own prompt.
        token_s: each later token.
    """

    whole_s: Floats
    first_s: Floats
    token_s: Floats


def engine_times(decode: Any, running: Floats, mean: Sequences, slow: float = 1.0) -> Times:
    """Return what sequences take on an engine that has so many.

    A sequence waits for the end of the iteration that it finds, half of one on average, and for
    prompts before its own, which are a queue with one server (Pollaczek and Khinchine); later its
    tokens take turns with the prompts of those that come.

    Args:
        decode: of the pool, by sequences that decode; shape (slots + 1,).
        running: sequences of an engine, from 1; shape (n,).
        mean: of the sequences.
        slow: factor of cores that are busy beside it.
    """
    many = np.arange(len(decode), dtype=np.float64)

    def iteration_s(decoding: Floats) -> Floats:
        base_s = np.interp(decoding, many, decode["base_s"])
        more_s = np.interp(decoding, many, decode["context_s"])
        return np.asarray((base_s + more_s * decoding * mean.context) * slow, np.float64)

    others = (running - 1.0) / running
    prompt_s = mean.prompt_s * slow
    decoding = np.ones_like(running)
    first_s, token_s = np.zeros_like(running), iteration_s(decoding)
    whole_s = prompt_s + mean.later * token_s
    for _ in range(_ROUNDS):
        rate = running / whole_s
        beside_s = iteration_s(decoding * others)
        taken_s = prompt_s + beside_s
        stolen = np.minimum(rate * prompt_s * others, _MOST_STOLEN)
        before = np.minimum(rate * taken_s * others, _MOST_STOLEN)
        queued_s = before / (1.0 - before) * taken_s * mean.varied / 2.0
        # No more prompts can be before it than there are others.
        queued_s = np.minimum(queued_s, (running - 1.0) * taken_s)
        first_s = queued_s + (1.0 - before) * others * beside_s / 2.0 + beside_s
        token_s = iteration_s(np.maximum(decoding, 1.0)) / (1.0 - stolen)
        new_s = first_s + prompt_s + mean.later * token_s
        whole_s = (whole_s + new_s) / 2.0
        decoding = running * mean.later * token_s / whole_s
    return Times(whole_s=whole_s, first_s=first_s, token_s=token_s)


def at_threads(table: Floats, threads: Floats | float, step: float) -> Floats:
    """Return values of a pool's table over threads, between its points linear.

    Args:
        table: shape (points,).
        threads: that run.
        step: threads between two points.
    """
    return np.asarray(np.interp(np.asarray(threads) / step, np.arange(len(table)), table))

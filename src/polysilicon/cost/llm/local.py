"""LLM steps on this machine, by its profile: seconds between and beyond what was measured.

An engine with continuous batching works in iterations. One that computes n tokens of m prompts
takes
    prefill(n) + k·a + (m - 1)·piece
where `prefill` is measured and interpolated, a = Σ nᵢ·(cachedᵢ + nᵢ/2) counts the pairs of tokens
that attend to each other (arXiv 2001.08361, table 1), k is fitted on prompts with a cached part and
piece on prompts that came at once. One that only decodes takes decode(b, c), measured over
sequences b and mean context c. Prompt tokens are taken in before anything is decoded again, so that
the decodes of all other sequences stand still (arXiv 2403.02310, section 3, "generation stalls").
Of steps like each other, b at once, see `polysilicon.cost.llm.loop`.
`polysilicon.cost.llm.iterations` plays given steps iteration by iteration instead.
"""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt

from polysilicon.cost.llm.law import Numbers, Passes, Seconds
from polysilicon.cost.llm.loop import closed_loop
from polysilicon.cost.profile import LlmProfile
from polysilicon.cost.types import BASES
from polysilicon.errors import NoBasisError

# Prompts and contexts up to so much longer than the longest measured are interpolated ones still.
_NEAR = 1.1

# Factors on measured seconds where no trial was done: those of a busy machine.
_NO_TRIAL = (0.7, 1.6)


# Tools have a core for themselves for a moment, and no longer.
_MOST_TAKEN = 0.8


class Rates(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds of iterations, as functions over what was measured.

    Attributes:
        tokens: of prompts, ascending; shape (p,).
        prefill_s: of an iteration with that many prompt tokens, attention left out; shape (p,).
        pair_s: for each pair of tokens that attend to each other in a prompt.
        piece_s: for each further prompt in one iteration.
        sequences: decoded at once, ascending; shape (s,).
        base_s: of a decode iteration at no context, by sequences; shape (s,).
        context_s: more for each token of mean context, by sequences; shape (s,).
        busy: tool processes; shape (k,), from 0.
        stretch: of iterations under them; shape (k,).
        taken: cores that they have; shape (k,), from 0.
    """

    tokens: Numbers
    prefill_s: Numbers
    pair_s: float
    piece_s: float
    sequences: Numbers
    base_s: Numbers
    context_s: Numbers
    busy: Numbers
    stretch: Numbers
    taken: Numbers

    def prefill(self, tokens: npt.ArrayLike, pairs: npt.ArrayLike) -> Numbers:
        """Return seconds of an iteration that takes prompts.

        Args:
            tokens: new tokens of all prompts together.
            pairs: Σ new·(cached + new/2) over the prompts.
        """
        wanted = np.asarray(tokens, dtype=np.float64)
        last = np.diff(self.prefill_s[-2:]) / np.diff(self.tokens[-2:])
        beyond = np.maximum(wanted - self.tokens[-1], 0.0) * float(np.maximum(last, 0.0)[0])
        inside = np.interp(wanted, self.tokens, self.prefill_s)
        return np.asarray(inside + beyond + self.pair_s * np.asarray(pairs), dtype=np.float64)

    def decode(self, sequences: npt.ArrayLike, context: npt.ArrayLike) -> Numbers:
        """Return seconds of an iteration that gives each sequence one token.

        Args:
            sequences: how many; may be a mean.
            context: mean tokens of each so far.
        """
        wanted = np.asarray(sequences, dtype=np.float64)
        base_s = np.interp(wanted, self.sequences, self.base_s)
        more_s = np.interp(wanted, self.sequences, self.context_s)
        return np.asarray(base_s + more_s * np.asarray(context), dtype=np.float64)

    def slower(self, busy: npt.ArrayLike) -> Numbers:
        """Return how many times as long iterations take while tool processes compute.

        Args:
            busy: processes; may be a mean.
        """
        return np.asarray(np.interp(np.asarray(busy, dtype=np.float64), self.busy, self.stretch))

    def beside(self, taken: float) -> float:
        """Return how many times as long iterations take while tools have cores.

        The threads wait for each other at each operation, so that the engine gets on with what is
        left of the core that the tools have, wherever they have more than was measured.

        Args:
            taken: cores; may be a mean.
        """
        most = min(float(self.taken[-1]), _MOST_TAKEN)
        found = float(np.interp(taken, self.taken, self.stretch))
        return found * (1.0 - most) / (1.0 - min(max(taken, most), _MOST_TAKEN))


def rates_of(measured: LlmProfile) -> Rates:
    """Fit the functions to a profile's points.

    Raises:
        NoBasisError: too few points were measured.
    """
    plain = sorted(
        (p.new_tokens, p.seconds.median, p.new_tokens * (p.cached_tokens + p.new_tokens / 2))
        for p in measured.prefill
        if p.fresh
    )
    if len(plain) < 2 or not measured.decode:
        raise NoBasisError(f"too little of {measured.model} was measured here")
    tokens, seconds, pairs = (np.array(column) for column in zip(*plain, strict=True))
    pair_s = _pair_seconds(measured, tokens, seconds)
    # Attention cannot be more than what the whole prompt took beyond its first tokens.
    prefill_s = np.maximum.accumulate(np.maximum(seconds - pair_s * pairs, seconds * 0.25))
    by_count = sorted({p.sequences for p in measured.decode})
    lines = [_line(measured, count) for count in by_count]
    if by_count[0] == 1 < tokens[0]:
        # A prompt of one token, whose others are cached, is a pass like that of a later token.
        tokens = np.concatenate([[1.0], tokens])
        prefill_s = np.concatenate([[min(lines[0][0], prefill_s[0])], prefill_s])
    beside = sorted(measured.stretch, key=_busy)
    stretch = [(0, 1.0), *((s.busy, s.engine) for s in beside)]
    taken = np.maximum.accumulate([0.0, *(s.busy / s.tool for s in beside)])
    alone = Rates(
        tokens=tokens,
        prefill_s=prefill_s,
        pair_s=pair_s,
        piece_s=0.0,
        sequences=np.array(by_count, dtype=np.float64),
        base_s=np.array([base for base, _ in lines]),
        context_s=np.array([more for _, more in lines]),
        busy=np.array([float(busy) for busy, _ in stretch]),
        stretch=np.maximum([much for _, much in stretch], 1.0),
        taken=taken,
    )
    return msgspec.structs.replace(alone, piece_s=_piece_seconds(measured, alone))


def _piece_seconds(measured: LlmProfile, alone: Rates) -> float:
    """Return seconds of each further prompt of an iteration, by prompts that came at once."""
    found = [
        (point.seconds.median - float(alone.prefill(point.new_tokens, point.pairs)))
        / (point.sequences - 1)
        for point in measured.together
        if point.sequences > 1
    ]
    return max(float(np.median(found)), 0.0) if found else 0.0


def _busy(point: object) -> int:
    """Return by what points of contention are ordered."""
    return int(getattr(point, "busy", 0))


def _pair_seconds(measured: LlmProfile, tokens: Numbers, seconds: Numbers) -> float:
    """Return seconds of a pair of tokens, by prompts of equal new and different cached tokens."""
    found = [
        (point.seconds.median - float(np.interp(point.new_tokens, tokens, seconds)))
        / (point.new_tokens * point.cached_tokens)
        for point in measured.prefill
        if not point.fresh
    ]
    return max(float(np.median(found)), 0.0) if found else 0.0


def _line(measured: LlmProfile, sequences: int) -> tuple[float, float]:
    """Return seconds of an iteration at no context, and more for each token of it."""
    points = [p for p in measured.decode if p.sequences == sequences]
    context = np.array([p.context_tokens for p in points])
    seconds = np.array([p.seconds.median for p in points])
    if len(points) < 2:
        return float(seconds[0]), 0.0
    # Relative errors count: seconds spread in proportion to themselves.
    design = np.stack([np.ones_like(context), context], axis=1) / seconds[:, None]
    base, more = np.linalg.lstsq(design, np.ones_like(seconds), rcond=None)[0]
    if more < 0 or base <= 0:
        return float(np.median(seconds)), 0.0
    return float(base), float(more)


class LocalLaw:
    """The law of one model on this machine at one load; see `LlmLaw`.

    Args:
        measured: what the profile tells of the model.
        concurrency: LLM steps at once, this one included; those beyond the slots wait in a queue
            that is no part of service time.
        busy: tool processes that compute meanwhile; may be a mean.
    """

    def __init__(self, measured: LlmProfile, concurrency: float = 1, busy: float = 0.0) -> None:
        self._rates = rates_of(measured)
        self._measured = measured
        self._together = float(min(concurrency, measured.slots))
        self._busy = busy
        self.share = 1.0 / self._together
        self.largest_tokens = float(measured.slot_tokens)
        self.note = (
            f"measured here, {measured.engine} {measured.engine_version}, "
            f"{self._together:.0f} at once"
        )

    def seconds(self, new: Numbers, cached: Numbers, output: Numbers) -> Seconds:
        """Return the seconds of steps; see `LlmLaw.seconds`."""
        rates, slower = self._rates, self._rates.slower(self._busy)
        context = cached + new + output / 2
        passes = Passes(
            prompt_s=rates.prefill(new, new * (cached + new / 2)) * slower,
            decode_s=rates.decode(self._together, context) * slower,
            alone_s=rates.decode(1.0, context) * slower,
            batches=new / self._measured.batch_tokens,
        )
        ttft_s, tpot_s = closed_loop(self._together, passes, output)
        low, high = self._bands()
        return Seconds(
            ttft_s=ttft_s,
            ttft_low_s=ttft_s * low[0],
            ttft_high_s=ttft_s * high[0],
            tpot_s=tpot_s,
            tpot_low_s=tpot_s * low[1],
            tpot_high_s=tpot_s * high[1],
            basis=self._basis(new, cached, output),
            passes=passes,
        )

    def _bands(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """Return factors at the lower ends (first token, later tokens) and at the upper ends."""
        trial = self._measured.trial
        if trial is None:
            return (_NO_TRIAL[0],) * 2, (_NO_TRIAL[1],) * 2
        if self._together == 1.0:
            # Alone a step meets no other's prompt, which is what spreads first tokens.
            low, high = min(trial.service_low, 1.0), max(trial.service_high, 1.0)
            return (low, low), (high, high)
        lows = (min(trial.ttft_low, 1.0), min(trial.tpot_low, 1.0))
        return lows, (max(trial.ttft_high, 1.0), max(trial.tpot_high, 1.0))

    def _basis(self, new: Numbers, cached: Numbers, output: Numbers) -> npt.NDArray[np.int8]:
        """Return the basis: measured within the measured prompts and contexts, else calibrated."""
        longest = max(p.new_tokens for p in self._measured.prefill) * _NEAR
        furthest = max(p.context_tokens for p in self._measured.decode) * _NEAR
        most = max(p.sequences for p in self._measured.decode)
        inside = (new <= longest) & (cached + new + output / 2 <= furthest)
        inside &= (self._together <= most) & (self._busy <= self._rates.busy[-1])
        kinds = np.array([BASES.index("measured"), BASES.index("calibrated")], dtype=np.int8)
        return np.asarray(np.where(inside, kinds[0], kinds[1]), dtype=np.int8)

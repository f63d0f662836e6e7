"""What an estimate is asked for and what it says."""

from __future__ import annotations

from typing import Literal, get_args

import msgspec

Basis = Literal["measured", "calibrated", "roofline"]
BASES: tuple[Basis, ...] = get_args(Basis)
"""From the strongest to the weakest."""


def weakest(first: Basis, second: Basis) -> Basis:
    """Return the weaker of two bases."""
    return max(first, second, key=BASES.index)


class Load(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What else the machine does.

    Attributes:
        concurrency: how many such LLM steps share the machine at once, this one included.
    """

    concurrency: int = 1


class Estimate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a step takes on an offer.

    Attributes:
        offer: name.
        region: where.
        service_s: from the start of the step to its end, without queueing.
        ttft_s: to the first token; None of steps that are not LLM calls.
        tpot_s: for each token after the first; None as above.
        cost_usd: its share of the machine, at the on-demand price.
        energy_j: of the processors, by TDP and share; None where a fact is missing.
        basis: `measured` (this very combination was measured), `calibrated` (a law fitted on
            measurements of this processor or its family) or `roofline` (data sheet facts only).
        low_s: lower end of the band of `service_s`.
        high_s: upper end.
        note: what the numbers rest on, in words.
    """

    offer: str
    region: str
    service_s: float
    ttft_s: float | None = None
    tpot_s: float | None = None
    cost_usd: float
    energy_j: float | None = None
    basis: Basis
    low_s: float
    high_s: float
    note: str = ""


class Timing(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds of a step and its share of the machine, before money and energy.

    Attributes:
        service_s: from start to end.
        ttft_s: to the first token.
        tpot_s: for each later one.
        low_s: lower end of the band of `service_s`.
        high_s: upper end.
        share: part of the machine that the step occupies.
        basis: of the seconds.
        note: in words.
    """

    service_s: float
    ttft_s: float | None = None
    tpot_s: float | None = None
    low_s: float
    high_s: float
    share: float = 1.0
    basis: Basis
    note: str = ""

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


class Serving(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a model is served; blank or None is left to the cost model, which says what it took.

    Attributes:
        engine: `llama.cpp`, `vllm`, `sglang`, `trtllm`, `neuron`, …
        precision: of the weights, a name of the catalog's precisions.
        count: accelerators that one copy of the model takes.
        tp: tensor parallelism.
        pp: pipeline parallelism.
        dp: data parallelism of the attention.
        ep: expert parallelism.
    """

    engine: str = ""
    precision: str = ""
    count: int | None = None
    tp: int | None = None
    pp: int | None = None
    dp: int | None = None
    ep: int | None = None


class Load(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What else the machine does, and how it serves.

    Attributes:
        concurrency: how many such LLM steps share the machine at once, this one included; a mean
            may lie between whole numbers.
        utilisation: vCPUs that other work keeps busy, over all vCPUs; above 1 where more wants to
            run than there is.
        serving: how the model is served.
    """

    concurrency: float = 1
    utilisation: float = 0.0
    serving: Serving = Serving()


class Estimate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a step takes on an offer.

    Attributes:
        offer: name.
        region: where.
        service_s: from the start of the step to its end under the load asked for, its wait for a
            place in memory included.
        ttft_s: to the first token; None of steps that are not LLM calls, as the next five.
        ttft_low_s: lower end of its band.
        ttft_high_s: upper end.
        tpot_s: for each token after the first.
        tpot_low_s: lower end of its band.
        tpot_high_s: upper end.
        cost_usd: its share of the machine, at the on-demand price.
        energy_j: of its share of the machine, an estimate; None where a fact is missing.
        carbon_g: CO₂ equivalent of that by the region's grid; None where it is not known.
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
    ttft_low_s: float | None = None
    ttft_high_s: float | None = None
    tpot_s: float | None = None
    tpot_low_s: float | None = None
    tpot_high_s: float | None = None
    cost_usd: float
    energy_j: float | None = None
    carbon_g: float | None = None
    basis: Basis
    low_s: float
    high_s: float
    note: str = ""

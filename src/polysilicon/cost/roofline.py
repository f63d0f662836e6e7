"""Seconds of an LLM step from data sheet facts: the slower of arithmetic and memory, plus overhead.

Law: prefill of n tokens takes max(FLOPs / (peak·e_c), bytes / (bandwidth·e_m)) + overhead with
FLOPs = 2·P·n + 4·layers·n·context·width; an iteration of decode with b sequences of context c takes
max(2·P·b / (peak·e_c), (weights + b·c·kv) / (bandwidth·e_m)) + overhead. Source: S. Williams and
others, "Roofline", CACM 52(4), 2009, for the law; J. Kaplan et al., arXiv 2001.08361, section 2.1,
for FLOPs; efficiencies and overheads are fitted and lie in `data/constants.csv`.
"""

from __future__ import annotations

from collections.abc import Mapping

from polysilicon.catalog.models import ModelArchitecture
from polysilicon.catalog.offers import Offer
from polysilicon.catalog.processors import Processor
from polysilicon.cost.constants import constants
from polysilicon.cost.measured import Tokens
from polysilicon.cost.types import Timing
from polysilicon.errors import NoBasisError

PRECISION = "bf16"


def roofline_timing(
    tokens: Tokens,
    model: ModelArchitecture,
    offer: Offer,
    concurrency: int,
    bytes_per_weight: float,
) -> Timing:
    """Return seconds of an LLM step on the accelerators of an offer, weights in bf16.

    The model takes the fewest accelerators that hold it (1, 2, 4, … or all); the others are left
    to other work, so the step's share of the machine is theirs, divided by the concurrency.

    Raises:
        NoBasisError: a fact is missing, or the model does not fit.
    """
    chip = offer.processor
    family = family_of(chip)
    fitted = constants().get(family)
    if chip is None or fitted is None:
        what = chip.name if chip is not None else f"the processor of {offer.name}"
        raise NoBasisError(f"no peak rate of {what} is known")
    peak, bandwidth = chip.peak_flops(PRECISION), chip.bandwidth_bytes_per_s()
    if peak is None:
        raise NoBasisError(f"no peak bf16 or fp16 rate of {chip.name} is known")
    if bandwidth is None:
        raise NoBasisError(f"no memory bandwidth of {chip.name} is known")
    weights = model.parameters * bytes_per_weight
    cache = concurrency * (tokens.cached + tokens.new + tokens.output) * model.kv_bytes_per_token()
    chips = chips_needed(offer, weights + cache)
    peak, bandwidth = chips * peak, chips * bandwidth

    ttft_s = prefill_s(tokens, model, peak, bandwidth, bytes_per_weight, fitted)
    tpot_s = decode_s(
        tokens.context, model, concurrency, (peak, bandwidth), bytes_per_weight, fitted
    )
    assert offer.accelerators is not None
    used = "one accelerator" if chips == 1 else f"{chips} accelerators"
    return Timing(
        service_s=ttft_s + tokens.later * tpot_s,
        ttft_s=ttft_s,
        tpot_s=tpot_s,
        low_s=ttft_s * fitted["prefill_low"] + tokens.later * tpot_s * fitted["decode_low"],
        high_s=ttft_s * fitted["prefill_high"] + tokens.later * tpot_s * fitted["decode_high"],
        share=chips / offer.accelerators / concurrency,
        basis="roofline",
        note=f"{used} of {offer.accelerators}, {PRECISION}, {concurrency} at a time",
    )


def family_of(chip: Processor | None) -> str:
    """Return the family whose constants hold for a processor; blank where there is none."""
    if chip is None or chip.kind == "cpu":
        return ""
    if chip.kind == "gpu":
        return "gpu"
    isa = (chip.isa or "").casefold()
    return "neuron" if isa.startswith("neuron") else "tpu" if isa == "tensorcore" else ""


def chips_needed(offer: Offer, needed_bytes: float) -> int:
    """Return how many accelerators of an offer hold some bytes: 1, 2, 4, … or all.

    Raises:
        NoBasisError: number or memory of the accelerators is not known, or all do not suffice.
    """
    chip = offer.processor
    assert chip is not None
    if offer.accelerators is None:
        raise NoBasisError(f"how much of {chip.name} it has is not known")
    if chip.memory_gb is None:
        raise NoBasisError(f"the memory of {chip.name} is not known")
    usable = chip.memory_gb * 1e9 * constants()["memory"]["usable_share"]
    chips = 1
    while chips < offer.accelerators and chips * usable < needed_bytes:
        chips = min(chips * 2, offer.accelerators)
    if chips * usable < needed_bytes:
        has = offer.accelerators * chip.memory_gb
        need = f"{needed_bytes / 1e9:.0f} GB of weights and cache"
        raise NoBasisError(f"it does not fit: {need} on {has:g} GB of {chip.name}")
    return chips


def prefill_s(
    tokens: Tokens,
    model: ModelArchitecture,
    peak_flops: float,
    bandwidth_bytes_per_s: float,
    bytes_per_weight: float,
    fitted: Mapping[str, float],
) -> float:
    """Return seconds to the first token."""
    new = tokens.new
    # Each new token attends to the cached prefix and, on average, to half of the new ones.
    context = tokens.cached + new / 2
    attention = 4.0 * model.layers * new * context * model.heads * model.head_dim
    flops = 2.0 * model.active_parameters * new + attention
    read = weight_bytes(model, new, bytes_per_weight)
    work_s = max(
        flops / (peak_flops * fitted["compute_efficiency"]),
        read / (bandwidth_bytes_per_s * fitted["bandwidth_efficiency"]),
    )
    return work_s + model.layers * fitted["layer_overhead_s"] + fitted["request_overhead_s"]


def decode_s(
    context: float,
    model: ModelArchitecture,
    sequences: int,
    rates: tuple[float, float],
    bytes_per_weight: float,
    fitted: Mapping[str, float],
) -> float:
    """Return seconds of one iteration that gives each of some sequences a token.

    Args:
        context: mean tokens of context of a sequence.
        model: its shapes.
        sequences: how many share the iteration.
        rates: peak operations and bytes a second.
        bytes_per_weight: of the precision.
        fitted: constants of the family.
    """
    peak_flops, bandwidth_bytes_per_s = rates
    attention = 4.0 * model.layers * context * model.heads * model.head_dim
    flops = sequences * (2.0 * model.active_parameters + attention)
    read = weight_bytes(model, sequences, bytes_per_weight)
    read += sequences * context * model.kv_bytes_per_token()
    work_s = max(
        flops / (peak_flops * fitted["compute_efficiency"]),
        read / (bandwidth_bytes_per_s * fitted["bandwidth_efficiency"]),
    )
    return work_s + model.layers * fitted["layer_overhead_s"]


def weight_bytes(model: ModelArchitecture, tokens: int, bytes_per_weight: float) -> float:
    """Return bytes of the weights that some tokens touch together.

    Of a mixture, each token picks k of E experts; taken as independent picks, t tokens touch
    E·(1 - (1 - k/E)^t) of them. The input embedding is looked up, not read, unless it is also the
    output matrix.
    """
    parameters = float(model.active_parameters)
    if model.experts is not None and model.experts_per_token is not None:
        picked = model.experts_per_token / model.experts
        expert = 3.0 * model.hidden * model.feed_forward * model.layers
        touched = model.experts * (1.0 - (1.0 - picked) ** tokens)
        parameters += expert * (touched - model.experts_per_token)
    if not model.tied_embeddings:
        parameters -= model.vocabulary * model.hidden
    return parameters * bytes_per_weight

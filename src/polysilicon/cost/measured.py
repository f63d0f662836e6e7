"""Seconds of an LLM step from measured rates: this model, or one of the same tensor shapes."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from polysilicon.catalog.catalog import Catalog
from polysilicon.catalog.models import ModelArchitecture
from polysilicon.catalog.offers import Offer
from polysilicon.catalog.rates import LlmRate
from polysilicon.cost.constants import constants
from polysilicon.cost.types import Basis, Timing

# Prompt and context sizes up to which the measured ones stand for others.
NEAR_TOKENS = 1024
FAR_TOKENS = 2 * NEAR_TOKENS


class Tokens(msgspec.Struct, frozen=True, kw_only=True):
    """What an LLM step computes.

    Attributes:
        new: prompt tokens that no cache holds; at least 1.
        cached: prompt tokens that a cache holds.
        output: tokens generated.
    """

    new: int
    cached: int
    output: int

    @property
    def later(self) -> int:
        """Output tokens after the first; that one comes with the prompt."""
        return max(self.output - 1, 0)

    @property
    def context(self) -> float:
        """Mean context while tokens are generated."""
        return self.cached + self.new + self.output / 2


def measured_timing(
    tokens: Tokens, model: ModelArchitecture, offer: Offer, catalog: Catalog
) -> Timing | None:
    """Return seconds by rates measured on this instance type with one request at a time.

    Returns:
        None where nothing fits: not measured, or prompts far from those that were.
    """
    for rate, measured in _rates(model, offer, catalog):
        timing = (
            _of_llamacpp(tokens, measured, rate, catalog)
            if rate.engine == "llama.cpp"
            else _of_vllm(tokens, rate, offer)
        )
        if timing is not None:
            note = f"{rate.engine}, {rate.precision}, one request at a time, {rate.date}"
            if measured.name != model.name:
                note = f"{measured.name} (same tensor shapes), {note}"
            extra = f"; {timing.note}" if timing.note else ""
            return msgspec.structs.replace(timing, note=note + extra)
    return None


def _rates(
    model: ModelArchitecture, offer: Offer, catalog: Catalog
) -> Iterator[tuple[LlmRate, ModelArchitecture]]:
    """Yield the rates that fit, with their model: this very model first, then the usual engine."""
    usual = "llama.cpp" if offer.kind == "cpu" else "vllm"
    found = [
        (rate, catalog.models[rate.model])
        for rate in catalog.rates.get(offer.name, ())
        if rate.model in catalog.models
    ]
    fits = [(rate, m) for rate, m in found if m.name == model.name or m.same_shapes(model)]
    yield from sorted(fits, key=lambda f: (f[0].engine != usual, f[1].name != model.name))


def _of_llamacpp(
    tokens: Tokens, model: ModelArchitecture, rate: LlmRate, catalog: Catalog
) -> Timing | None:
    """Return seconds by prefill and decode rates of llama.cpp.

    Seconds of a prompt token grow linearly with the prompt (attention), seconds of an output token
    with the bytes read (weights and cache).
    """
    at_128, at_512 = rate.decode_128_tokens_per_s, rate.decode_512_tokens_per_s
    if rate.prefill_512_tokens_per_s is None or (at_128 is None and at_512 is None):
        return None
    fitted = constants()["llama.cpp"]
    ttft_s, high_s, near = _prefill(tokens.new, rate)

    # The benchmark generates after no prompt, so its mean context is half of its output.
    decodes = [(c, r) for c, r in ((64.0, at_128), (256.0, at_512)) if r is not None]
    context, decode = min(decodes, key=lambda d: abs(d[0] - tokens.context))
    weights = model.parameters * catalog.precisions[rate.precision]
    kv = model.kv_bytes_per_token()
    tpot_s = (weights + kv * tokens.context) / (weights + kv * context) / decode
    basis: Basis = "measured" if near and tokens.context <= NEAR_TOKENS else "calibrated"
    return Timing(
        service_s=ttft_s + tokens.later * tpot_s,
        ttft_s=ttft_s,
        tpot_s=tpot_s,
        low_s=ttft_s * fitted["prefill_low"] + tokens.later * tpot_s * fitted["decode_low"],
        high_s=high_s * fitted["prefill_high"] + tokens.later * tpot_s * fitted["decode_high"],
        basis=basis,
        note="" if basis == "measured" else "longer prompt or context than measured",
    )


def _prefill(new: int, rate: LlmRate) -> tuple[float, float, bool]:
    """Return seconds of a prompt, their upper end, and whether such a prompt was measured."""
    assert rate.prefill_512_tokens_per_s is not None
    fitted = constants()["llama.cpp"]
    token_s = 1 / rate.prefill_512_tokens_per_s
    beyond = max(new - 512, 0) / (4096 - 512)
    if rate.prefill_4096_tokens_per_s is not None:
        growth = high = 1 / rate.prefill_4096_tokens_per_s / token_s - 1
        growth = max(growth, 0.0)
        high = max(high, 0.0)
    else:
        growth, high = fitted["prefill_growth"] - 1, fitted["prefill_growth_high"] - 1
    near = new <= NEAR_TOKENS or (rate.prefill_4096_tokens_per_s is not None and new <= 4096)
    return new * token_s * (1 + growth * beyond), new * token_s * (1 + high * beyond), near


def _of_vllm(tokens: Tokens, rate: LlmRate, offer: Offer) -> Timing | None:
    """Return seconds by two output rates of vLLM, which hold the first token's time too.

    With t₁ = 128/r₁ and t₂ = 256/r₂: seconds of an output token are (t₂ - t₁)/128, and what is left
    of t₁ is the first token's. That neglects 768 prompt tokens, which accelerators do in no time
    and CPUs do not, so it is for accelerators only, and for prompts of about these lengths.
    """
    first, second = rate.output_256_128_tokens_per_s, rate.output_1024_256_tokens_per_s
    if offer.kind == "cpu" or first is None or second is None or tokens.new > FAR_TOKENS:
        return None
    fitted = constants()["vllm"]
    t1_s, t2_s = 128 / first, 256 / second
    tpot_s = (t2_s - t1_s) / 128
    ttft_s = t1_s - 127 * tpot_s
    if tpot_s <= 0 or ttft_s < tpot_s:
        tpot_s = ttft_s = t1_s / 128
    return Timing(
        service_s=ttft_s + tokens.later * tpot_s,
        ttft_s=ttft_s,
        tpot_s=tpot_s,
        low_s=ttft_s * fitted["prefill_low"] + tokens.later * tpot_s * fitted["decode_low"],
        high_s=ttft_s * fitted["prefill_high"] + tokens.later * tpot_s * fitted["decode_high"],
        basis="measured",
        note="first token split from output rates",
    )

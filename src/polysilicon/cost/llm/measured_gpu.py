"""LLM steps on accelerators where this very model was measured there, one request at a time."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import numpy as np

from polysilicon.catalog.catalog import Catalog
from polysilicon.catalog.models import ModelArchitecture
from polysilicon.catalog.offers import Offer
from polysilicon.catalog.rates import LlmRate
from polysilicon.cost.constants import constants
from polysilicon.cost.llm.law import LlmLaw, Numbers, Passes, Seconds
from polysilicon.cost.llm.loop import BATCH_TOKENS, cycle
from polysilicon.cost.types import BASES, Serving
from polysilicon.errors import NoBasisError

# Prompts and contexts up to which the measured ones stand for others.
NEAR_TOKENS = 1024.0
FAR_TOKENS = 2048.0
LONG_TOKENS = 4096.0


class MeasuredLaw(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds of steps by rates of this model on this offer; see `LlmLaw`.

    Attributes:
        share: of the machine.
        note: what the numbers rest on.
        largest_tokens: prompt and output that were near what was measured.
        first_s: seconds to the first token that no prompt token adds to.
        prompt_s: seconds of a prompt token at 512 tokens; 0 where they cannot be told apart.
        growth: seconds of a prompt token at 4,096 tokens over those at 512, less 1.
        growth_high: the same at the upper end of the band.
        output_s: seconds of an output token.
        context: mean context at which `output_s` was measured.
        weight_bytes: read for each output token.
        kv_bytes: read for each token of context.
        bands: factors of the band: first token low and high, later tokens low and high.
        long_prompts: prompts of 4,096 tokens were measured too.
    """

    share: float = 1.0
    note: str
    largest_tokens: float
    first_s: float = 0.0
    prompt_s: float = 0.0
    growth: float = 0.0
    growth_high: float = 0.0
    output_s: float
    context: float
    weight_bytes: float
    kv_bytes: float
    bands: tuple[float, float, float, float]
    long_prompts: bool = False

    def seconds(self, new: Numbers, cached: Numbers, output: Numbers) -> Seconds:
        """Return the seconds of steps; see `LlmLaw`."""
        beyond = np.maximum(new - 512.0, 0.0) / (LONG_TOKENS - 512.0)
        ttft_s = self.first_s + new * self.prompt_s * (1.0 + self.growth * beyond)
        ttft_high_s = self.first_s + new * self.prompt_s * (1.0 + self.growth_high * beyond)
        context = cached + new + output / 2.0
        read = self.weight_bytes + self.kv_bytes * context
        tpot_s = self.output_s * read / (self.weight_bytes + self.kv_bytes * self.context)
        prompts = LONG_TOKENS if self.long_prompts else NEAR_TOKENS
        near = (new <= prompts) & (context <= NEAR_TOKENS)
        if self.first_s:
            near = context <= FAR_TOKENS
        low, high, later_low, later_high = self.bands
        return Seconds(
            ttft_s=ttft_s,
            ttft_low_s=ttft_s * low,
            ttft_high_s=ttft_high_s * high,
            tpot_s=tpot_s,
            tpot_low_s=tpot_s * later_low,
            tpot_high_s=tpot_s * later_high,
            basis=np.where(near, BASES.index("measured"), BASES.index("calibrated")).astype(
                np.int8
            ),
            passes=Passes(
                prompt_s=ttft_s, decode_s=tpot_s, alone_s=tpot_s, batches=new / BATCH_TOKENS
            ),
        )


class PairedLaw:
    """Later tokens as measured on the offer, the first one by the law of its chip.

    Two output rates tell the time of the first token only as what they leave over, which is noise.

    Args:
        measured: rates of the offer.
        chip: the law of its accelerators.
    """

    def __init__(self, measured: MeasuredLaw, chip: LlmLaw) -> None:
        self._measured, self._chip = measured, chip
        self.share = measured.share
        self.note = f"{measured.note}; first token by the law of the chip"
        self.largest_tokens = min(measured.largest_tokens, chip.largest_tokens)

    def seconds(self, new: Numbers, cached: Numbers, output: Numbers) -> Seconds:
        """Return the seconds of steps; see `LlmLaw`."""
        first = self._chip.seconds(new, cached, output)
        later = self._measured.seconds(new, cached, output)
        passes = msgspec.structs.replace(later.passes, prompt_s=first.passes.prompt_s)
        return msgspec.structs.replace(
            later,
            machine_s=cycle(1.0, passes, output)[0] * self.share,
            passes=passes,
            ttft_s=first.ttft_s,
            ttft_low_s=first.ttft_low_s,
            ttft_high_s=first.ttft_high_s,
            basis=np.maximum(first.basis, later.basis),
        )


def measured_gpu_law(
    model: ModelArchitecture, offer: Offer, serving: Serving, concurrency: float, catalog: Catalog
) -> MeasuredLaw:
    """Return the law of a model that was measured on this accelerator offer.

    Args:
        model: which; one of the same tensor shapes stands for it.
        offer: where.
        serving: engine and precision; where blank, those measured, vLLM first.
        concurrency: steps at once; one was measured.
        catalog: rates, models and precisions.

    Raises:
        NoBasisError: it was not measured there.
    """
    if concurrency != 1:
        raise NoBasisError("on this offer it was measured with one request at a time only")
    if serving.count not in (None, offer.accelerators):
        raise NoBasisError("on this offer it was measured with all accelerators only")
    for rate, measured in _rates(model, offer, serving, catalog):
        make = _of_llamacpp if rate.engine == "llama.cpp" else _of_vllm
        law = make(measured, rate, catalog)
        if law is not None:
            note = f"{rate.engine}, {rate.precision}, one request at a time, {rate.date}"
            if measured.name != model.name:
                note = f"{measured.name} (same tensor shapes), {note}"
            extra = f"; {law.note}" if law.note else ""
            return msgspec.structs.replace(law, note=note + extra)
    raise NoBasisError("it was not measured on this offer")


def _rates(
    model: ModelArchitecture, offer: Offer, serving: Serving, catalog: Catalog
) -> Iterator[tuple[LlmRate, ModelArchitecture]]:
    """Yield the rates that fit, with their model: vLLM first, then this very model."""
    found = [
        (rate, catalog.models[rate.model])
        for rate in catalog.rates.get(offer.name, ())
        if rate.device == "accelerator"
        and rate.model in catalog.models
        and serving.engine in ("", rate.engine)
        and serving.precision in ("", rate.precision)
    ]
    fits = [(rate, m) for rate, m in found if m.name == model.name or m.same_shapes(model)]
    yield from sorted(fits, key=lambda f: (f[0].engine != "vllm", f[1].name != model.name))


def _of_llamacpp(model: ModelArchitecture, rate: LlmRate, catalog: Catalog) -> MeasuredLaw | None:
    """Return the law by prefill and decode rates of llama.cpp.

    Seconds of a prompt token grow linearly with the prompt (attention), seconds of an output token
    with the bytes read (weights and cache).
    """
    at_128, at_512 = rate.decode_128_tokens_per_s, rate.decode_512_tokens_per_s
    if rate.prefill_512_tokens_per_s is None or (at_128 is None and at_512 is None):
        return None
    fitted = constants()["llama.cpp"]
    growth, high = fitted["prefill_growth"] - 1.0, fitted["prefill_growth_high"] - 1.0
    if rate.prefill_4096_tokens_per_s is not None:
        stretch = rate.prefill_512_tokens_per_s / rate.prefill_4096_tokens_per_s
        growth = high = max(stretch - 1.0, 0.0)
    # The benchmark generates after no prompt, so its mean context is half of its output.
    context, decode = (64.0, at_128) if at_512 is None else (256.0, at_512)
    assert decode is not None
    return MeasuredLaw(
        note="",
        largest_tokens=2 * LONG_TOKENS,
        prompt_s=1.0 / rate.prefill_512_tokens_per_s,
        growth=growth,
        growth_high=high,
        output_s=1.0 / decode,
        context=context,
        weight_bytes=model.active_parameters * catalog.precisions[rate.precision],
        kv_bytes=model.kv_bytes_per_token(),
        bands=_bands("llama.cpp"),
        long_prompts=rate.prefill_4096_tokens_per_s is not None,
    )


def _of_vllm(model: ModelArchitecture, rate: LlmRate, catalog: Catalog) -> MeasuredLaw | None:
    """Return the law by two output rates of vLLM, which hold the first token's time too.

    With t₁ = 128/r₁ and t₂ = 256/r₂: seconds of an output token are (t₂ - t₁)/128, and what is left
    of t₁ is the first token's. That neglects 768 prompt tokens, which accelerators do in no time.
    """
    first, second = rate.output_256_128_tokens_per_s, rate.output_1024_256_tokens_per_s
    if first is None or second is None:
        return None
    t1_s, t2_s = 128.0 / first, 256.0 / second
    output_s = (t2_s - t1_s) / 128.0
    first_s = t1_s - 127.0 * output_s
    if output_s <= 0 or first_s < output_s:
        output_s = first_s = t1_s / 128.0
    return MeasuredLaw(
        note="first token split from output rates",
        largest_tokens=FAR_TOKENS,
        first_s=first_s,
        output_s=output_s,
        context=NEAR_TOKENS,
        weight_bytes=model.active_parameters * catalog.precisions[rate.precision],
        kv_bytes=0.0,
        bands=_bands("vllm"),
    )


def _bands(engine: str) -> tuple[float, float, float, float]:
    """Return the factors of an engine's bands."""
    fitted = constants()[engine]
    names = ("prefill_low", "prefill_high", "decode_low", "decode_high")
    low, high, later_low, later_high = (fitted[name] for name in names)
    return low, high, later_low, later_high

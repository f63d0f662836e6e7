"""LLM steps on server CPUs: llama.cpp with 4-bit and vLLM with 16-bit weights.

Rates come from what was measured on this very type, else from a law in the logarithms of
parameters and cores and from residuals of servers and models near it. Prefill is compute, whose
seconds a token grow linearly with the context; decode reads weights and cache (science: R. Pope et
al., arXiv 2211.05102, section 2). With b requests at once all take b^a times as long, 0 < a ≤ 1.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from polysilicon.catalog.catalog import Catalog
from polysilicon.catalog.models import ModelArchitecture
from polysilicon.catalog.offers import Offer
from polysilicon.cost.llm.cpu_rates import CpuFit, shipped
from polysilicon.cost.llm.cpu_seconds import ROOFLINE, CpuLaw
from polysilicon.cost.llm.cpu_site import LLAMACPP, MEASURED_PRECISION, VLLM, Site
from polysilicon.cost.llm.law import LlmLaw
from polysilicon.cost.types import Serving
from polysilicon.errors import NoBasisError

USUAL_TOKENS = (512.0, 128.0)


def cpu_law(
    model: ModelArchitecture,
    offer: Offer,
    serving: Serving,
    concurrency: float,
    catalog: Catalog,
    fitted: CpuFit | None = None,
    usual: tuple[float, float] = USUAL_TOKENS,
) -> CpuLaw:
    """Return the law of a model on a CPU offer.

    Args:
        model: which.
        offer: where.
        serving: engine and precision; where blank, the faster engine is taken, one that was
            measured on this chip or its family before others.
        concurrency: steps at once, this one included.
        catalog: models and precisions.
        fitted: another fit than the one that comes with Polysilicon.
        usual: prompt and output tokens of a usual step, to choose the engine by.

    Raises:
        NoBasisError: nothing like it was measured, or it does not fit, or ranks were asked for.
    """
    if any(n is not None for n in (serving.count, serving.tp, serving.pp, serving.dp, serving.ep)):
        raise NoBasisError("count and parallelism are of accelerators, not of server CPUs")
    if offer.kind != "cpu":
        raise NoBasisError("this law is for offers that are rented for their CPUs")
    fit = shipped() if fitted is None else fitted
    server = fit.data.words.servers.of_offer(offer)
    if server is None:
        raise NoBasisError("no LLM was measured on a processor like it")
    found: list[CpuLaw] = []
    refused: NoBasisError | None = None
    for engine, precision in _engines(serving, catalog.precisions):
        try:
            site = Site(fit, server, model, engine, precision, catalog)
            found.append(site.law(offer, concurrency))
        except NoBasisError as error:
            refused = refused or error
    if not found:
        assert refused is not None
        raise refused
    # With many requests neither engine was measured on every family, so speed alone decides.
    alone = concurrency == 1
    return min(found, key=lambda law: (alone and law.basis == ROOFLINE, usual_s(law, usual)))


def usual_s(law: LlmLaw, usual: tuple[float, float]) -> float:
    """Return the seconds of a usual step, to choose an engine by."""
    one = np.ones(1)
    prompt, output = usual
    says = law.seconds(prompt * one, 0 * one, output * one)
    return float(says.ttft_s[0] + max(output - 1.0, 0.0) * says.tpot_s[0])


def _engines(serving: Serving, precisions: Mapping[str, float]) -> list[tuple[str, str]]:
    """Return engines and precisions to try.

    Raises:
        NoBasisError: none was measured on CPUs.
    """
    if serving.engine not in ("", LLAMACPP, VLLM):
        raise NoBasisError(f"{serving.engine} was not measured on CPUs")
    found = []
    for engine, usual in MEASURED_PRECISION.items():
        if serving.engine not in ("", engine):
            continue
        asked = serving.precision or usual
        width = precisions.get(asked, 0.0)
        four_bit = 0.5 <= width <= 0.7 and asked.startswith("q4")
        if (engine == LLAMACPP and four_bit) or (engine == VLLM and width == 2.0):
            found.append((engine, asked))
    if not found:
        raise NoBasisError("on CPUs llama.cpp was measured with 4-bit, vllm with 16-bit weights")
    return found

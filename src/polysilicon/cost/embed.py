"""Seconds of an embedding step: one pass of an encoder over the step's tokens.

Law on accelerators, for t tokens in sequences of n, with L layers of width h and P parameters in
matrices: FLOPs = t·(2·P + 4·L·n·h), and
    seconds = serving · (FLOPs / (peak·e) + (2·P + 2·t·L·h·a) / bandwidth + L·o)
e, a (activations moved) and o (overhead of a layer) are fitted, `serving` is what a server adds to
bare kernels. On CPUs, in fp32: FLOPs over a rate in proportion to what the cores read from their
first-level caches (`cores`). A step takes one accelerator, or up to eight vCPUs: encoders serve
sequences one by one, so the rest of the machine is left to other steps.

Source: FLOPs by J. Devlin et al., arXiv 1810.04805, section 3, and J. Kaplan et al., arXiv
2001.08361, section 2.1; constants in `data/cc_by_sa/embed.csv`, runs in `embed_runs.csv` beside it,
held-out scores in docs/cost_tools.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import msgspec
import numpy as np
import numpy.typing as npt

from polysilicon.catalog.encoders import Encoder
from polysilicon.catalog.offers import Offer
from polysilicon.catalog.processors import Processor
from polysilicon.catalog.tables import data_folder
from polysilicon.cost.constants import read_constants
from polysilicon.cost.cores import cores_of
from polysilicon.cost.types import Basis
from polysilicon.errors import InputError, NoBasisError

Values = npt.NDArray[np.float64] | float
Numbers = npt.NDArray[np.float64]

PRECISION = "fp16"
BYTES = 2.0


class ModelSeconds(msgspec.Struct, frozen=True, kw_only=True):
    """What steps of one model take on one offer; arrays have the steps' shape.

    Attributes:
        service_s: from start to end.
        low_s: lower end of its band.
        high_s: upper end.
        share: part of the whole machine that a step occupies while it runs.
        accelerators: of these, how many accelerators; 0 on CPUs.
        basis: of the seconds.
        note: what they rest on, in words.
    """

    service_s: Numbers
    low_s: Numbers
    high_s: Numbers
    share: float
    accelerators: int
    basis: Basis
    note: str


@lru_cache(maxsize=1)
def embed_constants() -> Mapping[str, Mapping[str, float]]:
    """Return the fitted constants of embedding steps; they are read once."""
    return read_constants(data_folder("polysilicon.cost") / "cc_by_sa" / "embed.csv")


def embed_seconds(
    tokens: Values,
    encoder: Encoder,
    offer: Offer,
    sequence_tokens: float | None = None,
) -> ModelSeconds:
    """Return what it takes to embed tokens, elementwise.

    Args:
        tokens: of the whole step, greater than 0.
        encoder: shapes.
        offer: where.
        sequence_tokens: of one sequence; by default a step is one sequence, or as many of the
            encoder's longest as it takes.

    Raises:
        InputError: no tokens, or longer sequences than the encoder has.
        NoBasisError: a fact of the offer is missing, or the encoder does not fit.
    """
    amount = np.asarray(tokens, dtype=np.float64)
    if np.any(amount <= 0):
        raise InputError("an embedding step has no tokens", mend="give prompt_tokens")
    if sequence_tokens is not None and not 0 < sequence_tokens <= encoder.max_tokens:
        mend = f"{encoder.name} takes 1 to {encoder.max_tokens}"
        raise InputError(f"sequences of {sequence_tokens:g} tokens", mend=mend)
    longest = encoder.max_tokens if sequence_tokens is None else sequence_tokens
    length = np.minimum(amount, longest)
    flops = amount * encoder_flops(encoder, length)
    if offer.kind == "cpu":
        return _on_cpu(flops, offer)
    return _on_accelerator(amount, flops, encoder, offer)


def encoder_flops(encoder: Encoder, length: Values) -> Numbers:
    """Return operations for one token of a sequence of `length` tokens."""
    attention = 4.0 * encoder.layers * encoder.hidden * np.asarray(length, dtype=np.float64)
    return np.asarray(2.0 * encoder.matrix_parameters() + attention)


def bare_seconds(
    amount: Numbers, flops: Numbers, encoder: Encoder, peak: float, bandwidth: float
) -> Numbers:
    """Return seconds of the kernels alone, without a server.

    Args:
        amount: tokens.
        flops: of all of them.
        encoder: shapes.
        peak: operations a second.
        bandwidth: bytes a second.
    """
    fitted = embed_constants()["accelerator"]
    moved = amount * encoder.layers * encoder.hidden * BYTES * fitted["traffic"]
    read = encoder.matrix_parameters() * BYTES
    work_s = flops / (peak * fitted["compute_efficiency"]) + (read + moved) / bandwidth
    return np.asarray(work_s + encoder.layers * fitted["layer_overhead_s"])


def _on_accelerator(
    amount: Numbers, flops: Numbers, encoder: Encoder, offer: Offer
) -> ModelSeconds:
    """Return seconds on one accelerator of an offer."""
    chip, number = accelerators_of(offer)
    peak, bandwidth = chip.peak_flops(PRECISION), chip.bandwidth_bytes_per_s()
    if peak is None or bandwidth is None:
        raise NoBasisError(f"peak rate or memory bandwidth of {chip.name} is not known")
    if chip.memory_gb is not None and encoder.parameters * BYTES > chip.memory_gb * 1e9:
        raise NoBasisError(f"{encoder.name} does not fit into one accelerator's memory")
    fitted = embed_constants()["accelerator"]
    service_s = fitted["serving"] * bare_seconds(amount, flops, encoder, peak, bandwidth)
    return ModelSeconds(
        service_s=service_s,
        low_s=service_s * fitted["low"],
        high_s=service_s * fitted["high"],
        share=1.0 / number,
        accelerators=1,
        basis="calibrated" if chip.kind == "gpu" else "roofline",
        note=f"one of {number} {chip.name}, {PRECISION}",
    )


def accelerators_of(offer: Offer) -> tuple[Processor, int]:
    """Return an offer's accelerator and how many it has.

    Raises:
        NoBasisError: one of them is not known.
    """
    if offer.processor is None:
        raise NoBasisError(f"the processor of {offer.name} is not known")
    if offer.accelerators is None:
        raise NoBasisError(f"how much of {offer.processor.name} {offer.name} has is not known")
    return offer.processor, offer.accelerators


def _on_cpu(flops: Numbers, offer: Offer) -> ModelSeconds:
    """Return seconds on some vCPUs of an offer."""
    cores, fitted = cores_of(offer), embed_constants()["cpu"]
    rate = fitted["flop_per_l1_byte"] * cores.l1_bytes_per_s * cores.used
    service_s = np.asarray(flops / rate + fitted["request_overhead_s"])
    return ModelSeconds(
        service_s=service_s,
        low_s=service_s * fitted["low"],
        high_s=service_s * fitted["high"],
        share=cores.used / cores.vcpus,
        accelerators=0,
        basis="roofline",
        note=f"{cores.used} vCPUs, fp32, by the rate of their first-level caches",
    )

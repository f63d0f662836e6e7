"""Seconds of a training step: one pass over some tokens, forward, backward and optimizer.

Law, for t tokens in sequences of n and a model of P active parameters, L layers, width h; k chips:
    FLOPs = t·m·P and t·m·L·h·n for attention, which looks at half of the sequence on average
    seconds = (t·m·P·(1 + h0/h) + t·m·L·h·n / a) / (k·peak·e)
m is 6 (2 forward, 4 backward), 8 where activations are computed again in the backward pass, 4 and 6
where only low-rank adapters are trained, for then the weights need no gradients. e is fitted per
chip, h0 (narrow models waste matrix units) and a (attention is less efficient) for all of them.

On CPUs, with c vCPUs, in bfloat16 where the cores have units for it and in float32 elsewhere:
    seconds = t·((m·P + m·L·h·n / a) / (c·rate) + L·h·o / c + L·s)
rate is in proportion to what a vCPU reads from its first-level cache (`cores`), o stands for all
that is no matrix, and s for what is done by one thread while the others wait.

What fits decides how many chips a step takes: weights, gradients and the optimizer's states are
spread over them, activations are of one sequence each. A step records the tokens that it trained on
as `prompt_tokens`.

Source: FLOPs by J. Kaplan et al., arXiv 2001.08361, section 2.1; memory by S. Rajbhandari et al.,
arXiv 1910.02054, and V. Korthikanti et al., arXiv 2205.05198; constants in
`data/cc_by_sa/train.csv`, runs in `train_runs.csv` beside it and, of CPUs, in
`data/train_cpu_runs.csv`; scores: docs/cost_tools.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt

from polysilicon.catalog.machine import NO_BF16
from polysilicon.catalog.models import ModelArchitecture
from polysilicon.catalog.offers import Offer
from polysilicon.catalog.processors import Processor
from polysilicon.catalog.tables import data_folder
from polysilicon.cost.constants import read_constants
from polysilicon.cost.cores import Cores, cores_of
from polysilicon.cost.embed import ModelSeconds, accelerators_of
from polysilicon.cost.profile import TrainSpeed
from polysilicon.cost.types import Basis
from polysilicon.errors import InputError, NoBasisError

Values = npt.NDArray[np.float64] | float
Numbers = npt.NDArray[np.float64]
Method = Literal["full", "lora"]

PRECISION = "bf16"
SEQUENCE_TOKENS = 2048
MEASURED_FAMILY = "Genoa"
"""Of CPUs, the family on which training was measured for the law."""


class Efficiency(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much of its peak a chip reaches in training.

    Attributes:
        share: of the peak, for wide matrices.
        low: band of the seconds, lower end over the best estimate.
        high: upper end.
        basis: of it.
    """

    share: float
    low: float
    high: float
    basis: Basis


@lru_cache(maxsize=1)
def train_constants() -> Mapping[str, Mapping[str, float]]:
    """Return the fitted constants of training steps; they are read once."""
    return read_constants(data_folder("polysilicon.cost") / "cc_by_sa" / "train.csv")


def method_of(name: str) -> Method:
    """Return how a step trains: by its name, adapters where that begins with `lora`."""
    return "lora" if name.startswith("lora") else "full"


def train_seconds(
    tokens: Values,
    model: ModelArchitecture,
    offer: Offer,
    *,
    method: Method = "full",
    sequence_tokens: float = SEQUENCE_TOKENS,
) -> ModelSeconds:
    """Return what it takes to train a model on tokens, elementwise.

    Args:
        tokens: trained on, greater than 0.
        model: shapes.
        offer: where.
        method: `full` trains all parameters with AdamW, `lora` low-rank adapters.
        sequence_tokens: of one sequence.

    Raises:
        InputError: no tokens, or no sequence.
        NoBasisError: a fact of the offer is missing, or the model does not fit.
    """
    amount = np.asarray(tokens, dtype=np.float64)
    if np.any(amount <= 0) or sequence_tokens <= 0:
        raise InputError("a training step has no tokens", mend="give prompt_tokens")
    if offer.kind == "cpu":
        return _on_cpu(amount, model, offer, method, sequence_tokens)
    chip, number = accelerators_of(offer)
    peak, found = chip.peak_flops(PRECISION), efficiency(chip)
    if peak is None:
        raise NoBasisError(f"no peak bf16 or fp16 rate of {chip.name} is known")
    chips, again = placement(model, chip, number, method, sequence_tokens)
    work = amount * flops_per_token(model, method, sequence_tokens, recompute=again)
    service_s = np.asarray(work / (chips * peak * found.share))
    words = f"{chips} of {number} {chip.name}, {PRECISION}, {method}"
    return ModelSeconds(
        service_s=service_s,
        low_s=service_s * found.low,
        high_s=service_s * found.high,
        share=chips / number,
        accelerators=chips,
        basis=found.basis,
        note=f"{words}, activations computed again" if again else words,
    )


def measured_seconds(tokens: Values, speed: TrainSpeed) -> ModelSeconds:
    """Return what it takes to train an adapter here, elementwise, once the model is read.

    Args:
        tokens: trained on.
        speed: as calibrated.
    """
    amount, rate = np.asarray(tokens, dtype=np.float64), speed.tokens_per_s
    return ModelSeconds(
        service_s=np.asarray(amount / rate.median),
        low_s=np.asarray(amount / rate.high),
        high_s=np.asarray(amount / rate.low),
        share=1.0,
        accelerators=0,
        basis="measured",
        note=f"{speed.threads} threads, {speed.precision}, lora, as calibrated",
    )


def efficiency(chip: Processor) -> Efficiency:
    """Return how much of its peak a chip reaches.

    Raises:
        NoBasisError: no run on it was found, and it is no GPU.
    """
    fitted = train_constants()
    if chip.name in fitted:
        law = fitted["law"]
        share = fitted[chip.name]["efficiency"]
        return Efficiency(share=share, low=law["low"], high=law["high"], basis="calibrated")
    if chip.kind != "gpu":
        raise NoBasisError(f"no training run on {chip.name} was found")
    gpu = fitted["gpu"]
    return Efficiency(share=gpu["efficiency"], low=gpu["low"], high=gpu["high"], basis="roofline")


def flops_per_token(
    model: ModelArchitecture, method: Method, sequence_tokens: float, *, recompute: bool
) -> float:
    """Return operations for one token, weighted by how badly they use a wide matrix unit.

    Args:
        model: shapes.
        method: as in `train_seconds`.
        sequence_tokens: of one sequence.
        recompute: activations are computed again in the backward pass.
    """
    law = train_constants()["law"]
    matrices = model.active_parameters * (1.0 + law["narrow"] / model.hidden)
    return _passes(method, recompute=recompute) * (matrices + _attention(model, sequence_tokens))


def _passes(method: Method, *, recompute: bool) -> float:
    """Return operations for each parameter and token."""
    return {"full": 6.0, "lora": 4.0}[method] + (2.0 if recompute else 0.0)


def _attention(model: ModelArchitecture, sequence_tokens: float) -> float:
    """Return how many parameters attention is worth."""
    share = train_constants()["law"]["attention"]
    return model.layers * model.heads * model.head_dim * sequence_tokens / share


def placement(
    model: ModelArchitecture,
    chip: Processor,
    number: int,
    method: Method,
    sequence_tokens: float,
) -> tuple[int, bool]:
    """Return how many chips (1, 2, 4, … or all) a step takes, and whether it computes again.

    Raises:
        NoBasisError: the memory is not known, or all chips do not suffice.
    """
    if chip.memory_gb is None:
        raise NoBasisError(f"the memory of {chip.name} is not known")
    usable = chip.memory_gb * 1e9 * train_constants()["memory"]["usable_share"]
    state = state_bytes(model, method)
    chips = 1
    while True:
        for again in (False, True):
            kept = activation_bytes(model, sequence_tokens, recompute=again)
            if state / chips + kept <= usable:
                return chips, again
        if chips == number:
            break
        chips = min(2 * chips, number)
    raise NoBasisError(f"training {model.name} does not fit into the accelerators' memory")


def state_bytes(model: ModelArchitecture, method: Method) -> float:
    """Return bytes of weights, gradients and optimizer states."""
    memory, trained = train_constants()["memory"], 1.0
    frozen = 0.0
    if method == "lora":
        trained, frozen = train_constants()["lora"]["share"], 2.0
    return model.parameters * (trained * memory["state_bytes"] + frozen)


def activation_bytes(model: ModelArchitecture, sequence_tokens: float, *, recompute: bool) -> float:
    """Return bytes of the activations of one sequence.

    With recomputation each layer keeps its input, and one layer at a time is held in full.
    """
    memory = train_constants()["memory"]
    token = sequence_tokens * model.hidden
    if not recompute:
        return token * model.layers * memory["activation_bytes"]
    return token * (model.layers * memory["checkpoint_bytes"] + memory["activation_bytes"])


def cpu_token_s(
    model: ModelArchitecture,
    cores: Cores,
    method: Method,
    sequence_tokens: float,
    *,
    recompute: bool = False,
) -> tuple[float, float]:
    """Return seconds of a token on cores, and those of them in which one thread works alone."""
    fitted = train_constants()
    law = fitted["cpu"]
    rate = cores.l1_bytes_per_s * law["flop_per_l1_byte"] * cores.used
    if cores.bf16_unit != NO_BF16:
        rate *= fitted[cores.bf16_unit]["times_fp32"]
    weights = model.active_parameters + _attention(model, sequence_tokens)
    matrices_s = _passes(method, recompute=recompute) * weights / rate
    # The backward pass is twice the forward pass.
    again = 4.0 / 3.0 if recompute else 1.0
    rest_s = again * model.layers * model.hidden * law["rest_l1_bytes"]
    alone_s = again * model.layers * law["alone_scores"] / cores.thread_score
    return matrices_s + rest_s / (cores.l1_bytes_per_s * cores.used) + alone_s, alone_s


def _on_cpu(
    amount: Numbers,
    model: ModelArchitecture,
    offer: Offer,
    method: Method,
    sequence_tokens: float,
) -> ModelSeconds:
    """Return seconds on some vCPUs of an offer.

    At the low end of the band all threads share all work.
    """
    cores = cores_of(offer)
    precision, wide = ("bf16", 1.0) if cores.bf16_unit != NO_BF16 else ("fp32", 2.0)
    share, again = cores.used / cores.vcpus, False
    if offer.memory_bytes is not None:
        needs, again = _bytes_on_cpu(model, method, sequence_tokens, offer.memory_bytes, wide)
        share = max(share, needs / offer.memory_bytes)
    token_s, alone_s = cpu_token_s(model, cores, method, sequence_tokens, recompute=again)
    least_s = token_s - alone_s * (1.0 - 1.0 / cores.used)
    band = train_constants()["cpu"]
    near = cores.family == MEASURED_FAMILY and method == "lora"
    low, high = (band["low"], band["high"]) if near else (band["far_low"], band["far_high"])
    note = f"{cores.used} vCPUs, {precision}, {method}, by rates measured on {MEASURED_FAMILY}"
    return ModelSeconds(
        service_s=np.asarray(amount * token_s),
        low_s=np.asarray(amount * least_s * low),
        high_s=np.asarray(amount * token_s * high),
        share=share,
        accelerators=0,
        basis="calibrated" if near else "roofline",
        note=f"{note}, activations computed again" if again else note,
    )


def _bytes_on_cpu(
    model: ModelArchitecture,
    method: Method,
    sequence_tokens: float,
    memory_bytes: float,
    wide: float,
) -> tuple[float, bool]:
    """Return bytes that a step needs, and whether activations are computed again.

    Args:
        model: shapes.
        method: as in `train_seconds`.
        sequence_tokens: of one sequence.
        memory_bytes: that there are.
        wide: bytes of a frozen weight or an activation over those of bfloat16.

    Raises:
        NoBasisError: they do not suffice.
    """
    frozen = 2.0 * (wide - 1.0) * model.parameters if method == "lora" else 0.0
    state = state_bytes(model, method) + frozen
    for again in (False, True):
        needs = state + wide * activation_bytes(model, sequence_tokens, recompute=again)
        if needs <= memory_bytes:
            return needs, again
    raise NoBasisError(f"training {model.name} does not fit into the machine's memory")

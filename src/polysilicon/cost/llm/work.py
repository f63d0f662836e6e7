"""What a step makes accelerators do: operations, bytes and messages, before any efficiency.

Source of the counts: J. Kaplan et al., arXiv 2001.08361, section 2.1 (operations); M. Shoeybi et
al., arXiv 1909.08053, section 3 (two all-reduces a layer under tensor parallelism).
"""

from __future__ import annotations

import msgspec
import numpy as np

from polysilicon.catalog.models import ModelArchitecture
from polysilicon.catalog.processors import Processor
from polysilicon.cost.llm.law import Numbers
from polysilicon.errors import NoBasisError

# Bytes of a value that travels between accelerators: activations are bf16.
ACTIVATION_BYTES = 2.0


class Split(msgspec.Struct, frozen=True, kw_only=True):
    """How one copy of a model is spread over accelerators.

    Attributes:
        gpus: accelerators.
        ranks: data-parallel ranks of the attention; each holds all of it for its own sequences.
        experts: accelerators over which the experts are spread whole; 1 where they are cut.
        weight_bytes: of a parameter of the experts, or of all parameters in a dense model.
        rest_bytes: of a parameter outside the experts.
        cache_bytes: of a value in the key and value cache.
        usable_bytes: memory of one accelerator for weights and cache.
    """

    gpus: int
    ranks: int = 1
    experts: int = 1
    weight_bytes: float
    rest_bytes: float
    cache_bytes: float = 2.0
    usable_bytes: float


class Work(msgspec.Struct, frozen=True, kw_only=True):
    """Work of steps, arrays of one shape; rates are those of one accelerator.

    Attributes:
        new: prompt tokens computed.
        output: tokens generated.
        sequences: that run at once, at most the concurrency; memory may hold fewer.
        waiting: sequences that wait for memory, over those that run.
        prefill_flops: of one prompt, over all accelerators.
        prefill_bytes: of weights that a prompt reads on each accelerator.
        prefill_link_bytes: that each accelerator sends for a prompt.
        decode_flops: of one iteration of all sequences, over all accelerators.
        decode_bytes: of weights that an iteration reads on each accelerator.
        cache_bytes: of cache that an iteration reads on each accelerator.
        decode_link_bytes: that each accelerator sends in an iteration.
        messages: all-reduce steps one after the other in an iteration.
        gpus: accelerators.
        ranks: of data-parallel attention.
        layers: of the model.
        peak_flops: of an accelerator.
        bandwidth: bytes a second of its memory.
        link: bytes a second to the others, infinite where there are none.
    """

    new: Numbers
    output: Numbers
    sequences: Numbers
    waiting: Numbers
    prefill_flops: Numbers
    prefill_bytes: Numbers
    prefill_link_bytes: Numbers
    decode_flops: Numbers
    decode_bytes: Numbers
    cache_bytes: Numbers
    decode_link_bytes: Numbers
    messages: Numbers
    gpus: Numbers
    ranks: Numbers
    layers: Numbers
    peak_flops: Numbers
    bandwidth: Numbers
    link: Numbers


def weights_per_gpu(model: ModelArchitecture, split: Split) -> float:
    """Return bytes of weights on each accelerator."""
    experts = float(model.routed_parameters)
    rest = model.parameters - experts
    shard = split.gpus / split.ranks
    return experts * split.weight_bytes / split.gpus + rest * split.rest_bytes / shard


def cache_spread(model: ModelArchitecture, split: Split) -> float:
    """Return over how many accelerators of its rank the cache of a sequence is spread.

    Heads are spread, with no fewer than one on each accelerator; the one latent of multi-head
    latent attention is on all.
    """
    shard = split.gpus / split.ranks
    return 1.0 if model.kv_latent is not None else min(shard, float(model.kv_heads))


def sequences_that_fit(model: ModelArchitecture, split: Split, tokens: Numbers) -> Numbers:
    """Return how many sequences of some tokens the memory holds besides the weights.

    Raises:
        NoBasisError: the weights alone do not fit.
    """
    free = split.usable_bytes - weights_per_gpu(model, split)
    if free <= 0:
        need = weights_per_gpu(model, split) * split.gpus / 1e9
        has = split.usable_bytes * split.gpus / 1e9
        raise NoBasisError(f"it does not fit: {need:.0f} GB of weights in {has:.0f} GB of memory")
    held = model.kv_bytes(tokens, split.cache_bytes) / cache_spread(model, split)
    return free / held * split.ranks


def work_of(
    model: ModelArchitecture,
    chip: Processor,
    split: Split,
    precision: str,
    concurrency: float,
    tokens: tuple[Numbers, Numbers, Numbers],
) -> Work:
    """Return the work of steps that share their accelerators with others like them.

    Args:
        model: its shapes.
        chip: the accelerator.
        split: over how many.
        precision: of the weights.
        concurrency: steps at once, over all ranks.
        tokens: new, cached and output tokens, of one shape.

    Raises:
        NoBasisError: a fact of the chip is missing, or not even one sequence fits.
    """
    new, cached, output = tokens
    peak, bandwidth = _rates(chip, precision)
    context = cached + new + output / 2
    room = _room(model, split, tokens)
    sequences = np.minimum(concurrency, room)
    shape = np.broadcast(new, output, sequences).shape
    per_rank = sequences / split.ranks
    one = np.ones_like(context)
    width = model.hidden * ACTIVATION_BYTES * model.layers
    # Ring all-reduce: each sends twice its part; two a layer.
    sent = 4.0 * (split.gpus - 1) / split.gpus * width
    head = float(model.vocabulary * model.hidden)
    # Looking a token up is no arithmetic; logits are worked out only for tokens that are sampled.
    inner = model.active_parameters - head * (1.0 if model.tied_embeddings else 2.0)
    decode_flops = 2.0 * (inner + head) + model.attention_flops(one, context, latent=True)
    read = model.kv_read_bytes(context, split.cache_bytes) / cache_spread(model, split)

    def full(value: Numbers | float) -> Numbers:
        return np.broadcast_to(np.asarray(value, dtype=np.float64), shape)

    return Work(
        new=full(new),
        output=full(output),
        sequences=full(sequences),
        waiting=full(np.maximum(concurrency / room - 1.0, 0.0)),
        prefill_flops=full(
            2.0 * (inner * new + head) + model.attention_flops(new, cached + new / 2)
        ),
        prefill_bytes=full(_read(model, split, new)),
        prefill_link_bytes=full(sent * new),
        decode_flops=full(sequences * decode_flops),
        decode_bytes=full(_read(model, split, sequences)),
        cache_bytes=full(per_rank * read),
        decode_link_bytes=full(sent * per_rank),
        messages=full(2.0 * model.layers * np.log2(split.gpus)),
        gpus=full(split.gpus),
        ranks=full(split.ranks),
        layers=full(model.layers),
        peak_flops=full(peak),
        bandwidth=full(bandwidth),
        link=full(np.inf if split.gpus == 1 else _link(chip)),
    )


def _rates(chip: Processor, precision: str) -> tuple[float, float]:
    """Return operations and bytes a second.

    Raises:
        NoBasisError: one of them is not known.
    """
    peak, bandwidth = chip.peak_flops(precision), chip.bandwidth_bytes_per_s()
    if peak is None:
        raise NoBasisError(f"no peak bf16 or fp16 rate of {chip.name} is known")
    if bandwidth is None:
        raise NoBasisError(f"no memory bandwidth of {chip.name} is known")
    return peak, bandwidth


def _room(
    model: ModelArchitecture, split: Split, tokens: tuple[Numbers, Numbers, Numbers]
) -> Numbers:
    """Return how many such steps memory holds at once, at least one.

    Raises:
        NoBasisError: not even one.
    """
    new, cached, output = tokens
    # The last output token is never read again, so it takes no place.
    fit = sequences_that_fit(model, split, cached + new + np.maximum(output - 1.0, 0.0))
    if np.any(fit < 1.0):
        raise NoBasisError("it does not fit: the cache of one such step is larger than the memory")
    # The cache of a running batch is on average half as far as at its end.
    return np.maximum(sequences_that_fit(model, split, cached + new + output / 2), 1.0)


def _read(model: ModelArchitecture, split: Split, tokens: Numbers) -> Numbers:
    """Return bytes of weights that some tokens together read on each accelerator."""
    touched = np.asarray(model.touched_parameters(tokens), dtype=np.float64)
    rest = np.asarray(model.touched_parameters(np.zeros_like(tokens)), dtype=np.float64)
    shard = split.gpus / split.ranks
    experts = (touched - rest) * split.weight_bytes / split.gpus
    return np.asarray(experts + rest * split.rest_bytes / shard, dtype=np.float64)


def _link(chip: Processor) -> float:
    """Return bytes a second between accelerators.

    Raises:
        NoBasisError: it is not known.
    """
    if chip.link_gbs is None:
        raise NoBasisError(f"no link rate between accelerators of {chip.name} is known")
    return chip.link_gbs * 1e9

"""Model architectures: the shapes that decide what a token costs."""

from __future__ import annotations

import re
from importlib.resources.abc import Traversable
from typing import TypeVar, cast

import msgspec
import numpy as np
import numpy.typing as npt

from polysilicon.catalog.tables import (
    Cell,
    amount,
    blank_or,
    count,
    day,
    read_rows,
    text,
    yes_no,
)

# What file names add to a model's name: `.gguf`, and the quantisation before it.
_FILE_SUFFIX = re.compile(r"([.-](q\d\w*|f16|bf16))?\.gguf$|[.-]q\d\w*$", re.IGNORECASE)

Numbers = TypeVar("Numbers", float, npt.NDArray[np.float64])
"""A number, or an array that is worked on element by element."""

INDEX_BYTES_PER_VALUE = 132 / 128
"""Of the keys that an index of sparse attention holds: one byte each and a scale of four bytes for
128 of them, whatever the precision of the cache. Source: DeepSeek-V3.2 in vLLM,
`vllm/model_executor/models/deepseek_v2.py`, class DeepseekV32IndexerCache."""

STATE_BYTES_PER_VALUE = 4.0
"""Of the state of linear attention. Source: `mamba_ssm_dtype` in config.json of Qwen3.5."""

SHORT_CONVOLUTION_BYTES_PER_VALUE = 2.0
"""Of the inputs that the short convolution of linear attention remembers: those of the model."""


class ModelArchitecture(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A transformer by its shapes.

    Each of its layers attends in one of three ways: to all tokens, to a window of the last ones, or
    linearly, through a state of constant size.

    Attributes:
        name: unique, lower case.
        published_as: the name under which its maker publishes it.
        parameters: all of them, without those that only predict several tokens or read pictures.
        active_parameters: those that one token uses; fewer in a mixture of experts. Both embeddings
            are counted.
        layers: transformer blocks.
        hidden: width of the residual stream.
        heads: query heads.
        kv_heads: key and value heads.
        head_dim: width of a head of queries and keys.
        feed_forward: inner width, of one expert in a mixture.
        gated: a feed-forward network is three matrices, else two.
        experts: of a mixture, in each of its layers, without shared ones; else None.
        experts_per_token: of a mixture, else None.
        moe_layers: layers with experts.
        shared_feed_forward: inner width of the experts that all tokens use.
        dense_feed_forward: inner width in those layers of a mixture that have no experts.
        window_layers: layers that attend to a window.
        window: its tokens.
        linear_layers: layers with linear attention.
        linear_key_heads: of linear attention.
        linear_value_heads: of linear attention.
        linear_head_dim: width of its heads.
        linear_conv: inputs that its short convolution spans.
        output_gate: the query projection also makes a gate for the output of attention.
        q_latent: width to which queries are compressed (multi-head latent attention).
        kv_latent: width to which keys and values are compressed; only these are cached.
        rope_dim: width of the part of a key that all heads share and that carries the position.
        value_dim: width of a head of values where it is not `head_dim`.
        index_heads: heads of the index that picks the tokens to attend to (sparse attention).
        index_dim: their width.
        index_topk: tokens that it picks.
        vocabulary: tokens.
        tied_embeddings: input and output embeddings are one matrix.
        published_precision: of the weights (of the experts, where those are narrower).
        source: where the shapes are from.
        date: when they were read.
    """

    name: str
    published_as: str
    parameters: int
    active_parameters: int
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    feed_forward: int
    gated: bool = True
    experts: int | None = None
    experts_per_token: int | None = None
    moe_layers: int = 0
    shared_feed_forward: int = 0
    dense_feed_forward: int = 0
    window_layers: int = 0
    window: int | None = None
    linear_layers: int = 0
    linear_key_heads: int = 0
    linear_value_heads: int = 0
    linear_head_dim: int = 0
    linear_conv: int = 0
    output_gate: bool = False
    q_latent: int | None = None
    kv_latent: int | None = None
    rope_dim: int = 0
    value_dim: int | None = None
    index_heads: int = 0
    index_dim: int = 0
    index_topk: int | None = None
    vocabulary: int
    tied_embeddings: bool
    published_precision: str = "bf16"
    source: str
    date: str

    @property
    def dense_layers(self) -> int:
        """Layers without experts."""
        return self.layers - self.moe_layers

    @property
    def full_layers(self) -> int:
        """Layers that attend to all tokens."""
        return self.layers - self.window_layers - self.linear_layers

    @property
    def cached_values(self) -> int:
        """Numbers that one layer caches for one token: keys and values, or what stands for them."""
        if self.kv_latent is not None:
            return self.kv_latent + self.rope_dim
        return self.kv_heads * (self.head_dim + (self.value_dim or self.head_dim))

    @property
    def expert_parameters(self) -> int:
        """Parameters of one expert in one layer; 0 where there are none."""
        if self.experts is None:
            return 0
        return (3 if self.gated else 2) * self.hidden * self.feed_forward

    @property
    def routed_parameters(self) -> int:
        """Parameters of all experts in all layers, without shared ones."""
        return self.moe_layers * (self.experts or 0) * self.expert_parameters

    def kv_bytes_per_token(self, bytes_per_value: float = 2.0) -> float:
        """Return bytes of cache that one more token takes while no window is full."""
        keys = self.index_dim * INDEX_BYTES_PER_VALUE
        growing = self.layers - self.linear_layers
        return growing * (self.cached_values * bytes_per_value + keys)

    def kv_bytes(self, context: Numbers, bytes_per_value: float = 2.0) -> Numbers:
        """Return bytes of cache that a sequence of `context` tokens holds.

        Windows hold no more than their tokens; linear attention holds a state of constant size.
        """
        values = context * (self.full_layers * self.cached_values * bytes_per_value)
        values = values + context * (self.full_layers * self.index_dim * INDEX_BYTES_PER_VALUE)
        if self.window is not None:
            seen = _at_most(context, self.window)
            values = values + seen * (self.window_layers * self.cached_values * bytes_per_value)
        return values + self._state_bytes()

    def kv_read_bytes(self, context: Numbers, bytes_per_value: float = 2.0) -> Numbers:
        """Return bytes of cache that decoding one token after `context` tokens reads.

        All that the sequence holds, but of what an index stands before only the picked tokens.
        """
        held = self.kv_bytes(context, bytes_per_value)
        if self.index_topk is None:
            return held
        left_out = context - _at_most(context, self.index_topk)
        return held - left_out * (self.full_layers * self.cached_values * bytes_per_value)

    def touched_experts(self, tokens: Numbers) -> Numbers:
        """Return how many different experts some tokens use together in one layer, on average.

        Each token picks k of E experts; taken as independent picks, t tokens touch
        E·(1 - (1 - k/E)^t) of them. Without experts the answer is 0.
        """
        if self.experts is None or self.experts_per_token is None:
            return tokens * 0.0
        log_missed = np.log1p(-self.experts_per_token / self.experts)
        return cast("Numbers", -self.experts * np.expm1(tokens * log_missed))

    def touched_parameters(self, tokens: Numbers) -> Numbers:
        """Return how many parameters are read when some tokens run together.

        The input embedding is looked up, not read, unless it is also the output matrix.
        """
        always = self.active_parameters - (
            self.moe_layers * (self.experts_per_token or 0) * self.expert_parameters
        )
        if not self.tied_embeddings:
            always -= self.vocabulary * self.hidden
        return self.touched_experts(tokens) * (self.moe_layers * self.expert_parameters) + always

    def attention_flops(self, new: Numbers, context: Numbers, *, latent: bool = False) -> Numbers:
        """Return operations of attention itself: scores, weighted values, states, index.

        The projections before and after it are parameters, and counted with those.

        Args:
            new: query tokens.
            context: tokens that each of them attends to, on average.
            latent: attention works on the compressed keys and values themselves, as engines do it
                in decoding; only of models that have them. Source: DeepSeek-V2, arXiv 2405.04434,
                section 2.1.2.
        """
        value_dim = self.value_dim or self.head_dim
        pair = 2.0 * self.heads * (self.head_dim + value_dim)
        if latent and self.kv_latent is not None:
            pair = 2.0 * self.heads * (2 * self.kv_latent + self.rope_dim)
        seen = context if self.index_topk is None else _at_most(context, self.index_topk)
        flops = new * seen * (self.full_layers * pair)
        flops = flops + new * context * (2.0 * self.full_layers * self.index_heads * self.index_dim)
        if self.window is not None:
            flops = flops + new * _at_most(context, self.window) * (self.window_layers * pair)
        # The delta rule reads, corrects and asks the state of each value head: three products.
        state = self.linear_value_heads * self.linear_head_dim**2
        return flops + new * (6.0 * self.linear_layers * state)

    def _state_bytes(self) -> float:
        """Return bytes of the states that linear attention keeps for one sequence."""
        values = self.linear_value_heads * self.linear_head_dim
        inputs = 2 * self.linear_key_heads * self.linear_head_dim + values
        remembered = max(self.linear_conv - 1, 0) * inputs
        state = values * self.linear_head_dim * STATE_BYTES_PER_VALUE
        return self.linear_layers * (state + remembered * SHORT_CONVOLUTION_BYTES_PER_VALUE)

    def same_shapes(self, other: ModelArchitecture) -> bool:
        """Tell whether all tensors have the same shapes, so that a token takes the same work."""
        names = ("name", "published_as", "published_precision", "source", "date")
        shapes = [field for field in self.__struct_fields__ if field not in names]
        return all(getattr(self, field) == getattr(other, field) for field in shapes)


def _at_most(values: Numbers, limit: float) -> Numbers:
    """Return the values, none above a limit."""
    return cast("Numbers", np.minimum(values, limit))


def _none_as(nothing: int) -> Cell:
    """Return a reader of counts to which a blank is `nothing`."""

    def read(cell: str) -> int:
        return count(cell) if cell else nothing

    return read


_COLUMNS: dict[str, Cell] = {
    "name": text,
    "published_as": text,
    "parameters": count,
    "active_parameters": count,
    "layers": count,
    "hidden": count,
    "heads": count,
    "kv_heads": count,
    "head_dim": count,
    "feed_forward": count,
    "gated": yes_no,
    "experts": blank_or(count),
    "experts_per_token": blank_or(count),
    "moe_layers": _none_as(0),
    "shared_feed_forward": _none_as(0),
    "dense_feed_forward": _none_as(0),
    "window_layers": _none_as(0),
    "window": blank_or(count),
    "linear_layers": _none_as(0),
    "linear_key_heads": _none_as(0),
    "linear_value_heads": _none_as(0),
    "linear_head_dim": _none_as(0),
    "linear_conv": _none_as(0),
    "output_gate": yes_no,
    "q_latent": blank_or(count),
    "kv_latent": blank_or(count),
    "rope_dim": _none_as(0),
    "value_dim": blank_or(count),
    "index_heads": _none_as(0),
    "index_dim": _none_as(0),
    "index_topk": blank_or(count),
    "vocabulary": count,
    "tied_embeddings": yes_no,
    "published_precision": text,
    "source": text,
    "date": day,
}

_PRECISION_COLUMNS = {
    "precision": text,
    "bytes_per_parameter": amount,
    "source": text,
    "date": day,
}


def read_models(source: Traversable) -> dict[str, ModelArchitecture]:
    """Read model architectures by name."""
    return {row["name"]: ModelArchitecture(**row) for _, row in read_rows(source, _COLUMNS)}


def read_precisions(source: Traversable) -> dict[str, float]:
    """Read bytes of one parameter by precision."""
    return {
        row["precision"]: row["bytes_per_parameter"]
        for _, row in read_rows(source, _PRECISION_COLUMNS)
    }


def plain_name(name: str) -> str:
    """Return a model's name without maker, path, file suffix and quantisation, in lower case.

    Example:
        >>> plain_name("HuggingFaceTB/SmolLM2-135M-Instruct.Q4_1.gguf")
        'smollm2-135m-instruct'
    """
    return _FILE_SUFFIX.sub("", name.replace("\\", "/").rpartition("/")[2]).casefold()

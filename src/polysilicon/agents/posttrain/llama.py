"""A Llama in plain PyTorch: weights from a GGUF file, low-rank adapters, and adapters to GGUF.

The base stays frozen and is what the engine serves, dequantised: an adapter learns to correct the
very weights that it will be added to. Queries and keys keep the order that llama.cpp's files have
them in (pairs of neighbours are rotated), so nothing is permuted on the way in or out.

An adapter is one vector of all its numbers, cut into A and B of each matrix; so its optimizer has
one state, and a checkpoint is a handful of arrays. A layer computes W·x + (alpha/r)·B·(A·x).

Source: H. Touvron et al., arXiv 2302.13971; LoRA: E. Hu et al., arXiv 2106.09685; names of tensors
and fields: llama.cpp, `gguf-py/gguf/constants.py` and `src/llama-adapter.cpp`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import msgspec
import numpy as np
import torch
from torch.nn import functional

from polysilicon.agents.posttrain.prefixes import Tree
from polysilicon.disk import atomic
from polysilicon.errors import InputError

Tensor = Any
"""A `torch.Tensor`; PyTorch is an extra, and not there where types are checked."""

ADAPTED = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
"""The matrices of a layer; each gets an adapter."""

_NORMS = ("attn_norm", "ffn_norm")


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """What of a Llama is not its weights."""

    layers: int
    heads: int
    kv_heads: int
    rope_base: float
    norm_epsilon: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Llama:
    """A frozen model: embeddings, layers by the names of their tensors, final norm, output."""

    shape: Shape
    embedding: Tensor
    layers: list[dict[str, Tensor]]
    norm: Tensor
    output: Tensor


def read_llama(path: Path, dtype: Tensor = torch.bfloat16) -> Llama:
    """Return the model of a GGUF file, dequantised.

    Args:
        path: the file.
        dtype: of the matrices; norms stay float32.

    Raises:
        InputError: it cannot be read, is no Llama, or has parts that are not computed here.
    """
    try:
        reader = gguf.GGUFReader(path)
    except (OSError, ValueError, IndexError, KeyError) as error:
        raise InputError(f"cannot read the weights: {error}", where=str(path)) from error
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    shape = _shape(reader, path)

    def take(name: str, kind: Tensor) -> Tensor:
        if name not in tensors:
            raise InputError(f"the model has no tensor {name}", where=str(path))
        found = tensors[name]
        numbers = gguf.quants.dequantize(found.data, found.tensor_type)
        return torch.from_numpy(np.array(numbers, dtype=np.float32)).to(kind)

    others = [name for name in tensors if name.endswith(".bias") or name.startswith("rope")]
    if others:
        raise InputError(f"{others[0]} is not computed here", where=str(path))
    layers = [
        {name: take(f"blk.{n}.{name}.weight", torch.float32) for name in _NORMS}
        | {name: take(f"blk.{n}.{name}.weight", dtype) for name in ADAPTED}
        for n in range(shape.layers)
    ]
    embedding = take("token_embd.weight", dtype)
    tied = "output.weight" not in tensors
    return Llama(
        shape=shape,
        embedding=embedding,
        layers=layers,
        norm=take("output_norm.weight", torch.float32),
        output=embedding if tied else take("output.weight", dtype),
    )


def _shape(reader: Any, path: Path) -> Shape:
    def field(name: str, default: Any = None) -> Any:
        found = reader.get_field(name)
        if found is None:
            if default is None:
                raise InputError(f"the file has no field {name}", where=str(path))
            return default
        return found.contents()

    architecture = field("general.architecture")
    if architecture != "llama":
        mend = "give a model of the architecture llama, such as smollm2-135m-instruct"
        raise InputError(f"cannot train {architecture!r}", where=str(path), mend=mend)
    heads = int(field("llama.attention.head_count"))
    return Shape(
        layers=int(field("llama.block_count")),
        heads=heads,
        kv_heads=int(field("llama.attention.head_count_kv", heads)),
        rope_base=float(field("llama.rope.freq_base", 10000.0)),
        norm_epsilon=float(field("llama.attention.layer_norm_rms_epsilon")),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapter:
    """Low-rank additions to all matrices of all layers.

    Attributes:
        numbers: all of them in one vector, float32.
        rank: r.
        alpha: the addition is scaled by alpha/r.
    """

    numbers: Tensor
    rank: int
    alpha: float

    def pairs(self, model: Llama) -> list[dict[str, tuple[Tensor, Tensor]]]:
        """Return A (r by in) and B (out by r) of each matrix of each layer, views of `numbers`."""
        sizes = [
            size
            for layer in model.layers
            for name in ADAPTED
            for size in (self.rank * layer[name].shape[1], self.rank * layer[name].shape[0])
        ]
        pieces = iter(self.numbers.split(sizes))
        return [
            {
                name: (next(pieces).view(self.rank, -1), next(pieces).view(-1, self.rank))
                for name in ADAPTED
            }
            for _ in model.layers
        ]


def new_adapter(model: Llama, rank: int, alpha: float, generator: Tensor) -> Adapter:
    """Return an adapter that changes nothing yet: A is normal with deviation 1/√in, B is zero."""
    pieces = []
    for layer in model.layers:
        for name in ADAPTED:
            rows, columns = layer[name].shape
            pieces.append(torch.randn(rank * columns, generator=generator) * columns**-0.5)
            pieces.append(torch.zeros(rows * rank))
    return Adapter(numbers=torch.cat(pieces), rank=rank, alpha=alpha)


def write_adapter(adapter: Adapter, model: Llama, path: Path) -> None:
    """Write an adapter as llama.cpp loads it; the file appears when it is whole."""
    with atomic(path) as temporary:
        writer = gguf.GGUFWriter(temporary, "llama")
        writer.add_type("adapter")
        writer.add_string("adapter.type", "lora")
        writer.add_float32("adapter.lora.alpha", adapter.alpha)
        for number, layer in enumerate(adapter.pairs(model)):
            for name, pair in layer.items():
                for letter, part in zip("ab", pair, strict=True):
                    content = np.ascontiguousarray(part.detach().numpy())
                    writer.add_tensor(f"blk.{number}.{name}.weight.lora_{letter}", content)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()


def hidden(model: Llama, adapter: Adapter | None, tree: Tree) -> Tensor:
    """Return the normed hidden states (n by width) of the n tokens of a tree."""
    shape = model.shape
    added: list[dict[str, tuple[Tensor, Tensor]]] = [{} for _ in model.layers]
    scale = 1.0
    if adapter is not None:
        added, scale = adapter.pairs(model), adapter.alpha / adapter.rank
    x = functional.embedding(torch.from_numpy(tree.tokens), model.embedding)
    positions, sees = torch.from_numpy(tree.positions), torch.from_numpy(tree.sees)
    where = _Where(
        turns=_turns(positions, x.shape[1] // shape.heads, shape.rope_base),
        # Added to the scores: what is not seen counts nothing.
        mask=torch.zeros(sees.shape, dtype=x.dtype).masked_fill(~sees, -math.inf),
    )
    for layer, pairs in zip(model.layers, added, strict=True):

        def product(name: str, x: Tensor, layer: Any = layer, pairs: Any = pairs) -> Tensor:
            y = functional.linear(x, layer[name])
            if name in pairs:
                a, b = (part.to(x.dtype) for part in pairs[name])
                y = torch.addmm(y, functional.linear(x, a), b.t(), alpha=scale)
            return y

        normed = _rms_norm(x, layer["attn_norm"], shape.norm_epsilon)
        x = x + product("attn_output", _attention(normed, product, shape, where))
        normed = _rms_norm(x, layer["ffn_norm"], shape.norm_epsilon)
        gate = functional.silu(product("ffn_gate", normed))
        x = x + product("ffn_down", gate * product("ffn_up", normed))
    return _rms_norm(x, model.norm, shape.norm_epsilon)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Where:
    """Where the tokens stand: angles of their positions, and who sees whom (n by n)."""

    turns: tuple[Tensor, Tensor]
    mask: Tensor


def _attention(x: Tensor, product: Any, shape: Shape, where: _Where) -> Tensor:
    """Return the heads' attention, put together (n by width)."""

    def heads(name: str, count: int) -> Tensor:
        return product(name, x).view(1, len(x), count, -1).transpose(1, 2)

    queries = _turned(heads("attn_q", shape.heads), where.turns)
    keys = _turned(heads("attn_k", shape.kv_heads), where.turns)
    values = heads("attn_v", shape.kv_heads)
    mixed = functional.scaled_dot_product_attention(
        queries, keys, values, attn_mask=where.mask, enable_gqa=True
    )
    return mixed.transpose(1, 2).reshape(len(x), -1)


def _turns(positions: Tensor, width: int, base: float) -> tuple[Tensor, Tensor]:
    """Return cosines and sines (n by width/2) of the rotary embedding, arXiv 2104.09864."""
    rates = base ** (-torch.arange(0, width, 2, dtype=torch.float32) / width)
    angles = torch.outer(positions.float(), rates)
    return angles.cos(), angles.sin()


def _turned(x: Tensor, turns: tuple[Tensor, Tensor]) -> Tensor:
    """Rotate pairs of neighbours by their position's angles."""
    cosines, sines = turns
    even, odd = x[..., ::2].float(), x[..., 1::2].float()
    pairs = (even * cosines - odd * sines, even * sines + odd * cosines)
    return torch.stack(pairs, dim=-1).flatten(-2).to(x.dtype)


def _rms_norm(x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    wide = x.float()
    normed = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + epsilon)
    return (normed * weight).to(x.dtype)

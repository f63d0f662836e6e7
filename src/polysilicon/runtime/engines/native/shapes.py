"""Models with weights that mean nothing, in the shape of larger ones, to be timed.

How fast a model computes depends on how many weights it has and not on what they are. The tokens
and the template are those of a model that is there.
"""

from __future__ import annotations

import ctypes
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from polysilicon.disk import atomic
from polysilicon.errors import EngineError
from polysilicon.runtime.engines.native.facts import facts_of
from polysilicon.runtime.engines.native.library import POINTER, function
from polysilicon.runtime.engines.native.weights import TYPES

_SEED = 5
_SPREAD = 0.02
"""Standard deviation of the weights, as at the start of a training."""

_PATTERN = 2**20
"""Weights that are drawn; they are repeated."""

_BLOCK_BYTES = {"Q4_1": 20, "Q8_0": 34}
_OF_BLOCK = 32
_ROOM_BYTES = 2**22
"""For the heads of tensors."""


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """Of a model of llama's architecture.

    Attributes:
        layers: how many.
        width: numbers of a token between layers.
        inner: numbers within a layer's network.
        heads: of queries.
        shared: heads of keys and values.
    """

    layers: int
    width: int
    inner: int
    heads: int
    shared: int

    def tensors(self, words: int) -> dict[str, tuple[int, ...]]:
        """Return the sizes of all tensors, the innermost first."""
        kept = self.width * self.shared // self.heads
        of_layer: dict[str, tuple[int, ...]] = {
            "attn_norm": (self.width,),
            "attn_q": (self.width, self.width),
            "attn_k": (self.width, kept),
            "attn_v": (self.width, kept),
            "attn_output": (self.width, self.width),
            "ffn_norm": (self.width,),
            "ffn_gate": (self.width, self.inner),
            "ffn_up": (self.width, self.inner),
            "ffn_down": (self.inner, self.width),
        }
        found = {"token_embd.weight": (self.width, words), "output_norm.weight": (self.width,)}
        for layer in range(self.layers):
            found |= {f"blk.{layer}.{name}.weight": size for name, size in of_layer.items()}
        return found

    def facts(self) -> dict[str, int]:
        """Return what differs in the head of the file."""
        return {
            "llama.block_count": self.layers,
            "llama.embedding_length": self.width,
            "llama.feed_forward_length": self.inner,
            "llama.attention.head_count": self.heads,
            "llama.attention.head_count_kv": self.shared,
            "llama.rope.dimension_count": self.width // self.heads,
        }


SHAPES = {"1b": Shape(layers=16, width=2048, inner=8192, heads=32, shared=8)}
"""Of Llama 3.2 1B: with 49,152 words 1.07 billion weights, 715 MB."""


class _Room(ctypes.Structure):
    """ggml's `ggml_init_params`."""

    _fields_ = (("bytes", ctypes.c_size_t), ("at", POINTER), ("no_alloc", ctypes.c_bool))


def make(shape: Shape, source: Path, target: Path) -> int:
    """Write a model of a shape, with weights as they come; meant for a child process.

    Layers are in Q4_1 and the words in Q8_0, as the bundled model has them.

    Args:
        shape: of it.
        source: a model of llama's architecture, which the tokens are of.
        target: appears only when it is whole.

    Returns:
        How many weights it has.

    Raises:
        EngineError: the source is not such a model.
    """
    with facts_of(source) as facts:
        name = facts.text("general.architecture") if facts is not None else None
        words = facts.number("llama.vocab_size") if facts is not None else None
        if name != "llama" or not words:
            raise EngineError(f"{source}: not of llama's architecture, or of an unknown vocabulary")
        out = function("gguf_init_empty", POINTER)()
        copy = function("gguf_set_kv", None, POINTER, POINTER)
        assert facts is not None
        copy(out, facts.file)
    number = function("gguf_set_val_u32", None, POINTER, ctypes.c_char_p, ctypes.c_uint32)
    for fact, value in shape.facts().items():
        number(out, fact.encode(), value)
    sizes = shape.tensors(words)
    content = _contents(sizes)
    room = function("ggml_init", POINTER, _Room)(_Room(bytes=_ROOM_BYTES, at=None, no_alloc=True))
    for tensor, size in sizes.items():
        _add(out, room, tensor, size, content)
    write = function("gguf_write_to_file", ctypes.c_bool, POINTER, ctypes.c_char_p, ctypes.c_bool)
    with atomic(target) as temporary:
        if not write(out, str(temporary).encode(), False):  # noqa: FBT003
            raise EngineError(f"{target}: cannot be written")
    return sum(int(np.prod(size)) for size in sizes.values())


def _kind(tensor: str) -> str:
    """Return the format of a tensor by its name."""
    if tensor.endswith("norm.weight"):
        return "F32"
    return "Q8_0" if tensor.startswith("token_embd") else "Q4_1"


def _add(out: int, room: int, tensor: str, size: tuple[int, ...], content: _Contents) -> None:
    """Add a tensor to a file that is made."""
    lengths = (ctypes.c_int64 * 4)(*size, *[1] * (4 - len(size)))
    new = function(
        "ggml_new_tensor", POINTER, POINTER, ctypes.c_int, ctypes.c_int,
        ctypes.POINTER(ctypes.c_int64),
    )(room, TYPES[_kind(tensor)], len(size), lengths)  # fmt: skip
    function("ggml_set_name", POINTER, POINTER, ctypes.c_char_p)(new, tensor.encode())
    function("gguf_add_tensor", None, POINTER, POINTER)(out, new)
    at = content[_kind(tensor)].ctypes.data
    data = function("gguf_set_tensor_data", None, POINTER, ctypes.c_char_p, POINTER)
    data(out, tensor.encode(), at)


_Contents = dict[str, npt.NDArray[np.uint8]]


def _contents(sizes: dict[str, tuple[int, ...]]) -> _Contents:
    """Return as many bytes in each format as its largest tensor has; all of a format share them."""
    drawn = np.random.default_rng(_SEED).normal(scale=_SPREAD, size=_PATTERN).astype(np.float32)
    found: _Contents = {}
    for kind, bytes_of_block in _BLOCK_BYTES.items():
        pattern = np.empty(_PATTERN // _OF_BLOCK * bytes_of_block, np.uint8)
        quantize = function(
            "ggml_quantize_chunk", ctypes.c_size_t, ctypes.c_int, POINTER, POINTER,
            ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, POINTER,
        )  # fmt: skip
        quantize(TYPES[kind], drawn.ctypes.data, pattern.ctypes.data, 0, 1, _PATTERN, None)
        most = max(int(np.prod(size)) for name, size in sizes.items() if _kind(name) == kind)
        found[kind] = np.resize(pattern, most // _OF_BLOCK * bytes_of_block)
    widest = max(size[0] for size in sizes.values())
    return found | {"F32": np.ones(widest, np.float32).view(np.uint8)}

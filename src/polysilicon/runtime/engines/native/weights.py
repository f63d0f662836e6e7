"""A model's file in another weight format, with ggml's own conversion."""

from __future__ import annotations

import ctypes
from pathlib import Path

from polysilicon.disk import atomic
from polysilicon.errors import EngineError
from polysilicon.runtime.engines.native.library import POINTER, function

TYPES = {"F32": 0, "F16": 1, "Q4_0": 2, "Q4_1": 3, "Q8_0": 8, "BF16": 30}
"""Formats that are converted from, or to, and their numbers in ggml."""

TARGETS = ("Q4_0", "Q8_0")
"""Formats that ggml has its fastest kernels for."""

MOST_BYTES = 8 * 2**30
"""Of a file; conversion holds it in memory."""

_LAYERS = ("attn_", "ffn_")


class _InitParams(ctypes.Structure):
    """ggml's `gguf_init_params`."""

    _fields_ = (("no_alloc", ctypes.c_bool), ("context", ctypes.POINTER(POINTER)))


class _Traits(ctypes.Structure):
    """ggml's `ggml_type_traits`."""

    _fields_ = (
        ("type_name", ctypes.c_char_p),
        ("block", ctypes.c_int64),
        ("interleave", ctypes.c_int64),
        ("type_bytes", ctypes.c_size_t),
        ("is_quantized", ctypes.c_bool),
        ("to_float", ctypes.CFUNCTYPE(None, POINTER, POINTER, ctypes.c_int64)),
        ("from_float", POINTER),
    )


class _File:
    """A GGUF file in memory; meant for a child process, as it frees nothing.

    Raises:
        EngineError: it cannot be read, or is too large.
    """

    def __init__(self, path: Path) -> None:
        if path.stat().st_size > MOST_BYTES:
            raise EngineError(f"{path}: larger than {MOST_BYTES:,} bytes")
        context = POINTER()
        params = _InitParams(no_alloc=False, context=ctypes.pointer(context))
        read = function("gguf_init_from_file", POINTER, ctypes.c_char_p, _InitParams)
        self.gguf = read(str(path).encode(), params)
        if not self.gguf:
            raise EngineError(f"{path}: cannot be read as GGUF")
        self._context = context

    def names(self) -> list[bytes]:
        """Return the names of its tensors."""
        count = function("gguf_get_n_tensors", ctypes.c_int64, POINTER)(self.gguf)
        name = function("gguf_get_tensor_name", ctypes.c_char_p, POINTER, ctypes.c_int64)
        return [name(self.gguf, number) for number in range(count)]

    def tensor(self, name: bytes) -> int:
        """Return a tensor."""
        found = function("ggml_get_tensor", POINTER, POINTER, ctypes.c_char_p)(self._context, name)
        if not found:
            raise EngineError(f"no tensor {name!r}")
        return int(found)

    def type_of(self, number: int) -> int:
        """Return the format of a tensor by its number."""
        ask = function("gguf_get_tensor_type", ctypes.c_int, POINTER, ctypes.c_int64)
        return int(ask(self.gguf, number))


def convert(source: Path, target: Path, kind: str) -> int:
    """Write a model's file with the weights of its layers in another format.

    Embeddings, norms and what already has the format stay as they are.

    Args:
        source: GGUF file.
        target: appears only when it is whole.
        kind: one of `TARGETS`.

    Returns:
        How many tensors were converted.

    Raises:
        EngineError: it cannot be read, or nothing in it can be converted.
    """
    file = _File(source)
    out = function("gguf_init_empty", POINTER)()
    function("gguf_set_kv", None, POINTER, POINTER)(out, file.gguf)
    add = function("gguf_add_tensor", None, POINTER, POINTER)
    set_type = function("gguf_set_tensor_type", None, POINTER, ctypes.c_char_p, ctypes.c_int)
    set_data = function("gguf_set_tensor_data", None, POINTER, ctypes.c_char_p, POINTER)
    kept = []
    for number, name in enumerate(file.names()):
        tensor = file.tensor(name)
        add(out, tensor)
        content = _converted(name, tensor, file.type_of(number), TYPES[kind])
        if content is not None:
            set_type(out, name, TYPES[kind])
            set_data(out, name, content)
            kept.append(content)
    if not kept:
        raise EngineError(f"{source}: has no weights that can be converted to {kind}")
    write = function("gguf_write_to_file", ctypes.c_bool, POINTER, ctypes.c_char_p, ctypes.c_bool)
    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic(target) as temporary:
        if not write(out, str(temporary).encode(), False):  # noqa: FBT003
            raise EngineError(f"{target}: cannot be written")
    return len(kept)


def converted_bytes(source: Path, kind: str) -> int:
    """Return how many bytes the tensors of a model's file would have in another weight format.

    Args:
        source: GGUF file.
        kind: one of `TARGETS`.

    Raises:
        EngineError: it cannot be read.
    """
    file = _File(source)
    size = function("ggml_nbytes", ctypes.c_size_t, POINTER)
    total = 0
    for number, name in enumerate(file.names()):
        tensor = file.tensor(name)
        shape = _shape(name, tensor, file.type_of(number), TYPES[kind])
        if shape is None:
            total += size(tensor)
        else:
            target = _traits(TYPES[kind])
            total += shape[0] * shape[1] // target.block * target.type_bytes
    return total


def parameters(source: Path) -> int:
    """Return how many parameters a model's file holds.

    Raises:
        EngineError: it cannot be read.
    """
    file = _File(source)
    count = function("ggml_nelements", ctypes.c_int64, POINTER)
    return sum(count(file.tensor(name)) for name in file.names())


def _traits(kind: int) -> _Traits:
    found = function("ggml_get_type_traits", ctypes.POINTER(_Traits), ctypes.c_int)(kind)
    traits: _Traits = found.contents
    return traits


def _shape(name: bytes, tensor: int, now: int, wanted: int) -> tuple[int, int] | None:
    """Return rows of a tensor to be converted, and their length; None where it stays as it is."""
    parts = name.decode(errors="replace").split(".")
    is_layer = len(parts) == 4 and parts[0] == "blk" and parts[2].startswith(_LAYERS)
    if not is_layer or parts[3] != "weight" or now == wanted or now not in TYPES.values():
        return None
    rows = function("ggml_nrows", ctypes.c_int64, POINTER)(tensor)
    length = function("ggml_nelements", ctypes.c_int64, POINTER)(tensor) // max(rows, 1)
    is_matrix = function("ggml_n_dims", ctypes.c_int, POINTER)(tensor) == 2
    return (rows, length) if is_matrix and not length % _traits(wanted).block else None


def _converted(
    name: bytes, tensor: int, now: int, wanted: int
) -> ctypes.Array[ctypes.c_char] | None:
    """Return the content of a tensor in the wanted format; None where it stays as it is."""
    shape = _shape(name, tensor, now, wanted)
    if shape is None:
        return None
    rows, length = shape
    target = _traits(wanted)
    data = function("ggml_get_data", POINTER, POINTER)(tensor)
    numbers = (ctypes.c_float * (rows * length))()
    if now == TYPES["F32"]:
        ctypes.memmove(numbers, data, ctypes.sizeof(numbers))
    else:
        _traits(now).to_float(data, numbers, rows * length)
    content = ctypes.create_string_buffer(rows * length // target.block * target.type_bytes)
    # Equal weights for all columns let ggml look for the scale with the least squared error.
    equal = (ctypes.c_float * length)(*([1.0] * length))
    floats = ctypes.POINTER(ctypes.c_float)
    quantize = function(
        "ggml_quantize_chunk", ctypes.c_size_t, ctypes.c_int, floats, POINTER,
        ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, floats,
    )  # fmt: skip
    quantize(wanted, numbers, content, 0, rows, length, equal)
    return content

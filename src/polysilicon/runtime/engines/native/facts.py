"""What the head of a GGUF file tells of its model."""

from __future__ import annotations

import ctypes
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from polysilicon.runtime.engines.native.library import POINTER, function

_UINT32, _STRING = 4, 8
"""gguf's numbers of its types."""


class _InitParams(ctypes.Structure):
    """ggml's `gguf_init_params`."""

    _fields_ = (("no_alloc", ctypes.c_bool), ("context", POINTER))


class Facts:
    """The facts of one open file, by name; those of another type than asked for are not told."""

    def __init__(self, file: int) -> None:
        self.file = file

    def _find(self, name: str) -> int:
        find = function("gguf_find_key", ctypes.c_int64, POINTER, ctypes.c_char_p)
        return int(find(self.file, name.encode()))

    def _typed(self, name: str, kind: int) -> int | None:
        at = self._find(name)
        type_of = function("gguf_get_kv_type", ctypes.c_int, POINTER, ctypes.c_int64)
        return at if at >= 0 and type_of(self.file, at) == kind else None

    def has(self, name: str) -> bool:
        """Tell whether there is a fact of that name, of whatever type."""
        return self._find(name) >= 0

    def number(self, name: str) -> int | None:
        """Return a whole number."""
        at = self._typed(name, _UINT32)
        value = function("gguf_get_val_u32", ctypes.c_uint32, POINTER, ctypes.c_int64)
        return int(value(self.file, at)) if at is not None else None

    def text(self, name: str) -> str | None:
        """Return a text."""
        at = self._typed(name, _STRING)
        value = function("gguf_get_val_str", ctypes.c_char_p, POINTER, ctypes.c_int64)
        return value(self.file, at).decode(errors="replace") if at is not None else None

    def file_bytes(self) -> int:
        """Return the bytes of the whole file, which ends with its last weights."""
        count = function("gguf_get_n_tensors", ctypes.c_int64, POINTER)
        begin = function("gguf_get_data_offset", ctypes.c_size_t, POINTER)
        offset = function("gguf_get_tensor_offset", ctypes.c_size_t, POINTER, ctypes.c_int64)
        size_of = function("gguf_get_tensor_size", ctypes.c_size_t, POINTER, ctypes.c_int64)
        ends = (offset(self.file, at) + size_of(self.file, at) for at in range(count(self.file)))
        return int(begin(self.file)) + max(ends, default=0)

    def weights_bytes(self, formats: Collection[int]) -> int:
        """Return the bytes of weights in any of the formats, by ggml's numbers of them."""
        count = function("gguf_get_n_tensors", ctypes.c_int64, POINTER)
        type_of = function("gguf_get_tensor_type", ctypes.c_int, POINTER, ctypes.c_int64)
        size_of = function("gguf_get_tensor_size", ctypes.c_size_t, POINTER, ctypes.c_int64)
        every = range(count(self.file))
        return sum(size_of(self.file, at) for at in every if type_of(self.file, at) in formats)


@contextmanager
def facts_of(model: Path) -> Iterator[Facts | None]:
    """Open the facts of a file; None where it cannot be read."""
    read = function("gguf_init_from_file", POINTER, ctypes.c_char_p, _InitParams)
    file = read(str(model).encode(), _InitParams(no_alloc=True, context=None))
    try:
        yield Facts(file) if file else None
    finally:
        if file:
            function("gguf_free", None, POINTER)(file)

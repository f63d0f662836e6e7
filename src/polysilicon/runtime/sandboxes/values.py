"""What passes between a sandbox and its caller: inputs in, text and a value out, bounded."""

from __future__ import annotations

import keyword
import threading
from collections.abc import Callable, Mapping
from typing import Any

from polysilicon.errors import InputError

_DEEPEST = 64
_INT_BITS = 64
_ERROR_CHARS = 500


class OutputLimitError(Exception):
    """More came out of a sandbox than its limit allows."""


class Collector:
    """Printed text up to a limit in bytes; the text before the limit is kept.

    Safe to be written to from other threads.

    Args:
        limit_bytes: how much is kept.
        on_overflow: called once, when the first byte over the limit comes.
    """

    def __init__(self, limit_bytes: int, on_overflow: Callable[[], None]) -> None:
        self.overflowed = False
        self._room = limit_bytes
        self._pieces: list[bytes] = []
        self._on_overflow = on_overflow
        self._lock = threading.Lock()

    def write(self, data: bytes) -> None:
        """Take printed bytes."""
        with self._lock:
            self._pieces.append(data[: self._room])
            first = len(data) > self._room and not self.overflowed
            self._room = max(0, self._room - len(data))
            self.overflowed |= first
        if first:
            self._on_overflow()

    @property
    def text(self) -> str:
        """What was printed, a character cut in two at the limit left out."""
        data = b"".join(self._pieces)
        return data.decode(errors="ignore" if self.overflowed else "replace")


def check_inputs(inputs: Mapping[str, Any]) -> None:
    """Check that every input can be a variable.

    Raises:
        InputError: a name is no Python name.
    """
    for name in inputs:
        if not name.isidentifier() or keyword.iskeyword(name):
            raise InputError(f"sandbox input {name!r} is no Python name")


def error_line(text: str) -> str:
    """Return an error's `Type: message` as one line, shortened."""
    return " ".join(text.split())[:_ERROR_CHARS]


def json_value(value: Any, limit_bytes: int) -> Any:
    """Return `value` as JSON types: tuples and sets as lists, other objects as their `repr`.

    Args:
        value: what the code returned.
        limit_bytes: bound on its size, as text, about.

    Raises:
        OutputLimitError: it is bigger.
    """
    return _Converter(limit_bytes).convert(value, 0)


class _Converter:
    """Converts with a budget, so that a huge value is given up early."""

    def __init__(self, limit_bytes: int) -> None:
        self._room = limit_bytes

    def convert(self, value: Any, depth: int) -> Any:
        self._room -= 1 + (len(value) if isinstance(value, str) else 0)
        if self._room < 0:
            raise OutputLimitError
        if value is None or isinstance(value, bool | float | str):
            return value
        if isinstance(value, int):
            return value if value.bit_length() < _INT_BITS else self.convert(hex(value), depth)
        return self._compound(value, depth) if depth < _DEEPEST else "…"

    def _compound(self, value: Any, depth: int) -> Any:
        if isinstance(value, dict):
            return {
                key if isinstance(key, str) else repr(key): self.convert(item, depth + 1)
                for key, item in value.items()
            }
        if isinstance(value, set | frozenset):
            value = sorted(value, key=repr)
        if isinstance(value, list | tuple):
            return [self.convert(item, depth + 1) for item in value]
        return self.convert(repr(value), depth)

"""Where a grammar leaves one way to end an answer, that end need not be computed.

A library of llama.cpp's, llguidance, follows the answer byte by byte. Where only one byte may come
it is the next one, whatever the model would say of it; where that goes on to the end of the
answer, the engine can stop. The text is the same at any temperature.
"""

from __future__ import annotations

import ctypes
from typing import Any

from polysilicon.runtime.engines.native.grammars import HEAD, byte_setup
from polysilicon.runtime.engines.native.library import POINTER, function

_MOST_BYTES = 2**12
"""Of text that is known ahead: each piece of an answer goes on where the last one ended."""

_BYTES = 256
_WORDS = ctypes.POINTER(ctypes.c_uint32)


class Ending:
    """Follows one answer. Close it.

    Args:
        grammar: of llguidance, which it can hold to (`grammars.fault_of`).
    """

    def __init__(self, grammar: str) -> None:
        new = function("llg_new_matcher", POINTER, POINTER, ctypes.c_char_p, ctypes.c_char_p)
        text = grammar.removeprefix(HEAD).encode()
        self._matcher: int | None = new(ctypes.addressof(byte_setup()), b"lark", text)
        self._ahead = b""
        self._lost = self._matcher is None or bool(self._ask("llg_matcher_is_error"))

    def after(self, text: str) -> str | None:
        """Return how the answer ends after this piece of it; None where that is open.

        Nothing is known any more after a piece that the grammar does not admit.
        """
        if self._lost:
            return None
        piece = text.encode()
        known = self._ahead[: len(piece)]
        if not piece.startswith(known):
            self._lost = True
            return None
        self._ahead = self._ahead[len(piece) :]
        rest = piece[len(known) :]
        if rest and not self._take(rest):
            self._lost = True
            return None
        ends = self._look()
        return self._ahead.decode(errors="replace") if ends else None

    @property
    def ahead(self) -> str:
        """What can only follow, as far as it is known."""
        return self._ahead.decode(errors="ignore")

    def _look(self) -> bool:
        """Walk on while there is one way; tell whether it leads to the end."""
        found = bytearray()
        while not self._ask("llg_matcher_is_stopped"):
            only = self._only()
            if only is None or len(self._ahead) + len(found) >= _MOST_BYTES:
                break
            if not self._take([only]):
                self._lost = True
                return False
            if only < _BYTES:
                found.append(only)
        self._ahead += bytes(found)
        return bool(self._ask("llg_matcher_is_stopped"))

    def _only(self) -> int | None:
        """Return the one byte, or end, that may come; None where several may."""
        if self._ask("llg_matcher_compute_mask", ctypes.c_int32):
            self._lost = True
            return None
        size = self._ask("llg_matcher_get_mask_byte_size", ctypes.c_size_t)
        mask = ctypes.string_at(self._ask("llg_matcher_get_mask", POINTER), size)
        may = int.from_bytes(mask, "little")
        return may.bit_length() - 1 if may.bit_count() == 1 else None

    def _take(self, tokens: bytes | list[int]) -> bool:
        consume = function(
            "llg_matcher_consume_tokens", ctypes.c_int32, POINTER, _WORDS, ctypes.c_size_t
        )
        room = (ctypes.c_uint32 * len(tokens))(*tokens)
        return bool(consume(self._matcher, room, len(tokens)) == 0)

    def _ask(self, name: str, result: Any = ctypes.c_bool) -> Any:
        return function(name, result, POINTER)(self._matcher)

    def close(self) -> None:
        """Free it."""
        if self._matcher is not None:
            function("llg_free_matcher", None, POINTER)(self._matcher)
        self._matcher = None
        self._lost = True

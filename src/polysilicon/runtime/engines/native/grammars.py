"""Whether llama.cpp can hold to a grammar: it writes freely where it cannot, and says nothing.

Its library for that, llguidance, is asked itself, with a vocabulary of bytes, for what it thinks of
a grammar does not depend on the model's. Source of the interface: `parser/llguidance.h` in
https://github.com/guidance-ai/llguidance.
"""

from __future__ import annotations

import ctypes
import re
from functools import cache, lru_cache
from typing import Any

from polysilicon.errors import EngineError
from polysilicon.runtime.engines.native.library import POINTER, function

HEAD = "%llguidance {}"
_TOKENS = [bytes([byte]) for byte in range(256)] + [b"\xff<end>"]
_MESSAGE_BYTES = 2000
_CONTEXT = r"\n   1 \||\s+while processing json-schema:"
_SPARE_BYTES = 1024
"""Of zeros after structures that later versions may have lengthened, as the interface asks for."""


class _Tokenizer(ctypes.Structure):
    """`LlgTokenizerInit`."""

    _fields_ = (
        ("vocab_size", ctypes.c_uint32),
        ("tok_eos", ctypes.c_uint32),
        ("token_lens", POINTER),
        ("token_bytes", ctypes.c_char_p),
        ("tokenizer_json", ctypes.c_char_p),
        ("tokenize_assumes_string", ctypes.c_bool),
        ("tokenize_fn", POINTER),
        ("use_approximate_greedy_tokenize_fn", ctypes.c_bool),
        ("tokenize_user_data", POINTER),
        ("slices", POINTER),
        ("spare", ctypes.c_char * _SPARE_BYTES),
    )


@cache
def byte_setup() -> Any:
    """Return `LlgConstraintInit` for a vocabulary of bytes, which is kept until the process ends.

    Raises:
        EngineError: the library is another one.
    """
    lengths = (ctypes.c_uint32 * len(_TOKENS))(*map(len, _TOKENS))
    told = _Tokenizer(
        vocab_size=len(_TOKENS),
        tok_eos=len(_TOKENS) - 1,
        token_lens=ctypes.addressof(lengths),
        token_bytes=b"".join(_TOKENS),
        use_approximate_greedy_tokenize_fn=True,
    )
    message = ctypes.create_string_buffer(_MESSAGE_BYTES)
    new = function("llg_new_tokenizer", POINTER, POINTER, ctypes.c_char_p, ctypes.c_size_t)
    tokenizer = new(ctypes.addressof(told), message, _MESSAGE_BYTES)
    if not tokenizer:
        raise EngineError(f"llguidance: {message.value.decode(errors='replace')}")
    setup = ctypes.create_string_buffer(_SPARE_BYTES)
    defaults = function("llg_constraint_init_set_defaults", None, POINTER, POINTER)
    defaults(ctypes.addressof(setup), tokenizer)
    return setup


@lru_cache(maxsize=64)
def fault_of(grammar: str) -> str:
    """Return why a grammar of llguidance cannot be held to, in one line; empty where it can.

    The interpreter's lock is free meanwhile.

    Raises:
        EngineError: the library is another one.
    """
    message = ctypes.create_string_buffer(_MESSAGE_BYTES)
    validate = function(
        "llg_validate_grammar", ctypes.c_int32, POINTER, ctypes.c_char_p, ctypes.c_char_p,
        ctypes.c_char_p, ctypes.c_size_t,
    )  # fmt: skip
    text = grammar.removeprefix(HEAD).encode()
    failed = validate(ctypes.addressof(byte_setup()), b"lark", text, message, _MESSAGE_BYTES) < 0
    if not failed:
        return ""
    told = re.split(_CONTEXT, message.value.decode(errors="replace"), maxsplit=1)[0]
    _, _, reason = told.rpartition("failed to compile JSON schema: ")
    return " ".join(reason.removeprefix("Unsatisfiable schema: ").split()) or "it cannot be read"

"""What a model makes of a fixed text: whether other kernels or weights compute the same.

Perplexity is e to the mean negative log probability of each next token (Jelinek et al. 1977,
"Perplexity - a measure of the difficulty of speech recognition tasks"). Two computations see the
same tokens, so that their difference has a far smaller error than either of them.
"""

from __future__ import annotations

import ctypes
from importlib.resources import files
from pathlib import Path

import msgspec
import numpy as np

from polysilicon.errors import EngineError
from polysilicon.runtime.engines.native.library import POINTER, function, silence, use

CHUNK = 256
"""Tokens that are read with nothing before them."""

MOST_TOKENS = 1536
"""Of the text."""

SINGLE = 32
"""Tokens of the last chunk that are read one by one, as answers are: other code computes them."""

CLEAR = 0.5
"""A next token is clear where it leads the second by so much, in log probability."""

KERNEL_LIMIT = 0.01
"""Kernels may change the perplexity, up or down, by this share."""

SAME_CLEAR = 0.995
"""Share of the clear next tokens that other kernels must find too."""

WEIGHTS_LIMIT = 0.02
"""Converted weights may raise the perplexity by this share."""

_MOST_WORDS = 2**20
_TEXT = "text.txt"


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """What a model makes of the text.

    Attributes:
        log_probability: of each next token, nats.
        likeliest: the likeliest next token at each place.
        lead: of the likeliest one over the second, nats.
    """

    log_probability: list[float]
    likeliest: list[int]
    lead: list[float]

    @property
    def perplexity(self) -> float:
        """Perplexity of the text."""
        return float(np.exp(-np.mean(self.log_probability)))


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """One reading against another.

    Attributes:
        perplexity: of the one, as a multiple of the other's, less 1.
        error: standard error of that.
        same: share of the other's clear next tokens that the one finds too.
    """

    perplexity: float
    error: float
    same: float


class _Large(ctypes.Structure):
    """Room for any parameters; they are only passed on, as C returned them."""

    _fields_ = (("room", ctypes.c_uint64 * 512),)


class _Batch(ctypes.Structure):
    """llama.cpp's `llama_batch`."""

    _fields_ = (
        ("n_tokens", ctypes.c_int32),
        ("token", ctypes.POINTER(ctypes.c_int32)),
        ("embd", POINTER),
        ("pos", POINTER),
        ("n_seq_id", POINTER),
        ("seq_id", POINTER),
        ("logits", ctypes.POINTER(ctypes.c_int8)),
    )


def read_text(weights: Path, kernels: Path | None, threads: int) -> Reading:
    """Read the fixed text with a model; meant for a child process, as it frees nothing.

    Args:
        weights: GGUF file.
        kernels: library; None for the wheel's.
        threads: that compute.

    Raises:
        EngineError: the model cannot be loaded, or computes no numbers.
    """
    use(kernels)
    silence("llama_log_set")
    defaults = function("llama_model_default_params", _Large)()
    load = function("llama_model_load_from_file", POINTER, ctypes.c_char_p, _Large)
    model = load(str(weights).encode(), defaults)
    if not model:
        raise EngineError(f"{weights}: cannot be loaded")
    defaults = function("llama_context_default_params", _Large)()
    context = function("llama_init_from_model", POINTER, POINTER, _Large)(model, defaults)
    if not context:
        raise EngineError(f"{weights}: no context")
    function("llama_set_n_threads", None, POINTER, ctypes.c_int32, ctypes.c_int32)(
        context, threads, threads
    )
    vocabulary = function("llama_model_get_vocab", POINTER, POINTER)(model)
    words = function("llama_vocab_n_tokens", ctypes.c_int32, POINTER)(vocabulary)
    if not 1 < words < _MOST_WORDS:
        raise EngineError(f"{weights}: a vocabulary of {words}")
    tokens = _tokens(vocabulary, files(__package__).joinpath("data", _TEXT).read_bytes())
    chunks = [tokens[at : at + CHUNK] for at in range(0, len(tokens) - CHUNK + 1, CHUNK)]
    if not chunks:
        raise EngineError(f"{weights}: the fixed text is too short for its tokens")
    rows = [_chunk(context, chunk, words) for chunk in chunks[:-1]]
    rows.append(_chunk(context, chunks[-1], words, single=SINGLE))
    log_probability, likeliest, lead = (np.concatenate(part) for part in zip(*rows, strict=True))
    if not np.isfinite(log_probability).all():
        raise EngineError(f"{weights}: computes what is no number")
    return Reading(
        log_probability=log_probability.tolist(), likeliest=likeliest.tolist(), lead=lead.tolist()
    )


def _tokens(vocabulary: int, text: bytes) -> list[int]:
    """Return the first tokens of a text."""
    integers = ctypes.POINTER(ctypes.c_int32)
    tokenize = function(
        "llama_tokenize", ctypes.c_int32, POINTER, ctypes.c_char_p, ctypes.c_int32,
        integers, ctypes.c_int32, ctypes.c_bool, ctypes.c_bool,
    )  # fmt: skip
    room = (ctypes.c_int32 * (len(text) + 8))()
    count = tokenize(vocabulary, text, len(text), room, len(room), True, False)  # noqa: FBT003
    return list(room[: min(max(count, 0), MOST_TOKENS)])


def _chunk(
    context: int, tokens: list[int], words: int, single: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Read a chunk with nothing before it, the last `single` tokens one by one.

    Returns:
        Log probability of each next token, the likeliest one, and its lead; a number less than
        there are tokens.
    """
    memory = function("llama_get_memory", POINTER, POINTER)(context)
    function("llama_memory_clear", None, POINTER, ctypes.c_bool)(memory, True)  # noqa: FBT003
    begin = len(tokens) - single
    parts = [tokens[:begin], *([token] for token in tokens[begin:])]
    logits = np.concatenate([_logits(context, part, words) for part in parts])[:-1]
    logits -= logits.max(axis=1, keepdims=True)
    logits -= np.log(np.exp(logits).sum(axis=1, keepdims=True))
    two = np.partition(logits, words - 2, axis=1)[:, -2:]
    return (
        logits[np.arange(len(tokens) - 1), np.array(tokens[1:])],
        logits.argmax(axis=1),
        two[:, 1] - two[:, 0],
    )


def _logits(context: int, tokens: list[int], words: int) -> np.ndarray:
    """Read tokens after those before; return a row of logits for each."""
    given = (ctypes.c_int32 * len(tokens))(*tokens)
    integers = ctypes.POINTER(ctypes.c_int32)
    batch = function("llama_batch_get_one", _Batch, integers, ctypes.c_int32)(given, len(tokens))
    batch.logits = (ctypes.c_int8 * len(tokens))(*([1] * len(tokens)))
    if function("llama_decode", ctypes.c_int32, POINTER, _Batch)(context, batch):
        raise EngineError("llama.cpp cannot read the fixed text")
    at = function("llama_get_logits", ctypes.POINTER(ctypes.c_float), POINTER)(context)
    if not at:
        raise EngineError("llama.cpp gave no logits")
    return np.ctypeslib.as_array(at, (len(tokens), words)).astype(np.float64)


def compare(one: Reading, other: Reading) -> Difference:
    """Return how `one` differs from `other`.

    Raises:
        EngineError: they are of different texts or vocabularies.
    """
    if len(one.log_probability) != len(other.log_probability):
        raise EngineError("two readings of different tokens")
    loss = np.array(other.log_probability) - np.array(one.log_probability)
    clear = np.array(other.lead) > CLEAR
    same = np.array(one.likeliest)[clear] == np.array(other.likeliest)[clear]
    mean = float(np.expm1(loss.mean()))
    return Difference(
        perplexity=mean,
        error=float((1 + mean) * loss.std() / np.sqrt(len(loss))),
        same=float(same.mean()) if len(same) else 0.0,
    )


def refuse_kernels(difference: Difference) -> str:
    """Say why kernels are not taken that read the text so differently; nothing where they are."""
    if abs(difference.perplexity) > KERNEL_LIMIT:
        return f"perplexity is off by {difference.perplexity:+.1%}, allowed is {KERNEL_LIMIT:.0%}"
    if difference.same < SAME_CLEAR:
        return f"{difference.same:.1%} of clear next tokens agree, wanted are {SAME_CLEAR:.1%}"
    return ""


def refuse_weights(difference: Difference) -> str:
    """Say why converted weights are not taken; nothing where they are."""
    if difference.perplexity > WEIGHTS_LIMIT:
        return f"perplexity rises by {difference.perplexity:.1%}, allowed is {WEIGHTS_LIMIT:.0%}"
    return ""

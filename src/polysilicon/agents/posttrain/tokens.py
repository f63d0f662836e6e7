"""Texts as tokens, by the engine's own vocabulary and chat template, kept as shards.

Tokens come from llama.cpp itself, so that what is trained on is what will be asked. A shard is a
NumPy file of three arrays: `tokens` (all sequences, one behind the other), `ends` (where each ends)
and `begins` (the first token of each, counted within it, that the loss is about).
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
import numpy.typing as npt

from polysilicon.agents.posttrain.step import Example
from polysilicon.disk import atomic
from polysilicon.runtime.engines.llamacpp import LlamaCpp

Tokens = npt.NDArray[np.int32]

_CONTEXT_TOKENS = 64
"""The server that tokenises never computes; this bounds what it sets aside."""


class Sequence_(msgspec.Struct, frozen=True, kw_only=True):  # noqa: N801 - not Python's
    """Tokens to train on; the loss is about those from `begin` on."""

    tokens: Tokens
    begin: int


class Vocabulary:
    """The vocabulary and the chat template of a GGUF file.

    Raises:
        InputError: the file cannot be loaded.
    """

    def __init__(self, path: Path) -> None:
        # The engine is held so that its endpoint lives as long as this object.
        self._engine = LlamaCpp(path, concurrency=1, context_tokens=_CONTEXT_TOKENS, threads=1)
        key = {"Authorization": f"Bearer {self._engine.key}"}
        address = self._engine.address.removesuffix("/v1")
        self._client = httpx.Client(base_url=address, headers=key, trust_env=False, timeout=30)
        weakref.finalize(self, self._client.close)

    def prompt(self, messages: Sequence[dict[str, str]]) -> str:
        """Return a conversation as the text that the model is asked to go on with."""
        return str(self._ask("/apply-template", {"messages": list(messages)})["prompt"])

    def tokens(self, text: str, *, special: bool = False) -> Tokens:
        """Return the tokens of a text.

        Args:
            text: any.
            special: whether names of control tokens in it are such tokens, as in what a template
                made; in other texts they are letters, so that none can pretend to be a template.
        """
        body = {"content": text, "add_special": False, "parse_special": special}
        return np.asarray(self._ask("/tokenize", body)["tokens"], dtype=np.int32)

    def end(self) -> int:
        """Return the token that ends a text."""
        reply = self._client.get("/props")
        reply.raise_for_status()
        return int(self.tokens(reply.json()["eos_token"], special=True)[0])

    def _ask(self, path: str, body: dict[str, Any]) -> Any:
        reply = self._client.post(path, json=body)
        reply.raise_for_status()
        return reply.json()


@lru_cache(maxsize=1)
def vocabulary(path: str) -> Vocabulary:
    """Return the vocabulary of a file; it is loaded once a process."""
    return Vocabulary(Path(path))


def tokenise(words: Vocabulary, examples: Iterable[Example]) -> Iterator[Sequence_]:
    """Yield the tokens of examples; the loss is about the answers alone.

    Prompt and answer are cut apart where the model's own tokens began, not anew as one text.
    """
    last: list[dict[str, str]] = []
    prompt = np.empty(0, np.int32)
    for example in examples:
        if example.messages != last:  # answers to one problem follow each other
            prompt = words.tokens(words.prompt(example.messages), special=True)
            last = example.messages
        answer = words.tokens(example.answer)
        yield Sequence_(tokens=np.concatenate([prompt, answer]), begin=len(prompt))


def packed(texts: Iterable[Tokens], length: int, separator: int) -> Iterator[Sequence_]:
    """Yield texts behind each other, a separator after each, cut into sequences of `length`.

    What is left at the end is yielded too, as a shorter sequence: nothing is dropped.
    """
    room: list[Tokens] = []
    held = 0
    for text in texts:
        room += [text, np.array([separator], dtype=np.int32)]
        held += len(text) + 1
        if held < length:
            continue
        row = np.concatenate(room)
        whole = held // length * length
        for begin in range(0, whole, length):
            yield Sequence_(tokens=row[begin : begin + length], begin=1)
        room, held = [row[whole:]], held - whole
    if held > 1:
        yield Sequence_(tokens=np.concatenate(room), begin=1)


def write_shard(path: Path, sequences: Sequence[Sequence_]) -> None:
    """Write sequences as a shard, which appears when it is whole."""
    lengths = [len(sequence.tokens) for sequence in sequences]
    rows = [sequence.tokens for sequence in sequences]
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic(path) as temporary, temporary.open("wb") as stream:
        np.savez(
            stream,
            tokens=np.concatenate([np.empty(0, np.int32), *rows]),
            ends=np.cumsum(lengths, dtype=np.int64),
            begins=np.array([sequence.begin for sequence in sequences], dtype=np.int64),
        )


def read_shard(path: Path) -> list[Sequence_]:
    """Return the sequences of a shard."""
    with np.load(path, allow_pickle=False) as arrays:
        tokens, ends, begins = arrays["tokens"], arrays["ends"], arrays["begins"]
    rows = np.split(tokens, ends[:-1]) if len(ends) else []
    return [
        Sequence_(tokens=row, begin=int(begin)) for row, begin in zip(rows, begins, strict=True)
    ]

"""Cuts a text into chunks that end where paragraphs or sentences end."""

from __future__ import annotations

import re
from collections.abc import Iterator

CHUNK_CHARS = 1000
"""A chunk's length at most."""

_PARAGRAPH = re.compile(r"\n\s*\n")
_SENTENCE_END = re.compile(r"[.!?…。][\"'»”)]*(\s+)")


def chunks(text: str, limit: int = CHUNK_CHARS) -> Iterator[str]:
    """Yield consecutive pieces of `text`, each of `limit` characters at most.

    Sentences are put together as long as they fit; paragraphs stay apart by an empty line within a
    chunk. A sentence that is too long is cut between words, and a word that is too long anywhere.
    """
    chunk = ""
    for piece, is_first in _sentences(text, limit):
        joint = "\n\n" if is_first else " "
        if chunk and len(chunk) + len(joint) + len(piece) > limit:
            yield chunk
            chunk = ""
        chunk = f"{chunk}{joint}{piece}" if chunk else piece
    if chunk:
        yield chunk


def _sentences(text: str, limit: int) -> Iterator[tuple[str, bool]]:
    """Yield sentences, cut to `limit`, and whether each begins a paragraph."""
    for paragraph in _PARAGRAPH.split(text):
        is_first = True
        line = " ".join(paragraph.split())
        begin = 0
        ends = [found.span(1) for found in _SENTENCE_END.finditer(line)]
        for end, following in [*ends, (len(line), len(line))]:
            for piece in _cut(line[begin:end], limit):
                yield piece, is_first
                is_first = False
            begin = following


def _cut(sentence: str, limit: int) -> Iterator[str]:
    """Yield a sentence in pieces of `limit` characters at most."""
    while len(sentence) > limit:
        end = sentence.rfind(" ", 1, limit + 1)
        end = end if end > 0 else limit
        yield sentence[:end]
        sentence = sentence[end:].lstrip()
    if sentence:
        yield sentence

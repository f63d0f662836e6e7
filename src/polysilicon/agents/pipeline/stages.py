"""The stages of the pipeline: each reads files of the one before and writes its own, by shards.

They run in worker processes. A stage holds one document or one batch at a time, gives its files
their names when they are complete, and so can be repeated after a crash. Results are statistics.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import ftfy
import msgspec
import numpy as np
import py3langid

from polysilicon.agents.pipeline import chunks as chunking
from polysilicon.agents.pipeline import duplicates, personal, sources
from polysilicon.agents.pipeline.store import read_array, read_lines, write_array, write_lines
from polysilicon.runtime import models, search
from polysilicon.runtime.engines import lexical
from polysilicon.runtime.types import Document

UNKNOWN = "und"
"""ISO 639-2 for "undetermined": too few letters to tell a language by."""

MALFORMED_SHOWN = 20
_LANGUAGE_CHARS = 2000
_LEAST_LETTERS = 20
_BATCH_CHARS = 2**18
_EMBED_BATCH = 512
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


class Text(msgspec.Struct, frozen=True, kw_only=True):
    """A document, or a chunk of one, between the stages."""

    id: str
    title: str
    text: str
    language: str


def split(folder: str | None, files: list[str], work: str) -> dict[str, int]:
    """Cut the input into shards; see `sources.plan`."""
    return sources.plan(folder, files, Path(work) / "shards")


def clean(work: str, shard: int) -> dict[str, Any]:
    """Read the documents of a shard, mend their encoding, tell their language.

    Returns:
        Counts of `documents`, `empty_documents`, `encoding_faults_fixed`, `languages` and
        `malformed_lines`, and the first of these under `malformed`. All malformed lines are in the
        file `malformed` of the shard.
    """
    counts: Counter[str] = Counter()
    languages: Counter[str] = Counter()
    malformed: list[sources.Malformed] = []

    def documents() -> Iterator[Text]:
        for part in read_lines(_file(work, "shards", shard), sources.Part):
            for raw in sources.read_part(part):
                if isinstance(raw, sources.Malformed):
                    malformed.append(raw)
                    continue
                text, mended = mend(raw.text)
                if not text:
                    counts["empty_documents"] += 1
                    continue
                language = language_of(text)
                counts["documents"] += 1
                counts["encoding_faults_fixed"] += mended or raw.recoded
                languages[language] += 1
                yield Text(id=raw.id, title=mend(raw.title)[0], text=text, language=language)

    write_lines(_file(work, "clean", shard), documents())
    write_lines(_file(work, "malformed", shard), malformed)
    return {
        "documents": counts["documents"],
        "empty_documents": counts["empty_documents"],
        "encoding_faults_fixed": counts["encoding_faults_fixed"],
        "languages": dict(sorted(languages.items())),
        "malformed_lines": len(malformed),
        "malformed": [msgspec.to_builtins(line) for line in malformed[:MALFORMED_SHOWN]],
    }


def mend(text: str) -> tuple[str, bool]:
    """Return `text` with text that was decoded wrongly decoded right, and whether there was any.

    ftfy turns mojibake (UTF-8 that was read as Latin-1 or Windows-1252) back. Control characters
    go, and letters with accents become one character each (Unicode normal form C).
    """
    fixed = ftfy.fix_encoding(text)
    plain = _CONTROL.sub("", fixed.replace("\r\n", "\n").replace("\r", "\n"))
    return unicodedata.normalize("NFC", plain).strip(), fixed != text


def language_of(text: str) -> str:
    """Return the ISO 639-1 code of the likeliest language, or `und` for too short a text."""
    sample = text[:_LANGUAGE_CHARS]
    if sum(c.isalpha() for c in sample) < _LEAST_LETTERS:
        return UNKNOWN
    language: str = py3langid.classify(sample)[0]
    return language


def mask(work: str, shard: int) -> dict[str, int]:
    """Mask personal data, and take the signatures for near-duplicates; return counts by kind."""
    counts: Counter[str] = Counter()
    signatures: list[duplicates.Signatures] = []

    def documents() -> Iterator[Text]:
        for batch in _batches(read_lines(_file(work, "clean", shard), Text)):
            texts = []
            for document in batch:
                text, found = personal.mask(document.text)
                title, found_in_title = personal.mask(document.title)
                counts.update(found + found_in_title)
                texts.append(text)
                yield msgspec.structs.replace(document, text=text, title=title)
            signatures.append(duplicates.signatures(texts))

    write_lines(_file(work, "masked", shard), documents())
    write_array(_file(work, "signatures", shard, "npy"), duplicates.joined(signatures))
    return dict(sorted(counts.items()))


def _batches(documents: Iterator[Text]) -> Iterator[list[Text]]:
    """Group documents, so that the shingles of a group are not many megabytes."""
    batch: list[Text] = []
    room = _BATCH_CHARS
    for document in documents:
        batch.append(document)
        room -= len(document.text)
        if room <= 0:
            yield batch
            batch, room = [], _BATCH_CHARS
    if batch:
        yield batch


def deduplicate(work: str, shards: int) -> dict[str, int]:
    """Mark what is a near-duplicate of an earlier document, across all shards.

    Needs 512 bytes of memory a document, and about as much again for its bands.
    """
    tables = [read_array(_file(work, "signatures", n, "npy")) for n in range(shards)]
    first = duplicates.originals(duplicates.joined(tables))
    begin = 0
    for shard, table in enumerate(tables):
        rows = np.arange(begin, begin + len(table))
        write_array(_file(work, "kept", shard, "npy"), first[begin : begin + len(table)] == rows)
        begin += len(table)
    return {"near_duplicates": int(np.count_nonzero(first != np.arange(begin)))}


def chunk(work: str, shard: int) -> dict[str, int]:
    """Cut the documents that are kept into chunks."""
    kept = read_array(_file(work, "kept", shard, "npy"))

    def pieces() -> Iterator[Text]:
        documents = read_lines(_file(work, "masked", shard), Text)
        for document, is_kept in zip(documents, kept, strict=True):
            if is_kept:
                for number, text in enumerate(chunking.chunks(document.text)):
                    name = f"{document.id}#{number}"
                    yield msgspec.structs.replace(document, id=name, text=text)

    return {"chunks": write_lines(_file(work, "chunks", shard), pieces())}


def chunk_texts(work: str, shard: int) -> list[str]:
    """Return the texts of the chunks of a shard: for few of them."""
    return [piece.text for piece in read_lines(_file(work, "chunks", shard), Text)]


def embed(work: str, shard: int) -> dict[str, int]:
    """Embed the chunks of a shard into a file of n rows of 256 numbers (float32)."""
    texts = (piece.text for piece in read_lines(_file(work, "chunks", shard), Text))
    parts = [np.empty((0, lexical.DIMENSIONS), dtype=np.float32)]
    while batch := list(islice(texts, _EMBED_BATCH)):
        parts.append(np.array(lexical.embed(batch), dtype=np.float32))
    return keep_vectors(work, shard, np.concatenate(parts))


def keep_vectors(work: str, shard: int, vectors: Any) -> dict[str, int]:
    """Write vectors, a row for each chunk of the shard; return how many."""
    table = np.asarray(vectors, dtype=np.float32).reshape(len(vectors), -1 if len(vectors) else 0)
    write_array(_file(work, "vectors", shard, "npy"), table)
    return {"vectors": len(vectors)}


def pack(work: str, shard: int, model: str, length: int) -> dict[str, int]:
    """Write the chunks of a shard as training sequences of `length` tokens; return their counts.

    Chunks follow each other, an end token after each; the last sequence may be shorter.
    """
    from polysilicon.agents.posttrain import tokens  # noqa: PLC0415 - loads llama.cpp

    words = tokens.vocabulary(str(models.pull(model)))
    texts = (words.tokens(text) for text in chunk_texts(work, shard))
    rows = list(tokens.packed(texts, length, words.end()))
    tokens.write_shard(_file(work, "training", shard, "npz"), rows)
    return {"sequences": len(rows), "tokens": sum(len(row.tokens) for row in rows)}


def index(work: str, target: str, shards: int) -> dict[str, int]:
    """Build the search index of all chunks in the folder `target`; return how many it holds."""

    def documents() -> Iterator[Document]:
        for shard in range(shards):
            for piece in read_lines(_file(work, "chunks", shard), Text):
                yield Document(id=piece.id, title=piece.title, text=piece.text)

    search.build(Path(target), documents())
    return {"indexed": len(search.open_index(Path(target)))}


def _file(work: str, stage: str, shard: int, ending: str = "jsonl") -> Path:
    return Path(work) / stage / f"{shard:05d}.{ending}"

"""Full-text search over documents: BM25 with English stemming, in a tantivy index on disk."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

import tantivy

from polysilicon.errors import InputError
from polysilicon.runtime.types import Document, Hit

_ANALYSER = "english"
_TITLE_BOOST = 2.0
_WRITER_BYTES = 32 * 2**20
_LONGEST_TOKEN = 60
_QUERY_TOKENS = 256
"""Tokens of a query that are used; more would only cost time."""


class Index:
    """An index to search; safe to be used from several threads at once.

    Args:
        folder: what `build` made.

    Raises:
        InputError: there is no index in `folder`, or it is broken.
    """

    def __init__(self, folder: Path) -> None:
        try:
            self._index = tantivy.Index.open(str(folder))
            self._searcher = self._index.searcher()
        except (ValueError, OSError) as error:
            mend = "build it again"
            raise InputError(f"no search index: {error}", where=str(folder), mend=mend) from error
        self._analyser = _analyser()
        self._schema = _schema()

    def __len__(self) -> int:
        return int(self._searcher.num_docs)

    def search(self, query: str, k: int) -> list[Hit]:
        """Return the `k` best documents, best first; none for a query without words.

        Any text is a query: it is split into words, and none of its signs mean anything. Scores
        are BM25 (Robertson & Zaragoza 2009, section 3; k1 = 1.2, b = 0.75), a word in the title
        counting twice as much as one in the text.
        """
        if k < 1:
            return []
        # What UTF-8 cannot hold (lone surrogates) cannot be in the index either.
        tokens = self._analyser.analyze(query.encode(errors="ignore").decode())
        tokens = list(dict.fromkeys(tokens))[:_QUERY_TOKENS]
        if not tokens:
            return []
        parts = []
        for token in tokens:
            text = tantivy.Query.term_query(self._schema, "text", token)
            title = tantivy.Query.term_query(self._schema, "title", token)
            parts.append((tantivy.Occur.Should, text))
            parts.append((tantivy.Occur.Should, tantivy.Query.boost_query(title, _TITLE_BOOST)))
        found = self._searcher.search(tantivy.Query.boolean_query(parts), limit=k)
        hits = []
        for score, address in found.hits:
            stored = self._searcher.doc(address)
            hits.append(
                Hit(
                    id=stored.get_first("id"),
                    title=stored.get_first("title"),
                    text=stored.get_first("text"),
                    score=score,
                )
            )
        return hits


def build(folder: Path, documents: Iterable[Document]) -> None:
    """Build an index of `documents` in `folder`.

    Documents are taken one by one, and memory stays bounded however many there are. The index
    appears all at once: a build that breaks off leaves nothing, and one that is repeated replaces
    what was there.

    Raises:
        InputError: the folder cannot be written.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    except OSError as error:
        raise InputError(f"cannot write: {error.strerror}", where=str(folder)) from error
    try:
        _write(part, documents)
        if folder.exists():
            shutil.rmtree(folder)
        part.replace(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def open_index(folder: Path) -> Index:
    """Open the index that `build` made in `folder`.

    Raises:
        InputError: there is none, or it is broken.
    """
    return Index(folder)


def _write(folder: Path, documents: Iterable[Document]) -> None:
    index = tantivy.Index(_schema(), path=str(folder))
    index.register_tokenizer(_ANALYSER, _analyser())
    # One thread, so that the same documents give the same index, ties included.
    writer = index.writer(heap_size=_WRITER_BYTES, num_threads=1)
    try:
        for document in documents:
            fields = {"id": document.id, "title": document.title, "text": document.text}
            clean = {name: _clean(text) for name, text in fields.items()}
            writer.add_document(tantivy.Document(**clean))
        writer.commit()
    finally:
        writer.wait_merging_threads()


def _clean(text: str) -> str:
    """Return `text` with what UTF-8 cannot hold (lone surrogates) replaced."""
    return text.encode(errors="replace").decode()


def _analyser() -> tantivy.TextAnalyzer:
    """Return how text becomes words: split at signs, lower case, accents off, English stems."""
    return (
        tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.simple())
        .filter(tantivy.Filter.remove_long(_LONGEST_TOKEN))
        .filter(tantivy.Filter.lowercase())
        .filter(tantivy.Filter.ascii_fold())
        .filter(tantivy.Filter.stemmer("english"))
        .build()
    )


def _schema() -> tantivy.Schema:
    return (
        tantivy.SchemaBuilder()
        .add_text_field("id", stored=True, tokenizer_name="raw")
        .add_text_field("title", stored=True, tokenizer_name=_ANALYSER)
        .add_text_field("text", stored=True, tokenizer_name=_ANALYSER)
        .build()
    )

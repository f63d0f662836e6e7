"""From hits to passages, and from an answer to checked citations."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from polysilicon.agents.researcher.corpus import NOTES

PASSAGES = 3
"""Passages that are read."""
PASSAGE_CHARACTERS = 230
_RANK_CONSTANT = 60
"""Of reciprocal rank fusion (Cormack, Clarke & Büttcher, SIGIR 2009, section 2)."""
_OWN_WORDS_WEIGHT = 3.0

_STOP_WORDS = frozenset(
    ["a", "about", "after", "all", "also", "am", "an", "and", "another", "any", "anything", "are", "as", "at", "be", "because", "been", "before", "but", "by", "can", "class", "come", "comes", "could", "do", "does", "done", "down", "each", "easiest", "every", "for", "from", "function", "get", "gets", "give", "gives", "given", "go", "good", "got", "had", "has", "have", "how", "i", "i'd", "if", "in", "into", "is", "it", "its", "itself", "just", "know", "less", "like", "look", "lot", "made", "make", "me", "mean", "module", "most", "much", "must", "my", "need", "needs", "no", "not", "now", "of", "off", "on", "one", "ones", "only", "or", "our", "out", "own", "people", "please", "program", "python", "script", "shall", "should", "show", "so", "some", "somebody", "something", "stand", "such", "takes", "tell", "than", "that", "the", "their", "them", "then", "there", "these", "they", "thing", "things", "this", "those", "to", "too", "up", "us", "use", "used", "user", "users", "using", "want", "was", "way", "we", "what", "when", "where", "which", "while", "who", "why", "will", "with", "without", "work", "would", "write", "writing", "wrote", "yes", "you", "your", "s", "t", "m", "d", "ll", "re", "ve", "someone"]
)
"""Words of questions that say nothing about what is looked for; BM25 would match them in names."""

_WORD = re.compile(r"[^\W_]+")
_NAME = re.compile(r"\b[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+")
_SENTENCE = re.compile(r"(?<=[.!?:])\s+|\n\n")


def keywords(question: str) -> str:
    """Return the words of a question that a search can use; all of them where none would be left."""
    words = _WORD.findall(question)
    kept = [word for word in words if word.casefold() not in _STOP_WORDS]
    return " ".join(kept or words)


def fuse(rankings: Sequence[Sequence[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Merge ranked lists of hits by reciprocal rank fusion, best first.

    Args:
        rankings: hits (`id`, `title`, `text`) of each query, best first. The first list is
            of the question itself and counts as much as `_OWN_WORDS_WEIGHT` others.

    Returns:
        Each hit once; ties keep the order in which the hits came.
    """
    scores: dict[str, float] = {}
    known: dict[str, dict[str, Any]] = {}
    for number, ranking in enumerate(rankings):
        weight = _OWN_WORDS_WEIGHT if number == 0 else 1.0
        for rank, hit in enumerate(ranking, 1):
            known.setdefault(hit["id"], hit)
            scores[hit["id"]] = scores.get(hit["id"], 0.0) + weight / (_RANK_CONSTANT + rank)
    return sorted(known.values(), key=lambda hit: -scores[hit["id"]])


def read(rankings: Sequence[Sequence[dict[str, Any]]]) -> dict[str, Any]:
    """Rank the hits of all queries and cut the best ones to passages, as the tool step of the agent.

    Returns:
        `hits`: ids, best first; `passages`: `id`, `title` and `text` of the best `PASSAGES`.
    """
    ranked = fuse(rankings)
    passages = [
        {"id": hit["id"], "title": hit["title"], "text": passage(hit["text"])}
        for hit in ranked[:PASSAGES]
    ]
    return {"hits": [hit["id"] for hit in ranked], "passages": passages}


def passage(text: str) -> str:
    """Return the first sentences of a docstring, at most `PASSAGE_CHARACTERS`, at least one piece."""
    taken = ""
    for sentence in _SENTENCE.split(text.rpartition(f"\n{NOTES}")[0] or text):
        line = " ".join(sentence.split())
        if taken and len(taken) + 1 + len(line) > PASSAGE_CHARACTERS:
            break
        taken = f"{taken} {line}".strip()
    return taken[:PASSAGE_CHARACTERS].rstrip()


def check_citations(cited: Iterable[Any], passages: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Keep the citations that name a passage that was read; drop and count the others.

    Returns:
        `citations`: valid ids, each once, in order; `dropped`: how many were invented.
    """
    known = {passage["id"] for passage in passages}
    asked = list(dict.fromkeys(str(name) for name in cited))
    valid = [name for name in asked if name in known]
    return {"citations": valid, "dropped": len(asked) - len(valid)}


def unsupported_names(answer: str, passages: Sequence[dict[str, Any]]) -> list[str]:
    """Return the dotted names in an answer that no passage read has: likely inventions."""
    ground = " ".join(f"{p['id']} {p['title']} {p['text']}" for p in passages)
    return [name for name in dict.fromkeys(_NAME.findall(answer)) if name not in ground]


def is_of_module(name: str, module: str) -> bool:
    """Tell whether a qualified name is `module` or lies in it."""
    return name == module or name.startswith(f"{module}.")

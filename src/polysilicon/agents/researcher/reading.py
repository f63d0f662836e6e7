"""From hits to passages, and from an answer to checked citations."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from polysilicon.agents.researcher.corpus import NOTES, module_of, read_words

PASSAGES = 3
"""Passages that are read."""
PASSAGE_CHARACTERS = 230
_PLANNED_WEIGHT = 0.3
"""Of a query that the model planned: it often misses the point."""
_SIBLINGS_WEIGHT = 0.1

_STOP_WORDS = frozenset(read_words("stop_words.txt"))
"""Words of questions that say nothing about what is looked for; BM25 would match them in names."""

_WORD = re.compile(r"[^\W_]+")
_NAME = re.compile(r"\b[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+")
_SENTENCE = re.compile(r"(?<=[.!?:])\s+|\n\n")


def keywords(question: str) -> str:
    """Return the words of a question that a search can use; all where none would be left."""
    words = _WORD.findall(question)
    kept = [word for word in words if word.casefold() not in _STOP_WORDS]
    return " ".join(kept or words)


def fuse(rankings: Sequence[Sequence[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Merge ranked lists of hits, best first.

    Scores are made comparable by the best of their list. A hit counts for more where the search
    found others of its module too: a question is about one module, chance hits are about many.

    Args:
        rankings: hits (`id`, `title`, `text`, `score`) of each query, best first. The first list
            is of the question's own words, the others of planned queries.

    Returns:
        Each hit once; ties keep the order in which the hits came.
    """
    scores: dict[str, float] = {}
    known: dict[str, dict[str, Any]] = {}
    for number, ranking in enumerate(rankings):
        weight = _PLANNED_WEIGHT if number else 1.0
        for hit in ranking:
            known.setdefault(hit["id"], hit)
            share = hit["score"] / ranking[0]["score"]
            scores[hit["id"]] = scores.get(hit["id"], 0.0) + weight * share
    modules: dict[str, float] = {}
    for name, score in scores.items():
        modules[module_of(name)] = modules.get(module_of(name), 0.0) + score

    def worth(hit: dict[str, Any]) -> float:
        own = scores[hit["id"]]
        return own + _SIBLINGS_WEIGHT * (modules[module_of(hit["id"])] - own)

    return sorted(known.values(), key=worth, reverse=True)


def read(rankings: Sequence[Sequence[dict[str, Any]]]) -> dict[str, Any]:
    """Rank the hits of all queries and cut the best to passages: the agent's tool step.

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
    """Return the first sentences of a docstring, at most `PASSAGE_CHARACTERS`."""
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

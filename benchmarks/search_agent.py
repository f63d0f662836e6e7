"""An agent that searches, ranks the sentences of what it finds, and has the model answer from them.

The shape of the LangChain workload of arXiv 2511.00739: most of a task is CPU work.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from polysilicon import Agent, Context
from polysilicon.agents.researcher.corpus import read_library, read_questions
from polysilicon.runtime import search
from polysilicon.runtime.types import Document, Setup

FOUND, KEPT = 110, 1
SUMMARY_CHARACTERS = 250
ANSWER_TOKENS = 8


@lru_cache
def _index(folder: str) -> search.Index:
    return search.open_index(Path(folder))


def summarise(folder: str, question: str) -> str:
    """Return the sentences that say most of what a search finds: LexRank.

    Sentences are ranked by the stationary distribution of a walk over their similarities, cosines
    of TF-IDF (Erkan & Radev, J. Artificial Intelligence Research 22 (2004), section 3).
    """
    hits = _index(folder).search(question, FOUND)
    sentences = [
        s.strip() for hit in hits for s in re.split(r"(?<=[.!?])\s+", hit.text) if s.strip()
    ]
    bags = [Counter(re.findall(r"\w+", sentence.lower())) for sentence in sentences]
    seen = Counter(word for bag in bags for word in bag)
    weights = {word: math.log(len(bags) / n) for word, n in seen.items()}
    norms = [math.sqrt(sum((n * weights[w]) ** 2 for w, n in bag.items())) for bag in bags]
    alike = np.eye(len(bags))
    for i, one in enumerate(bags):
        for j in range(i):
            common = one.keys() & bags[j].keys()
            dot = sum(one[w] * bags[j][w] * weights[w] ** 2 for w in common)
            alike[i, j] = alike[j, i] = dot / (norms[i] * norms[j] or 1.0)
    walk = 0.85 * alike / alike.sum(axis=0) + 0.15 / len(bags)
    rank = np.full(len(bags), 1.0 / len(bags))
    for _ in range(50):
        rank = walk @ rank
    return " ".join(sentences[i] for i in sorted(np.argsort(-rank)[:KEPT]))[:SUMMARY_CHARACTERS]


def messages(question: str, summary: str) -> list[dict[str, str]]:
    """Return what the model is asked."""
    return [
        {"role": "system", "content": "Answer from the notes, in one sentence."},
        {"role": "user", "content": f"Notes: {summary}\n\nQuestion: {question}"},
    ]


async def answer(ctx: Context, value: dict[str, Any]) -> str:
    """Answer a question."""
    folder = str(ctx.folder / "indexes" / "stdlib")
    summary = await ctx.call(summarise, folder, value["question"])
    asked = messages(value["question"], summary)
    return (await ctx.chat(asked, max_tokens=ANSWER_TOKENS)).text


async def prepare(setup: Setup) -> None:
    """Build the index."""
    await setup.index("stdlib", (Document(**row) for row in read_library()))


ANSWER = Agent(name="answer", run=answer, prepare=prepare, inputs=read_questions)

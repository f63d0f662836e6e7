"""An embedder without a model: words and pairs of words, hashed into 256 numbers.

It is lexical: texts are near where they share words, whatever those mean. It needs no download and
no training, and gives the same vectors on every machine.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Sequence
from typing import Any

from polysilicon.errors import EngineError
from polysilicon.runtime.types import ChatRequest, ChatResult, EmbedResult

DIMENSIONS = 256


def embed(texts: Sequence[str]) -> list[list[float]]:
    """Return a vector of 256 numbers for each text, of length 1 (0 where a text has no words).

    Feature hashing with signs: each word and each pair of neighbouring words adds +1 or -1 at a
    place that its hash names, so that collisions cancel in the mean (Weinberger et al. 2009,
    "Feature Hashing for Large Scale Multitask Learning", section 2).

    Args:
        texts: n texts.

    Returns:
        n rows of 256 floats.
    """
    if not texts:
        return []
    rows: list[list[float]] = _vectorizer().transform(texts).toarray().tolist()
    return rows


@functools.cache
def _vectorizer() -> Any:
    # Imported when first used: it takes a second, and most runs never embed.
    from sklearn.feature_extraction.text import HashingVectorizer  # noqa: PLC0415

    return HashingVectorizer(
        n_features=DIMENSIONS, ngram_range=(1, 2), norm="l2", lowercase=True, alternate_sign=True
    )


class LexicalEmbedder:
    """The engine `lexical`: embeds on this machine, and cannot chat."""

    name = "lexical"
    model = "lexical-256"
    concurrency = 1

    async def chat(
        self,
        request: ChatRequest,  # noqa: ARG002 - as the protocol says
        on_token: Callable[[str], None] | None = None,  # noqa: ARG002
    ) -> ChatResult:
        """Refuse.

        Raises:
            EngineError: always.
        """
        raise EngineError(f"{self.model} embeds only; it cannot chat")

    async def embed(self, texts: Sequence[str]) -> EmbedResult:
        """Return a vector for each text; see `embed` of this module."""
        return EmbedResult(vectors=await asyncio.to_thread(embed, list(texts)))

    async def close(self) -> None:
        """Do nothing: there is nothing to free."""

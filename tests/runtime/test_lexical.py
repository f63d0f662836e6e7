from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polysilicon.runtime.engines.lexical import DIMENSIONS, embed


def dot(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def test_near_where_words_are_shared() -> None:
    first, near, far = embed(["the red house by the sea", "a red house by a lake", "tax returns"])
    assert dot(first, near) > 0.3 > dot(first, far)


def test_order_of_words_counts_a_little() -> None:
    first, turned = embed(["man bites dog", "dog bites man"])
    assert 0.5 < dot(first, turned) < 1.0


@settings(max_examples=50, deadline=None)
@given(text=st.text(max_size=80))
def test_vectors_have_length_one_or_no_words(text: str) -> None:
    [vector] = embed([text])
    length = math.sqrt(dot(vector, vector))
    assert len(vector) == DIMENSIONS
    assert length == pytest.approx(1.0) or length == 0.0


def test_the_same_vector_on_every_machine() -> None:
    [vector] = embed(["polysilicon"])
    assert [(place, value) for place, value in enumerate(vector) if value] == [(70, -1.0)]


def test_no_texts_no_vectors() -> None:
    assert embed([]) == []

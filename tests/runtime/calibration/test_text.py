from __future__ import annotations

import random

import pytest

from polysilicon.catalog.tables import read_rows
from polysilicon.runtime.calibration import speed
from polysilicon.runtime.calibration.speed import PROGRAMS
from polysilicon.runtime.calibration.text import sample_text, vocabulary, words


def test_the_same_seed_gives_the_same_text():
    assert sample_text(5000, random.Random(1)) == sample_text(5000, random.Random(1))
    assert sample_text(5000, random.Random(1)) != sample_text(5000, random.Random(2))
    assert len(sample_text(1234, random.Random(1))) == 1234


def test_words_are_of_the_vocabulary_and_follow_a_steep_law():
    known = vocabulary()
    assert len(set(known)) == len(known) == 12_000
    found = words(5000, random.Random(3))
    assert set(found) <= set(known)
    assert max(found.count(word) for word in set(found)) > 100


def test_it_compresses_as_the_text_of_the_reference():
    content = sample_text(1_000_000, random.Random(1)).encode()
    path = speed.files(speed.__package__) / "data" / "cc_by_sa" / "compression.csv"
    for _, row in read_rows(path, speed._COLUMNS):
        compress = PROGRAMS[row["program"], int(row["level"])]
        assert len(compress(content)) / len(content) == pytest.approx(row["ratio"], rel=0.06)

"""Ways to run the phases of post-training: what is foretold of those that overlap."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
TOOK_S = {
    ("evaluate", 0): 3.0,
    ("answer", 1): 5.0, ("verify", 1): 1.0, ("train", 1): 12.0, ("evaluate", 1): 3.0,
    ("answer", 2): 5.0, ("verify", 2): 1.0, ("train", 2): 4.0, ("evaluate", 2): 3.5,
    ("answer", 3): 7.0, ("train", 3): 8.0, ("evaluate", 3): 2.0,
}  # fmt: skip


@pytest.fixture
def ways(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("posttrain_ways")


def test_each_round_takes_as_long_as_its_longer_side(ways: ModuleType) -> None:
    # The first answers; then training, or an evaluation and answers; the last evaluation.
    sides = (max(12.0, 3.0 + 6.0), max(4.0, 3.0 + 7.0), max(8.0, 3.5))
    assert ways.overlapped_s(TOOK_S) == pytest.approx(6.0 + sum(sides) + 2.0)


def test_what_no_phase_covers_stays(ways: ModuleType) -> None:
    phases = [
        ways.posttrain_page.Phase(task_id="a", number=number, name=name, seconds=s, steps=[])
        for (name, number), s in TOOK_S.items()
    ]
    seconds = sum(TOOK_S.values()) + 2.5
    turns = ways.Took(way="in turns", seconds=seconds, idle_s=0.0, sampled=1, trained=1,
                      phases=phases)  # fmt: skip
    assert ways.foretold_s(turns) == pytest.approx(ways.overlapped_s(TOOK_S) + 2.5)


def test_a_row_tells_throughput_beside_that_of_the_first(
    ways: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ways, "cores", lambda: 2)
    first, second = (
        ways.Took(way=way, seconds=s, idle_s=10.0, sampled=tokens, trained=7)
        for way, s, tokens in (("a", 100.0, 1000), ("b", 50.0, 900))
    )
    assert (
        ways.row_of(second, first) == "| b | 50.0 | 900 | 7 | 18.0 | 1.80 | 10.0 of 100.0 (10%) |"
    )

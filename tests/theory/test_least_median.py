"""The median that no order can beat, against all that lists in random orders come to."""

from __future__ import annotations

import heapq
import importlib.util
import random
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def bound() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bound", ROOT / "benchmarks" / "bound.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def ends_s(core_s: list[float], cores: int) -> list[float]:
    """When tasks end that each take a core of their own, in this order."""
    free_s = [0.0] * cores
    found = []
    for took_s in core_s:
        found.append(heapq.heappop(free_s) + took_s)
        heapq.heappush(free_s, found[-1])
    return found


@pytest.mark.parametrize("cores", [1, 2, 5])
def test_no_order_ends_half_of_the_tasks_sooner(bound: ModuleType, cores: int) -> None:
    rng = random.Random(cores)
    core_s = [rng.expovariate(1.0) for _ in range(64)]
    least_s = bound.least_s(core_s, cores, 50)
    for _ in range(200):
        rng.shuffle(core_s)
        assert np.percentile(ends_s(core_s, cores), 50) > least_s
    shortest_first = ends_s(sorted(core_s), cores)
    if cores == 1:
        assert np.percentile(shortest_first, 50) == pytest.approx(least_s)
    assert np.percentile(shortest_first, 50) < 1.2 * least_s


def test_tasks_of_one_length_end_one_after_the_other(bound: ModuleType) -> None:
    assert bound.least_s([3.0] * 64, 2, 50) == pytest.approx(32.5 * 3.0 / 2)
    assert bound.least_s([3.0] * 64, 2, 100) == pytest.approx(64 * 3.0 / 2)

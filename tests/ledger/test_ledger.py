from __future__ import annotations

import numpy as np
import pytest

from polysilicon.errors import InputError
from polysilicon.ledger.ledger import exact_sums, ledger
from polysilicon.workload.record import StepRecord
from polysilicon.workload.workload import Workload


def step(task: str, number: int, **more: object) -> StepRecord:
    return StepRecord(task_id=task, step_id=str(number), name="chat", kind="llm", **more)


def test_sums_by_task_agent_kind_pool_and_name() -> None:
    books = ledger(
        Workload.from_records(
            [
                step("t", 0, agent="a", pool="gpu", cost_usd=0.1, prompt_tokens=10, cpu_s=1.5),
                step("t", 1, agent="a", pool="cpu", cost_usd=0.2, output_tokens=4, energy_j=2.0),
                step("u", 0, agent="b", pool="cpu", outcome="error", cached_tokens=0),
            ]
        )
    )
    assert list(books.by_task) == ["t", "u"]
    assert books.by_task["t"].cost_usd == pytest.approx(0.3, abs=1e-12)
    assert books.by_task["u"].cost_usd is None
    assert books.by_pool["cpu"].cost_usd == 0.2
    assert books.by_pool["cpu"].unpriced == 1
    assert books.by_agent["a"].prompt_tokens == 10
    assert books.by_agent["a"].output_tokens == 4
    assert books.by_agent["a"].core_s == 1.5
    assert books.by_kind["llm"] == books.total == books.by_name["chat"]
    assert (books.total.steps, books.total.failed, books.total.unmetered) == (3, 1, 2)
    assert books.total.energy_j == 2.0
    assert books.by_agent["b"].energy_j is None
    assert (books.by_agent["b"].cached_tokens, books.by_agent["b"].prompt_tokens) == (0, None)
    assert books.total.picodollars == 300_000_000_000


def test_a_million_tenths_of_a_cent_are_a_thousand_dollars() -> None:
    size = 1_000_000
    codes = np.arange(size) % 7
    sums = exact_sums(np.full(size, 10**9), codes, 7)
    assert sum(sums) == 1_000 * 10**12


def test_sums_beyond_64_bits_are_exact() -> None:
    size = 2_000
    sums = exact_sums(np.full(size, 9 * 10**18), np.zeros(size, np.int64), 1)
    assert sums == [size * 9 * 10**18]


def test_a_step_without_agent_or_pool_is_counted() -> None:
    books = ledger(Workload.from_records([step("t", 0, cost_usd=1e-9)]))
    assert books.by_agent["(none)"].picodollars == 1000
    assert books.by_pool["(none)"].steps == 1


def test_no_steps_cost_nothing() -> None:
    books = ledger(Workload.from_records([]))
    assert (books.total.steps, books.total.picodollars, books.by_task) == (0, 0, {})


def test_an_absurd_price_is_refused() -> None:
    with pytest.raises(InputError, match=r"row 1 \(from 0\), cost_usd: 10000000 dollars"):
        ledger(Workload.from_records([step("t", 0), step("t", 1, cost_usd=1e7)]))

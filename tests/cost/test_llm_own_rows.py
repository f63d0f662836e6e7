"""Imported measurements correct estimates of what they measured, and of nothing else."""

from __future__ import annotations

import pytest

from polysilicon import catalog, cost
from polysilicon.catalog.measurements import Measurement, read_measurements
from polysilicon.cost.fit.tables import SERVED, SERVED_MORE, folder
from polysilicon.cost.llm.fitted import shipped_fit
from polysilicon.cost.llm.own_rows import MOST_ROWS, fit_for
from polysilicon.workload.record import StepRecord

OFFER = "aws/g6.xlarge"


def measured(**told):
    values = {
        "processor": "NVIDIA L4",
        "count": 1,
        "engine": "vllm",
        "model": "llama-3.1-8b-instruct",
        "precision": "bf16",
        "concurrency": 8.0,
        "prompt_tokens": 1000,
        "output_tokens": 200,
        "ttft_ms": 2000.0,
        "tpot_ms": 120.0,
        **told,
    }
    return Measurement(row=2, **values)


def with_rows(*rows):
    known = catalog.Catalog(catalog.catalog.data_folder())
    known.__dict__["measurements"] = rows
    return known


def asked(known, offer=OFFER, concurrency=8):
    step = StepRecord(
        task_id="t",
        step_id="1",
        name="chat",
        kind="llm",
        model="llama-3.1-8b-instruct",
        prompt_tokens=1000,
        output_tokens=200,
    )
    load = cost.Load(concurrency=concurrency, serving=cost.Serving(engine="vllm"))
    return cost.estimate(step, known.offer(offer), load, known)


def test_without_own_rows_the_shipped_fit_holds():
    assert fit_for(with_rows()) is shipped_fit()


def test_an_own_row_is_the_estimate_of_what_it_measured():
    found = asked(with_rows(measured()))
    assert found.basis == "measured"
    assert found.ttft_s == pytest.approx(2.0, rel=0.05)
    assert found.tpot_s == pytest.approx(0.12, rel=0.05)


def test_it_moves_its_neighbours_and_leaves_other_chips_alone():
    before, after = with_rows(), with_rows(measured())
    near = [asked(known, concurrency=12).tpot_s for known in (before, after)]
    assert near[1] > 1.1 * near[0]
    far = [asked(known, offer="aws/p5.48xlarge").tpot_s for known in (before, after)]
    assert far[0] == pytest.approx(far[1])


def known_of(fit, metric="ttft_s"):
    """Return what a fit knows beyond the shipped one."""
    shipped = len(shipped_fit().known[metric].values)
    known = fit.known[metric]
    assert len(known.rows.names) == len(known.values) == len(known.noise_sd)
    return known.values[shipped:]


@pytest.mark.parametrize("metric", ["ttft_s", "tpot_s"])
def test_a_row_twice_is_one_row(metric):
    row = measured(date="2026-02-01")
    once = known_of(fit_for(with_rows(row)), metric)
    assert len(once) == 1
    assert known_of(fit_for(with_rows(row, row)), metric).tolist() == once.tolist()
    # Listed again with its times written shorter, it is the same run; the latest is kept.
    again = measured(date="2026-01-01", ttft_ms=2000.4, tpot_ms=120.1)
    for rows in ((row, again), (again, row)):
        assert known_of(fit_for(with_rows(*rows)), metric).tolist() == once.tolist()


@pytest.mark.parametrize("told", [{"ttft_ms": 2100.0}, {"concurrency": 9.0}, {"engine": "sglang"}])
def test_another_run_is_another_row(told):
    assert len(known_of(fit_for(with_rows(measured(), measured(**told))))) == 2


@pytest.mark.parametrize("table", [SERVED, SERVED_MORE])
def test_rows_that_the_fit_knows_are_not_counted_twice(table):
    rows = [row for row in read_measurements(folder() / table) if row.ttft_ms and row.tpot_ms]
    assert len(rows) > 1000
    assert fit_for(with_rows(*rows)) is shipped_fit()


def test_of_one_chip_and_engine_the_latest_three_hundred_are_taken():
    rows = [
        measured(
            date=f"2026-{1 + i // 28:02d}-{1 + i % 28:02d}",
            ttft_ms=1000.0 * 1.02**i,
        )
        for i in range(MOST_ROWS + 10)
    ]
    last = known_of(fit_for(with_rows(*rows[10:])))
    assert len(last) == MOST_ROWS == 300
    assert sorted(known_of(fit_for(with_rows(*rows)))) == sorted(last)
    # Another engine has its own.
    other = measured(engine="sglang", date="2025-01-01")
    assert len(known_of(fit_for(with_rows(*rows, other)))) == MOST_ROWS + 1


@pytest.mark.parametrize(
    "told",
    [
        {"ttft_ms": None},
        {"processor": "AWS Graviton5"},
        {"processor": "nobody's"},
        {"model": "nobody's"},
        {"model": "deepseek-r1"},
    ],
)
def test_rows_that_tell_nothing_change_nothing(told):
    assert fit_for(with_rows(measured(**told))) is shipped_fit()

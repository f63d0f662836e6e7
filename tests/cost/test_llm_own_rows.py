"""Imported measurements correct estimates of what they measured, and of nothing else."""

from __future__ import annotations

import pytest

from polysilicon import catalog, cost
from polysilicon.catalog.measurements import Measurement
from polysilicon.cost.llm.fitted import shipped_fit
from polysilicon.cost.llm.own_rows import fit_for
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

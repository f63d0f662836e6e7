from __future__ import annotations

import numpy as np
import pytest

from polysilicon import catalog
from polysilicon.catalog.measurements import Measurement
from polysilicon.cost.fit.cases import rows_of, together
from polysilicon.cost.fit.tables import (
    SERVED_MORE,
    case_of,
    mend_ranks,
    other_cases,
    served_cases,
)
from polysilicon.cost.llm.work import Work
from polysilicon.errors import InputError, NoBasisError

CATALOG = catalog.load()
AICONFIGURATOR = "ai-dynamo/aiconfigurator"


def measured(**values):
    fields = {
        "row": 2, "source": "somebody", "date": "2026-01-01", "processor": "NVIDIA H100 SXM5 80GB",
        "engine": "vllm", "model": "llama-3.1-8b-instruct", "precision": "bf16",
        "concurrency": 8.0, "prompt_tokens": 1000, "output_tokens": 200,
        "ttft_ms": 120.0, "tpot_ms": 9.5,
    }  # fmt: skip
    return Measurement(**(fields | values))


def case(**values):
    return case_of(measured(**values), CATALOG)


def test_a_served_row_is_a_case():
    found = case()
    assert (found.ttft_s, found.tpot_s) == (0.120, 0.0095)
    assert (found.cycle_s, found.batch_s) == (None, None)
    assert (found.concurrency, found.new, found.output) == (8.0, 1000.0, 200.0)
    assert (found.engine, found.precision, found.split.gpus) == ("vllm", "bf16", 1)
    assert found.truth == (0.120, 0.0095, None, None)
    assert "static" not in found.tags
    assert found.work().sequences == 8


def test_half_a_row_is_half_a_case():
    assert case(tpot_ms=None).truth == (0.120, None, None, None)
    assert case(ttft_ms=None).truth == (None, 0.0095, None, None)


def test_a_rate_is_the_cycle_of_a_request():
    # 8 requests of 200 tokens at 400 tokens a second: one comes out every half second.
    found = case(ttft_ms=None, tpot_ms=None, decode_tokens_per_s=400.0)
    assert found.truth == (None, None, 4.0, None)
    static = case(ttft_ms=None, tpot_ms=None, decode_tokens_per_s=400.0, source="argonne:1")
    assert static.truth == (None, None, None, 4.0)
    assert static.tags["static"] == 1.0
    assert static.tags["static on:NVIDIA H100 SXM5 80GB"] == 1.0
    assert not any(tag.startswith("static") for tag in found.tags)


def test_the_engine_may_be_left_out_and_the_precision_is_then_the_published_one():
    assert case(engine="").engine == "vllm"
    assert case(precision="").precision == "bf16"
    assert case(model="gpt-oss-120b", precision="").precision == "fp4"
    assert case(processor="AWS Trainium1", engine="").engine == "neuron"


def test_accelerators_are_counted_or_follow_from_tensor_parallelism():
    assert case(count=4).split.gpus == 4
    assert case(tp=2).split.gpus == 2
    # Cores of a Neuron chip are ranks of tensor parallelism, two a chip.
    neuron = case(processor="AWS Trainium1", engine="neuron", count=4, tp=8)
    assert neuron.split.gpus == 4


@pytest.mark.parametrize(
    ("values", "error", "words"),
    [
        ({"model": "lama-3.1-8b-instruct"}, InputError, "did you mean llama-3.1-8b-instruct"),
        ({"processor": "NVIDIA H1000"}, InputError, "unknown processor"),
        ({"engine": "vlm"}, InputError, "unknown engine"),
        ({"precision": "fp9"}, InputError, "unknown precision"),
        ({"tp": 3}, InputError, "heads"),
        ({"pp": 2, "count": 2}, NoBasisError, "pipeline parallelism was not measured"),
        ({"processor": "Microsoft Maia 100"}, NoBasisError, "no peak"),
    ],
)
def test_rows_that_are_no_cases(values, error, words):
    with pytest.raises(error, match=words):
        case(**values).work()


@pytest.mark.parametrize(
    ("labels", "gpus", "ranks", "experts", "concurrency"),
    [
        ({"tp": 8}, 8, None, None, 8),
        ({"tp": 1, "dp": 4}, 4, 4, None, 32),
        ({"tp": 1, "dp": 8, "ep": 8}, 8, 8, 8, 64),
        ({"tp": 8, "ep": 8}, 8, None, 8, 8),
        ({"tp": 64, "ep": 8}, 8, None, 8, 8),
        ({"tp": 16, "ep": 4}, 4, None, 4, 8),
        ({"tp": 4, "dp": 2}, 2, 2, None, 16),
    ],
)
def test_labels_that_were_multiplied_are_mended(labels, gpus, ranks, experts, concurrency):
    found, serving, at_once = mend_ranks(measured(**labels))
    assert (found, serving.dp, serving.ep, at_once) == (gpus, ranks, experts, concurrency)


def test_only_rows_of_that_source_are_mended():
    labels = {"model": "deepseek-r1", "precision": "fp8", "tp": 16, "ep": 4}
    chip = {"processor": "NVIDIA B200"}
    mended = case(source=f"{AICONFIGURATOR} table", **labels, **chip)
    assert mended.split.gpus == 4
    assert case(**labels, **chip).split.gpus == 16


def test_cases_stand_together():
    cases = [case(), case(prompt_tokens=2000, concurrency=1.0), case(tp=2)]
    works = together([one.work() for one in cases])
    for name in Work.__struct_fields__:
        single = [getattr(one.work(), name)[0] for one in cases]
        assert getattr(works, name).tolist() == single
    rows = rows_of(cases)
    assert len(rows) == 3
    assert (2.0 ** rows.octaves[:, 2]) == pytest.approx([1000, 2000, 1000])
    assert (2.0 ** rows.octaves[:, 0]) == pytest.approx([1, 1, 2])


def test_the_tables_that_come_with_it_are_cases():
    served, left_out = served_cases(CATALOG)
    later, also = served_cases(CATALOG, SERVED_MORE)
    others, reasons = other_cases(CATALOG)
    assert len(served) == 1250
    # At least 95 of 100 rows of served load are predicted.
    assert left_out.total() + also.total() <= 0.05 * (len(served) + len(later))
    assert len(others) > 3000
    assert all("\n" not in reason for reason in reasons)
    assert all(one.ttft_s and one.tpot_s for one in served)
    for one in (*served, *later, *others):
        assert any(value is not None for value in one.truth)
        assert all(value is None or 0 < value < np.inf for value in one.truth)
        assert one.source

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from polysilicon import catalog
from polysilicon.catalog.measurements import Measurement
from polysilicon.cost.held_out import family_of_row, fitter
from polysilicon.cost.predict import Prediction, Refusal
from polysilicon.cost.validate import folds_of, held_out, tally

KNOWN = catalog.load()


def gpu_rows():
    """Rows of a made-up engine speed: times grow with the load, and twice as fast on one chip."""
    rng = np.random.default_rng(4)
    return [
        Measurement(
            row=len(BATCHES) * i + j, processor=chip, count=1, engine="vllm", tp=1,
            model="llama-3.1-8b", precision="fp8", concurrency=float(batch), prompt_tokens=1024,
            output_tokens=512, ttft_ms=(20 + 5 * batch) * slow * float(rng.uniform(0.95, 1.05)),
            tpot_ms=(6 + batch / 8) * slow * float(rng.uniform(0.97, 1.03)),
        )
        for i, (chip, slow) in enumerate((("h100_sxm", 1.0), ("b200_sxm", 0.5)))
        for j, batch in enumerate(BATCHES)
    ]  # fmt: skip


BATCHES = (1, 2, 4, 8, 16, 32, 64)


def test_accelerators_are_fitted_without_the_fold():
    rows = gpu_rows()
    folds = folds_of(rows, "random", lambda _: "", np.random.default_rng(1))
    found = tally(held_out(rows, fitter(KNOWN), folds, lambda _: None))
    assert found.predicted == len(rows)
    scores = found.overall()
    assert scores["tpot_ms"].median_ape < 0.2
    assert scores["ttft_ms"].median_ape < 0.4
    assert {p.basis for p in found.points} == {"calibrated"}
    assert all(p.low < p.predicted < p.high for p in found.points)


def test_what_was_measured_in_a_row_does_not_change_its_own_prediction():
    rows = gpu_rows()
    predictor = fitter(KNOWN)(rows[:-1])
    asked = rows[-1]
    changed = msgspec.structs.replace(asked, ttft_ms=1e6, tpot_ms=1e6)
    first, second = predictor.predict([asked, changed])
    assert isinstance(first, Prediction)
    assert first.values == second.values


def test_rows_of_another_kind_than_the_fitted_ones_are_refused():
    cpu = Measurement(
        row=2, instance="aws/m9g.4xlarge", processor="AWS Graviton5", count=16,
        engine="llama.cpp", model="gemma-2b", precision="q4_k_m", prompt_tokens=512,
        output_tokens=0, prefill_tokens_per_s=100.0,
    )  # fmt: skip
    gpu = gpu_rows()[0]
    unknown = msgspec.structs.replace(gpu, processor="Tesla M60")
    odd = msgspec.structs.replace(gpu, engine="no such engine")
    on_gpus = fitter(KNOWN)(gpu_rows()[1:]).predict([cpu, unknown, odd, gpu])
    assert [type(answer) for answer in on_gpus] == [Refusal, Refusal, Refusal, Prediction]
    assert on_gpus[0].reason == "no row outside of the fold is of this kind of processor"
    on_cpus = fitter(KNOWN)([cpu, unknown, odd]).predict([gpu])
    assert on_cpus[0].reason == "no row outside of the fold is of this kind of processor"


def test_served_load_on_cpus_is_fitted_too():
    rates = [
        (offer, rate)
        for offer in dict.fromkeys(o.name for o in KNOWN.offers if o.kind == "cpu" and o.processor)
        for rate in KNOWN.rates.get(offer, ())
        if rate.engine == "vllm" and rate.output_256_128_tokens_per_s is not None
    ][:12]
    rows = [
        Measurement(
            row=i, instance=offer, processor=KNOWN.offer(offer).processor.name, count=16,
            engine="vllm", model=rate.model, precision=rate.precision, concurrency=load,
            prompt_tokens=256, output_tokens=128, decode_tokens_per_s=speed,
        )
        for i, (offer, rate) in enumerate(rates)
        for load, speed in (
            (1.0, rate.output_256_128_tokens_per_s),
            (rate.busy_256_128_concurrency, rate.busy_256_128_tokens_per_s),
        )
        if load is not None and speed is not None
    ]  # fmt: skip
    assert len(rows) > 6
    odd = msgspec.structs.replace(rows[0], prompt_tokens=300)
    found = tally(fitter(KNOWN)([*rows[2:], odd]).predict(rows[:2]))
    assert found.predicted == 2


@pytest.mark.parametrize(
    ("told", "family"),
    [
        ({"instance": "aws/m9g.4xlarge", "processor": "AWS Graviton5"}, "Graviton5"),
        ({"processor": "h100_sxm"}, "NVIDIA H100 SXM5 80GB"),
        ({"processor": "Tesla M60"}, "Tesla M60"),
        ({"instance": "some/where", "processor": "Some CPU"}, "Some CPU"),
    ],
)
def test_families_of_rows(told, family):
    assert family_of_row(Measurement(row=2, count=16, model="m", **told), KNOWN) == family

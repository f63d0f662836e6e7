from __future__ import annotations

import numpy as np
import pytest
from msgspec.structs import replace

from polysilicon import catalog
from polysilicon.cost.fit.__main__ import BOTH, HEADS, LATER, scores, widened, write_scores
from polysilicon.cost.fit.accelerator import fit
from polysilicon.cost.fit.cases import Case, rows_of
from polysilicon.cost.fit.score import (
    BY,
    FOLDS,
    NINETY,
    Fold,
    cross_validate,
    guesses,
    pooled,
    score,
    width_for,
)
from polysilicon.cost.llm.coefficients import Prior, coefficients
from polysilicon.cost.llm.fitted import METRICS, Fit, Kernel
from polysilicon.cost.llm.residuals import Term, shapes_of
from polysilicon.cost.llm.serving import COEFFICIENTS, serve
from polysilicon.cost.llm.work import Split

CATALOG = catalog.load()
LLAMA, QWEN = (CATALOG.models[n] for n in ("llama-3.1-8b-instruct", "qwen3-8b"))
H100, B200 = (CATALOG.processor(n) for n in ("NVIDIA H100 SXM5 80GB", "NVIDIA B200"))
START = {
    "compute": -0.5, "memory": -0.2, "layer_s": -10.3, "request_s": -3.8, "message_s": -12.0,
    "sequence": -5.5, "wait": -1.2, "overlap": -0.5,
}  # fmt: skip
PRIORS = tuple(
    Prior(coefficient=name, tag="", mean=START.get(name, 0.0), sd=0.3, why="a test")
    for name in COEFFICIENTS
)
TERMS = (
    Term(names=("processor", "engine"), sd=0.1, octaves=np.inf),
    Term(names=("processor", "engine", "model", "precision"), sd=0.2, octaves=4.0),
)
KERNELS = dict.fromkeys(METRICS, Kernel(terms=TERMS, noise_sd=0.05))


def case(model, chip, concurrency, new, **truth):
    split = Split(gpus=1, weight_bytes=2.0, rest_bytes=2.0, usable_bytes=76e9)
    return Case(
        row=0, source="made up", date="2026-11-21", model=model, chip=chip, engine="vllm",
        precision="bf16", split=split, concurrency=concurrency, new=new, output=100.0, **truth,
    )  # fmt: skip


@pytest.fixture(scope="module")
def cases():
    rng = np.random.default_rng(8)
    found = []
    for model in (LLAMA, QWEN):
        for chip in (H100, B200):
            for concurrency in (1.0, 4.0, 16.0):
                for new in (256.0, 1024.0, 4096.0):
                    asked = case(model, chip, concurrency, new)
                    values = {(p.coefficient, ""): p.mean for p in PRIORS}
                    said = serve(asked.work(), coefficients(values, asked.tags))
                    ttft_s, tpot_s = (
                        float(value[0] * np.exp(rng.normal(0, 0.04)))
                        for value in (said.ttft_s, said.tpot_s)
                    )
                    found.append(replace(asked, ttft_s=ttft_s, tpot_s=tpot_s))
    return found


@pytest.fixture(scope="module")
def found(cases):
    return fit(cases, PRIORS, kernels=KERNELS)


def fold(errors, sd=0.1, by="random", group="0", metric="ttft_s"):
    errors = np.array(errors, dtype=np.float64)
    return Fold(by=by, group=group, metric=metric, log_error=errors, sd=np.full(len(errors), sd))


def test_errors_are_relative_to_the_truth():
    # Guesses of 0.5, 1 and 1.25 where the truth is 1.
    told = fold(np.log([2.0, 1.0, 0.8]))
    assert told.median_ape() == pytest.approx(0.25)
    assert told.mape() == pytest.approx((0.5 + 0.0 + 0.25) / 3)


def test_coverage_counts_truths_within_the_band():
    reach = NINETY * 0.1
    told = fold([0.0, reach * 0.99, -reach * 1.01, reach * 1.99])
    assert told.coverage() == 0.5
    assert told.coverage(width=2.0) == 1.0


def test_the_width_is_what_the_share_needs():
    rng = np.random.default_rng(0)
    honest = fold(rng.normal(0, 0.1, 20_000))
    assert width_for(honest) == pytest.approx(1.0, abs=0.03)
    doubted = fold(rng.normal(0, 0.3, 20_000))
    assert width_for(doubted) == pytest.approx(3.0, abs=0.1)
    assert doubted.coverage(width_for(doubted)) == pytest.approx(0.9, abs=0.001)
    assert width_for(doubted, share=0.5) < width_for(doubted)


def test_folds_are_pooled_by_metric():
    folds = [fold([0.1, 0.2]), fold([0.3], group="1"), fold([9.0], metric="tpot_s")]
    whole = pooled(folds, "ttft_s")
    assert whole.log_error.tolist() == [0.1, 0.2, 0.3]
    assert (whole.group, whole.by, whole.metric) == ("all", "random", "ttft_s")
    assert len(whole.sd) == 3


def test_guesses_are_the_law_and_what_rows_like_these_leave_over(cases, found):
    asked = [cases[3], cases[20], replace(cases[7], new=777.0)]
    told = guesses(found, asked)
    for i, one in enumerate(asked):
        said = serve(one.work(), coefficients(found.values, one.tags))
        for metric in METRICS:
            rest = found.residuals(metric, one.chip.name, one.engine)
            mean, sd = rest.predict(rows_of([one]))
            expected = getattr(said, metric)[0] * np.exp(mean[0])
            assert told[metric].value[i] == pytest.approx(expected)
            assert told[metric].sd[i] == pytest.approx(np.hypot(sd[0], 0.05))


def test_what_was_fitted_is_known_well_and_what_was_not_less_well(cases, found):
    inside = pooled(score(found, cases, "random", ["0"] * len(cases)), "tpot_s")
    folds = cross_validate(cases, PRIORS, KERNELS, "processor", np.random.default_rng(1))
    outside = pooled(folds, "tpot_s")
    assert len(outside.log_error) == len(cases)
    assert inside.median_ape() <= outside.median_ape() < 0.15
    assert np.median(inside.sd) < np.median(outside.sd)
    assert outside.coverage() > 0.8


def test_every_case_is_held_out_once(cases):
    for by, groups in (
        ("processor", {H100.name, B200.name}),
        ("model", {shapes_of(LLAMA), shapes_of(QWEN)}),
    ):
        folds = cross_validate(cases, PRIORS, KERNELS, by, np.random.default_rng(1))
        assert {f.group for f in folds} == groups
        assert {f.metric for f in folds} == set(METRICS)
        assert {f.by for f in folds} == {by}
        for metric in METRICS:
            assert len(pooled(folds, metric).log_error) == len(cases)
    assert set(BY) == {"processor", "engine", "model"}


def test_random_folds_are_the_same_for_the_same_seed(cases):
    few = cases[::2]
    one, other = (
        cross_validate(few, PRIORS, KERNELS, "random", np.random.default_rng(5)) for _ in range(2)
    )
    assert len({f.group for f in one}) <= FOLDS
    assert [f.log_error.tolist() for f in one] == [f.log_error.tolist() for f in other]
    assert len(pooled(one, "ttft_s").log_error) == len(few)


def test_scores_are_told_by_group(cases, found):
    groups = [c.chip.name for c in cases]
    folds = score(found, cases, "processor", groups)
    assert [(f.metric, f.group) for f in folds] == [
        (metric, name) for metric in METRICS for name in (B200.name, H100.name)
    ]
    whole = pooled(folds, "ttft_s")
    half = [f for f in folds if f.metric == "ttft_s" and f.group == H100.name]
    assert len(half[0].log_error) * 2 == len(whole.log_error)


def test_bands_are_widened_by_random_folds_and_never_narrowed(found):
    folds = [fold([0.4, -0.4, 0.4], sd=0.1, metric="ttft_s"), fold([0.0, 0.01], metric="tpot_s")]
    wider = widened(found, [*folds, fold([99.0], by="model")])
    assert wider.kernels["ttft_s"].width == pytest.approx(0.4 / 0.1 / NINETY)
    assert wider.kernels["tpot_s"].width == 1.0
    assert isinstance(wider, Fit)
    assert wider.values == found.values


def test_the_table_of_scores(tmp_path, found):
    folds = [
        fold([0.1], by=by, group=group, metric=metric)
        for by in ("random", *BY, BOTH, LATER)
        for group in ("a", "b")
        for metric in METRICS
    ]
    rows = scores(folds, found, {"a": "a model"})
    assert all(len(row) == len(HEADS) for row in rows)
    assert ("model", "a model", "ttft_s") in {row[:3] for row in rows}
    # Random folds have no names, so only the whole is told.
    assert {row[1] for row in rows if row[0] == "random"} == {"all"}
    write_scores(rows, tmp_path / "scores.csv")
    lines = (tmp_path / "scores.csv").read_text("utf-8").splitlines()
    assert lines[0] == ",".join(HEADS)
    assert len(lines) == len(rows) + 1

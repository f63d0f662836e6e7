from __future__ import annotations

import numpy as np
import pytest
from msgspec.structs import replace

from polysilicon import catalog
from polysilicon.cost.fit.accelerator import (
    STAGE_SD,
    Problem,
    condensed,
    extend_values,
    fit,
    fit_values,
    unique,
)
from polysilicon.cost.fit.cases import Case, rows_of, together
from polysilicon.cost.fit.kernel import SETTING, fit_terms
from polysilicon.cost.llm.coefficients import Prior, coefficients
from polysilicon.cost.llm.fitted import METRICS, Kernel, read_fit, write_fit
from polysilicon.cost.llm.residuals import Residuals, Rows, Term
from polysilicon.cost.llm.serving import serve
from polysilicon.cost.llm.work import Split

CATALOG = catalog.load()
MODELS = [CATALOG.models[n] for n in ("llama-3.1-8b-instruct", "qwen3-32b")]
H100, B200 = (CATALOG.processor(n) for n in ("NVIDIA H100 SXM5 80GB", "NVIDIA B200"))
A100 = CATALOG.processor("NVIDIA A100 SXM4 80GB")
TRUTH = {
    ("compute", ""): -0.5, ("compute", "processor:NVIDIA B200"): 0.2, ("memory", ""): -0.2,
    ("layer_s", ""): -10.3, ("layer_s", "engine:sglang"): 0.3, ("request_s", ""): -3.8,
    ("cache", ""): 0.0, ("link", ""): -0.7, ("message_s", ""): -12.0, ("sequence", ""): -5.5,
    ("iteration", ""): 0.0, ("interference", ""): 0.0, ("wait", ""): -1.2,
    ("wait_power", ""): -0.2, ("overlap", ""): -0.5, ("queue", ""): 0.0,
}  # fmt: skip
# What is expected is wrong by half an e-fold here and there.
PRIORS = tuple(
    Prior(coefficient=name, tag=tag, mean=value + shift, sd=0.7, why="a test")
    for ((name, tag), value), shift in zip(
        sorted(TRUTH.items()), np.resize([0.5, -0.4, 0.0], len(TRUTH)), strict=True
    )
)
TERMS = (
    Term(names=("processor", "engine"), sd=0.1, octaves=np.inf),
    Term(names=SETTING, sd=0.15, octaves=4.0),
)
KERNELS = dict.fromkeys(METRICS, Kernel(terms=TERMS, noise_sd=0.03))


def case(model, chip, engine, concurrency, new, output, row=0, **truth):
    gpus = 1 if model is MODELS[0] else 2
    split = Split(gpus=gpus, weight_bytes=2.0, rest_bytes=2.0, usable_bytes=0.95e9 * chip.memory_gb)
    return Case(
        row=row, source="made up", date="2026-11-21", model=model, chip=chip, engine=engine,
        precision="bf16", split=split, concurrency=concurrency, new=new, output=output, **truth,
    )  # fmt: skip


def true_of(asked):
    """Return what the law says with the true coefficients."""
    return serve(asked.work(), coefficients(TRUTH, asked.tags))


def made(rng, noise=0.02):
    """Return cases of a world in which the law holds but for noise."""
    found = []
    for model in MODELS:
        for chip in (H100, B200):
            for engine in ("vllm", "sglang"):
                for concurrency in (1.0, 8.0, 64.0):
                    for new, output in ((128.0, 64.0), (1024.0, 256.0), (4096.0, 128.0)):
                        asked = case(model, chip, engine, concurrency, new, output, len(found))
                        said = true_of(asked)
                        ttft_s, tpot_s = (
                            float(value[0] * np.exp(rng.normal(0, noise)))
                            for value in (said.ttft_s, said.tpot_s)
                        )
                        found.append(replace(asked, ttft_s=ttft_s, tpot_s=tpot_s))
    return found


def law_errors(values, cases):
    work = together([c.work() for c in cases])
    each = [coefficients(values, c.tags) for c in cases]
    served = serve(work, {name: np.array([c[name] for c in each]) for name in each[0]})
    return {m: np.log([getattr(c, m) for c in cases]) - np.log(getattr(served, m)) for m in METRICS}


@pytest.fixture(scope="module")
def cases():
    return made(np.random.default_rng(1))


@pytest.fixture(scope="module")
def values(cases):
    return fit_values(cases, PRIORS)


def test_the_fit_finds_the_law_that_made_the_rows(cases, values):
    assert set(values) == set(TRUTH)
    errors = law_errors(values, cases)
    assert np.median(np.abs(errors["ttft_s"])) < 0.04
    assert np.median(np.abs(errors["tpot_s"])) < 0.03
    expected = law_errors({(p.coefficient, p.tag): p.mean for p in PRIORS}, cases)
    assert np.median(np.abs(expected["tpot_s"])) > 0.2
    for key in (("compute", ""), ("memory", ""), ("layer_s", "engine:sglang")):
        assert values[key] == pytest.approx(TRUTH[key], abs=0.15), key


def test_outliers_hardly_move_it(cases, values):
    spoilt = list(cases)
    for i in range(0, len(spoilt), 12):
        spoilt[i] = replace(spoilt[i], ttft_s=spoilt[i].ttft_s * 20, tpot_s=spoilt[i].tpot_s * 8)
    errors = law_errors(fit_values(spoilt, PRIORS), cases)
    for metric in METRICS:
        assert np.median(np.abs(errors[metric])) < 0.12


def test_errors_are_those_of_the_values_by_name(cases, values):
    problem = Problem(cases, PRIORS)
    direct = law_errors(values, cases)
    found = problem.errors_of(values)
    for metric in METRICS:
        assert found[metric] == pytest.approx(direct[metric])
    assert np.isnan(found["cycle_s"]).all()
    assert np.isnan(found["batch_s"]).all()


def test_residuals_are_those_of_the_law_as_it_is_asked(cases, values):
    """The search may pass the data sheet; what is left over is told of the law that does not."""
    fast = {**values, ("compute", ""): 1.0}
    problem = Problem(cases, PRIORS)
    direct = law_errors(fast, cases)["ttft_s"]
    assert problem.errors_of(fast)["ttft_s"] == pytest.approx(direct)
    searched = problem.errors(np.array([fast[key] for key in problem.slots.index]))["ttft_s"]
    assert (searched >= direct - 1e-12).all()
    assert searched.max() > direct.max()


def test_a_run_listed_twice_counts_once(cases):
    again = replace(cases[3], row=999, concurrency=2.0)
    other = replace(cases[3], row=998, tpot_s=1.0)
    assert unique([*cases, again]) == cases
    assert unique([*cases, other]) == [*cases, other]


def test_other_rows_tell_of_new_names_and_leave_the_old_alone(cases, values):
    # A chip that computes half as well; only whole cycles and static batches are known of it.
    half = TRUTH | {("compute", "processor:" + A100.name): np.log(0.5)}
    others = []
    for new in (512.0, 1024.0, 2048.0, 4096.0):
        for concurrency in (1.0, 16.0):
            asked = case(MODELS[0], A100, "vllm", concurrency, new, 32.0)
            said = serve(asked.work(), coefficients(half, asked.tags))
            others.append(replace(asked, cycle_s=float(said.cycle_s[0])))
            others.append(replace(asked, batch_s=float(said.batch_s[0])))
    priors = [*PRIORS, Prior(coefficient="compute", tag="processor:", mean=0.0, sd=0.5, why="t")]
    found = extend_values(values, others, priors)
    assert found["compute", "processor:" + A100.name] == pytest.approx(np.log(0.5), abs=0.3)
    for key, value in values.items():
        assert found[key] == pytest.approx(value, abs=4 * STAGE_SD), key


def test_batches_that_differ_only_in_length_become_one():
    rows = rows_of(
        [case(MODELS[0], H100, "vllm", 8.0, new, 64.0) for new in (128.0, 256.0, 512.0, 1024.0)]
    )
    values = np.array([0.1, 0.5, 0.2, np.nan])
    batches = np.array([True, True, True, False])
    few, kept = condensed(rows, values, batches)
    assert len(few) == 1
    assert kept.tolist() == [0.2]
    assert few.octaves[0, 2] == 8  # the middle of the lengths
    few, kept = condensed(rows, values, np.array([False, False, True, False]))
    assert kept.tolist() == [0.1, 0.5, 0.2]
    few, kept = condensed(rows, values, np.zeros(4, dtype=bool))
    assert len(few) == len(kept) == 3


def test_a_whole_fit_corrects_what_the_law_leaves_over(tmp_path):
    """In this world one model on one engine and chip is always slower than the law can say."""
    cases = made(np.random.default_rng(4))
    odd = [c.model is MODELS[1] and c.chip is B200 and c.engine == "sglang" for c in cases]
    cases = [
        replace(c, tpot_s=c.tpot_s * 1.4) if slow else c for c, slow in zip(cases, odd, strict=True)
    ]
    found = fit(cases, PRIORS, kernels=KERNELS)
    known = found.known["tpot_s"]
    slow = known.values[np.array(odd)].mean()
    assert slow > known.values[~np.array(odd)].mean() + 0.2
    asked = replace(cases[odd.index(True)], new=700.0)
    mean, sd = found.residuals("tpot_s", B200.name, "sglang").predict(rows_of([asked]))
    assert mean[0] == pytest.approx(slow, abs=0.1)
    assert sd[0] < 0.1
    other = replace(asked, model=MODELS[0], split=cases[0].split)
    mean, _ = found.residuals("tpot_s", B200.name, "sglang").predict(rows_of([other]))
    assert mean[0] < slow / 2
    (tmp_path / "cc_by_sa").mkdir()
    write_fit(found, tmp_path)
    assert read_fit(tmp_path).values.keys() == found.values.keys()


def test_static_batches_tell_of_later_tokens(cases):
    asked = case(MODELS[0], H100, "vllm", 4.0, 100.0, 400.0)
    batch = replace(asked, batch_s=float(true_of(asked).batch_s[0] * 1.3))
    found = fit(cases, PRIORS, [batch], KERNELS)
    assert len(found.known["tpot_s"].rows) == len(cases) + 1
    assert len(found.known["ttft_s"].rows) == len(cases)
    assert found.known["tpot_s"].values[-1] > 0.15


def rows_in_a_plane(rng, settings=6, each=8):
    """Return rows of several settings of one chip and engine, and where they lie."""
    names, octaves = [], []
    for s in range(settings):
        for _ in range(each):
            names.append(["chip", "vllm", f"model {s}", "bf16", ""])
            octaves.append([0.0, rng.uniform(0, 7), rng.uniform(6, 13), rng.uniform(5, 10)])
    return Rows(names=np.array(names), octaves=np.array(octaves))


def test_terms_are_as_large_as_what_is_shared():
    rng = np.random.default_rng(2)
    rows = rows_in_a_plane(rng)
    by_model = np.repeat(rng.normal(0, 0.3, 6), 8)
    shared, noise_sd = fit_terms(rows, by_model + rng.normal(0, 0.03, 48))
    size = {("model" in t.names, t.octaves): t.sd for t in shared}
    far = max(octaves for with_model, octaves in size if with_model)
    assert size[True, far] > 0.1
    assert noise_sd < 0.1
    # The kernel knows rows that it was not shown.
    rest = np.arange(48) % 4 != 0
    known = Residuals(rows.take(rest), by_model[rest], np.full(36, noise_sd), shared)
    mean, _ = known.predict(rows.take(~rest))
    assert np.abs(mean - by_model[~rest]).mean() < 0.1


def test_a_fit_finds_its_own_kernels(cases):
    found = fit(cases[:40], PRIORS)
    for metric in METRICS:
        kernel = found.kernels[metric]
        assert kernel.noise_sd < 0.1
        assert all(term.sd > 0 for term in kernel.terms)

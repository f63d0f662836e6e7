from __future__ import annotations

import numpy as np
import pytest

from polysilicon.cost.llm.fitted import (
    METRICS,
    Fit,
    Kernel,
    Known,
    read_fit,
    shipped_fit,
    write_fit,
)
from polysilicon.cost.llm.residuals import NAMES, SIZES, Rows, Term
from polysilicon.cost.llm.serving import COEFFICIENTS
from polysilicon.errors import InputError

TERMS = (
    Term(names=("processor", "engine"), sd=0.1, octaves=np.inf),
    Term(names=("processor", "engine", "model"), sd=0.3, octaves=2.0),
)


def known(*values):
    names = [["a chip", "vllm", "32x4096, 8", "bf16", ""], ["other, chip", "vllm", "m", "fp8", ""]]
    return Known(
        rows=Rows(
            names=np.array(names),
            octaves=np.array([[0.0, 3, 10, 7], [3.0, 0, np.log2(1000), np.log2(100)]]),
        ),
        values=np.array(values),
        noise_sd=np.array([0.05, 0.5]),
    )


def made():
    return Fit(
        values={("compute", ""): -0.5, ("compute", "engine:vllm"): 0.125},
        kernels={
            "ttft_s": Kernel(terms=TERMS, noise_sd=0.04, width=2.0),
            "tpot_s": Kernel(terms=TERMS[:1], noise_sd=0.02),
        },
        known={"ttft_s": known(0.2, -0.1), "tpot_s": known(0.0, 0.3)},
    )


def test_a_fit_goes_through_its_files(tmp_path):
    (tmp_path / "cc_by_sa").mkdir()
    fit = made()
    write_fit(fit, tmp_path)
    back = read_fit(tmp_path)
    assert back.values == fit.values
    assert back.kernels == fit.kernels
    for metric in METRICS:
        one, other = fit.known[metric], back.known[metric]
        assert (one.rows.names == other.rows.names).all()
        assert one.rows.octaves == pytest.approx(other.rows.octaves)
        assert one.values == pytest.approx(other.values)
        assert one.noise_sd == pytest.approx(other.noise_sd)
    again = tmp_path / "again"
    (again / "cc_by_sa").mkdir(parents=True)
    write_fit(back, again)
    for file in tmp_path.rglob("*.csv"):
        if again not in file.parents:
            assert (again / file.relative_to(tmp_path)).read_bytes() == file.read_bytes()


def test_a_broken_file_is_told_with_its_place(tmp_path):
    (tmp_path / "cc_by_sa").mkdir()
    write_fit(made(), tmp_path)
    values = tmp_path / "accelerator.csv"
    values.write_text(values.read_text("utf-8").replace("0.12500", "much"), "utf-8")
    with pytest.raises(InputError, match=r"accelerator\.csv, row 3, logarithm"):
        read_fit(tmp_path)


def test_only_rows_of_the_chip_and_the_engine_tell_of_a_setting():
    fit = made()
    found = fit.residuals("ttft_s", "a chip", "vllm")
    assert len(found.rows) == 1
    assert fit.residuals("ttft_s", "a chip", "vllm") is found
    assert fit.residuals("tpot_s", "a chip", "vllm") is not found
    assert len(fit.residuals("ttft_s", "a chip", "sglang").rows) == 0


def test_the_fit_that_comes_with_it():
    fit = shipped_fit()
    assert fit is shipped_fit()
    assert {name for name, _ in fit.values} == set(COEFFICIENTS)
    assert all((name, "") in fit.values for name in COEFFICIENTS)
    for metric in METRICS:
        of = fit.known[metric]
        assert of.rows.names.shape == (len(of.rows), len(NAMES))
        assert of.rows.octaves.shape == (len(of.rows), len(SIZES))
        assert np.isfinite(of.values).all()
        assert (of.noise_sd > 0).all()
        kernel = fit.kernels[metric]
        assert kernel.width >= 1
        assert 0 < kernel.noise_sd < 0.3
        # No term may hold across processors or engines: rows are looked up by both.
        assert all({"processor", "engine"} <= set(term.names) for term in kernel.terms)

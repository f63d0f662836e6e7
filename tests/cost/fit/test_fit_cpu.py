from __future__ import annotations

import csv
import gzip

import numpy as np
import pytest

from polysilicon.catalog.tables import data_folder
from polysilicon.cost.fit import cpu
from polysilicon.cost.llm.cpu_points import BATCHING_FEATURES, FEATURES, KINDS
from polysilicon.cost.llm.cpu_rates import Data, load_data, read_kernel, read_laws, shipped

FOLDER = data_folder("polysilicon.cost") / "cc_by_sa"
KERNEL = read_kernel(FOLDER / "cpu_kernel.csv")


def subset(families):
    """The rates of some chip families: a fit of them takes a second."""
    data = load_data()
    codes = [data.words.families[name] for name in families]
    at = np.flatnonzero(np.isin(data.points.family, codes))
    return Data(
        words=data.words,
        points=data.points.take(at),
        logs=data.logs[at],
        keys=[data.keys[i] for i in at],
        columns=data.columns[at],
    )


DATA = subset(["Graviton5", "Cobalt 100"])


def test_the_shipped_laws_are_those_of_the_shipped_rates():
    fitted = cpu.fit(load_data(), KERNEL)
    np.testing.assert_allclose(fitted.laws, shipped().laws, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(fitted.batching, shipped().batching, rtol=1e-4, atol=1e-4)


def test_what_is_held_out_is_not_known():
    held = np.array([key[0] == "aws/m9gd.4xlarge" for key in DATA.keys])
    fitted = cpu.fit(DATA, KERNEL, held)
    server = DATA.words.servers.types["aws/m9gd.4xlarge"]
    i = int(np.flatnonzero(held)[0])
    _, name, kind, tokens = DATA.keys[i]
    model = cpu.load_catalog().models[name]
    seen = cpu.fit(DATA, KERNEL).rates(server, model, [(kind, tokens, 1.0)])
    unseen = fitted.rates(server, model, [(kind, tokens, 1.0)])
    assert seen.measured.all()
    assert not unseen.measured.any()
    assert unseen.band[0] > seen.band[0]
    # Nothing of the held-out rate leaks: another value there changes nothing.
    changed = Data(
        words=DATA.words,
        points=DATA.points,
        logs=np.where(held, 99.0, DATA.logs),
        keys=DATA.keys,
        columns=DATA.columns,
    )
    again = cpu.fit(changed, KERNEL, held).rates(server, model, [(kind, tokens, 1.0)])
    assert again.log[0] == pytest.approx(unseen.log[0])
    assert again.sd[0] == pytest.approx(unseen.sd[0])


@pytest.mark.parametrize("by", ["instance", "chip", "model"])
def test_every_rate_is_predicted_by_a_fit_that_had_not_seen_it(by):
    held = cpu.cross_validate(DATA, KERNEL, by, np.random.default_rng(1))
    assert held.by == by
    assert len(held.error) == len(DATA.logs)
    assert np.isfinite(held.error).all()
    assert (held.sd > 0).all()
    wide = cpu.spreads(DATA, held, np.ones(len(held.half), dtype=bool))
    table = cpu.scores(DATA, held, [wide, wide])
    total = table[0]
    assert (total.group, total.n) == ("all", len(DATA.logs))
    # By construction of the spreads nine of ten are covered.
    assert total.covered == pytest.approx(0.9, abs=0.01)
    # Two chips tell little about each other; servers and models among them tell much.
    assert total.median_ape < (1.0 if by == "chip" else 0.3)


def test_same_seed_same_scores():
    errors = [
        cpu.cross_validate(DATA, KERNEL, "instance", np.random.default_rng(7)).error
        for _ in range(2)
    ]
    np.testing.assert_array_equal(*errors)


def test_scores_of_known_errors():
    count = len(DATA.logs)
    held = cpu.HeldOut(
        by="instance",
        error=np.full(count, np.log(1.1)),
        sd=np.full(count, 0.05),
        half=np.arange(count) % 2,
    )
    narrow, wide = np.full(4, 1.0), np.full(4, 3.0)
    total = cpu.scores(DATA, held, [narrow, wide])[0]
    assert total.median_ape == total.mape == total.bias == pytest.approx(0.1)
    assert total.covered == pytest.approx(0.5, abs=0.01)


def test_batching_is_fitted_where_a_server_ran_alone_and_busy():
    found, band = cpu.fit_batching(DATA, np.ones(len(DATA.logs), dtype=bool))
    assert len(found) == len(BATCHING_FEATURES)
    assert 0 < found[0] + found[BATCHING_FEATURES.index("sve")] < 1
    assert 0 < band < 1
    nothing = cpu.fit_batching(DATA, np.zeros(len(DATA.logs), dtype=bool))
    assert not nothing[0].any()
    assert nothing[1] == 1.0


def test_what_is_written_is_read_back(tmp_path, monkeypatch):
    monkeypatch.setattr(cpu, "load_data", lambda: DATA)
    monkeypatch.setattr(cpu.sys, "argv", ["fit", str(tmp_path)])
    cpu.main()
    laws = read_laws(tmp_path / "cpu_laws.csv")
    assert laws.coefficients.shape == (len(KINDS), len(FEATURES))
    fitted = cpu.fit(DATA, KERNEL)
    np.testing.assert_allclose(laws.coefficients, fitted.laws, rtol=1e-4, atol=1e-4)
    with (tmp_path / "cpu_scores.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    assert {row["held_out"] for row in rows} == {"instance", "family", "model"}
    lines = gzip.decompress((tmp_path / "cpu_residuals.csv.gz").read_bytes()).decode().splitlines()
    assert len(lines) == 1 + len(DATA.logs)


def test_the_shipped_scores_meet_the_bars_that_the_docs_tell():
    with (FOLDER / "cpu_scores.csv").open() as lines:
        table = {(r["held_out"], r["group"]): r for r in csv.DictReader(lines)}
    total = table["instance", "all"]
    assert int(total["n"]) == len(load_data().logs)
    assert float(total["median_ape"]) <= 0.10
    assert float(total["mape"]) <= 0.15
    for engine in ("llama.cpp", "vllm"):
        assert float(table["instance", engine]["median_ape"]) <= 0.10
    assert float(table["family", "all"]["median_ape"]) <= 0.30
    for held_out in ("instance", "family", "model"):
        assert float(table[held_out, "all"]["covered"]) >= 0.80

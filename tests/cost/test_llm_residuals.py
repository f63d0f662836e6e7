from __future__ import annotations

import numpy as np
import pytest

from polysilicon import catalog
from polysilicon.cost.llm.residuals import (
    Residuals,
    Rows,
    Term,
    blocks,
    covariance,
    describe,
    shapes_of,
    steady_noise,
)
from polysilicon.cost.llm.work import Split

CATALOG = catalog.load()
LLAMA = CATALOG.models["llama-3.1-8b-instruct"]
ALONE = Split(gpus=2, weight_bytes=2.0, rest_bytes=2.0, usable_bytes=1e12)
TERMS = (
    Term(names=("processor", "engine"), sd=0.1, octaves=np.inf),
    Term(names=("processor", "engine", "model"), sd=0.3, octaves=2.0),
)


def numbers(*values):
    return np.array(values, dtype=np.float64)


def rows(new, processor="NVIDIA L4", engine="vllm", model=LLAMA, split=ALONE):
    names = (processor, engine, model, "bf16", split)
    return describe(names, (8.0, numbers(*new), numbers(*([128.0] * len(new)))))


def joined(*parts):
    return Rows(
        names=np.concatenate([p.names for p in parts]),
        octaves=np.concatenate([p.octaves for p in parts]),
    )


def test_rows_are_names_and_octaves():
    found = rows([1024, 2048])
    assert len(found) == 2
    assert found.names[0].tolist() == ["NVIDIA L4", "vllm", shapes_of(LLAMA), "bf16", ""]
    assert found.octaves.tolist() == [[1, 3, 10, 7], [1, 3, 11, 7]]
    spread = Split(gpus=8, ranks=8, experts=8, weight_bytes=1.0, rest_bytes=1.0, usable_bytes=1e12)
    assert rows([1], split=spread).names[0, 4] == "ranksexperts"
    assert len(found.take(np.array([True, False]))) == 1


def test_no_output_counts_as_one_token():
    found = describe(("p", "e", LLAMA, "bf16", ALONE), (1.0, numbers(1), numbers(0)))
    assert found.octaves[0].tolist() == [1, 0, 0, 0]


def test_models_of_the_same_shapes_are_one():
    assert shapes_of(LLAMA) == shapes_of(CATALOG.models["llama-3.1-8b"])
    assert shapes_of(LLAMA) != shapes_of(CATALOG.models["mistral-7b-v0.1"])


def test_covariance_needs_the_names_and_fades_with_distance():
    here = rows([1024])
    assert covariance(here, rows([1024]), TERMS) == pytest.approx(0.01 + 0.09)
    assert covariance(here, rows([4096]), TERMS) == pytest.approx(0.01 + 0.09 * np.exp(-0.5))
    other = rows([1024], model=CATALOG.models["qwen3-8b"])
    assert covariance(here, other, TERMS) == pytest.approx(0.01)
    assert covariance(here, rows([1024], engine="sglang"), TERMS) == 0.0
    assert covariance(here, rows([1024], processor="NVIDIA L40S"), TERMS) == 0.0


def test_blocks_tell_nothing_of_one_another():
    mixed = joined(rows([1, 2]), rows([1], engine="sglang"), rows([4]), rows([1], processor="X"))
    found = sorted(block.tolist() for block in blocks(mixed))
    assert found == [[0, 1, 3], [2], [4]]
    assert blocks(mixed.take(np.zeros(5, dtype=bool))) == []
    for block in blocks(mixed):
        rest = np.setdiff1d(np.arange(5), block)
        assert not covariance(mixed.take(block), mixed.take(rest), TERMS).any()


def test_nothing_known_is_the_prior():
    known = Residuals(rows([]), numbers(), numbers(), TERMS)
    mean, sd = known.predict(rows([1, 1000]))
    assert mean.tolist() == [0, 0]
    assert sd == pytest.approx([np.sqrt(0.1), np.sqrt(0.1)])


def test_near_rows_correct_much_and_are_trusted_much():
    known = Residuals(rows([1024, 1100]), numbers(0.4, 0.42), numbers(0.02, 0.02), TERMS)
    mean, sd = known.predict(rows([1050, 64_000]))
    assert mean[0] == pytest.approx(0.41, abs=0.02)
    assert sd[0] < 0.05
    assert abs(mean[1]) < 0.1
    assert sd[1] > 0.25
    unlike = rows([1050], processor="NVIDIA L40S")
    assert known.predict(unlike)[0] == pytest.approx(0.0)


def test_covariance_that_the_caller_has_is_not_spoilt():
    measured = rows([256, 1024])
    shared = covariance(measured, measured, TERMS)
    before = shared.copy()
    told = Residuals(measured, numbers(0.1, 0.2), numbers(0.1, 0.1), TERMS, shared)
    again = Residuals(measured, numbers(0.1, 0.2), numbers(0.1, 0.1), TERMS)
    assert (shared == before).all()
    for one, other in zip(told.predict(rows([500])), again.predict(rows([500])), strict=True):
        assert one == pytest.approx(other)


def test_an_outlier_gets_the_noise_that_silences_it():
    places = [256, 362, 512, 724, 1024, 1448, 2048]
    values = numbers(0.1, 0.11, 0.09, 1.5, 0.1, 0.12, 0.1)
    noise = steady_noise(rows(places), values, 0.05, TERMS)
    assert noise[3] > 0.5
    assert noise[[0, 1, 2, 4, 5, 6]] == pytest.approx(0.05, abs=0.02)
    steady = Residuals(rows(places), values, noise, TERMS).predict(rows([724]))[0]
    spoilt = Residuals(rows(places), values, np.full(7, 0.05), TERMS).predict(rows([724]))[0]
    assert steady == pytest.approx(0.1, abs=0.06)
    assert spoilt > 2 * steady


def test_rows_that_agree_keep_their_noise():
    noise = steady_noise(rows([256, 512, 1024]), numbers(0.1, 0.1, 0.1), 0.05, TERMS)
    assert noise == pytest.approx(0.05)

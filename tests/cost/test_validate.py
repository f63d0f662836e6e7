from __future__ import annotations

import math

import numpy as np
import pytest

from polysilicon.catalog.measurements import Measurement
from polysilicon.cost.predict import Prediction, Refusal, Value
from polysilicon.cost.validate import folds_of, held_out, tally, validate
from polysilicon.errors import InputError


def row(line=2, **values):
    told = {"processor": "NVIDIA L4", "engine": "vllm", "model": "m"} | values
    return Measurement(row=line, **told)


def said(of, basis="calibrated", **values):
    """A prediction whose bands are a tenth to each side."""
    return Prediction(
        row=of,
        values={m: Value(value=v, low=v * 0.9, high=v * 1.1) for m, v in values.items()},
        basis=basis,
    )


class Echo:
    """Predicts the mean of the rows that it was fitted on."""

    def __init__(self, rows):
        self.seen = [r.row for r in rows]
        self.mean = sum(r.tpot_ms for r in rows) / len(rows)

    def predict(self, rows):
        assert not set(self.seen) & {r.row for r in rows}
        return [said(r, tpot_ms=self.mean) for r in rows]


def test_scores_by_hand():
    rows = [row(2, tpot_ms=10.0), row(3, tpot_ms=10.0), row(4, tpot_ms=20.0)]
    found = tally([said(r, tpot_ms=p) for r, p in zip(rows, (10.0, 12.0, 10.0), strict=True)])
    score = found.overall()["tpot_ms"]
    assert (score.n, found.rows, found.predicted) == (3, 3, 3)
    assert score.mape == pytest.approx((0 + 0.2 + 0.5) / 3)
    assert score.median_ape == pytest.approx(0.2)
    assert score.bias == pytest.approx((1.0 * 1.2 * 0.5) ** (1 / 3) - 1)
    assert score.coverage == pytest.approx(1 / 3)
    mean = 40 / 3
    spread = 2 * (10 - mean) ** 2 + (20 - mean) ** 2
    assert score.r2 == pytest.approx(1 - (4 + 100) / spread)
    logs = np.log([10.0, 10.0, 20.0])
    missed = math.log(1.2) ** 2 + math.log(2) ** 2
    assert score.r2_log == pytest.approx(1 - missed / ((logs - logs.mean()) ** 2).sum())


def test_a_perfect_prediction_and_one_value():
    found = tally([said(row(tpot_ms=10.0), tpot_ms=10.0)])
    score = found.overall()["tpot_ms"]
    assert (score.mape, score.bias, score.coverage, score.r2) == (0.0, 0.0, 1.0, None)


def test_metrics_bases_groups_and_refusals_are_kept_apart():
    answers = [
        said(row(2, ttft_ms=10.0, tpot_ms=1.0), ttft_ms=11.0, tpot_ms=1.0),
        said(row(3, tpot_ms=1.0, engine="trtllm"), basis="roofline", tpot_ms=3.0),
        Refusal(row=row(4, tpot_ms=1.0), reason="no facts"),
        Refusal(row=row(5, tpot_ms=1.0), reason="no facts"),
        said(row(6, decode_tokens_per_s=1.0), tpot_ms=1.0).__class__(
            row=row(6, decode_tokens_per_s=1.0), values={}, basis="measured"
        ),
    ]
    found = tally(answers)
    assert (found.rows, found.predicted) == (5, 2)
    assert [(r.reason, r.count) for r in found.refused] == [
        ("no facts", 2),
        ("nothing of what was measured is predicted", 1),
    ]
    assert list(found.overall()) == ["ttft_ms", "tpot_ms"]
    assert list(found.by_basis()) == ["calibrated", "roofline"]
    groups = found.groups()
    assert [(g.metric, g.engine, g.n) for g in groups] == [
        ("ttft_ms", "vllm", 1),
        ("tpot_ms", "trtllm", 1),
        ("tpot_ms", "vllm", 1),
    ]
    assert found.groups(("model",))[0].processor == ""
    assert [p.row.row for p in found.worst(1)] == [3]
    assert found.worst(1)[0].error == pytest.approx(2.0)


def test_worst_are_furthest_by_ratio():
    answers = [
        said(row(2, tpot_ms=10.0), tpot_ms=25.0),
        said(row(3, tpot_ms=10.0), tpot_ms=1.0),
    ]
    assert [p.row.row for p in tally(answers).worst(2)] == [3, 2]


@pytest.mark.parametrize("by", ["processor", "engine", "model", "instance", "family", "random"])
def test_held_out_rows_are_predicted_by_fits_that_did_not_see_them(by):
    rows = [
        row(
            i, processor=f"p{i % 3}", engine=f"e{i % 2}", model=f"m{i % 5}", instance=f"i{i % 4}",
            tpot_ms=1.0 + i,
        )
        for i in range(40)
    ]  # fmt: skip
    folds = folds_of(rows, by, lambda r: r.processor[:1] + r.engine, np.random.default_rng(1))
    told = []
    found = tally(held_out(rows, Echo, folds, told.append))
    assert [p.row.row for p in found.points] == list(range(40))
    assert told[-1] == 40
    assert len(told) == len(set(folds)) > 1


def test_copies_of_a_run_share_a_random_fold():
    rows = [row(i, tpot_ms=float(i % 7 + 1)) for i in range(70)]
    folds = folds_of(rows, "random", lambda _: "", np.random.default_rng(2))
    for i in range(7):
        assert len({folds[j] for j in range(i, 70, 7)}) == 1


def test_the_same_seed_deals_the_same_folds():
    rows = [row(i, instance=f"i{i}", tpot_ms=float(i + 1)) for i in range(200)]
    first, second = (
        folds_of(rows, "instance", lambda _: "", np.random.default_rng(3)) for _ in range(2)
    )
    assert first == second
    assert len(set(first)) == 10


def test_one_fold_leaves_nothing_to_fit():
    with pytest.raises(InputError, match="nothing is left to fit"):
        folds_of([row(2), row(3)], "engine", lambda _: "", np.random.default_rng(1))


def test_a_predictor_is_scored():
    fitted = Echo([row(9, tpot_ms=2.0)])
    assert validate([row(2, tpot_ms=1.0)], fitted).overall()["tpot_ms"].mape == pytest.approx(1.0)

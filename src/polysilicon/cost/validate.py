"""How right the cost model is: its predictions against what was measured.

Errors are relative: (predicted - measured) / measured, as fractions. `mape` is the mean of their
sizes, `median_ape` the median, `bias` the geometric mean of predicted over measured, less one.
`coverage` is the share of measured values inside the predicted bands. `r2` is the coefficient of
determination of the values, `r2_log` that of their logarithms.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, Protocol, get_args

import msgspec
import numpy as np
import numpy.typing as npt

from polysilicon.catalog.measurements import METRICS, Measurement
from polysilicon.cost.predict import Answer, Prediction, Refusal
from polysilicon.cost.types import BASES, Basis
from polysilicon.errors import InputError

Numbers = npt.NDArray[np.float64]

Group = Literal["processor", "engine", "model", "instance"]
GROUPS: tuple[Group, ...] = get_args(Group)

Fold = Literal["processor", "engine", "model", "instance", "family", "random"]
FOLDS: tuple[Fold, ...] = get_args(Fold)

RANDOM_FOLDS = 5
# More folds than these are dealt out to so many, so that a fit for each stays affordable.
MOST_FOLDS = 10


class Predictor(Protocol):
    """Predicts measured rows without looking at what was measured in them."""

    def predict(self, rows: Sequence[Measurement]) -> list[Answer]:
        """Return a prediction or a refusal for each row, in their order."""
        ...


Fit = Callable[[Sequence[Measurement]], Predictor]
"""Fits laws to rows; what it gives has seen no others."""


class Point(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One metric of one row: what was measured, what was predicted, the band, the basis."""

    row: Measurement
    metric: str
    measured: float
    predicted: float
    low: float
    high: float
    basis: Basis

    @property
    def error(self) -> float:
        """Relative error: positive where too much was predicted."""
        return self.predicted / self.measured - 1.0


class Score(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How right some predictions of one metric are; r2 is None of fewer than two values."""

    n: int
    mape: float
    median_ape: float
    bias: float
    coverage: float
    r2: float | None
    r2_log: float | None


class GroupScore(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The score of one metric of one group of rows; names that were not grouped by are blank."""

    processor: str = ""
    engine: str = ""
    model: str = ""
    instance: str = ""
    metric: str
    n: int
    mape: float
    median_ape: float
    bias: float
    coverage: float


class Reason(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why rows were refused, and how many."""

    reason: str
    count: int


class Validation(msgspec.Struct, frozen=True, kw_only=True):
    """The cost model's score on some rows.

    Attributes:
        rows: how many there are.
        predicted: how many of them were predicted.
        points: all that was predicted, by row and metric.
        refused: why the others were not, the commonest reason first.
    """

    rows: int
    predicted: int
    points: tuple[Point, ...]
    refused: tuple[Reason, ...]

    def overall(self) -> dict[str, Score]:
        """Return the score of each metric."""
        return _by_metric(self.points)

    def by_basis(self) -> dict[Basis, dict[str, Score]]:
        """Return the scores by basis, the strongest first."""
        parts = {basis: [p for p in self.points if p.basis == basis] for basis in BASES}
        return {basis: _by_metric(part) for basis, part in parts.items() if part}

    def groups(self, by: Sequence[Group] = ("processor", "engine")) -> list[GroupScore]:
        """Return the scores of groups of rows, the largest groups first."""
        parts: dict[tuple[str, ...], list[Point]] = {}
        for point in self.points:
            key = (*(getattr(point.row, name) for name in by), point.metric)
            parts.setdefault(key, []).append(point)
        found = []
        for key, part in parts.items():
            s = score(part)
            names = dict(zip(by, key[:-1], strict=True))
            found.append(
                GroupScore(
                    **names,
                    metric=key[-1],
                    n=s.n,
                    mape=s.mape,
                    median_ape=s.median_ape,
                    bias=s.bias,
                    coverage=s.coverage,
                )
            )
        return sorted(found, key=lambda g: (METRICS.index(g.metric), -g.n, *_names(g)))

    def worst(self, count: int) -> list[Point]:
        """Return the points that are furthest off, by the ratio of predicted and measured."""
        return sorted(self.points, key=lambda p: -abs(float(np.log(p.predicted / p.measured))))[
            :count
        ]


def validate(rows: Sequence[Measurement], predictor: Predictor) -> Validation:
    """Score a predictor on rows."""
    return tally(predictor.predict(rows))


def tally(answers: Sequence[Answer]) -> Validation:
    """Score predictions and count refusals."""
    points: list[Point] = []
    reasons: Counter[str] = Counter()
    predicted = 0
    for answer in answers:
        if isinstance(answer, Refusal):
            reasons[answer.reason] += 1
            continue
        found = _points(answer)
        if not found:
            reasons["nothing of what was measured is predicted"] += 1
            continue
        predicted += 1
        points += found
    refused = tuple(Reason(reason=r, count=n) for r, n in reasons.most_common())
    return Validation(rows=len(answers), predicted=predicted, points=tuple(points), refused=refused)


def held_out(
    rows: Sequence[Measurement], fit: Fit, folds: Sequence[str], told: Callable[[int], None]
) -> list[Answer]:
    """Predict each row with laws that were fitted without its fold.

    Args:
        rows: all of them.
        fit: fits laws to the rows outside of a fold.
        folds: the fold of each row.
        told: called with the number of rows done, after each fold.
    """
    answers: list[Answer | None] = [None] * len(rows)
    done = 0
    for fold in dict.fromkeys(folds):
        inside = [i for i, name in enumerate(folds) if name == fold]
        outside = [row for row, name in zip(rows, folds, strict=True) if name != fold]
        predictions = fit(outside).predict([rows[i] for i in inside])
        for i, answer in zip(inside, predictions, strict=True):
            answers[i] = answer
        done += len(inside)
        told(done)
    return [answer for answer in answers if answer is not None]


def folds_of(
    rows: Sequence[Measurement],
    by: Fold,
    family: Callable[[Measurement], str],
    rng: np.random.Generator,
) -> list[str]:
    """Return the fold of each row.

    Args:
        rows: to be dealt out.
        by: what all rows of a fold have in common; `random` has nothing.
        family: tells the family of a row's processor.
        rng: deals rows to random folds, and names to folds where there are too many names.

    Raises:
        InputError: all rows are in one fold, so that nothing is left to fit.
    """
    if by == "random":
        # A run that is listed twice would tell of itself, so its copies stay together.
        runs = [tuple(getattr(row, metric) for metric in METRICS) for row in rows]
        fold = {run: str(rng.integers(RANDOM_FOLDS)) for run in dict.fromkeys(runs)}
        names = [fold[run] for run in runs]
    else:
        names = [family(row) if by == "family" else getattr(row, by) for row in rows]
        different = sorted(set(names))
        if len(different) > MOST_FOLDS:
            dealt = rng.permutation(len(different)) % MOST_FOLDS
            place = {name: f"{by} {dealt[i]}" for i, name in enumerate(different)}
            names = [place[name] for name in names]
    if len(set(names)) < 2:
        what = f"all rows are of one {by}, so nothing is left to fit"
        raise InputError(what, where="--hold-out", mend=f"hold out another of {', '.join(FOLDS)}")
    return names


def score(points: Sequence[Point]) -> Score:
    """Score predictions of one metric; there must be at least one."""
    measured = np.array([p.measured for p in points])
    predicted = np.array([p.predicted for p in points])
    low, high = np.array([p.low for p in points]), np.array([p.high for p in points])
    errors = np.abs(predicted / measured - 1.0)
    return Score(
        n=len(points),
        mape=float(errors.mean()),
        median_ape=float(np.median(errors)),
        bias=float(np.exp(np.log(predicted / measured).mean()) - 1.0),
        coverage=float(((low <= measured) & (measured <= high)).mean()),
        r2=_r2(measured, predicted),
        r2_log=_r2(np.log(measured), np.log(predicted)),
    )


def _points(answer: Prediction) -> list[Point]:
    """Return the points of a prediction."""
    return [
        Point(
            row=answer.row,
            metric=metric,
            measured=getattr(answer.row, metric),
            predicted=said.value,
            low=said.low,
            high=said.high,
            basis=answer.basis,
        )
        for metric, said in answer.values.items()
    ]


def _by_metric(points: Sequence[Point]) -> dict[str, Score]:
    """Return the score of each metric that has points."""
    return dict(_scores(points))


def _scores(points: Sequence[Point]) -> Iterator[tuple[str, Score]]:
    """Yield each metric that has points, and its score."""
    for metric in METRICS:
        part = [p for p in points if p.metric == metric]
        if part:
            yield metric, score(part)


def _r2(measured: Numbers, predicted: Numbers) -> float | None:
    """Return the coefficient of determination; None where all measured values are equal."""
    spread = float(((measured - measured.mean()) ** 2).sum())
    if spread <= 0.0:
        return None
    return 1.0 - float(((measured - predicted) ** 2).sum()) / spread


def _names(group: GroupScore) -> tuple[str, ...]:
    """Return the names of a group, for sorting."""
    return tuple(str(getattr(group, name)) for name in GROUPS)

"""Scores of the serving law on rows that it was not fitted on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec
import numpy as np

from polysilicon.cost.fit.accelerator import fit
from polysilicon.cost.fit.cases import Case, rows_of, together
from polysilicon.cost.llm.coefficients import Prior, coefficients
from polysilicon.cost.llm.fitted import METRICS, Fit, Kernel
from polysilicon.cost.llm.law import Numbers
from polysilicon.cost.llm.residuals import blocks, shapes_of
from polysilicon.cost.llm.serving import serve

FOLDS = 10
# A normal law holds 90 of 100 truths within so many standard deviations.
NINETY = 1.6449

BY: Mapping[str, Callable[[Case], str]] = {
    "processor": lambda case: case.chip.name,
    "engine": lambda case: case.engine,
    # Models of the same shapes are one: they would tell of each other.
    "model": lambda case: shapes_of(case.model),
}


class Guess(msgspec.Struct, frozen=True, kw_only=True):
    """What a fit says of one metric of some cases.

    Attributes:
        value: seconds.
        sd: of its logarithm, noise of a row included.
    """

    value: Numbers
    sd: Numbers


class Fold(msgspec.Struct, frozen=True, kw_only=True):
    """Errors on what one fit did not know.

    Attributes:
        by: what was held out, such as `processor`.
        group: which of them.
        metric: of the errors.
        log_error: truth over guess.
        sd: that was told for it.
    """

    by: str
    group: str
    metric: str
    log_error: Numbers
    sd: Numbers

    def median_ape(self) -> float:
        """Return the median of the relative errors."""
        return float(np.median(np.abs(np.expm1(-self.log_error))))

    def mape(self) -> float:
        """Return the mean of the relative errors."""
        return float(np.mean(np.abs(np.expm1(-self.log_error))))

    def coverage(self, width: float = 1.0) -> float:
        """Return the share of truths within the band."""
        return float(np.mean(np.abs(self.log_error) <= NINETY * width * self.sd))


def guesses(found: Fit, cases: Sequence[Case]) -> dict[str, Guess]:
    """Return what a fit says of cases, by metric."""
    work = together([case.work() for case in cases])
    each = [coefficients(found.values, case.tags) for case in cases]
    served = serve(work, {name: np.array([c[name] for c in each]) for name in each[0]})
    rows = rows_of(cases)
    out = {}
    for metric in METRICS:
        mean, sd = np.empty(len(rows)), np.empty(len(rows))
        for block in blocks(rows):
            processor, engine = cases[block[0]].chip.name, cases[block[0]].engine
            rest = found.residuals(metric, processor, engine)
            mean[block], sd[block] = rest.predict(rows.take(block))
        value = getattr(served, metric) * np.exp(mean)
        out[metric] = Guess(value=value, sd=np.hypot(sd, found.kernels[metric].noise_sd))
    return out


def cross_validate(
    cases: Sequence[Case],
    priors: Sequence[Prior],
    kernels: Mapping[str, Kernel],
    by: str,
    rng: np.random.Generator,
) -> list[Fold]:
    """Return the errors on each fold of a fit to all other folds.

    Args:
        cases: unique ones; a run listed twice would tell of itself.
        priors: what is expected of the coefficients.
        kernels: of the residuals.
        by: `random` for ten folds of rows, or a key of `BY`.
        rng: of the random folds.
    """
    if by == "random":
        labels = [str(fold) for fold in rng.integers(0, FOLDS, len(cases))]
    else:
        labels = [BY[by](case) for case in cases]
    folds: list[Fold] = []
    for group in sorted(set(labels)):
        known = [c for c, label in zip(cases, labels, strict=True) if label != group]
        asked = [c for c, label in zip(cases, labels, strict=True) if label == group]
        found = fit(known, priors, kernels=kernels)
        folds += score(found, asked, by, [group] * len(asked))
    return folds


def score(found: Fit, asked: Sequence[Case], by: str, groups: Sequence[str]) -> list[Fold]:
    """Return the errors of a fit on cases that it does not know, by metric and group.

    Args:
        found: the fit.
        asked: the cases.
        by: what was held out.
        groups: of the cases.
    """
    folds = []
    for metric, guess in guesses(found, asked).items():
        truth = np.array([getattr(case, metric) for case in asked], dtype=np.float64)
        error = np.log(truth / guess.value)
        for group in sorted(set(groups)):
            of = np.array([one == group for one in groups])
            folds.append(
                Fold(by=by, group=group, metric=metric, log_error=error[of], sd=guess.sd[of])
            )
    return folds


def pooled(folds: Sequence[Fold], metric: str) -> Fold:
    """Return all folds of a metric as one."""
    of = [fold for fold in folds if fold.metric == metric]
    return Fold(
        by=of[0].by,
        group="all",
        metric=metric,
        log_error=np.concatenate([fold.log_error for fold in of]),
        sd=np.concatenate([fold.sd for fold in of]),
    )


def width_for(fold: Fold, share: float = 0.9) -> float:
    """Return how much wider bands must be to hold a share of the truths."""
    return float(np.quantile(np.abs(fold.log_error) / fold.sd, share) / NINETY)

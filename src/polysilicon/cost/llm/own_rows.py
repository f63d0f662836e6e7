"""What the user measured on accelerators and imported, beside the rows of the shipped fit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from polysilicon.catalog.catalog import Catalog
from polysilicon.catalog.measurements import Measurement
from polysilicon.cost.fit.cases import Case, rows_of, together
from polysilicon.cost.fit.tables import case_of
from polysilicon.cost.llm.coefficients import coefficients
from polysilicon.cost.llm.fitted import METRICS, Fit, Known, shipped_fit
from polysilicon.cost.llm.law import Numbers
from polysilicon.cost.llm.residuals import Rows
from polysilicon.cost.llm.serving import serve
from polysilicon.errors import InputError, NoBasisError

# Of one processor and engine; more cost time that grows with their cube, and tell little more.
MOST_ROWS = 300
# Times to the first token of one setting that differ by less, in logarithms, are of one run.
SAME = 0.01


@lru_cache(maxsize=4)
def fit_for(catalog: Catalog) -> Fit:
    """Return the shipped fit; where the user imported measurements, their rows correct it too.

    Coefficients stay as shipped. Rows that the fit knows already are not counted twice; of one
    processor and engine the latest 300 are taken. Rows that are not of accelerators, or whose times
    to the first token and for later ones are not both told, correct nothing.
    """
    fit = shipped_fit()
    cases = _cases(catalog.measurements, catalog)
    if not cases:
        return fit
    cases = _new(fit, cases)
    if not cases:
        return fit
    rows, errors = rows_of(cases), log_errors(fit, cases)
    known = {
        metric: Known(
            rows=_joined(fit.known[metric].rows, rows),
            values=np.concatenate([fit.known[metric].values, errors[metric]]),
            noise_sd=np.concatenate(
                [fit.known[metric].noise_sd, np.full(len(cases), fit.kernels[metric].noise_sd)]
            ),
        )
        for metric in METRICS
    }
    return Fit(values=fit.values, kernels=fit.kernels, known=known)


def log_errors(fit: Fit, cases: Sequence[Case]) -> dict[str, Numbers]:
    """Return the logarithms of truth over the law alone, by metric."""
    each = [coefficients(fit.values, case.tags) for case in cases]
    served = serve(
        together([case.work() for case in cases]),
        {name: np.array([one[name] for one in each]) for name in each[0]},
    )
    return {
        metric: np.log(
            np.array([getattr(case, metric) for case in cases], dtype=np.float64)
            / getattr(served, metric)
        )
        for metric in METRICS
    }


def _cases(rows: Sequence[Measurement], catalog: Catalog) -> list[Case]:
    """Return the rows that the serving law can learn from."""
    cases = []
    for row in rows:
        if row.ttft_ms is None or row.tpot_ms is None or not row.processor:
            continue
        try:
            if catalog.processor(row.processor).kind == "cpu":
                continue
            case = case_of(row, catalog)
            case.work()
        except (InputError, NoBasisError):
            # A row of something that no law knows teaches nothing; `validate` tells why.
            continue
        cases.append(case)
    return cases


def _new(fit: Fit, cases: Sequence[Case]) -> list[Case]:
    """Return the cases that the fit does not know, the latest of each processor and engine.

    Known is a run of the same setting and sizes with the same time to the first token, within 1 %.
    """
    rows, told = rows_of(cases), log_errors(fit, cases)["ttft_s"]
    known = fit.known["ttft_s"]
    seen: dict[tuple[str | float, ...], list[float]] = {}
    columns = (known.rows.names, known.rows.octaves.round(2), known.values)
    for names, sizes, value in zip(*columns, strict=True):
        seen.setdefault((*names, *sizes), []).append(float(value))
    chosen: list[Case] = []
    kept: Counter[tuple[str, str]] = Counter()
    order = sorted(range(len(cases)), key=lambda i: cases[i].date, reverse=True)
    for i in order:
        alike = seen.setdefault((*rows.names[i], *rows.octaves[i].round(2)), [])
        place = (cases[i].chip.name, cases[i].engine)
        if kept[place] < MOST_ROWS and all(abs(told[i] - value) > SAME for value in alike):
            alike.append(float(told[i]))
            kept[place] += 1
            chosen.append(cases[i])
    return chosen


def _joined(first: Rows, second: Rows) -> Rows:
    """Return the rows of both."""
    return Rows(
        names=np.concatenate([first.names, second.names]),
        octaves=np.concatenate([first.octaves, second.octaves]),
    )

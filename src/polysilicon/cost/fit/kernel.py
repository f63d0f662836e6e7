"""The kernel under which rows tell most of each other: by the likelihood of what is left out."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from polysilicon.cost.llm.law import Numbers
from polysilicon.cost.llm.residuals import NAMES, Residuals, Rows, Term, covariance, steady_noise

FAR, NEAR = 4.0, 1.5
SHAPES: tuple[tuple[tuple[str, ...], float], ...] = (
    (("processor", "engine"), np.inf),
    (("processor", "engine"), FAR),
    (("processor", "engine", "model", "precision"), FAR),
    (("processor", "engine", "model", "precision", "split"), NEAR),
)
"""Terms before their sizes are fitted: names that agree, and octaves.

None holds across processors or engines: what the law leaves over on one told nothing about the
others (the median error of held-out processors was larger with such a term). So the rows of each
processor and engine can be worked on by themselves.
"""

SETTING = ("processor", "engine", "model", "precision")
"""Names of a setting; all its rows are left out together."""

# Rows that are enough to tell sizes; more would take time that grows with their cube.
MOST_ROWS = 500

# Logarithms of a tenth: what sizes are before anything is known of them.
_START = float(np.log(0.1))


def fit_terms(
    rows: Rows, values: Numbers, noise_sd: float = 0.06
) -> tuple[tuple[Term, ...], float]:
    """Return the terms of the kernel and the noise of a row.

    Half of the likelihood is that of single rows when all others are known, half that of whole
    settings, so that the kernel neither overrates near rows nor underrates far ones.

    Args:
        rows: that were measured.
        values: their log residuals.
        noise_sd: where the search begins.
    """
    few = np.arange(len(rows))[:: -(-len(rows) // MOST_ROWS)]
    rows, values = rows.take(few), values[few]
    groups = _groups(rows)
    # What a term of size 1 contributes; sizes only weigh these.
    parts = [covariance(rows, rows, [term]) for term in _terms(np.zeros(len(SHAPES) + 1))[0]]
    sizes = np.append(np.full(len(SHAPES), _START), np.log(noise_sd))
    bounds = [(-5.0, 0.5)] * len(SHAPES) + [(-4.0, -1.0)]
    for _ in range(2):
        terms, noise_sd = _terms(sizes)
        # Outliers keep their excess of noise while the sizes are searched.
        noise = steady_noise(rows, values, noise_sd, terms)
        excess = np.sqrt(np.maximum(noise**2 - noise_sd**2, 0.0))

        def cost(sizes: Numbers, excess: Numbers = excess) -> float:
            terms, noise_sd = _terms(sizes)
            shared = sum(term.sd**2 * part for term, part in zip(terms, parts, strict=True))
            known = Residuals(rows, values, np.hypot(excess, noise_sd), terms, np.asarray(shared))
            error, sd = known.left_out()
            alone = float(np.sum(np.log(sd) + 0.5 * (error / sd) ** 2))
            whole = sum(known.group_left_out(group) for group in groups)
            return 0.5 * (alone + whole) + 0.5 * float(np.sum((sizes - _START) ** 2))

        sizes = minimize(cost, sizes, method="L-BFGS-B", bounds=bounds, options={"maxiter": 10}).x
    return _terms(sizes)


def _terms(sizes: Numbers) -> tuple[tuple[Term, ...], float]:
    """Return terms and noise from the logarithms of their sizes."""
    terms = tuple(
        Term(names=names, sd=float(np.exp(size)), octaves=octaves)
        for (names, octaves), size in zip(SHAPES, sizes[:-1], strict=True)
    )
    return terms, float(np.exp(sizes[-1]))


def _groups(rows: Rows) -> list[npt.NDArray[np.intp]]:
    """Return the rows of each setting."""
    columns = [NAMES.index(name) for name in SETTING]
    _, which = np.unique(rows.names[:, columns], axis=0, return_inverse=True)
    return [np.flatnonzero(which == i) for i in range(int(which.max()) + 1)]

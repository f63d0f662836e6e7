"""Regression that a few wild rows do not bend."""

from __future__ import annotations

import numpy as np

from polysilicon.cost.llm.law import Numbers

# Residuals beyond so many spreads count linearly, not squared. Source: P. J. Huber, Annals of
# Mathematical Statistics 35 (1964); 1.345 gives 95 % efficiency on normal errors.
HUBER_SPREADS = 1.345
# A median absolute deviation is this part of a normal standard deviation.
MAD_PER_SD = 0.6745
ROUNDS = 8


def huber(columns: Numbers, values: Numbers, ridge: float = 1e-4) -> Numbers:
    """Return the coefficients of a robust linear regression.

    Iteratively reweighted least squares with Huber's weights and a slight pull to 0, so that
    columns that the rows do not tell apart stay finite.

    Args:
        columns: shape (rows, coefficients).
        values: shape (rows,).
        ridge: weight of the pull, for each row.

    Returns:
        Shape (coefficients,).
    """
    weights = np.ones(len(values))
    pull = ridge * len(values) * np.eye(columns.shape[1])
    found: Numbers = np.zeros(columns.shape[1])
    for _ in range(ROUNDS):
        weighted = columns * weights[:, None]
        solved = np.linalg.solve(weighted.T @ columns + pull, weighted.T @ values)
        found = np.asarray(solved, dtype=np.float64)
        off = np.abs(values - columns @ found)
        spread = np.median(off) / MAD_PER_SD
        weights = np.minimum(1.0, HUBER_SPREADS * spread / np.maximum(off, 1e-12))
    return found

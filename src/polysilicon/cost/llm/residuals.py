"""What a law leaves over, learnt from rows like the one that is asked for: a Gaussian process.

Each term of the kernel holds between rows that agree in some names (the same model on the same
engine, say) and fades with the distance of their sizes in octaves, so a row near measured ones is
corrected much and trusted much, and one unlike all others neither. Source: C. Rasmussen and
C. Williams, "Gaussian Processes for Machine Learning", 2006, chapter 2, and section 5.4.2 for the
residuals of rows left out.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from polysilicon.catalog.models import ModelArchitecture
from polysilicon.cost.llm.law import Numbers
from polysilicon.cost.llm.work import Split

NAMES = ("processor", "engine", "model", "precision", "split")
SIZES = ("gpus", "concurrency", "new", "output")


class Term(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One term of the kernel.

    Attributes:
        names: those in which two rows must agree.
        sd: of the log residual that they share.
        octaves: distance at which the shared part fades; infinite where sizes do not matter.
    """

    names: tuple[str, ...]
    sd: float
    octaves: float


class Rows(msgspec.Struct, frozen=True, kw_only=True):
    """Rows by what they are.

    Attributes:
        names: (rows, 5), of `NAMES`.
        octaves: (rows, 4), base-2 logarithms of `SIZES`.
    """

    names: npt.NDArray[np.str_]
    octaves: Numbers

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.names)

    def take(self, chosen: npt.NDArray[np.bool_] | npt.NDArray[np.intp]) -> Rows:
        """Return the chosen rows."""
        return Rows(names=self.names[chosen], octaves=self.octaves[chosen])


def shapes_of(model: ModelArchitecture) -> str:
    """Return a name that models of the same tensor shapes share."""
    return f"{model.layers}x{model.hidden}, {model.parameters}"


def describe(
    case_names: tuple[str, str, ModelArchitecture, str, Split],
    sizes: tuple[float, Numbers, Numbers],
) -> Rows:
    """Return rows for the residuals: one setting, and prompts and outputs of some sizes.

    Args:
        case_names: processor, engine, model, precision, split.
        sizes: concurrency, new tokens, output tokens; the last two of one shape (rows,).
    """
    processor, engine, model, precision, split = case_names
    concurrency, new, output = sizes
    spread = f"{'ranks' if split.ranks > 1 else ''}{'experts' if split.experts > 1 else ''}"
    names = np.array([[processor, engine, shapes_of(model), precision, spread]])
    columns = (
        np.full(len(new), float(split.gpus)),
        np.full(len(new), concurrency),
        new,
        np.maximum(output, 1.0),
    )
    return Rows(
        names=np.repeat(names, len(new), axis=0), octaves=np.log2(np.stack(columns, axis=1))
    )


def blocks(rows: Rows) -> list[npt.NDArray[np.intp]]:
    """Return the rows of each processor and engine, which tell nothing of one another."""
    if not len(rows):
        return []
    columns = [NAMES.index("processor"), NAMES.index("engine")]
    _, which = np.unique(rows.names[:, columns], axis=0, return_inverse=True)
    return [np.flatnonzero(which == i) for i in range(int(which.max()) + 1)]


def covariance(first: Rows, second: Rows, terms: Sequence[Term]) -> Numbers:
    """Return the covariance of log residuals, (first, second)."""
    gaps = first.octaves[:, None, :] - second.octaves[None, :, :]
    square = np.einsum("ijk,ijk->ij", gaps, gaps)
    agree = {
        name: first.names[:, None, i] == second.names[None, :, i] for i, name in enumerate(NAMES)
    }
    total = np.zeros(square.shape)
    for term in terms:
        part = np.full(square.shape, term.sd**2)
        if np.isfinite(term.octaves):
            part *= np.exp(-0.5 * square / term.octaves**2)
        for name in term.names:
            part *= agree[name]
        total += part
    return total


class Residuals:
    """Log residuals of a law at some rows, and what they tell of others.

    Args:
        rows: that were measured.
        values: their log residuals, truth over law.
        noise_sd: of each row.
        terms: of the kernel.
        shared: covariance of the rows without noise, where the caller has it.

    Memory is 16 bytes for each pair of rows.
    """

    def __init__(
        self,
        rows: Rows,
        values: Numbers,
        noise_sd: Numbers,
        terms: Sequence[Term],
        shared: Numbers | None = None,
    ) -> None:
        self.rows = rows
        self.terms = tuple(terms)
        matrix = covariance(rows, rows, terms) if shared is None else shared.copy()
        matrix[np.diag_indices_from(matrix)] += noise_sd**2
        self._inverse = np.linalg.inv(matrix) if len(rows) else matrix
        self._weights = self._inverse @ values

    def predict(self, asked: Rows) -> tuple[Numbers, Numbers]:
        """Return mean and standard deviation of the log residual of other rows, without noise."""
        prior = sum(term.sd**2 for term in self.terms)
        if not len(self.rows):
            return np.zeros(len(asked)), np.full(len(asked), np.sqrt(prior))
        shared = covariance(asked, self.rows, self.terms)
        # Row by row: products of whole matrices round differently with the number of rows, and
        # the answer for one row must not depend on which others are asked.
        mean = np.array([row @ self._weights for row in shared])
        known = np.array([row @ (self._inverse @ row) for row in shared])
        return mean, np.sqrt(np.maximum(prior - known, 0.0))

    def left_out(self) -> tuple[Numbers, Numbers]:
        """Return error and standard deviation of each row when all others tell of it."""
        diagonal = np.diag(self._inverse)
        return self._weights / diagonal, 1.0 / np.sqrt(diagonal)

    def group_left_out(self, group: npt.NDArray[np.intp]) -> float:
        """Return minus the log likelihood of a group of rows when all others are known."""
        block = self._inverse[np.ix_(group, group)]
        weights = self._weights[group]
        # The block is the inverse of the group's covariance given the others.
        _, logarithm = np.linalg.slogdet(block)
        return float(0.5 * (weights @ np.linalg.solve(block, weights) - logarithm))


def steady_noise(
    rows: Rows, values: Numbers, noise_sd: float, terms: Sequence[Term], rounds: int = 4
) -> Numbers:
    """Return the noise of each row such that outliers pull little.

    A row that is further than two standard deviations from what the others tell gets the noise that
    brings it there, as in Huber's estimate. Source: P. Huber, "Robust Estimation of a Location
    Parameter", 1964.
    """
    noise = np.full(len(rows), noise_sd)
    shared = covariance(rows, rows, terms)
    for _ in range(rounds):
        error, sd = Residuals(rows, values, noise, terms, shared).left_out()
        # Without this row's own noise the others are this sure of it.
        others = np.maximum(sd**2 - noise**2, 0.0)
        wanted = (np.abs(error) / 2.0) ** 2 - others
        noise = np.sqrt(np.maximum(noise_sd**2, wanted))
    return noise

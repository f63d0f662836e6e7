"""The fitted serving law as data: coefficients, kernels, residuals; the fit writes, this reads."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib.resources.abc import Traversable
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from polysilicon.catalog.tables import Cell, amount, data_folder, number, read_rows, text
from polysilicon.cost.llm.coefficients import Values
from polysilicon.cost.llm.law import Numbers
from polysilicon.cost.llm.residuals import NAMES, SIZES, Residuals, Rows, Term

METRICS = ("ttft_s", "tpot_s")
VALUES, KERNELS = "accelerator.csv", "accelerator_kernels.csv"
RESIDUALS = "accelerator_residuals.csv"
# The residuals hold rows of Neuron chips, whose source is CC BY-SA.
SHARED = "cc_by_sa"


class Kernel(msgspec.Struct, frozen=True, kw_only=True):
    """How residuals of one metric hang together.

    Attributes:
        terms: of the kernel.
        noise_sd: of a row.
        width: bands of rows left out must be so many times wider than the kernel says to hold 90 of
            100 of them.
    """

    terms: tuple[Term, ...]
    noise_sd: float
    width: float = 1.0


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """What the law leaves over for one metric.

    Attributes:
        rows: that were measured.
        values: their log residuals, truth over law.
        noise_sd: of each of them.
    """

    rows: Rows
    values: Numbers
    noise_sd: Numbers

    def related(self, processor: str, engine: str) -> Known:
        """Return the rows that tell of a setting: those of its processor and engine."""
        same = {name: self.rows.names[:, i] for i, name in enumerate(NAMES)}
        there = (same["processor"] == processor) & (same["engine"] == engine)
        return Known(
            rows=self.rows.take(there), values=self.values[there], noise_sd=self.noise_sd[there]
        )


class Fit(msgspec.Struct, frozen=True, kw_only=True):
    """What was found.

    Attributes:
        values: logarithms of the coefficients.
        kernels: by metric.
        known: residuals by metric.
        made: what was made of the residuals of a processor and engine; it takes an inverse.
    """

    values: Values
    kernels: Mapping[str, Kernel]
    known: Mapping[str, Known]
    made: dict[tuple[str, str, str], Residuals] = msgspec.field(default_factory=dict)

    def residuals(self, metric: str, processor: str, engine: str) -> Residuals:
        """Return what rows like those of a setting tell of it."""
        key = (metric, processor, engine)
        if key not in self.made:
            known = self.known[metric].related(processor, engine)
            terms = self.kernels[metric].terms
            self.made[key] = Residuals(known.rows, known.values, known.noise_sd, terms)
        return self.made[key]


def write_fit(fit: Fit, folder: Path) -> None:
    """Write a fit into the folder of the laws' data."""
    _write(
        folder / VALUES,
        ("coefficient", "tag", "logarithm"),
        [(name, tag, f"{value:.5f}") for (name, tag), value in sorted(fit.values.items())],
    )
    kernels: list[tuple[str, ...]] = []
    for metric, kernel in fit.kernels.items():
        for term in kernel.terms:
            names = " ".join(term.names)
            kernels.append((metric, names, f"{term.octaves:g}", f"{term.sd:.5f}"))
        kernels.append((metric, "noise", "inf", f"{kernel.noise_sd:.5f}"))
        kernels.append((metric, "width", "inf", f"{kernel.width:.4f}"))
    _write(folder / KERNELS, ("metric", "names", "octaves", "value"), kernels)
    rows: list[tuple[str, ...]] = []
    for metric, known in fit.known.items():
        for names, octaves, value, noise_sd in zip(
            known.rows.names, known.rows.octaves, known.values, known.noise_sd, strict=True
        ):
            sizes = [f"{2.0**octave:g}" for octave in octaves]
            rows.append((metric, *names, *sizes, f"{value:.4f}", f"{noise_sd:.4f}"))
    columns = ("metric", *NAMES, *SIZES, "log_residual", "noise_sd")
    _write(folder / SHARED / RESIDUALS, columns, rows)


@lru_cache(maxsize=1)
def shipped_fit() -> Fit:
    """Return the fit that comes with Polysilicon; it is read once."""
    return read_fit(data_folder("polysilicon.cost"))


def read_fit(folder: Traversable) -> Fit:
    """Read a fit.

    Raises:
        InputError: a cell that cannot be.
    """
    columns: dict[str, Cell] = {"coefficient": text, "tag": str, "logarithm": number}
    values = {
        (row["coefficient"], row["tag"]): row["logarithm"]
        for _, row in read_rows(folder / VALUES, columns)
    }
    terms: dict[str, list[Term]] = {metric: [] for metric in METRICS}
    single: dict[tuple[str, str], float] = {}
    columns = {"metric": text, "names": text, "octaves": float, "value": amount}
    for _, row in read_rows(folder / KERNELS, columns):
        if row["names"] in ("noise", "width"):
            single[row["metric"], row["names"]] = row["value"]
            continue
        names = tuple(row["names"].split(" "))
        terms[row["metric"]].append(Term(names=names, sd=row["value"], octaves=row["octaves"]))
    kernels = {
        metric: Kernel(
            terms=tuple(terms[metric]),
            noise_sd=single[metric, "noise"],
            width=single[metric, "width"],
        )
        for metric in METRICS
    }
    return Fit(values=values, kernels=kernels, known=_known(folder / SHARED / RESIDUALS))


def _known(source: Traversable) -> dict[str, Known]:
    """Read the residuals by metric."""
    columns: dict[str, Cell] = {
        "metric": text,
        **dict.fromkeys(NAMES, str),
        **dict.fromkeys(SIZES, amount),
        "log_residual": number,
        "noise_sd": amount,
    }
    rows = [row for _, row in read_rows(source, columns)]
    known = {}
    for metric in METRICS:
        of = [row for row in rows if row["metric"] == metric]
        names: npt.NDArray[np.str_] = np.array([[row[name] for name in NAMES] for row in of])
        known[metric] = Known(
            rows=Rows(names=names, octaves=np.log2([[row[size] for size in SIZES] for row in of])),
            values=np.array([row["log_residual"] for row in of]),
            noise_sd=np.array([row["noise_sd"] for row in of]),
        )
    return known


def _write(path: Path, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Write a table."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)

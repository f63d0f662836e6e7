"""Fits the law of LLMs on CPUs and scores it on servers, chip families and models held out.

`python -m polysilicon.cost.fit.cpu [FOLDER]` reads the measured rates in the package, prints the
table of scores and writes laws, scores and residuals into FOLDER (by default where the package
reads them).
"""

from __future__ import annotations

import csv
import gzip
import io
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt

from polysilicon.catalog.catalog import load as load_catalog
from polysilicon.catalog.tables import data_folder
from polysilicon.cost.fit.robust import huber
from polysilicon.cost.llm.cpu_kriging import Kernel
from polysilicon.cost.llm.cpu_points import (
    BATCHING_FEATURES,
    FEATURES,
    KINDS,
    LLAMACPP_KINDS,
    batching_features,
)
from polysilicon.cost.llm.cpu_rates import CpuFit, Data, Flags, Laws, load_data, read_kernel
from polysilicon.cost.llm.law import Numbers

By = Literal["instance", "chip", "family", "model"]
FOLDS = 10
SEED = 20261121
# A band holds the truth in so many cases; this is its half width in normal deviations.
BAND = 0.9
NORMAL_SPREAD = 1.6449


class HeldOut(msgspec.Struct, frozen=True, kw_only=True):
    """Predictions of rates by fits that had not seen them.

    Attributes:
        by: what was held out together.
        error: log of predicted over measured.
        sd: as predicted.
        half: 0 or 1, so that spreads of one half can be scored on the other.
    """

    by: By
    error: Numbers
    sd: Numbers
    half: npt.NDArray[np.int64]


class Score(msgspec.Struct, frozen=True, kw_only=True):
    """How well held-out rates were met.

    Attributes:
        held_out: what was held out together.
        group: which rows.
        n: how many.
        median_ape: median of the absolute relative errors.
        mape: their mean.
        bias: median of the relative errors.
        covered: share of truths in their bands.
    """

    held_out: str
    group: str
    n: int
    median_ape: float
    mape: float
    bias: float
    covered: float


def fit(data: Data, kernel: Kernel, held_out: Flags | None = None) -> CpuFit:
    """Fit the law on all rates but those held out, which are then as if never measured.

    Args:
        data: measured rates.
        kernel: how alike residuals are.
        held_out: one flag a rate.

    Returns:
        With spreads as of normal errors.
    """
    keep = np.ones(len(data.logs), dtype=bool) if held_out is None else ~held_out
    laws = np.zeros((len(KINDS), len(FEATURES)))
    for kind in range(len(KINDS)):
        rows = keep & (data.points.kind == kind)
        laws[kind] = huber(data.columns[rows], data.logs[rows])
    batching, band = fit_batching(data, keep)
    fitted = Laws(
        coefficients=laws,
        spread=np.full(len(KINDS), NORMAL_SPREAD),
        batching=batching,
        batching_band=band,
    )
    return CpuFit(data, fitted, kernel, held_out)


def fit_batching(data: Data, keep: Flags) -> tuple[Numbers, float]:
    """Fit the exponent a of seconds(b) = seconds(1) · b^a where vLLM ran alone and busy.

    Returns:
        Coefficients, and the half width within which nine of ten exponents lie.
    """
    at = {data.keys[i]: i for i in np.flatnonzero(keep).tolist()}
    rows, exponents = [], []
    for (offer, model, kind, tokens), i in at.items():
        alone = at.get((offer, model, "alone", tokens))
        crowd = float(data.points.concurrency[i]) * np.log(2.0)
        if kind == "busy" and alone is not None and crowd > np.log(2.0):
            rows.append(i)
            exponents.append((crowd + data.logs[alone] - data.logs[i]) / crowd)
    if not rows:
        return np.zeros(len(BATCHING_FEATURES)), 1.0
    columns = batching_features(data.points.take(np.array(rows)), data.words)
    values = np.array(exponents)
    found = huber(columns, values)
    return found, float(np.quantile(np.abs(values - columns @ found), BAND))


def cross_validate(data: Data, kernel: Kernel, by: By, rng: np.random.Generator) -> HeldOut:
    """Predict each rate by a fit that saw nothing of its server, chip, family or model.

    Servers are held out a tenth at a time, the others one by one.
    """
    groups = getattr(data.points, by)
    names, codes = np.unique(groups, return_inverse=True)
    fold = rng.permutation(len(names)) % (FOLDS if by == "instance" else len(names))
    fold_of = fold[codes]
    error, sd = np.zeros(len(groups)), np.zeros(len(groups))
    for number in np.unique(fold):
        held = fold_of == number
        fitted = fit(data, kernel, held)
        predict_into(fitted, np.flatnonzero(held), error, sd)
    return HeldOut(
        by=by, error=error - data.logs, sd=sd, half=rng.permutation(len(names))[codes] % 2
    )


def predict_into(fitted: CpuFit, rows: npt.NDArray[np.int64], log: Numbers, sd: Numbers) -> None:
    """Write log rate and deviation of some rows, those of one server, model and engine together."""
    data, models = fitted.data, load_catalog().models
    sites: dict[tuple[str, str, bool], list[int]] = {}
    for row in rows:
        offer, model, kind, _ = data.keys[row]
        vllm = KINDS.index(kind) >= LLAMACPP_KINDS
        sites.setdefault((offer, model, vllm), []).append(int(row))
    for (offer, model, _), at in sites.items():
        asked = [(data.keys[i][2], data.keys[i][3], 2.0 ** data.points.concurrency[i]) for i in at]
        found = fitted.rates(data.words.servers.types[offer], models[model], asked)
        log[at], sd[at] = found.log, found.sd


def spreads(data: Data, held: HeldOut, rows: Flags) -> Numbers:
    """Return, by kind, the deviations within which nine of ten of some held-out errors lie."""
    off = np.abs(held.error) / held.sd
    return np.array(
        [np.quantile(off[rows & (data.points.kind == kind)], BAND) for kind in range(len(KINDS))]
    )


def scores(data: Data, held: HeldOut, wide: Sequence[Numbers]) -> list[Score]:
    """Score held-out predictions, all together and by what the rows are.

    Args:
        data: measured rates.
        held: predictions.
        wide: spreads by kind for the rows of half 0 and of half 1.
    """
    width = np.where(held.half == 0, wide[0][data.points.kind], wide[1][data.points.kind])
    covered = np.abs(held.error) <= held.sd * width
    found = []
    for group, rows in _groups(data):
        off = np.exp(held.error[rows]) - 1.0
        found.append(
            Score(
                held_out=held.by,
                group=group,
                n=int(rows.sum()),
                median_ape=float(np.median(np.abs(off))),
                mape=float(np.mean(np.abs(off))),
                bias=float(np.median(off)),
                covered=float(np.mean(covered[rows])),
            )
        )
    return found


def _groups(data: Data) -> Iterable[tuple[str, Flags]]:
    """Yield groups of rows: engines and kinds, models, families."""
    points = data.points
    llama = points.kind < LLAMACPP_KINDS
    yield "all", np.ones(len(llama), dtype=bool)
    yield "llama.cpp", llama
    yield "vllm", ~llama
    for code, kind in enumerate(KINDS):
        yield f"rate {kind}", points.kind == code
    for model, code in data.words.models.items():
        yield f"model {model}", points.model == code
    for family, code in data.words.families.items():
        rows = points.family == code
        if rows.any():
            yield f"family {family}", rows


def write_laws(path: Path, fitted: CpuFit, wide: Numbers) -> None:
    """Write coefficients, spreads and bands as the package reads them."""
    rows = [
        (kind, name, f"{value:.6g}")
        for kind, law, spread in zip(KINDS, fitted.laws, wide, strict=True)
        for name, value in [*zip(FEATURES, law, strict=True), ("spread", spread)]
    ]
    batching = zip(BATCHING_FEATURES, fitted.batching, strict=True)
    rows += [("batching", name, f"{value:.6g}") for name, value in batching]
    rows.append(("batching", "band", f"{fitted.batching_band:.6g}"))
    _write(path, ("kind", "feature", "coefficient"), rows)


def write_scores(path: Path, table: Sequence[Score]) -> None:
    """Write the table of scores."""
    shares = ("median_ape", "mape", "bias", "covered")
    rows = [
        (s.held_out, s.group, str(s.n), *(f"{getattr(s, name):.4f}" for name in shares))
        for s in table
    ]
    _write(path, Score.__struct_fields__, rows)


def write_residuals(path: Path, fitted: CpuFit, held: HeldOut) -> None:
    """Write, packed, what the law leaves of each rate and by how much it was missed held out."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["offer", "model", "kind", "tokens", "law_residual", "held_out_error"])
    for key, residual, error in zip(fitted.data.keys, fitted.residuals, held.error, strict=True):
        writer.writerow([*key, f"{residual:.3f}", f"{error:.3f}"])
    path.write_bytes(gzip.compress(text.getvalue().encode(), mtime=0))


def _write(path: Path, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Write a CSV file."""
    with path.open("w", encoding="utf-8", newline="") as out:
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def run(folder: Path, seed: int = SEED) -> list[Score]:
    """Fit, score and write all.

    Args:
        folder: to write into.
        seed: of the folds.
    """
    data = load_data()
    kernel = read_kernel(data_folder("polysilicon.cost") / "cc_by_sa" / "cpu_kernel.csv")
    rng = np.random.default_rng(seed)
    servers = cross_validate(data, kernel, "instance", rng)
    halves = [spreads(data, servers, servers.half != half) for half in (0, 1)]
    wide = spreads(data, servers, np.ones(len(servers.half), dtype=bool))
    table = scores(data, servers, halves)
    for by in ("family", "model"):
        table += scores(data, cross_validate(data, kernel, by, rng), [wide, wide])
    fitted = fit(data, kernel)
    write_laws(folder / "cpu_laws.csv", fitted, wide)
    write_scores(folder / "cpu_scores.csv", table)
    write_residuals(folder / "cpu_residuals.csv.gz", fitted, servers)
    return table


def main() -> None:
    """Run from the command line."""
    told = sys.argv[1:]
    folder = Path(told[0]) if told else Path(str(data_folder("polysilicon.cost"))) / "cc_by_sa"
    for s in run(folder):
        line = f"{s.held_out:9} {s.group:34} {s.n:6} median {s.median_ape:6.1%} mean {s.mape:6.1%}"
        sys.stdout.write(f"{line} bias {s.bias:+6.1%} covered {s.covered:6.1%}\n")


if __name__ == "__main__":
    main()

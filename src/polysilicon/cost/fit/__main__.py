"""`python -m polysilicon.cost.fit`: fit the law of accelerators again, score it on held-out rows.

Writes coefficients, kernels and residuals beside the laws (or into a folder that is given), and
prints the table of the cross-validation. Takes a few minutes.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path

import msgspec
import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from polysilicon import catalog
from polysilicon.catalog.tables import data_folder
from polysilicon.cost.fit.accelerator import fit, unique
from polysilicon.cost.fit.cases import Case
from polysilicon.cost.fit.score import BY, Fold, cross_validate, pooled, score, width_for
from polysilicon.cost.fit.tables import SERVED_MORE, other_cases, served_cases
from polysilicon.cost.llm.coefficients import Prior, read_priors
from polysilicon.cost.llm.fitted import METRICS, Fit, write_fit
from polysilicon.cost.llm.residuals import shapes_of

SEED = 20261121
LATER = "later rows"
BOTH = "processor of both tables"
HEADS = ("held_out", "group", "metric", "rows", "median_error", "mean_error", "in_band")


def main() -> None:
    """Fit, score, write, print."""
    known = catalog.load()
    console = Console()
    priors = read_priors(data_folder("polysilicon.cost") / "accelerator_priors.csv")
    served, left_out = served_cases(known)
    later, also = served_cases(known, SERVED_MORE)
    others, besides = other_cases(known)
    for reason, count in (left_out + also + besides).most_common():
        console.print(f"left out {count}: {reason}", markup=False)
    served, others = unique(served), unique(others)
    both = unique([*served, *later])
    later = both[len(served) :]
    found = fit(served, priors)
    folds: list[Fold] = []
    for by in track(("random", *BY), "cross-validation", console=Console(stderr=True)):
        rng = np.random.default_rng(SEED)
        folds += cross_validate(served, priors, found.kernels, by, rng)
    folds += processors_of_both(both, priors, found)
    # Rows that came after all choices of the law were made, on chips old and new.
    folds += score(found, later, LATER, [case.chip.name for case in later])
    where = Path(sys.argv[1]) if len(sys.argv) > 1 else _package_data()
    (where / "cc_by_sa").mkdir(parents=True, exist_ok=True)
    whole = widened(fit(both, priors, others, found.kernels), folds)
    write_fit(whole, where)
    names = {shapes_of(case.model): case.model.name for case in reversed(both)}
    rows = scores(folds, whole, names)
    write_scores(rows, where / "accelerator_scores.csv")
    table = Table(*HEADS, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*row)
    console.print(table)


def processors_of_both(cases: Sequence[Case], priors: Sequence[Prior], found: Fit) -> list[Fold]:
    """Return the errors on each processor of both tables, by a fit to all rows of the others."""
    rng = np.random.default_rng(SEED)
    folds = cross_validate(cases, priors, found.kernels, "processor", rng)
    return [msgspec.structs.replace(fold, by=BOTH) for fold in folds]


def widened(found: Fit, folds: list[Fold]) -> Fit:
    """Return the fit with bands that hold 90 of 100 rows that were left out at random."""
    rows = [fold for fold in folds if fold.by == "random"]
    kernels = {
        metric: msgspec.structs.replace(
            found.kernels[metric], width=max(width_for(pooled(rows, metric)), 1.0)
        )
        for metric in METRICS
    }
    return msgspec.structs.replace(found, kernels=kernels)


def scores(folds: list[Fold], found: Fit, names: Mapping[str, str]) -> list[tuple[str, ...]]:
    """Return the rows of the table of scores, under `HEADS`.

    Args:
        folds: errors on what was held out.
        found: the fit, for the width of its bands.
        names: of groups that are called otherwise.
    """
    rows: list[tuple[str, ...]] = []
    for by in ("random", *BY, BOTH, LATER):
        of = [fold for fold in folds if fold.by == by]
        for metric in METRICS:
            single = [] if by == "random" else [f for f in of if f.metric == metric]
            for fold in (*single, pooled(of, metric)):
                figures = (
                    fold.median_ape(),
                    fold.mape(),
                    fold.coverage(found.kernels[metric].width),
                )
                group = names.get(fold.group, fold.group)
                shown = (f"{figure:.3f}" for figure in figures)
                rows.append((by, group, metric, str(len(fold.log_error)), *shown))
    return rows


def write_scores(rows: list[tuple[str, ...]], path: Path) -> None:
    """Write the table of scores."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(HEADS)
        writer.writerows(rows)


def _package_data() -> Path:
    """Return the folder of the laws' data in this installation."""
    return Path(str(resources.files("polysilicon.cost") / "data"))


if __name__ == "__main__":
    main()

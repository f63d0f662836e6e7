"""`python -m polysilicon.cost.fit`: fit the law of accelerators again and score it on held-out rows.

Writes coefficients, kernels and residuals beside the laws (or into a folder that is given), and
prints the table of the cross-validation. Takes a few minutes.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
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
from polysilicon.cost.fit.score import BY, Fold, cross_validate, pooled, width_for
from polysilicon.cost.fit.tables import other_cases, served_cases
from polysilicon.cost.llm.coefficients import read_priors
from polysilicon.cost.llm.fitted import METRICS, Fit, write_fit
from polysilicon.cost.llm.residuals import shapes_of

SEED = 20261121


def main() -> None:
    """Fit, score, write, print."""
    known = catalog.load()
    console = Console()
    priors = read_priors(data_folder("polysilicon.cost") / "accelerator_priors.csv")
    served, left_out = served_cases(known)
    others, also = other_cases(known)
    for reason, count in (left_out + also).most_common():
        console.print(f"left out {count}: {reason}", markup=False)
    served, others = unique(served), unique(others)
    found = fit(served, priors, others)
    folds: list[Fold] = []
    for by in track(("random", *BY), "cross-validation", console=Console(stderr=True)):
        rng = np.random.default_rng(SEED)
        folds += cross_validate(served, priors, found.kernels, by, rng)
    found = widened(found, [fold for fold in folds if fold.by == "random"])
    where = Path(sys.argv[1]) if len(sys.argv) > 1 else _package_data()
    (where / "cc_by_sa").mkdir(parents=True, exist_ok=True)
    write_fit(found, where)
    names: dict[str, str] = {}
    for case in served:
        names.setdefault(shapes_of(case.model), case.model.name)
    console.print(table_of(folds, found, names))


def widened(found: Fit, folds: list[Fold]) -> Fit:
    """Return the fit with bands that hold 90 of 100 rows left out."""
    kernels = {
        metric: msgspec.structs.replace(
            found.kernels[metric], width=max(width_for(pooled(folds, metric)), 1.0)
        )
        for metric in METRICS
    }
    return msgspec.structs.replace(found, kernels=kernels)


def table_of(folds: list[Fold], found: Fit, names: Mapping[str, str]) -> Table:
    """Return the scores as a table.

    Args:
        folds: errors on what was held out.
        found: the fit, for the width of its bands.
        names: of groups that are called otherwise.
    """
    table = Table(box=None, pad_edge=False)
    for head in ("held out", "group", "metric"):
        table.add_column(head)
    for head in ("rows", "median error", "mean error", "in band"):
        table.add_column(head, justify="right")
    for by in ("random", *BY):
        of = [fold for fold in folds if fold.by == by]
        for metric in METRICS:
            single = [] if by == "random" else [f for f in of if f.metric == metric]
            for fold in (*single, pooled(of, metric)):
                width = found.kernels[metric].width
                group = names.get(fold.group, fold.group)
                table.add_row(
                    by,
                    group,
                    metric,
                    str(len(fold.log_error)),
                    f"{fold.median_ape():.1%}",
                    f"{fold.mape():.1%}",
                    f"{fold.coverage(width):.0%}",
                )
    return table


def _package_data() -> Path:
    """Return the folder of the laws' data in this installation."""
    return Path(str(resources.files("polysilicon.cost") / "data"))


if __name__ == "__main__":
    main()

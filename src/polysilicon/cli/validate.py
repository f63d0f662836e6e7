"""`polysilicon validate`: the cost model against measurements."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from time import monotonic
from typing import Any

import click
import msgspec
import numpy as np
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from polysilicon import catalog, units
from polysilicon.catalog.measurements import Measurement, read_measurements
from polysilicon.cli.output import emit_json, json_option, out, progress
from polysilicon.cost import validate as scores
from polysilicon.cost.predict import Answer, Shipped
from polysilicon.cost.predictions_file import write_predictions
from polysilicon.report.parity import write_parity

TABLE_ROWS = 20
SEED = 0
QUIET_S = 2.0

_OWN_ROWS = (
    "Rows that the shipped laws were fitted on, or hold as measured, are scored like all others; "
    "--hold-out scores rows that were not fitted."
)


@click.command(
    name="validate",
    epilog="Example:  polysilicon validate measurements.csv --by model --worst 10",
)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--by", type=click.Choice(scores.GROUPS), help="Group by this alone.")
@click.option(
    "--hold-out",
    type=click.Choice(scores.FOLDS),
    help="Fit without the rows of each fold, and score these; seconds to minutes.",
)
@click.option("--worst", type=click.IntRange(min=1), help="Show so many of the worst rows.")
@click.option("--skip-bad", is_flag=True, help="Count bad rows and leave them out.")
@click.option("--html", type=click.Path(path_type=Path), help="Write a page with a parity plot.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Write predictions to a CSV file."
)
@json_option
def command(
    *,
    file: Path,
    by: scores.Group | None,
    hold_out: scores.Fold | None,
    worst: int | None,
    as_json: bool,
    **asked: Any,
) -> None:
    """Estimate every row of a measurements FILE and score the estimates.

    FILE is CSV, gzipped CSV or Parquet, in the format that calibrate writes.
    """
    bad: Counter[str] | None = Counter() if asked["skip_bad"] else None
    rows = read_measurements(file, bad)
    answers = _answers(rows, hold_out)
    found = scores.tally(answers)
    groups = found.groups((by,) if by is not None else ("processor", "engine"))
    if asked["output"] is not None:
        write_predictions(answers, asked["output"])
    if asked["html"] is not None:
        write_parity(found, groups, asked["html"], file.name, hold_out or "")
    if as_json:
        emit_json(_object(found, groups, bad, worst))
        return
    _print(found, groups, bad)
    if worst is not None:
        _print_worst(found.worst(worst))
    if hold_out is None:
        out().print(_OWN_ROWS)
    for path in (asked["output"], asked["html"]):
        if path is not None:
            out().print(f"written: {path}", markup=False)


def _answers(rows: Sequence[Measurement], hold_out: scores.Fold | None) -> list[Answer]:
    """Predict all rows, with a bar where it takes long."""
    known = catalog.load()
    with _bar("predicting" if hold_out is None else "fitting and predicting", len(rows)) as told:
        if hold_out is None:
            return Shipped(known, told).predict(rows)
        # Fitting takes scipy, which half a second of every other use would be spent on.
        held_out = import_module("polysilicon.cost.held_out")
        rng = np.random.default_rng(SEED)
        folds = scores.folds_of(rows, hold_out, lambda row: held_out.family_of_row(row, known), rng)
        return scores.held_out(rows, held_out.fitter(known), folds, told)


@contextmanager
def _bar(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show a bar on stderr once two seconds have passed; gives what to call with rows done."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    begin, console = monotonic(), progress()
    hidden = not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=hidden) as bar:
        task = bar.add_task(what, total=total, visible=False)

        def told(done: int) -> None:
            bar.update(task, completed=done, visible=monotonic() - begin > QUIET_S)

        yield told


def _object(
    found: scores.Validation,
    groups: Sequence[scores.GroupScore],
    bad: Counter[str] | None,
    worst: int | None,
) -> dict[str, Any]:
    """Return the JSON object."""
    result = {
        "rows": found.rows,
        "predicted": found.predicted,
        "refused": found.rows - found.predicted,
        "refusals": list(found.refused),
        "groups": list(groups),
        "overall": found.overall(),
        "by_basis": found.by_basis(),
    }
    if bad is not None:
        result["skipped"] = [{"reason": r, "count": n} for r, n in bad.most_common()]
    if worst is not None:
        result["worst"] = [msgspec.to_builtins(p) | {"error": p.error} for p in found.worst(worst)]
    return result


def _print(
    found: scores.Validation, groups: Sequence[scores.GroupScore], bad: Counter[str] | None
) -> None:
    """Print the scores, and why rows were refused or left out."""
    console = out()
    console.print(
        f"{found.rows} rows, {found.predicted} predicted, {found.rows - found.predicted} refused"
    )
    table = _table("metric", "basis")
    for metric, score in found.overall().items():
        _add(table, (metric, "all"), score)
        for basis, parts in found.by_basis().items():
            if metric in parts:
                _add(table, ("", basis), parts[metric])
    console.print(table)
    names = [n for n in scores.GROUPS if any(getattr(g, n) for g in groups)]
    table = _table("metric", *names)
    for group in groups[:TABLE_ROWS]:
        _add(table, (group.metric, *(getattr(group, name) for name in names)), group)
    console.print(table)
    if len(groups) > TABLE_ROWS:
        console.print(f"{TABLE_ROWS} of {len(groups)} groups; --json lists all")
    for reason in found.refused[:5]:
        console.print(f"refused {reason.count}: {reason.reason}", markup=False)
    if len(found.refused) > 5:
        console.print(f"and {len(found.refused) - 5} more reasons; --json lists all")
    for why, count in (bad or Counter()).most_common():
        console.print(f"left out {count}: {why}", markup=False)


def _table(*names: str) -> Table:
    """Return an empty table of scores, with columns of names before them."""
    table = Table(box=None, pad_edge=False)
    for name in names:
        table.add_column(name, overflow="fold")
    for name in ("n", "median error", "MAPE", "bias", "in band"):
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _add(table: Table, names: Sequence[str], score: scores.Score | scores.GroupScore) -> None:
    """Add a row of scores."""
    table.add_row(
        *(escape(name) for name in names),
        units.count(score.n),
        units.share(score.median_ape),
        units.share(score.mape),
        f"{score.bias * 100:+.1f} %",
        units.share(score.coverage),
    )


def _print_worst(points: Sequence[scores.Point]) -> None:
    """Print the rows that are furthest off."""
    table = Table(box=None, pad_edge=False)
    for name in ("row", "metric", "where", "model"):
        table.add_column(name, overflow="fold")
    for name in ("at once", "prompt", "output", "measured", "predicted", "error"):
        table.add_column(name, justify="right", no_wrap=True)
    for point in points:
        row = point.row
        sizes = (row.concurrency, row.prompt_tokens, row.output_tokens)
        table.add_row(
            str(row.row),
            point.metric,
            escape(" ".join(n for n in (row.instance or row.processor, row.engine) if n)),
            escape(row.model),
            *("-" if size is None else f"{size:g}" for size in sizes),
            f"{point.measured:.4g}",
            f"{point.predicted:.4g}",
            f"{point.error * 100:+.0f} %",
        )
    out().print(table)

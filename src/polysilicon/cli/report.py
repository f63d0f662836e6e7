"""`polysilicon report`: one self-contained HTML file about a run."""

from __future__ import annotations

from pathlib import Path

import click

from polysilicon import catalog, cost
from polysilicon.cli.output import emit_json, json_option
from polysilicon.report.html import write_report
from polysilicon.report.source import load


@click.command(name="report", epilog="Example:  polysilicon report runs/demo")
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--out", "path", type=click.Path(path_type=Path, dir_okay=False), help="Where to write it."
)
@json_option
def command(run: Path, path: Path | None, *, as_json: bool) -> None:
    """Write the HTML report of RUN (a run folder, .parquet or .jsonl) and print its path."""
    source = load(run)
    rows, refused = cost.elsewhere(list(source.workload.steps()), catalog.load())
    reasons = [(r.offer, r.reason) for r in refused]
    summary = write_report(source, rows, path, reasons)
    if as_json:
        emit_json(summary)
    else:
        click.echo(summary.report)

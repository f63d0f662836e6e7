"""`polysilicon report`: one self-contained HTML file about a run or a plan."""

from __future__ import annotations

from pathlib import Path

import click

from polysilicon import catalog, cost
from polysilicon.cli.output import emit_json, json_option
from polysilicon.planning.plan_file import read_plan
from polysilicon.report.html import write_report
from polysilicon.report.plan_html import write_plan_page
from polysilicon.report.source import load


@click.command(name="report", epilog="Example:  polysilicon report runs/demo")
@click.argument("run", metavar="RUN|PLAN", type=click.Path(path_type=Path))
@click.option(
    "--out", "path", type=click.Path(path_type=Path, dir_okay=False), help="Where to write it."
)
@json_option
def command(run: Path, path: Path | None, *, as_json: bool) -> None:
    """Write the HTML report of RUN (a run folder, .parquet or .jsonl) or PLAN (.json)."""
    if run.suffix == ".json":
        page = run.with_suffix(".html") if path is None else path
        write_plan_page(read_plan(run).plan, page)
        if as_json:
            emit_json({"report": str(page)})
        else:
            click.echo(page)
        return
    source = load(run)
    rows, refused = cost.elsewhere(list(source.workload.steps()), catalog.load())
    reasons = [(r.offer, r.reason) for r in refused]
    summary = write_report(source, rows, path, reasons)
    if as_json:
        emit_json(summary)
    else:
        click.echo(summary.report)

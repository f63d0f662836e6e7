"""What `run` and `demo` share: run with a live view, sum up, print, write the report."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from polysilicon import catalog, cost
from polysilicon.cli.live import LiveView
from polysilicon.cli.output import emit_json, out, progress
from polysilicon.report import html, terminal
from polysilicon.report.summary import Summary, summarise
from polysilicon.runtime.run import Run
from polysilicon.workload.run_folder import RunFolder


def run_and_report(run: Run, *, as_json: bool) -> None:
    """Run to the end, print the summary, write the report; exit code 1 where tasks failed.

    Raises:
        KeyboardInterrupt: Ctrl-C or SIGTERM; what ended is kept, and a line says how to go on.
    """
    try:
        folder = asyncio.run(_execute(run))
    except (KeyboardInterrupt, asyncio.CancelledError):
        progress().print(f"go on with: polysilicon run --resume {run.folder}", markup=False)
        raise KeyboardInterrupt from None
    summary = sum_up(folder)
    if as_json:
        emit_json(summary)
    else:
        print_summary(folder, summary)
    failed = [task for task in folder.tasks() if not task.ok]
    if failed:
        text = f"{len(failed)} of {summary.tasks} tasks failed; {failed[0].task_id}: {failed[0].error}"
        click.echo(f"error: {text}", err=True)
        raise SystemExit(1)


async def _execute(run: Run) -> RunFolder:
    async with LiveView(run.progress):
        return await run.execute()


def sum_up(folder: RunFolder) -> Summary:
    """Estimate the run elsewhere, write its report, and return its summary."""
    steps = list(folder.workload().steps())
    rows, refused = cost.elsewhere(steps, catalog.load())
    summary = summarise(folder, rows)
    html.write_report(folder, summary, refused)
    return summary


def print_summary(folder: RunFolder, summary: Summary) -> None:
    """Print the tables of a run."""
    console = out()
    for block in terminal.blocks(folder, summary):
        console.print(block)



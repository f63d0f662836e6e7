"""What `run` and `demo` share: run with a live view, sum up, print, write the report."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from polysilicon import catalog, cost
from polysilicon.catalog.fleet import read_running_fleet
from polysilicon.cli.live import LiveView
from polysilicon.cli.output import download_bar, emit_json, out, progress, waiting
from polysilicon.report.html import write_report
from polysilicon.report.source import of_folder
from polysilicon.report.summary import Summary
from polysilicon.report.terminal import run_page
from polysilicon.runtime import models
from polysilicon.runtime.engines.native.choice import chosen
from polysilicon.runtime.machine import cores, fleet_of
from polysilicon.runtime.run import Run
from polysilicon.workload.describe import groups_of
from polysilicon.workload.run_folder import RunFolder


def run_and_report(run: Run, *, as_json: bool) -> None:
    """Run to the end, print the summary, write the report; exit code 1 where tasks failed.

    Raises:
        KeyboardInterrupt: Ctrl-C or SIGTERM; what ended is kept, and a line says how to go on.
    """
    try:
        with _prints_to_stderr():
            folder = asyncio.run(_execute(run))
    except (KeyboardInterrupt, asyncio.CancelledError):
        progress().print(f"go on with: polysilicon run --resume {run.folder}", markup=False)
        raise KeyboardInterrupt from None
    summary = finish(folder, as_json=as_json)
    failed = [task for task in folder.tasks() if not task.ok]
    if failed:
        text = (
            f"{len(failed)} of {summary.tasks} tasks failed; {failed[0].task_id}: {failed[0].error}"
        )
        click.echo(f"error: {text}", err=True)
        raise SystemExit(1)


def say_setup(model: str | None, fleet: str | None) -> None:
    """Say once why the local engine is not served as was found to be fastest, where it is not.

    Raises:
        InputError: there is no such model.
    """
    if fleet is None:
        note = chosen(models.pull(model or models.DEFAULT_MODEL), cores()).note
        if note:
            progress().print(note, markup=False, soft_wrap=True, style="dim")


def fetch_model(model: str | None, fleet: str | None, *, cluster: bool = False) -> None:
    """Download the model of a run on this machine before the run begins, with progress.

    With a fleet the run does so itself; a fleet file that is wrong is told before a folder is made.

    Raises:
        InputError: there is no such model, or the fleet file is wrong.
        PolysiliconError: the download failed.
    """
    if fleet is None:
        with download_bar(model or models.DEFAULT_MODEL) as seen:
            models.pull(model or models.DEFAULT_MODEL, progress=seen)
    else:
        read_running_fleet(Path(fleet), cluster=cluster)


@contextmanager
def in_cluster(address: str | None, model: str | None, fleet: str | None) -> Iterator[None]:
    """Be in the Ray cluster of a run, or a gateway, before there is a folder; leave it in the end.

    Args:
        address: of the cluster; None for none.
        model: of this machine, where there is no fleet.
        fleet: path of a fleet file.

    Raises:
        InputError: there is no such cluster, or the fleet file is wrong.
    """
    if address is None:
        yield
        return
    from polysilicon.runtime.cluster.cluster import Cluster  # noqa: PLC0415 - an extra

    pools = fleet_of(model, fleet, cluster=True).pool
    with waiting("joining the Ray cluster"):
        cluster = Cluster(address, pools, cores())
    try:
        yield
    finally:
        cluster.close()


@contextmanager
def _prints_to_stderr() -> Iterator[None]:
    """Send what agents and tools print to stderr: stdout is for the result."""
    sys.stdout.flush()
    kept = os.dup(1)
    try:
        os.dup2(2, 1)
        yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)


async def _execute(run: Run) -> RunFolder:
    async with LiveView(run.progress):
        return await run.execute()


def finish(folder: RunFolder, *, as_json: bool) -> Summary:
    """Estimate the run elsewhere, write its report, print and return its summary."""
    source = of_folder(folder)
    rows, refused = cost.elsewhere(list(source.workload.steps()), catalog.load())
    path = folder.path / "report.html"
    summary = write_report(source, rows, path, [(r.offer, r.reason) for r in refused])
    if as_json:
        emit_json(summary)
    else:
        console = out()
        console.print(run_page(summary, groups_of(source.workload), rows))
        console.print(f"report: {path}", markup=False)
    return summary

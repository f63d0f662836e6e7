"""`polysilicon export`: a workload, a plan or a placement for the tools of others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import msgspec
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from polysilicon import units
from polysilicon.cli.export_plan import TARGETS, export_machines
from polysilicon.cli.output import emit_json, json_option, out, progress
from polysilicon.workload.exports.moments import begin_ns, date_ns
from polysilicon.workload.exports.otlp import Exported, export_otlp, framing_of
from polysilicon.workload.run_folder import RunFolder, open_workload

_SILENT_S = 2.0


class _Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What to export: from where, to which file, and the date it begins, where one is given."""

    source: Path
    output: Path
    start: str | None


def _otlp(asked: _Asked) -> Exported:
    """Write OpenTelemetry traces."""
    framing_of(asked.output)  # a wrong suffix is told before anything is read
    given = None if asked.start is None else date_ns(asked.start, "--start")
    workload = open_workload(asked.source)
    start_ns = begin_ns(asked.source, workload) if given is None else given
    with _bar(len(workload)) as told:
        return export_otlp(
            workload, asked.output, start_ns=start_ns, failed=_failed(asked.source), told=told
        )


@click.command(
    name="export",
    epilog="\b\nExamples:\n"
    "  polysilicon export runs/demo --to otlp -o demo.otlp.json\n"
    "  polysilicon export plan.json --to karpenter -o pools.yaml\n"
    "  polysilicon export placement.json --to kuberay -o ray.yaml",
)
@click.argument("source", metavar="WORKLOAD|PLAN|PLACEMENT", type=click.Path(path_type=Path))
@click.option("--to", "target", type=click.Choice(["otlp", *TARGETS]), required=True,
              help="For what: traces of a workload, or what runs a plan or placement.")  # fmt: skip
@click.option(
    "-o", "--out", "output", type=click.Path(path_type=Path, dir_okay=False), required=True,
    help="For otlp .json (one request), .jsonl (a request a line) or .pb (Protobuf); for terraform "
    ".tf.json, for the others .yaml.",
)  # fmt: skip
@click.option(
    "--start",
    help="When the times begin, ISO 8601, UTC without a zone. By default when the run began; of a "
    "workload file, so that its last step ended when the file was written.",
)
@click.option("--month", help="Of a plan, such as 2027-03; by default its first.")
@json_option
def command(
    source: Path, target: str, output: Path, start: str | None, month: str | None, *, as_json: bool
) -> None:
    """Write a workload (.parquet, .jsonl or a run folder), or the machines of a plan or placement.

    A plan is what `plan -o` writes, a placement what `place --json` prints.
    """
    plan = target in TARGETS
    if (start if plan else month) is not None:
        option, of = ("--start", "workloads") if plan else ("--month", "plans")
        raise click.UsageError(f"{option} is of {of}, not for {target}")
    if plan:
        deployed = export_machines(source, target, output, month)
        contract = f" under contract, {deployed.month}" if deployed.month else ""
        text = f"{deployed.machines:,.1f} machines{contract}, {deployed.offers} offers ({target})"
        _say(deployed, f"{', '.join(deployed.files)}: {text}", as_json=as_json)
        for one in deployed.left_out:
            click.echo(f"left out: {one}", err=True)
        return
    found = _otlp(_Asked(source=source, output=output, start=start))
    text = f"{units.count(found.spans)} spans of {units.count(found.tasks)} tasks"
    size = units.size_bytes(found.bytes)
    _say(found, f"{found.path}: {text} ({found.format}, {size})", as_json=as_json)


def _say(found: msgspec.Struct, text: str, *, as_json: bool) -> None:
    """Print what was written."""
    if as_json:
        emit_json(found)
    else:
        out().print(text, markup=False)


def _failed(source: Path) -> set[str]:
    """Return the tasks of a run that did not end as they should."""
    folder = RunFolder(source)
    if not folder.tasks_path.is_file():
        return set()
    return {task.task_id for task in folder.tasks() if not task.ok}


@contextmanager
def _bar(steps: int) -> Iterator[Callable[[int], None]]:
    """Show how many steps are written, once it takes longer than people wait without a word."""
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    console = progress()
    # Where there is no terminal, a bar that was never seen would leave an empty line.
    hidden = not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=hidden) as bar:
        task = bar.add_task("steps", total=steps, visible=False)

        def told(done: int) -> None:
            late = (bar.tasks[task].elapsed or 0.0) > _SILENT_S
            bar.update(task, completed=done, visible=late)

        yield told

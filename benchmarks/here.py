"""How well the profile of this machine predicts the steps of a run on it.

python benchmarks/here.py [RUN_FOLDER]

Without a run folder the demo is run afresh. Without a saved profile it ends with an error: run
`polysilicon calibrate` first, while nothing else runs.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from polysilicon import units
from polysilicon.catalog.machine import detect
from polysilicon.cost.beside import Predicted, Run, predict_run
from polysilicon.cost.profile_found import find_profile
from polysilicon.errors import PolysiliconError
from polysilicon.workload.run_folder import open_workload


def score(steps: Sequence[Predicted]) -> tuple[str, ...]:
    """Return count, median error, mean error and band coverage as cells."""
    errors = np.array([abs(step.error) for step in steps])
    measured = np.array([step.measured_s for step in steps])
    inside = np.mean([step.inside for step in steps])
    off = np.array([abs(step.service_s - step.measured_s) for step in steps])
    return (
        str(len(steps)),
        units.seconds(float(np.median(measured))),
        units.seconds(float(measured.sum())),
        f"{np.median(errors):.1%}",
        f"{errors.mean():.1%}",
        f"{off.sum() / measured.sum():.1%}",
        f"{inside:.0%}",
    )


def grouped(
    steps: Iterable[Predicted], key: Callable[[Predicted], str]
) -> dict[str, list[Predicted]]:
    """Return the steps by key."""
    groups: dict[str, list[Predicted]] = defaultdict(list)
    for step in steps:
        groups[key(step)].append(step)
    return dict(sorted(groups.items()))


def table(run: Run) -> Table:
    """Return scores by kind and by name."""
    shown = Table(title="predicted against measured service time", title_justify="left", box=None)
    shown.add_column("steps")
    heads = ("count", "median", "in all", "median error", "MAPE", "error of all", "in band")
    for head in heads:
        shown.add_column(head, justify="right")
    shown.add_row("all", *score(run.steps))
    for kind, steps in grouped(run.steps, lambda s: s.step.kind).items():
        shown.add_row(kind, *score(steps))
    for name, steps in grouped(run.steps, _name).items():
        shown.add_row(f"  {name}", *score(steps), style="dim")
    return shown


def _name(step: Predicted) -> str:
    return f"{step.step.kind} {step.step.agent} {step.step.name}"


def first_tokens(run: Run) -> str:
    """Return one line about the time to the first token."""
    errors = [
        abs(step.first_s / (step.step.first_token_s - step.step.start_s) - 1)
        for step in run.steps
        if step.first_s is not None
        and step.step.first_token_s is not None
        and step.step.start_s is not None
        and step.step.first_token_s > step.step.start_s
    ]
    if not errors:
        return "no first tokens were recorded"
    return f"time to the first token: median error {np.median(errors):.1%} of {len(errors)} steps"


def fresh(folder: Path) -> Path:
    """Run the demo; return its run folder."""
    program = "from polysilicon.cli import main; main()"
    command = [sys.executable, "-c", program, "demo", "--runs", str(folder)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return next(folder.glob("*-demo"))


def main(arguments: Sequence[str] = ()) -> None:
    """Print the table."""
    console = Console(file=sys.stdout, width=120)
    found = find_profile(detect())
    if found.profile is None:
        print(f"error: {found.note or 'there is no profile'}; run `polysilicon calibrate`")
        return
    if found.note:
        print(found.note)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(arguments[0]) if arguments else fresh(Path(scratch))
        run = predict_run(list(open_workload(folder).steps()), found.profile)
    console.print(table(run))
    console.print(first_tokens(run))
    for reason, count in run.refused.items():
        console.print(f"refused: {count} steps: {reason}", markup=False)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except PolysiliconError as error:
        sys.exit(f"error: {error}")

"""`polysilicon simulate`: a workload played on a fleet."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from polysilicon.catalog.fleet import LOCAL, Fleet, Pool, read_fleet
from polysilicon.catalog.policy import Policy, read_policy
from polysilicon.cli.output import emit_json, json_option, out, progress
from polysilicon.cost.kinds import REFERENCE
from polysilicon.errors import InputError


@click.command(
    "simulate",
    epilog="\b\nExample:\n"
    "  polysilicon simulate examples/agents.jsonl --fleet examples/fleet_cloud.toml",
)
@click.argument("workload", type=click.Path(path_type=Path))
@click.option(
    "--fleet",
    default=LOCAL,
    show_default=True,
    help="Fleet file (TOML), or `local`: this machine.",
)
@click.option("--compare", help="Another fleet, to be played as well.")
@click.option("--policy", type=Path, help="Policy file (TOML): SLOs, residency, vendor shares.")
@click.option(
    "--replications",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="How often; from 2 on with confidence intervals.",
)
@click.option(
    "--measured-on",
    metavar="OFFER",
    default=REFERENCE,
    show_default=True,
    help="Where core-seconds were measured of steps that do not say.",
)
@click.option(
    "--mode",
    type=click.Choice(["auto", "exact", "fluid"]),
    default="auto",
    show_default=True,
    help="Every step an event, or queues as flows; by itself exact up to 100 million slots of "
    "engines and 16 million steps in flight.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Write the steps, as a workload file."
)
@click.option(
    "--html", "page", type=click.Path(path_type=Path, dir_okay=False), help="Write a page as well."
)
@json_option
def command(workload: Path, *, as_json: bool, **said: Any) -> None:
    """Play WORKLOAD (.parquet, .jsonl or a run folder) on a fleet.

    Seconds, utilisation, waits, money, energy and SLOs, as if it had run there.
    """
    from polysilicon.report.simulation import (  # noqa: PLC0415 - heavy, and not for --help
        simulation_page,
        write_simulation,
    )
    from polysilicon.simulate import Result, Source, simulate  # noqa: PLC0415

    policy = read_policy(said["policy"]) if said["policy"] else Policy()
    fleets = {name: _fleet(name) for name in (said["fleet"], said["compare"]) if name}
    if said["compare"] and len(fleets) == 1:
        raise InputError("the fleet is compared with itself", where="--compare")
    output: Path | None = said["output"]
    read = [workload, *(Path(said[name]) for name in ("fleet", "compare", "policy") if said[name])]
    _check_written([path for path in (output, said["page"]) if path is not None], read)
    results: dict[str, Result] = {}
    for name, fleet in fleets.items():
        with _bar(f"playing on {name}") as told:
            results[name] = simulate(
                Source(workload, said["measured_on"], told),
                fleet,
                policy=policy,
                seed=said["seed"],
                replications=said["replications"],
                mode=said["mode"],
                output=None if results else output,
            )
    if said["page"] is not None:
        write_simulation(results, workload.resolve().name, said["page"])
    if as_json:
        first, *others = results.values()
        found = msgspec.to_builtins(first)
        emit_json(found | {"compared": msgspec.to_builtins(others[0])} if others else found)
    else:
        out().print(simulation_page(results))
        for written in (output, said["page"]):
            if written is not None:
                out().print(f"written: {written}", markup=False)


def _check_written(written: list[Path], read: list[Path]) -> None:
    """Refuse files that cannot be written, before anything is played.

    Raises:
        InputError: a folder is missing, two are one file, or one of them is read.
    """
    from polysilicon.workload.files import check_other  # noqa: PLC0415

    for path in written:
        check_other(path, read)
        if not path.parent.is_dir():
            raise InputError("no such folder", where=str(path.parent), mend="make it first")
    if len(set(written)) < len(written):
        raise InputError("the steps and the page go to one file", where=str(written[0]))


def _fleet(name: str) -> Fleet:
    """Return the fleet of a file, or this machine.

    Raises:
        InputError: the file is missing or wrong.
    """
    if name == LOCAL:
        return Fleet(pool=(Pool(name=LOCAL),))
    return read_fleet(Path(name))


@contextmanager
def _bar(what: str) -> Iterator[Any]:
    """Show on a terminal how many tasks have arrived."""
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    console = progress()
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)

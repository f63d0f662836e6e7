"""`polysilicon place`: the cheapest fleet that meets a policy."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import click

from polysilicon import catalog
from polysilicon.catalog.fleet import write_fleet
from polysilicon.catalog.policy import Policy, read_policy
from polysilicon.cli.output import emit_json, json_option, out, waiting
from polysilicon.cost.kinds import REFERENCE
from polysilicon.disk import unread
from polysilicon.errors import InputError
from polysilicon.placement.place import Question, place
from polysilicon.placement.rates import Sizing
from polysilicon.report.placement import placement_page
from polysilicon.simulate.check import Player
from polysilicon.workload.files import check_other
from polysilicon.workload.run_folder import open_workload

_MOST_BYTES = 2**16


@click.command(
    name="place",
    epilog="\b\nExample:\n"
    "  polysilicon place examples/agents.jsonl --policy examples/policy.toml -o placed.toml",
)
@click.argument("workload", type=click.Path(path_type=Path))
@click.option("--policy", type=click.Path(path_type=Path), help="SLOs, residency, limits (.toml).")
@click.option("--offers", multiple=True, metavar="NAME|FILE",
              help="Offers or patterns such as 'aws/g6*', 'all', 'local', or a file with one on "
              "each line; by default those that `demo` compares. Repeatable.")  # fmt: skip
@click.option("--size-for", type=click.Choice(get_args(Sizing)), default="peak", show_default=True,
              help="Arrivals to carry: each agent's busiest window, or the mean.")  # fmt: skip
@click.option("--measured-on", metavar="OFFER", default=REFERENCE, show_default=True,
              help="Where core-seconds were measured of steps that do not say.")  # fmt: skip
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write a fleet file (.toml).")
@json_option
def command(
    workload: Path,
    *,
    policy: Path | None,
    offers: tuple[str, ...],
    size_for: Sizing,
    measured_on: str,
    output: Path | None,
    as_json: bool,
) -> None:
    """Find the cheapest fleet for WORKLOAD (.parquet, .jsonl, a run folder) that meets a policy."""
    if output is not None:
        check_other(output, [workload] if policy is None else [workload, policy])
    question = Question(
        workload=open_workload(workload),
        policy=Policy() if policy is None else read_policy(policy),
        offers=[name for asked in offers for name in _names(asked)],
        sizing=size_for,
        measured_on=measured_on,
        where=str(workload),
    )
    facts = catalog.load()
    player = Player(policy=question.policy, catalog=facts, measured_on=measured_on)
    with waiting("placing"):
        placement, fleet = place(question, facts, player)
    if output is not None:
        write_fleet(fleet, output)
    if as_json:
        emit_json(placement)
    else:
        out().print(placement_page(placement))
        if output is not None:
            out().print(f"fleet: {output}", markup=False)


def _names(asked: str) -> list[str]:
    """Return the names in a file of them, or the one name.

    Raises:
        InputError: the file cannot be read, is too large, or holds none.
    """
    path = Path(asked)
    if path.suffix != ".txt" and not path.is_file():
        return [asked]
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise InputError(f"larger than {_MOST_BYTES:,} bytes", where=asked)
        lines = path.read_text("utf-8").splitlines()
    except OSError as error:
        raise unread(path, error) from error
    except UnicodeDecodeError as error:
        raise InputError(f"cannot read: {error}", where=asked) from error
    names = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    if not names:
        raise InputError("the file names no offer", where=asked, mend="write one on each line")
    return names

"""What moving verification off GPU hosts saves, for a post-training loop.

    polysilicon workload generate --shape examples/posttrain_8b.toml --rate 0.5 --tasks 800 -o W
    python examples/posttrain_hosts.py W aws/p5.4xlarge

Rollouts and gradient steps are placed on one GPU offer, and verification (all tool steps) once on
those machines' own CPUs and once on the cheapest machines for it. On the hosts' CPUs verification
costs nothing until they are full; beyond that the loop needs more GPU machines for it. So the same
is asked for verification that is several times as heavy.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from msgspec.structs import replace
from rich.console import Console
from rich.table import Table

from polysilicon import catalog
from polysilicon.catalog.policy import Policy
from polysilicon.errors import PolysiliconError
from polysilicon.placement.place import Question, place
from polysilicon.placement.types import Placement
from polysilicon.workload.files import read
from polysilicon.workload.record import StepRecord
from polysilicon.workload.workload import Workload

HEAVIER = (1, 4, 16, 64)
"""Core-seconds of a tool step, over those in the workload."""


def placed(steps: Sequence[StepRecord], offers: Sequence[str]) -> Placement:
    """Return the cheapest fleet for some steps, each on its own: others wait for them elsewhere."""
    alone = Workload.from_records([replace(step, parent_ids=()) for step in steps])
    question = Question(workload=alone, policy=Policy(), offers=offers)
    return place(question, catalog.load())[0]


def units(placement: Placement) -> int:
    """Return how many machines a fleet has."""
    return sum(pool.units for pool in placement.pools)


def main(path: str, gpu: str) -> None:
    """Print what verification costs on GPU hosts and off them."""
    steps = list(read(Path(path)).steps())
    price = catalog.load().offer(gpu).usd_per_hour()
    rest = placed([step for step in steps if step.kind != "tool"], [gpu])
    table = Table(
        box=None,
        title_justify="left",
        title=f"{units(rest)} x {gpu} for rollouts and gradient steps, {rest.sized_for}",
    )
    for name in ("verification", "on GPU hosts", "$/h", "off them, beside the same GPUs", "$/h"):
        table.add_column(name)
    table.add_column("saves")
    for times in HEAVIER:
        tools = [
            replace(step, cpu_s=(step.cpu_s or 0.0) * times)
            for step in steps
            if step.kind == "tool"
        ]
        hosts, apart = units(placed(tools, [gpu])), placed(tools, ())
        own = max(hosts, units(rest)) * price
        off = rest.cost_usd_per_hour + apart.cost_usd_per_hour
        fleet = ", ".join(f"{pool.units} x {pool.offer}" for pool in apart.pools)
        on = f"fills {hosts} machines"
        table.add_row(f"{times} x", on, f"{own:.2f}", fleet, f"{off:.2f}", f"{1 - off / own:.0%}")
    Console(width=None if sys.stdout.isatty() else 140).print(table)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except PolysiliconError as error:
        sys.exit(f"error: {error}")

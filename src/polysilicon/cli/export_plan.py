"""Exports of plans: what `export --to karpenter` and others write."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from polysilicon import catalog
from polysilicon.disk import write_whole
from polysilicon.errors import InputError
from polysilicon.planning.dates import Calendar
from polysilicon.planning.deploy import karpenter, kuberay, skypilot, terraform
from polysilicon.planning.deploy.machines import Machines, machines_of
from polysilicon.planning.plan_file import read_plan
from polysilicon.workload.files import check_other

Writer = Callable[[Sequence[Machines], Sequence[str]], str]

TARGETS: dict[str, tuple[Writer, tuple[str, ...]]] = {
    "karpenter": (karpenter.write, (".yaml", ".yml")),
    "kuberay": (kuberay.write, (".yaml", ".yml")),
    "skypilot": (skypilot.write, (".yaml", ".yml")),
    "terraform": (terraform.write, (".tf.json",)),
}


class Deployed(msgspec.Struct, frozen=True, kw_only=True):
    """A file that was written.

    Attributes:
        path: of it.
        format: for which tool.
        month: of the plan whose machines it has.
        machines: units under contract.
        offers: how many.
    """

    path: str
    format: str
    month: str
    machines: float
    offers: int


def export_plan(source: Path, target: str, output: Path, month: str | None) -> Deployed:
    """Write the machines of a plan for a tool.

    Raises:
        InputError: no plan, a month outside of it, a wrong suffix, or nothing that the tool rents.
        PolysiliconError: the file cannot be written.
    """
    writer, suffixes = TARGETS[target]
    if not output.name.endswith(suffixes):
        raise InputError(f"files for {target} end in {suffixes[0]}", where=str(output))
    check_other(output, [source])
    plan = read_plan(source).plan
    year, number = plan.start_month.split("-")
    calendar = Calendar(year=int(year), month=int(number), months=plan.months)
    place = 0 if month is None else calendar.within(month, "--month")
    each = machines_of(plan, calendar, place, catalog.load())
    told = calendar.name(place)
    notes = [f"Plan {plan.title or source.name}, month {told}; written by polysilicon export."]
    part = sum(one.committed % 1 > 1e-6 for one in each)
    if part:
        notes.append(f"{part} offers have parts of machines in the plan; they are rounded here.")
    write_whole(output, writer(each, notes).encode())
    return Deployed(
        path=str(output),
        format=target,
        month=told,
        machines=sum(one.committed for one in each),
        offers=len(each),
    )

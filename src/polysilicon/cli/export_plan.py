"""Exports of plans and placements: what `export --to karpenter` and others write."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from polysilicon import catalog
from polysilicon.catalog.fleet import LOCAL
from polysilicon.disk import write_whole
from polysilicon.errors import InputError
from polysilicon.placement.placement_file import read_placement
from polysilicon.planning.dates import Calendar
from polysilicon.planning.deploy import karpenter, kuberay, skypilot, terraform
from polysilicon.planning.deploy.machines import Machines, machines_of, machines_of_placement
from polysilicon.planning.plan_file import MOST_BYTES, read_plan
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
        month: of the plan whose machines it has; blank of placements.
        machines: units under contract of a plan, all of a placement.
        offers: how many.
    """

    path: str
    format: str
    month: str
    machines: float
    offers: int


class _Kind(msgspec.Struct, frozen=True):
    """By which a plan file is told from others."""

    polysilicon_plan: int | None = None


class _Found(msgspec.Struct, frozen=True, kw_only=True):
    """Machines, and what is said of them."""

    each: list[Machines]
    month: str
    machines: float
    notes: list[str]


def export_machines(source: Path, target: str, output: Path, month: str | None) -> Deployed:
    """Write the machines of a plan or a placement for a tool.

    Raises:
        InputError: neither, a month outside of the plan or of no plan, a wrong suffix, or nothing
            that the tool rents.
        PolysiliconError: the file cannot be written.
    """
    writer, suffixes = TARGETS[target]
    if not output.name.endswith(suffixes):
        raise InputError(f"files for {target} end in {suffixes[0]}", where=str(output))
    check_other(output, [source])
    found = _of_plan(source, month) if _is_plan(source) else _of_placement(source, month)
    write_whole(output, writer(found.each, found.notes).encode())
    return Deployed(
        path=str(output),
        format=target,
        month=found.month,
        machines=found.machines,
        offers=len(found.each),
    )


def _is_plan(source: Path) -> bool:
    """Tell whether a file is a plan's; one that is neither is read as a placement."""
    try:
        if source.stat().st_size > MOST_BYTES:
            return True  # whose reader says what it may be
        return msgspec.json.decode(source.read_bytes(), type=_Kind).polysilicon_plan is not None
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return True


def _of_plan(source: Path, month: str | None) -> _Found:
    """Return the machines of a month of a plan.

    Raises:
        InputError: no plan, a month outside of it, or it runs nothing then.
    """
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
    money = sum(one.machines == 0 for one in plan.commitments)
    if money:
        notes.append(f"{money} contracts about money are of no machines, and are left out here.")
    return _Found(each=each, month=told, machines=sum(m.committed for m in each), notes=notes)


def _of_placement(source: Path, month: str | None) -> _Found:
    """Return the machines of a placement.

    Raises:
        InputError: no placement, it has no machines but this one, or a month is asked for.
    """
    placement = read_placement(source)
    if month is not None:
        raise InputError("a placement has no months", where="--month", mend="leave it out")
    each = machines_of_placement(placement, catalog.load())
    notes = [f"Placement {source.name}, {placement.status}; written by polysilicon export."]
    here = [pool.name for pool in placement.pools if pool.offer == LOCAL]
    if here:
        notes.append(f"On this machine, and so not in here: {', '.join(here)}.")
    machines = sum(one.committed + (one.hourly or 0.0) + (one.spot or 0.0) for one in each)
    return _Found(each=each, month="", machines=machines, notes=notes)

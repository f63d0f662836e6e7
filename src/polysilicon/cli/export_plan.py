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
from polysilicon.runtime.servers.rented import script_of
from polysilicon.workload.files import check_other

Writer = Callable[[Sequence[Machines], Sequence[str]], str]

SKYPILOT = "skypilot"
_WRITERS: dict[str, Writer] = {
    "karpenter": karpenter.write,
    "kuberay": kuberay.write,
    "terraform": terraform.write,
}
TARGETS = {"karpenter": ".yaml", "kuberay": ".yaml", SKYPILOT: ".yaml", "terraform": ".tf.json"}
"""What is written for, and the suffix of its files."""


class Deployed(msgspec.Struct, frozen=True, kw_only=True):
    """What was written.

    Attributes:
        path: of it, as it was given.
        files: that were written: this one, or beside it one for each task.
        left_out: pools that are in none, with the reason.
        format: for which tool.
        month: of the plan whose machines it has; blank of placements.
        machines: units under contract of a plan, all of a placement.
        offers: how many.
    """

    path: str
    files: list[str]
    left_out: list[str]
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
    suffix = TARGETS[target]
    if not output.name.endswith((suffix, suffix.replace(".yaml", ".yml"))):
        raise InputError(f"files for {target} end in {suffix}", where=str(output))
    check_other(output, [source])
    found = _of_plan(source, month) if _is_plan(source) else _of_placement(source, month)
    left_out: list[str] = []
    if target == SKYPILOT:
        tasks, left_out = skypilot.write(found.each, found.notes, script_of)
        files = {_of_task(output, name, len(tasks)): text for name, text in tasks.items()}
    else:
        files = {output: _WRITERS[target](found.each, found.notes)}
    for path, text in files.items():
        check_other(path, [source])
        write_whole(path, text.encode())
    return Deployed(
        path=str(output),
        files=[str(path) for path in files],
        left_out=left_out,
        format=target,
        month=found.month,
        machines=found.machines,
        offers=len(found.each),
    )


def _of_task(output: Path, name: str, tasks: int) -> Path:
    """Return the file of a task: the one that was given, or of several one beside it."""
    return output if tasks == 1 else output.with_name(f"{output.stem}.{name}{output.suffix}")


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

"""Plan files: what `explain`, `what-if`, `update`, `report` and `export` read."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import msgspec

from polysilicon.disk import unread, write_whole
from polysilicon.errors import InputError
from polysilicon.planning.dates import MONTH, MOST_MONTHS
from polysilicon.planning.file import ProblemFile
from polysilicon.planning.plan import Plan

VERSION = 1
MOST_BYTES = 256 * 2**20


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """What the next solve starts from.

    Attributes:
        shape: of the price arrays: scenarios, months, hours, needs.
        prices: float32, compressed.
        units: contract, month of order, units.
        columns: contracts and months of order that were of use.
    """

    shape: tuple[int, int, int, int]
    prices: list[bytes]
    units: list[tuple[int, int, float]]
    columns: list[tuple[int, int]]


class PlanFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A plan file.

    Attributes:
        polysilicon_plan: version of this form.
        made: when.
        folder: that names of files in the problem are relative to.
        problem: as it was written.
        changes: that what-ifs made to it.
        plan: the plan.
        warm: what the next solve starts from.
    """

    polysilicon_plan: int = VERSION
    made: date
    folder: str
    problem: ProblemFile
    changes: list[str] = []
    plan: Plan
    warm: Kept | None = None


def write_plan(file: PlanFile, path: Path) -> None:
    """Write a plan file, all or not at all.

    Raises:
        InputError: the path does not end in `.json`.
        PolysiliconError: it cannot be written.
    """
    check_name(path)
    write_whole(path, msgspec.json.encode(file))


def check_name(path: Path) -> None:
    """Raise `InputError` where a plan file has another end than `.json`."""
    if path.suffix != ".json":
        raise InputError("a plan file ends in .json", where=str(path))


def read_plan(path: Path) -> PlanFile:
    """Read a plan file.

    Raises:
        InputError: no such file, too large, or no plan.
    """
    where = str(path)
    mend = "make one with `polysilicon plan PROBLEM -o plan.json`"
    try:
        if path.stat().st_size > MOST_BYTES:
            raise InputError(f"larger than {MOST_BYTES:,} bytes", where=where)
        found = msgspec.json.decode(path.read_bytes(), type=PlanFile)
    except OSError as error:
        raise unread(path, error, mend) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputError(f"it is no plan file: {error}", where=where, mend=mend) from error
    except RecursionError as error:
        raise InputError("nested too deeply", where=where) from error
    if found.polysilicon_plan != VERSION:
        mend = "solve the problem again with this version"
        raise InputError(f"a plan file of form {found.polysilicon_plan}", where=where, mend=mend)
    _check(found.plan, where)
    return found


def _check(plan: Plan, where: str) -> None:
    """Raise `InputError` where a plan contradicts itself: somebody changed its file."""
    told = [plan.start_month]
    for one in plan.commitments:
        told += [one.order_month, one.start_month, one.end_month]
    told += [one.start_month for one in plan.drawdown]
    lengths = [len(plan.worth_of_month), *(len(m.committed) for m in plan.money)]
    for money in plan.money:
        parts = (money.spend, money.on_demand, money.spot, money.running, money.unmet)
        lengths += [len(part) for part in parts]
    for need in plan.needs:
        lengths += [len(part) for part in (need.demand, need.low, need.high, need.busiest)]
        lengths += [len(one.work) for one in need.supplied]
    wrong = [month for month in told if not MONTH.fullmatch(month)]
    if wrong or not 1 <= plan.months <= MOST_MONTHS or set(lengths) - {plan.months}:
        what = f"month {wrong[0]!r}" if wrong else f"it has not {plan.months} months of everything"
        raise InputError(f"a broken plan file: {what}", where=where, mend="solve the problem again")
    if len(plan.money) != len(plan.scenarios) or not plan.scenarios:
        raise InputError("a broken plan file: scenarios without money", where=where)

"""What is to be served: the demand of a problem file as needs with an amount for each month."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from polysilicon.catalog.catalog import Catalog
from polysilicon.catalog.offers import Offer
from polysilicon.catalog.policy import Policy
from polysilicon.cost.kinds import REFERENCE
from polysilicon.disk import unread
from polysilicon.errors import InputError
from polysilicon.placement.program import Numbers
from polysilicon.planning.dates import MONTHS_PER_YEAR, Calendar
from polysilicon.planning.file import Demand, ProblemFile
from polysilicon.planning.work import Mix, Way, Work, work_of
from polysilicon.workload.groups import task_times
from polysilicon.workload.record import StepRecord
from polysilicon.workload.run_folder import open_workload
from polysilicon.workload.workload import Workload

HOURS = {"mean": 1, "day": 24, "week": 168}
SECONDS_PER_HOUR = 3600.0
MOST_ROWS = 1_000_000
MOST_AMOUNT = 1e15


class Need(msgspec.Struct, frozen=True, kw_only=True):
    """Work of one kind.

    Attributes:
        name: unique.
        demand: the entry of the file that it comes from.
        unit: of its amounts.
        amount: mean of each month without growth, shape (months,).
        growth_per_year: on top.
        rhythm: of the hours of a month, mean 1, shape (hours,).
        mix: its steps; None where the file tells the work of units itself.
        ways: offer of the catalog → how it serves; in tasks of the mix.
        per_task: units of the amount that a task of the mix is.
        refused: reasons of offers that cannot.
        asked: the entry.
    """

    name: str
    demand: str
    unit: str
    amount: Numbers
    growth_per_year: float
    rhythm: Numbers
    mix: Mix | None
    ways: dict[str, Way]
    per_task: float
    refused: list[str]
    asked: Demand

    def trend(self, growth_per_year: float | None = None) -> Numbers:
        """Return the mean of each month with growth, shape (months,)."""
        growth = self.growth_per_year if growth_per_year is None else growth_per_year
        years = np.arange(len(self.amount)) / MONTHS_PER_YEAR
        return np.asarray(self.amount * (1.0 + growth) ** years)


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What needs are made from.

    Attributes:
        folder: of the problem file.
        where: the problem file.
        calendar: months.
        offers: of the catalog, one region of each, that demand may run on.
        policy: SLOs.
        catalog: facts and prices.
    """

    folder: Path
    where: str
    calendar: Calendar
    offers: Sequence[Offer]
    policy: Policy
    catalog: Catalog


def needs_of(file: ProblemFile, facts: Facts) -> tuple[list[Need], list[str]]:
    """Return the needs of a problem, and notes about what is not in them.

    Raises:
        InputError: an amount, rhythm, workload or CSV that cannot be.
    """
    found: list[Need] = []
    notes: list[str] = []
    hours = HOURS[file.horizon.hours]
    for place, asked in enumerate(file.demand, 1):
        where = f"{facts.where}, demand {asked.name or place!r}"
        amount = _amount(asked, facts, where)
        if asked.unit == "units":
            found.append(_own(asked, amount, hours, where))
        elif asked.workload is not None:
            needs, told = _recorded(asked, amount, hours, facts, where)
            found += needs
            notes += told
        else:
            found.append(_table(asked, amount, hours, facts, where))
    return found, notes


def _amount(asked: Demand, facts: Facts, where: str) -> Numbers | None:
    """Return the amount of each month, without growth; None where the workload tells it."""
    months = facts.calendar.months
    if asked.file is not None:
        return _read_csv(facts.folder / asked.file, asked.name, facts.calendar)
    if asked.amount is None:
        return None
    told = asked.amount if isinstance(asked.amount, tuple) else (asked.amount,) * months
    if len(told) != months:
        mend = f"give one number, or one for each of the {months} months"
        raise InputError(f"amount has {len(told)} numbers", where=where, mend=mend)
    if not all(0 <= one <= MOST_AMOUNT for one in told):
        mend = f"from 0 to {MOST_AMOUNT:g}"
        raise InputError("an amount is below 0 or too large", where=where, mend=mend)
    return np.array(told, np.float64)


def _read_csv(path: Path, name: str, calendar: Calendar) -> Numbers:
    """Read the amounts of a demand: columns month, demand, amount; every month once.

    Raises:
        InputError: the file, a column or a cell that cannot be, or a month missing or told twice.
    """
    found: dict[int, float] = {}
    where = str(path)
    try:
        with path.open(encoding="utf-8", newline="") as lines:
            rows = csv.DictReader(lines)
            if rows.fieldnames is None or set(rows.fieldnames) != {"month", "demand", "amount"}:
                told = ", ".join(rows.fieldnames or ()) or "missing"
                mend = "must be month, demand, amount"
                raise InputError(f"columns are {told}", where=where, mend=mend)
            for row in rows:
                place = f"{where}, row {rows.line_num}"
                if rows.line_num > MOST_ROWS:
                    raise InputError(f"more than {MOST_ROWS:,} rows", where=where)
                if row["demand"] != name:
                    continue
                month = calendar.within(row["month"] or "", f"{place}, month")
                if month in found:
                    raise InputError(f"{row['month']} is there twice", where=place)
                found[month] = _cell(row["amount"], f"{place}, amount")
    except OSError as error:
        raise unread(path, error) from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"cannot read: {error}", where=where) from error
    missing = [calendar.name(m) for m in range(calendar.months) if m not in found]
    if missing:
        what = f"{len(missing)} months of demand {name!r} are missing, {missing[0]} first"
        raise InputError(what, where=where, mend="give every month of the horizon")
    return np.array([found[month] for month in range(calendar.months)])


def _cell(text: str | None, where: str) -> float:
    """Return an amount."""
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not 0 <= value <= MOST_AMOUNT:
        raise InputError(f"{text!r} is no amount", where=where, mend="give a number from 0")
    return value


def _rhythm(asked: Demand, hours: int, where: str, own: Numbers | None = None) -> Numbers:
    """Return the rhythm over the hours that stand for a month, mean 1."""
    told = np.array(asked.rhythm, np.float64) if asked.rhythm else own
    if told is None:
        return np.ones(hours)
    if len(told) not in (24, 168):
        mend = "give 24 numbers, of a day, or 168, of a week"
        raise InputError(f"rhythm has {len(told)} numbers", where=where, mend=mend)
    if not (np.isfinite(told).all() and (told >= 0).all() and told.sum() > 0):
        raise InputError("rhythm has a number below 0, or no hour with work", where=where)
    # A week's rhythm is averaged where a mean day or hour stands for a month, a day's repeated.
    whole = np.tile(told, -(-hours // len(told))) if len(told) < hours else told
    found = whole.reshape(-1, hours).mean(axis=0)
    return np.asarray(found / found.mean())


def _own(asked: Demand, amount: Numbers | None, hours: int, where: str) -> Need:
    """Return a need whose work the offers tell themselves."""
    if amount is None:
        raise InputError("it has no amount", where=where, mend="add amount = …, or a file")
    return Need(
        name=asked.name,
        demand=asked.name,
        unit="units",
        amount=amount,
        growth_per_year=asked.growth_per_year,
        rhythm=_rhythm(asked, hours, where),
        mix=None,
        ways={},
        per_task=1.0,
        refused=[],
        asked=asked,
    )


def _table(asked: Demand, amount: Numbers | None, hours: int, facts: Facts, where: str) -> Need:
    """Return a need of a table: a step stands for all of them."""
    if amount is None:
        raise InputError("it has no amount", where=where, mend="add amount = …, or a workload")
    per_task = asked.output_tokens if asked.unit == "tokens/s" else 1.0
    try:
        step = _step(asked, facts.catalog)
    except InputError as error:
        raise InputError(error.what, where=where, mend=error.mend) from error
    rate = max(float(amount[0]) / per_task, 1e-9)
    work = _work(Workload.from_records([step]), {asked.name: rate}, facts, asked)
    ways = _of_mix(work, 0)
    return Need(
        name=asked.name,
        demand=asked.name,
        unit=str(asked.unit),
        amount=amount,
        growth_per_year=asked.growth_per_year,
        rhythm=_rhythm(asked, hours, where),
        mix=work.mixes[0],
        ways=ways,
        per_task=per_task,
        refused=work.refused[0],
        asked=asked,
    )


def _step(asked: Demand, catalog: Catalog) -> StepRecord:
    """Return the step that stands for all of a need.

    Raises:
        InputError: an offer or a model that the catalog does not know.
    """
    cores = asked.unit == "cores"
    measured_on = asked.measured_on or REFERENCE
    if cores:
        catalog.offer(measured_on)
    return StepRecord(
        task_id="1",
        step_id="1",
        agent=asked.name,
        arrival_s=0.0,
        data_class=asked.data_class,
        name=asked.name,
        kind="tool" if cores else "llm",
        cpu_s=1.0 if cores else None,
        cores=1.0 if cores else None,
        offer=measured_on if cores else None,
        model=None if asked.model is None else catalog.model(asked.model).name,
        prompt_tokens=None if cores else asked.prompt_tokens,
        cached_tokens=None if cores else asked.cached_tokens,
        output_tokens=None if cores else asked.output_tokens,
    )


def _of_mix(work: Work, mix: int) -> dict[str, Way]:
    """Return how each offer serves a mix."""
    return {offer: ways[mix] for offer, ways in work.ways.items() if mix in ways}


def _work(workload: Workload, tasks_per_s: dict[str, float], facts: Facts, asked: Demand) -> Work:
    """Return how offers serve a workload."""
    return work_of(
        workload,
        tasks_per_s,
        facts.offers,
        facts.policy,
        facts.catalog,
        asked.measured_on or REFERENCE,
    )


def _recorded(
    asked: Demand, amount: Numbers | None, hours: int, facts: Facts, where: str
) -> tuple[list[Need], list[str]]:
    """Return the needs of a workload: one for each agent, kind of pool and class of data."""
    assert asked.workload is not None
    workload = open_workload(facts.folder / asked.workload)
    times = task_times(workload)
    arrival_s = np.asarray(times.arrival_s, np.float64)
    if not len(arrival_s) or np.isnan(arrival_s).any() or np.ptp(arrival_s) <= 0:
        mend = "make traffic of it with `polysilicon workload generate --like W --rate 1`"
        raise InputError("its tasks do not say when they arrive", where=where, mend=mend)
    names = list(dict.fromkeys(times.agents))
    if asked.agent is not None and asked.agent not in names:
        mend = f"it has {', '.join(names[:5])}"
        raise InputError(f"no task is of agent {asked.agent!r}", where=where, mend=mend)
    span_s = float(np.ptp(arrival_s))
    agents = np.array(times.agents)
    rates = {name: float((agents == name).sum()) / span_s for name in names}
    mine = [asked.agent] if asked.agent is not None else names
    total = sum(rates[name] for name in mine)
    scale = np.full(facts.calendar.months, total) if amount is None else amount
    factor = float(scale[0]) / total
    work = _work(workload, {name: rate * factor for name, rate in rates.items()}, facts, asked)
    needs = []
    for place, mix in enumerate(work.mixes):
        if mix.agent not in mine:
            continue
        own = _day(arrival_s[agents == mix.agent], arrival_s.min(), span_s)
        words = [asked.name, mix.agent, mix.model or mix.role]
        words += [mix.data_class] if mix.data_class else []
        needs.append(
            Need(
                name="/".join(words),
                demand=asked.name,
                unit="tasks/s",
                amount=scale * (rates[mix.agent] / total),
                growth_per_year=asked.growth_per_year,
                rhythm=_rhythm(asked, hours, where, own),
                mix=mix,
                ways=_of_mix(work, place),
                per_task=1.0,
                refused=work.refused[place],
                asked=asked,
            )
        )
    return needs, [
        f"{n:,} steps of {asked.name} take no machine: {r}" for r, n in work.untold.items()
    ]


def _day(arrival_s: Numbers, begin_s: float, span_s: float) -> Numbers | None:
    """Return tasks by hour of the day; None of less than a day of arrivals."""
    day_s = 24 * SECONDS_PER_HOUR
    days = int((span_s + SECONDS_PER_HOUR) // day_s)
    if days < 1:
        return None
    kept = arrival_s[arrival_s < begin_s + days * day_s] - begin_s
    hour = (kept // SECONDS_PER_HOUR).astype(np.int64) % 24
    return np.bincount(hour, minlength=24).astype(np.float64)

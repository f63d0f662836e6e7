"""The page as Markdown: text around tables that are made from what was found."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from polysilicon import units
from polysilicon.cost.llm.law import Numbers
from polysilicon.report.price_performance.capacity import Capacity
from polysilicon.report.price_performance.curves import saturated, usd_per_million
from polysilicon.report.price_performance.studies import (
    MIXES,
    MOST_ON_CPUS,
    SLOS,
    TABLE_LOADS,
    TASK,
    Mix,
    Slo,
    loads,
)
from polysilicon.report.price_performance.study import Meeting, Side, Study, Work

COMMAND = "python -m polysilicon.report.price_performance docs"
BLANK = "-"
MAX_REASONS = 8

_TEXTS = Path(__file__).parent.parent / "templates"


def head() -> str:
    """Return how the page begins."""
    return _text(
        "head",
        command=COMMAND,
        most_on_cpus=MOST_ON_CPUS,
        mixes="; ".join(mix.words() for mix in MIXES),
        slos="; ".join(slo.words() for slo in SLOS),
    )


def _text(name: str, **values: str | float) -> str:
    """Return a text that stands around tables, with its values."""
    file = _TEXTS / f"price_performance_{name}.txt"
    return file.read_text(encoding="utf-8").format(**values)


def summary_section(works: Mapping[str, Work]) -> str:
    """Return where a CPU stops being the cheapest, for all models."""
    rows = [
        _meeting_row(label, mix, slo, work.studies[mix.name, slo.name])
        for label, work in works.items()
        for mix in MIXES
        for slo in SLOS
    ]
    heads = ["model", "requests", "SLO", "a CPU is the cheapest up to", "band", "then it does"]
    heads += ["$/M output tokens there", "band"]
    words = [_meeting_words(label, work) for label, work in works.items()]
    table = _table(heads, "lllrlrrl", rows)
    return "\n".join([_text("crossings"), *table, "", "In words:", "", *words])


def _meeting_row(label: str, mix: Mix, slo: Slo, study: Study) -> list[str]:
    """Return a row of the table of crossings."""
    meeting, side = study.meeting, study.sides["cpu"]
    assert meeting is not None
    first = meeting.best.first_per_s
    row = [label, mix.name, slo.name, _up_to(meeting), _range(meeting)]
    if not 0 < first < math.inf:
        return [*row, BLANK, BLANK, BLANK]
    at = max(int(np.searchsorted(loads(), first)) - 1, 0)
    tokens = f"{_amount(first * mix.output)} output tokens/s"
    return [*row, tokens, *_dollars(side, at, mix.output)]


def _up_to(meeting: Meeting) -> str:
    """Return the best estimate of a crossing."""
    first, last = meeting.best.first_per_s, meeting.best.last_per_s
    if first == math.inf:
        return "all loads"
    if last == 0:
        return "no load"
    if last > 1.1 * first:
        for_good = "the highest" if last == math.inf else f"{_amount(last)}/s"
        return f"{_amount(first)}/s, now and then up to {for_good}"
    return f"{_amount(first)}/s"


def _range(meeting: Meeting) -> str:
    """Return the band of a crossing."""
    low, high = meeting.low_per_s, meeting.high_per_s
    high = max(high, meeting.best.first_per_s)
    if high == 0:
        return "no load"
    start = "no load" if low == 0 else "all loads" if low == math.inf else f"{_amount(low)}/s"
    end = "all loads" if high == math.inf else f"{_amount(high)}/s"
    return start if start == end else f"{start} to {end}"


def _meeting_words(label: str, work: Work) -> str:
    """Return what the crossings of a model mean, and what its tokens cost on full machines."""
    mix = MIXES[0]
    told = []
    for slo in SLOS:
        study = work.studies[mix.name, slo.name]
        assert study.meeting is not None
        first = study.meeting.best.first_per_s
        if saturated(study.sides["cpu"].capacities) is None:
            told.append(f"{slo.name}, no CPU keeps the SLO")
        elif first == 0:
            told.append(f"{slo.name}, an accelerator is cheaper than any CPU even when nearly idle")
        elif first == math.inf:
            told.append(f"{slo.name}, a CPU is the cheapest at all loads")
        else:
            told.append(f"{slo.name}, a CPU is the cheapest up to {_amount(first)} requests/s")
    words = f"- {label}, {mix.name}: {'; '.join(told)}."
    sides = work.studies[mix.name, SLOS[-1].name].sides
    full = {kind: saturated(side.capacities) for kind, side in sides.items()}
    cpu = full["cpu"]
    others = [c for kind, c in full.items() if kind != "cpu" and c is not None]
    if cpu is None or not others:
        return words
    usd = {
        c.offer.name: usd_per_million(c.offer.usd_per_hour(), c.per_s, mix.output) for c in others
    }
    best = min(usd.values())
    own = usd_per_million(cpu.offer.usd_per_hour(), cpu.per_s, mix.output)
    ratio = own / best
    times = (
        f"{_amount(ratio)} times as dear" if ratio >= 1 else f"{_amount(1 / ratio)} times cheaper"
    )
    full_words = f"a full CPU is {times} as" if ratio >= 1 else f"a full CPU is {times} than"
    return f"{words} {SLOS[-1].name.capitalize()}, {full_words} a full accelerator."


def model_section(label: str, name: str, work: Work) -> str:
    """Return charts and tables of a model."""
    parts = [f"## {label}: {name}", ""]
    mix = MIXES[0]
    for slo in SLOS:
        study = work.studies[mix.name, slo.name]
        file = f"price_performance/{label.casefold()}_{slo.name}.svg"
        parts += [
            f"### {mix.name}, {slo.name}",
            "",
            f"![dollars per million output tokens over load, {label}, {slo.name}]({file})",
            "",
            f"Dollars per million output tokens, and the cheapest machines; {_by_facts(study)}.",
            "",
            *_load_table(study.sides, mix.output),
            "",
            "Full machines, cheapest of each kind for their tokens:",
            "",
            *_full_table(study.sides, mix.output, "output token"),
            "",
        ]
    return "\n".join([*parts, *_refused(work.refused)])


def _by_facts(study: Study) -> str:
    """Return in words how many machines are left out."""
    return f"{study.by_facts} groups of machines are left out for data sheets alone"


def tool_section(work: Work) -> str:
    """Return charts and tables of tool work."""
    slo = SLOS[0]
    study = work.studies["", slo.name]
    full = [c for side in study.sides.values() for c in side.capacities if c.per_s > 0]
    each = [c.offer.usd_per_hour() / c.per_s for c in full]
    words = _text(
        "tools_words",
        spread=_amount(max(each) / min(each)),
        least=TABLE_LOADS[0],
        idle=units.usd(min(c.offer.usd_per_hour() for c in full)),
    )
    run = units.seconds(slo.run_s)
    return "\n".join(
        [
            _text("tools", runs=TASK.runs, cpu_s=TASK.cpu_s, offer=TASK.offer, run=run),
            "Dollars per 1,000 tasks, and the cheapest machines:",
            "",
            *_load_table(study.sides, 1000.0),
            "",
            "Full machines, the cheapest of each processor:",
            "",
            *_tool_table(study),
            "",
            words,
            *_refused(work.refused),
        ]
    )


def _load_table(sides: Mapping[str, Side], units_each: float) -> list[str]:
    """Return dollars over load by kind."""
    at = [int(np.argmin(np.abs(loads() - load))) for load in TABLE_LOADS]
    heads = ["load", *(word for kind in sides for word in (f"{kind}, $", "band", "machines"))]
    rows = []
    for load, i in zip(TABLE_LOADS, at, strict=True):
        row = [f"{load:g}/s"]
        for side in sides.values():
            chosen = int(side.best.chosen[i])
            if chosen < 0:
                row += ["none", BLANK, BLANK]
                continue
            capacity = side.capacities[chosen]
            machine = f"{int(side.best.machines[i]):,} x {capacity.offer.name}, {capacity.basis}"
            row += [*_dollars(side, i, units_each), machine]
        rows.append(row)
    return _table(heads, "l" + "rll" * len(sides), rows)


def _dollars(side: Side, i: int, units_each: float) -> list[str]:
    """Return dollars for a million units at one of the loads, and their band."""
    at = loads()[i]
    best, low, high = (
        usd_per_million(float(curve.usd_per_hour[i]), float(at), units_each)
        for curve in (side.best, side.fast, side.slow)
    )
    return [units.usd(best), _usd_band(low, high)]


def _full_table(sides: Mapping[str, Side], units_each: float, unit: str) -> list[str]:
    """Return the machine of each kind that is cheapest when it is full."""
    found = {kind: saturated(side.capacities) for kind, side in sides.items()}
    rows = [_full_row(kind, c, units_each) for kind, c in found.items() if c is not None]
    heads = ("kind", "machine", "$/h", "requests/s", "at once", "first", "later")
    return _table((*heads, f"$/M {unit}s", "band", "rests on"), "llrrrrrrll", rows)


def _full_row(kind: str, capacity: Capacity, units_each: float) -> list[str]:
    """Return a full machine as a row."""
    offer = capacity.offer
    return [
        kind,
        f"{offer.name}, {offer.region}",
        units.usd(offer.usd_per_hour()),
        _amount(capacity.per_s),
        str(capacity.at_once),
        units.seconds(capacity.first_s),
        units.seconds(capacity.later_s),
        *_full_usd(capacity, units_each),
        f"{capacity.basis}: {capacity.note}",
    ]


def _full_usd(capacity: Capacity, units_each: float) -> list[str]:
    """Return dollars for a million units on a full machine, and their band."""
    usd = capacity.offer.usd_per_hour()
    best, low, high = (
        usd_per_million(usd, rate, units_each) if rate > 0 else math.inf
        for rate in (capacity.per_s, capacity.fast_per_s, capacity.slow_per_s)
    )
    return [units.usd(best), _usd_band(low, high)]


def _tool_table(study: Study) -> list[str]:
    """Return the full machine of each processor that does tool work cheapest."""
    by_chip: dict[str, list[Capacity]] = {}
    for side in study.sides.values():
        for capacity in side.capacities:
            chip = capacity.offer.processor
            by_chip.setdefault("" if chip is None else chip.name, []).append(capacity)
    found = {chip: saturated(capacities) for chip, capacities in by_chip.items()}
    rows = [
        [
            chip,
            f"{c.offer.name}, {c.offer.region}",
            units.usd(c.offer.usd_per_hour()),
            _amount(c.per_s),
            units.seconds(c.first_s),
            *_full_usd(c, 1000.0),
            c.basis,
        ]
        for chip, c in sorted(found.items(), key=_tool_usd)
        if c is not None
    ]
    heads = (
        "processor",
        "machine",
        "$/h",
        "tasks/s",
        "a run",
        "$ per 1,000 tasks",
        "band",
        "basis",
    )
    return _table(heads, "llrrrrll", rows)


def _tool_usd(item: tuple[str, Capacity | None]) -> tuple[float, str]:
    """Return what sorts processors by the dollars of a task."""
    chip, capacity = item
    if capacity is None:
        return math.inf, chip
    return capacity.offer.usd_per_hour() / capacity.per_s, chip


def committed_section(
    rows: Sequence[tuple[str, str, float, float, float, Capacity]], label: str
) -> str:
    """Return what bound machines cost.

    Args:
        rows: machine, region, dollars an hour on demand, for a year, for three, and its capacity.
        label: of the model whose tokens are priced.
    """
    mix, slo = MIXES[0], SLOS[-1]
    cells = []
    for name, region, demand, year, three, capacity in rows:
        full: Callable[[float], str] = _full_at(capacity, mix.output)
        shares = [units.share(price / demand) for price in (year, three)]
        prices = [units.usd(price) for price in (demand, year, three)]
        cells.append([f"{name}, {region}", *prices, *shares, full(demand), full(year), full(three)])
    heads = ["machine", "$/h", "1 year", "3 years", "pays from, 1 year", "3 years"]
    heads += ["$/M on demand", "1 year", "3 years"]
    count = len(rows)
    text = _text("committed", count=count, label=label, mix=mix.name, slo=slo.name)
    return "\n".join([text, *_table(heads, "lrrrrrrrr", cells)])


def _full_at(capacity: Capacity, units_each: float) -> Callable[[float], str]:
    """Return what writes dollars for a million units on a full machine by its price."""

    def words(usd: float) -> str:
        if capacity.per_s <= 0:
            return BLANK
        return units.usd(usd_per_million(usd, capacity.per_s, units_each))

    return words


def _refused(refused: Mapping[str, int]) -> list[str]:
    """Return why groups of machines could not be estimated, most frequent reasons first."""
    if not refused:
        return []
    rows = sorted(refused.items(), key=lambda item: (-item[1], item[0]))
    lines = [f"- {count}: {reason}" for reason, count in rows[:MAX_REASONS]]
    rest = sum(count for _, count in rows[MAX_REASONS:])
    if rest:
        lines.append(f"- {rest}: other reasons, each at most {rows[MAX_REASONS][1]}")
    head = "Refused, counted in groups of machines of one processor and size:"
    return [head, "", *lines]


def _usd_band(low: float, high: float) -> str:
    """Return the band of dollars."""
    start = "none" if math.isinf(low) else units.usd(low)
    return f"{start} or more" if math.isinf(high) else f"{start} to {units.usd(high)}"


def _amount(value: Numbers | float) -> str:
    """Return a number to two significant digits; whole from ten up."""
    number = float(value)
    return units.count(float(f"{number:.2g}"))


def _table(heads: Sequence[str], sides: str, rows: Sequence[Sequence[str]]) -> list[str]:
    """Return a table; `sides` has an `l` or `r` for each column."""
    rule = ["---:" if side == "r" else "---" for side in sides]
    return [f"| {' | '.join(row)} |" for row in (heads, rule, *rows)]

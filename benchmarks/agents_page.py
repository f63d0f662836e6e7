"""What `agents.py` measured, as a table, as plots, and as a page of the docs."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec
from rich.console import Console
from rich.table import Table

from polysilicon.catalog.machine import detect
from polysilicon.report.loglog import Axis, Plot, axis_around

OURS, OF_SLOTS, OF_TASKS = "Polysilicon", "pool of 8", "pool of B"
FIRST = "Polysilicon, first run"
"""Nothing is known of the agents; `OURS` knows how long tasks of them took that ran before."""

_COLOURS = {OURS: "#009e73", FIRST: "#7a5195", OF_SLOTS: "#0072b2", OF_TASKS: "#c77700"}
_HEADINGS = (
    "load", "who", "turns", "P50 s", "P90 s", "tasks/min", "its P50 is", "its P90 is",
    "P50 at best",
)  # fmt: skip
_TITLE = "medians; `its P50 is` tells how many times that of Polysilicon"


class Turn(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One turn: so many tasks of a load, run once.

    Attributes:
        load: `search`, `bundled` or `poisson`.
        tasks: how many.
        who: ran them.
        turn: its number.
        p50_s: median of the seconds from a task's arrival to its end.
        p90_s: their 90th percentile.
        last_s: the longest of them.
        rate_per_s: at which tasks arrived; None where all were there at t = 0.
        least_s: the median that no order of the tasks can beat; None where that is not known.
    """

    load: str
    tasks: int
    who: str
    turn: int
    p50_s: float
    p90_s: float
    last_s: float
    rate_per_s: float | None = None
    least_s: float | None = None


Group = dict[str, list[Turn]]
"""Who → the turns."""


def grouped(turns: Sequence[Turn]) -> dict[tuple[str, int], Group]:
    """Return the turns of each load and number of tasks."""
    found: dict[tuple[str, int], Group] = {}
    for turn in sorted(turns, key=lambda turn: (turn.load, turn.tasks)):
        found.setdefault((turn.load, turn.tasks), {}).setdefault(turn.who, []).append(turn)
    return found


def middle(turns: Sequence[Turn], name: str) -> float:
    """Return the median of a figure."""
    return statistics.median(getattr(turn, name) for turn in turns)


def rows(turns: Sequence[Turn]) -> list[tuple[str, ...]]:
    """Return the lines of the table."""
    found = []
    for (load, tasks), by_name in grouped(turns).items():
        mine = by_name.get(OURS)
        for name in (who for who in _COLOURS if who in by_name):
            group = by_name[name]
            rate = group[0].rate_per_s
            what = f"{load} {tasks}" if rate is None else f"{load} {rate:.2g}/s"
            cells = [what, name.replace("B", str(tasks)), str(len(group))]
            cells += [f"{middle(group, key):.2f}" for key in ("p50_s", "p90_s")]
            cells.append("" if rate else f"{60 * tasks / middle(group, 'last_s'):.0f}")
            for key in ("p50_s", "p90_s"):
                other = mine and name != OURS and middle(group, key) / middle(mine, key)
                cells.append(f"{other:.2f} x" if other else "")
            known = [turn.least_s for turn in group if turn.least_s is not None]
            cells.append(f"{statistics.median(known):.2f}" if known else "")
            found.append(tuple(cells))
    return found


def show(turns: Sequence[Turn]) -> None:
    """Print the table."""
    table = Table(*_HEADINGS, title=_TITLE)
    for cells in rows(turns):
        table.add_row(*cells)
    Console(width=120).print(table)


def plot(turns: Sequence[Turn], load: str) -> str:
    """Return the medians of the tasks at t = 0 over their number, as SVG."""
    groups = {tasks: by for (of, tasks), by in grouped(turns).items() if of == load}
    times_s = [middle(group, "p50_s") for by in groups.values() for group in by.values()]
    low, high = min(groups) / 1.2, max(groups) * 1.6
    x = Axis(low=low, high=high, title="tasks at t = 0", words="{:g}".format)
    y = axis_around(times_s, "seconds until half of them had ended", "{:g}".format)
    chart, shapes = Plot(x=x, y=y), []
    style = "svg{background:#fff;font:11px system-ui,sans-serif}.tick{fill:#5b6470}"
    style += ".grid{stroke:#e3e7ec;fill:none}.key{font-weight:600}"
    for place, (name, colour) in enumerate(_COLOURS.items()):
        style += f".l{place}{{stroke:{colour};stroke-width:2;fill:none}}.f{place}{{fill:{colour}}}"
        points = [(float(n), middle(by[name], "p50_s")) for n, by in groups.items() if name in by]
        shapes += [chart.line(points, f"l{place}"), *(chart.dot(p, f"f{place}") for p in points)]
        at = (x.low * 1.1, y.high * (y.low / y.high) ** (0.06 + 0.06 * place))
        shapes.append(chart.words(at, name, f"key f{place}"))
    label = f"median of {load} tasks at t = 0 over their number, for Polysilicon and two pools"
    return str(chart.svg(label, shapes, style))


def page(turns: Sequence[Turn]) -> str:
    """Return the page of the docs."""
    here = detect()
    fewest = min(len(group) for by in grouped(turns).values() for group in by.values())
    told = (
        f"Written by `python benchmarks/agents.py FILE --docs docs` on {datetime.now(UTC):%F}, from"
        f" turns on {here.cores} cores of {here.cpu}. Figures are medians of the turns, of which"
        f" each row has {fewest} at least. `its P50 is` tells how many times that of Polysilicon;"
        " more than 1 is slower. `P50 at best` is what no order of these tasks can beat, by the"
        " core-seconds that Polysilicon used for them: the P50 of a pool over it is the most that"
        " any order could gain ([why](running.md#many-at-once-and-beside-a-pool)). What the loads"
        " and the pools are is told at the head of that file."
    )
    lines = [
        "# Agents beside pools of processes",
        "",
        told,
        "",
        "| " + " | ".join(_HEADINGS) + " |",
        "|" + "---|" * len(_HEADINGS),
        *("| " + " | ".join(cells) + " |" for cells in rows(turns)),
        "",
    ]
    pictures = {"search": "that search, rank and ask", "bundled": "of the four bundled agents"}
    for load, what in pictures.items():
        if any(turn.load == load for turn in turns):
            lines += [f"![median of tasks {what}](running_agents/{load}.svg)", ""]
    return "\n".join(lines)

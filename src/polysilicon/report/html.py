"""The HTML report: one file with everything in it, which opens without a network."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import jinja2
import msgspec

from polysilicon import units
from polysilicon.disk import atomic
from polysilicon.errors import visible
from polysilicon.ledger.ledger import Entry, Ledger, ledger
from polysilicon.report import terminal
from polysilicon.report.charts import offer_chart, outcome_bar, time_bars
from polysilicon.report.samples import MAX_FAILED, failures, samples
from polysilicon.report.source import ElsewhereRow, Source
from polysilicon.report.summary import Summary, summarise
from polysilicon.report.svg import kind_class
from polysilicon.report.timeline import timeline
from polysilicon.workload.describe import groups_of

MAX_ROWS = 100


class Cut(msgspec.Struct, frozen=True, kw_only=True):
    """A table that may be cut: its title, the rows shown, and how many more there are."""

    title: str
    rows: list[Any]
    left_out: int


def write_report(
    source: Source,
    elsewhere: Sequence[ElsewhereRow],
    path: Path | None = None,
    refused: Sequence[tuple[str, str]] = (),
) -> Summary:
    """Write the HTML report of a run, all or not at all.

    Args:
        source: what it is made from.
        elsewhere: the same work on other offers.
        path: of the file; None for its usual place.
        refused: offers without an estimate, and why.

    Returns:
        The summary that the report shows; `report` in it is the path.

    Raises:
        PolysiliconError: the disk is full, or the folder cannot be written.
    """
    summary = summarise(source, elsewhere, path)
    page = render(source, summary, refused)
    with atomic(Path(summary.report)) as temporary:
        temporary.write_text(page, encoding="utf-8", errors="replace")
    return summary


def render(source: Source, summary: Summary, refused: Sequence[tuple[str, str]] = ()) -> str:
    """Return the HTML report of a run; see `write_report`."""
    books = ledger(source.workload)
    groups = groups_of(source.workload)
    offers = offer_chart(summary.elsewhere) if summary.elsewhere else None
    agents = list(summary.agents.items())[:MAX_ROWS]
    failed = None if source.tasks is None else failures(source.tasks)
    return template("report.html.j2").render(
        source=source,
        summary=summary,
        total=books.total,
        cents=decimals(books.total.cost_usd),
        tables=_ledger_tables(books),
        groups=cut("steps", groups),
        bars=time_bars(groups)[:MAX_ROWS],
        kinds=list(summary.kinds),
        timeline=timeline(source.workload),
        offers=offers,
        refused=list(refused)[:MAX_ROWS],
        agents=[
            (name, agent, outcome_bar(agent.tasks, agent.ok, agent.quality))
            for name, agent in agents
        ],
        failed=failed,
        failed_count=sum(not task.ok for task in source.tasks or ()),
        max_failed=MAX_FAILED,
        samples=samples(source),
    )


def decimals(total: float | None) -> int:
    """Return how many decimals show five digits of a sum, at least two: one count for a column."""
    return 2 if not total else min(max(4 - math.floor(math.log10(total)), 2), 12)


def figure(value: float | None, digits: int = 0) -> str:
    """Format a number of a column that is added up: the same decimals in each row, or a blank."""
    return terminal.BLANK if value is None else f"{value:,.{digits}f}"


def _ledger_tables(books: Ledger) -> list[Cut]:
    """Return the ledger's tables, dearest rows first."""
    tables = (
        ("agent", books.by_agent),
        ("kind", books.by_kind),
        ("pool", books.by_pool),
        ("name", books.by_name),
    )
    return [cut(title, sorted(table.items(), key=_dearest)) for title, table in tables]


def _dearest(item: tuple[str, Entry]) -> tuple[int, int, str]:
    """Return a key that sorts entries by cost, then steps, most first."""
    return -item[1].picodollars, -item[1].steps, item[0]


def cut(title: str, rows: Sequence[Any]) -> Cut:
    """Return a table of at most `MAX_ROWS` rows."""
    return Cut(title=title, rows=list(rows[:MAX_ROWS]), left_out=max(len(rows) - MAX_ROWS, 0))


class _Page(jinja2.Template):
    """A template whose pages hold no control characters, whatever is put into it."""

    def render(self, *args: Any, **kwargs: Any) -> str:
        return visible(super().render(*args, **kwargs))


def template(name: str) -> jinja2.Template:
    """Return a page's template; everything that is put into it is escaped."""
    return environment().get_template(name)


@lru_cache
def environment(*folders: Path) -> jinja2.Environment:
    """Return what templates are taken from: the reports' folder, and before it those given."""
    found = jinja2.Environment(
        loader=jinja2.FileSystemLoader([*folders, Path(__file__).parent / "templates"]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.template_class = _Page
    found.filters.update(
        seconds=terminal.seconds,
        usd=terminal.usd,
        share=terminal.share,
        count=units.count,
        figure=figure,
        kind_class=kind_class,
    )
    return found

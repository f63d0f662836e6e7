"""The page and its charts as files: the same data give the same bytes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from polysilicon.catalog.catalog import Catalog
from polysilicon.catalog.offers import Offer
from polysilicon.disk import atomic
from polysilicon.errors import NoBasisError
from polysilicon.report.price_performance import page
from polysilicon.report.price_performance.capacity import Capacity, llm_capacities
from polysilicon.report.price_performance.charts import load_chart
from polysilicon.report.price_performance.studies import MIXES, MODELS, SLOS, loads
from polysilicon.report.price_performance.study import Study, Work, model_work, tool_work

COMMITTED_MODEL = "8B"


def write_page(folder: Path, catalog: Catalog) -> list[Path]:
    """Write the page and its charts; return the files.

    Raises:
        PolysiliconError: a file cannot be written.
    """
    works = {label: model_work(name, catalog) for label, name in MODELS}
    tools = tool_work(catalog)
    parts = [page.head(), page.summary_section(works)]
    parts += [page.model_section(label, name, works[label]) for label, name in MODELS]
    parts += [page.tool_section(tools), committed(catalog)]
    files = {"price_performance.md": "\n\n".join(part.strip() for part in parts) + "\n"}
    files |= model_charts(works) | tool_chart(tools)
    (folder / "price_performance").mkdir(exist_ok=True)
    written = [folder / name for name in files]
    for path, text in zip(written, files.values(), strict=True):
        with atomic(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return written


def model_charts(works: Mapping[str, Work]) -> dict[str, str]:
    """Return charts of models by file name."""
    mix = MIXES[0]
    files = {}
    for label, work in works.items():
        for slo in SLOS:
            study = work.studies[mix.name, slo.name]
            title = f"{label}, {mix.name}, {slo.name}: dollars per million output tokens over load"
            name = f"price_performance/{label.casefold()}_{slo.name}.svg"
            titles = ("requests a second", "$ per million output tokens", title)
            files[name] = _chart(study, mix.output, titles)
    return files


def tool_chart(work: Work) -> dict[str, str]:
    """Return the chart of tool work by file name."""
    titles = ("tasks a second", "$ per 1,000 tasks", "tool work: dollars per 1,000 tasks over load")
    study = work.studies["", SLOS[0].name]
    return {"price_performance/tools.svg": _chart(study, 1000.0, titles)}


def _chart(study: Study, units_each: float, titles: tuple[str, str, str]) -> str:
    """Return the chart of a study."""
    at = loads()
    lines = {kind: side.line(at, units_each) for kind, side in study.sides.items()}
    crossed = None
    if study.meeting is not None:
        meeting = study.meeting
        crossed = (meeting.low_per_s, meeting.best.first_per_s, meeting.high_per_s)
    return str(load_chart(lines, at, titles, crossed))


def committed(catalog: Catalog) -> str:
    """Return the section on machines with prices by the year, each in its cheapest region."""
    bound: dict[str, Offer] = {}
    for offer in catalog.offers:
        year = offer.reserved_1y_usd_per_hour
        if year is None or None in (offer.reserved_3y_usd_per_hour, offer.on_demand_usd_per_hour):
            continue
        known = bound.get(offer.name)
        if known is None or year < known.usd_per_hour("1y"):
            bound[offer.name] = offer
    model = catalog.model(dict(MODELS)[COMMITTED_MODEL])
    rows: list[tuple[str, str, float, float, float, Capacity]] = []
    for name in sorted(bound):
        offer = bound[name]
        try:
            capacity = llm_capacities(model, offer, catalog)[MIXES[0].name, SLOS[-1].name]
        except NoBasisError:
            # Its prices are worth a row even where its tokens cannot be priced.
            capacity = Capacity(offer=offer)
        prices = (offer.usd_per_hour(), offer.usd_per_hour("1y"), offer.usd_per_hour("3y"))
        rows.append((name, offer.region, *prices, capacity))
    return page.committed_section(rows, COMMITTED_MODEL)

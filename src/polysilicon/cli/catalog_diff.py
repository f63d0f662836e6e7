"""`polysilicon catalog diff`: what changed between two catalogs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import click
from rich.markup import escape
from rich.table import Table

from polysilicon import catalog
from polysilicon.catalog.catalog import Catalog
from polysilicon.catalog.diff import Diff, FactChange, Place, PriceChange, diff
from polysilicon.catalog.imports import is_skypilot, read_skypilot
from polysilicon.catalog.offers import Offer
from polysilicon.catalog.tables import data_folder
from polysilicon.catalog.user import OFFERS, import_offers, imports, user_folder
from polysilicon.cli.output import emit_json, json_option, out
from polysilicon.errors import InputError, nearest

SHIPPED, USER = "shipped", "user"
LIMIT = 20


@click.command("diff", epilog="Example:  polysilicon catalog diff shipped user --limit 10")
@click.argument("before")
@click.argument("after")
@click.option("--limit", type=click.IntRange(min=1), help="How many rows of each kind at most.")
@json_option
def diff_(*, before: str, after: str, limit: int | None, as_json: bool) -> None:
    """Compare the offers of BEFORE and AFTER, largest price changes first.

    Each is `shipped` (the catalog that comes with Polysilicon), `user` (that under the imports),
    the name of an import, a folder of a catalog, or a price file. Only clouds that both have are
    compared.
    """
    found = diff(_offers(before), _offers(after))
    if as_json:
        emit_json(
            {
                "before": before,
                "after": after,
                "clouds": found.clouds,
                "compared": found.compared,
                "counts": {
                    "added": len(found.added),
                    "removed": len(found.removed),
                    "prices": len(found.prices),
                    "facts": len(found.facts),
                },
                "added": found.added[:limit],
                "removed": found.removed[:limit],
                "prices": found.prices[:limit],
                "facts": found.facts[:limit],
            }
        )
        return
    _print(found, limit or LIMIT)


def _offers(which: str) -> tuple[Offer, ...]:
    """Return the offers that an argument names.

    Raises:
        InputError: it names nothing, or its files are broken.
    """
    if which == USER:
        return catalog.load().offers
    shipped = Catalog(data_folder())
    if which == SHIPPED:
        return shipped.offers
    path, folder = Path(which), user_folder()
    names = [one.name for one in imports(folder) if one.kind == "offers"]
    if which in names:
        return import_offers(folder / which, shipped.processors)
    if path.is_dir():
        if (path / OFFERS).is_file():
            return import_offers(path, shipped.processors)
        return Catalog(path).offers if (path / "processors.csv").is_file() else _no_catalog(path)
    if path.is_file():
        if not is_skypilot(path):
            raise InputError("not a price file", where=which, mend="expected a SkyPilot vms.csv")
        today = datetime.now(UTC).date().isoformat()
        return read_skypilot(path, shipped, date=today).offers
    mend = nearest(which, [SHIPPED, USER, *names]) or f"give {SHIPPED}, {USER}, an import or a file"
    raise InputError(f"no catalog, import or file {which!r}", mend=mend)


def _no_catalog(path: Path) -> tuple[Offer, ...]:
    """Say that a folder holds no catalog.

    Raises:
        InputError: always.
    """
    mend = "expected offers.csv with offer_sources.csv, or all of a catalog's tables"
    raise InputError("the folder holds no catalog", where=str(path), mend=mend)


def _print(found: Diff, limit: int) -> None:
    """Print what changed."""
    console = out()
    clouds = ", ".join(found.clouds) or "no cloud that both have"
    console.print(f"{found.compared} offers in both ({clouds})", markup=False)
    if found.prices:
        console.print(_prices(found.prices[:limit]))
    if found.facts:
        console.print(_facts(found.facts[:limit]))
    for what, places in (("added", found.added), ("removed", found.removed)):
        if places:
            console.print(_places(what, places[:limit]))
    counts = {
        "prices changed": len(found.prices),
        "facts changed": len(found.facts),
        "offers added": len(found.added),
        "offers removed": len(found.removed),
    }
    console.print(", ".join(f"{count} {what}" for what, count in counts.items()))
    if max(counts.values()) > limit:
        console.print(f"at most {limit} of each are shown; see --limit")


def _prices(changes: Sequence[PriceChange]) -> Table:
    """Return the table of prices."""
    table = Table(box=None, pad_edge=False)
    for head in ("offer", "region", "price"):
        table.add_column(head, overflow="fold")
    for head in ("from", "to", "change"):
        table.add_column(head, justify="right", no_wrap=True)
    for c in changes:
        usd = (f"${c.from_usd_per_hour:,.4f}", f"${c.to_usd_per_hour:,.4f}")
        table.add_row(escape(c.name), c.region, c.price, *usd, f"{c.change * 100:+.1f} %")
    return table


def _facts(changes: Sequence[FactChange]) -> Table:
    """Return the table of facts."""
    table = Table(box=None, pad_edge=False)
    for head in ("offer", "region", "fact", "from", "to"):
        table.add_column(head, overflow="fold")
    for c in changes:
        cells = (c.name, c.region, c.fact, c.before or "-", c.after or "-")
        table.add_row(*map(escape, cells))
    return table


def _places(what: str, places: Sequence[Place]) -> Table:
    """Return the table of offers that only one has."""
    table = Table(box=None, pad_edge=False)
    table.add_column(what, overflow="fold")
    table.add_column("region", overflow="fold")
    table.add_column("on demand", justify="right", no_wrap=True)
    for place in places:
        usd = place.on_demand_usd_per_hour
        table.add_row(escape(place.name), place.region, "-" if usd is None else f"${usd:,.4f}")
    return table

"""`polysilicon catalog`: processors, offers, prices, commitments, models."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

import click
import msgspec
from rich.markup import escape
from rich.table import Table

from polysilicon import catalog, units
from polysilicon.catalog.offers import SortBy, in_order, select
from polysilicon.catalog.processors import KINDS
from polysilicon.cli.catalog_diff import diff_
from polysilicon.cli.catalog_import import import_
from polysilicon.cli.output import emit_json, json_option, out
from polysilicon.cli.parts import Verbs
from polysilicon.errors import InputError, nearest

BLANK = "-"


@click.group(cls=Verbs, epilog="Example:  polysilicon catalog list --kind gpu --limit 5")
def command() -> None:
    """Look up what can be bought: processors, offers, prices, commitments, models."""


command.add_command(import_)
command.add_command(diff_)


@command.command("list", epilog="Example:  polysilicon catalog list --chip Graviton5 --sort price")
@click.option("--kind", type=click.Choice(KINDS), help="Kind of processor.")
@click.option("--vendor", help="Cloud (aws, gcp, azure) or maker of the chip.")
@click.option("--region", help="Region of the cloud, such as us-east-1.")
@click.option("--chip", help="Part of a chip's name.")
@click.option(
    "--sort", "by", type=click.Choice(["price", "name"]), default="price", show_default=True
)
@click.option("--limit", type=click.IntRange(min=1), help="How many rows at most.")
@click.option("--processors", is_flag=True, help="List chips instead of offers.")
@json_option
def list_(*, processors: bool, limit: int | None, as_json: bool, **wanted: Any) -> None:
    """List offers, cheapest on-demand price first, or chips."""
    if processors:
        _list_processors(limit, wanted, as_json=as_json)
    else:
        _list_offers(limit, wanted, as_json=as_json)


def _list_offers(limit: int | None, wanted: dict[str, Any], *, as_json: bool) -> None:
    """Print the offers that match."""
    by: SortBy = wanted.pop("by")
    known = catalog.load()
    _check_names(wanted, known)
    found = in_order(select(known.offers, **wanted), by)
    shown = found[:limit]
    if as_json:
        emit_json({"offers": [_offer_row(offer) for offer in shown], "found": len(found)})
        return
    table = Table(box=None, pad_edge=False)
    for name in ("offer", "region", "processor", "vCPUs", "memory"):
        table.add_column(name, overflow="fold")
    for name in ("on demand", "spot", "1 year", "3 years"):
        table.add_column(name, justify="right", no_wrap=True)
    for offer in shown:
        chip = offer.processor.name if offer.processor is not None else BLANK
        many = f"{offer.accelerators} x " if offer.accelerators is not None else ""
        memory = BLANK if offer.memory_bytes is None else units.size_bytes(offer.memory_bytes)
        table.add_row(
            offer.name,
            offer.region,
            many + chip,
            BLANK if offer.vcpus is None else str(offer.vcpus),
            memory,
            *(_usd(offer.price(price)) for price in ("on-demand", "spot", "1y", "3y")),
        )
    out().print(table)
    out().print(f"{len(shown)} of {len(found)} offers; dollars an hour; {BLANK} is not known")


def _list_processors(limit: int | None, wanted: dict[str, Any], *, as_json: bool) -> None:
    """Print the chips that match."""
    if wanted["region"] is not None:
        raise click.UsageError("--region is of offers, not of --processors")
    kind, vendor, chip = wanted["kind"], wanted["vendor"], wanted["chip"]
    found = [
        p
        for p in catalog.load().processors.values()
        if (kind is None or p.kind == kind)
        and (vendor is None or p.vendor.casefold() == vendor.casefold())
        and (chip is None or chip.casefold() in p.name.casefold())
    ]
    shown = found[:limit]
    if as_json:
        rows = [{k: v for k, v in msgspec.to_builtins(p).items() if k != "facts"} for p in shown]
        emit_json({"processors": rows, "found": len(found)})
        return
    table = Table("processor", "kind", box=None, pad_edge=False)
    for name in ("cores", "core speed", "GB", "GB/s", "bf16 TFLOP/s", "TDP W", "year"):
        table.add_column(name, justify="right")
    for p in shown:
        bandwidth = p.bandwidth_bytes_per_s()
        gbs = None if bandwidth is None else round(bandwidth / 1e9, 1)
        cells = (p.cores, p.core_speed, p.memory_gb, gbs, p.bf16_tflops, p.tdp_w)
        numbers = [BLANK if c is None else f"{c:g}" for c in cells]
        year = BLANK if p.year is None else str(p.year)
        table.add_row(escape(p.name), p.kind, *numbers, year)
    out().print(table)
    out().print(f"{len(shown)} of {len(found)} processors; {BLANK} is not known")


def _check_names(wanted: dict[str, Any], known: catalog.Catalog) -> None:
    """Raise `InputError` where no offer at all has this vendor, region or chip."""
    clouds = {offer.cloud for offer in known.offers}
    values = {
        "vendor": clouds | {p.vendor for p in known.processors.values()},
        "region": {offer.region for offer in known.offers},
    }
    for option, names in values.items():
        value = wanted[option]
        if value is not None and value.casefold() not in {name.casefold() for name in names}:
            mend = nearest(value, names) or f"known: {', '.join(sorted(names))}"
            raise InputError(f"unknown {option} {value!r}", where=f"--{option}", mend=mend)
    chip = wanted["chip"]
    if chip is not None and not any(chip.casefold() in p.casefold() for p in known.processors):
        mend = nearest(chip, known.processors)
        raise InputError(f"no chip's name has {chip!r} in it", where="--chip", mend=mend)


def _usd(value: float | None) -> str:
    """Format an hourly price, or a blank."""
    return BLANK if value is None else f"${value:,.4f}"


def _offer_row(offer: catalog.Offer) -> dict[str, Any]:
    """Return an offer as JSON, its processor by name."""
    row: dict[str, Any] = msgspec.to_builtins(offer)
    row["processor"] = offer.processor.name if offer.processor is not None else None
    return row


@command.command("show", epilog='Example:  polysilicon catalog show "AWS Graviton5"')
@click.argument("name")
@json_option
def show(name: str, *, as_json: bool) -> None:
    """Show every fact of NAME: a chip, an offer, a model or a commitment program."""
    kind, rows = _find(name, catalog.load())
    if as_json:
        emit_json({"kind": kind, "facts": rows})
        return
    console = out()
    console.print(f"{rows[0]['name']} ({kind})", markup=False)
    table = Table(box=None, pad_edge=False)
    for head in ("of", "fact", "value", "unit", "source", "date"):
        table.add_column(head, no_wrap=head != "value")
    numbers: dict[str, int] = {}
    for row in rows:
        number = numbers.setdefault(row["source"], len(numbers) + 1)
        cells = (row["of"], row["fact"], row["value"], row["unit"], f"[{number}]", row["date"])
        table.add_row(*map(escape, cells))
    console.print(table)
    for source, number in numbers.items():
        console.print(f"[{number}] {source}", markup=False)


def _find(name: str, known: catalog.Catalog) -> tuple[str, list[dict[str, str]]]:
    """Return what kind of thing `name` is, and its facts.

    Raises:
        InputError: no table has it; names near ones.
    """
    folded = name.casefold()
    alias = known.aliases.processor_name(name, known.processors)
    if alias is not None:
        chip = known.processors[alias]
        return "processor", [
            {"name": chip.name, "of": "", **msgspec.to_builtins(f)} for f in chip.facts
        ]
    if offers := known.offers_named(name):
        rows = (_facts(_offer_row(o), o.region, known, "offers") for o in offers)
        return "offer", list(chain.from_iterable(rows))
    alias = known.aliases.model_name(name, known.models)
    if alias is not None:
        model = known.models[alias]
        return "model", _facts(msgspec.to_builtins(model), "", known, "models")
    programs = [c for c in known.commitments if c.program.casefold() == folded]
    if programs:
        rows = (
            _facts(msgspec.to_builtins(c), f"{c.vendor} {c.term}".strip(), known, "commitments")
            for c in programs
        )
        return "commitment", list(chain.from_iterable(rows))
    names = chain(
        known.processors,
        (offer.name for offer in known.offers),
        known.models,
        (c.program for c in known.commitments),
    )
    raise InputError(f"the catalog has no {name!r}", mend=nearest(name, names))


def _facts(
    row: dict[str, Any], of: str, known: catalog.Catalog, table: str
) -> list[dict[str, str]]:
    """Return the cells of a wide row as facts; blanks are left out."""
    unit = {c.column: c.unit for c in known.columns if c.table == table} | {
        "memory_bytes": "byte",
        "kind": "text",
    }
    hidden: Sequence[str] = ("source", "date", "name", "region", "program", "vendor", "term")
    return [
        {
            "name": row["program"] if table == "commitments" else row["name"],
            "of": of,
            "fact": fact,
            "value": "yes" if value is True else "no" if value is False else str(value),
            "unit": unit[fact],
            "source": row["source"],
            "date": row["date"],
        }
        for fact, value in row.items()
        if fact not in hidden and value not in (None, "")
    ]

"""`polysilicon catalog import`: prices and measurements of others, kept beside the catalog."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.table import Table

from polysilicon import catalog, units
from polysilicon.catalog.imports import Imported, is_skypilot, read_skypilot
from polysilicon.catalog.measurements import Measurement, read_measurements
from polysilicon.catalog.tables import day
from polysilicon.catalog.user import (
    Import,
    check_name,
    imports,
    keep_measurements,
    keep_offers,
    remove,
    user_folder,
)
from polysilicon.catalog.user import names as known_names
from polysilicon.cli.output import emit_json, json_option, out
from polysilicon.errors import InputError

_SUFFIXES = (".csv.gz", ".csv", ".parquet")


class Made(msgspec.Struct, kw_only=True):
    """What an import makes of one file, before anything is kept.

    Attributes:
        about: what it is.
        keep: writes it.
        told: for people and scripts.
    """

    about: Import
    keep: Callable[[Path], None]
    told: dict[str, Any]


@click.command(
    "import",
    epilog="Example:  polysilicon catalog import aws/vms.csv my-measurements.csv --dry-run",
)
@click.argument("files", nargs=-1, type=click.Path(path_type=Path))
@click.option("--cloud", help="Cloud of a price file, where its names do not tell.")
@click.option("--date", help="Date of the prices; today by default.")
@click.option("--name", help="Name of the import; one of the same name is replaced.")
@click.option("--skip-bad", is_flag=True, help="Count bad rows and leave them out.")
@click.option("--dry-run", is_flag=True, help="Say what would be kept, and keep nothing.")
@click.option("--list", "list_", is_flag=True, help="List what was imported.")
@click.option("--remove", "removed", multiple=True, help="Remove an import. Repeatable.")
@json_option
def import_(
    *,
    files: tuple[Path, ...],
    list_: bool,
    removed: tuple[str, ...],
    as_json: bool,
    **asked: Any,
) -> None:
    """Import price and measurement FILES, which are kept and laid over the catalog.

    A price file is a SkyPilot catalog (vms.csv) of AWS, Google Cloud, Azure, Lambda or, with
    --cloud, another cloud. All files are read before any is kept.
    """
    folder = user_folder()
    if sum((bool(files), list_, bool(removed))) != 1:
        raise click.UsageError("give files, --list or --remove")
    if list_:
        _print_list(imports(folder), as_json=as_json)
    elif removed:
        _remove(folder, removed, as_json=as_json)
    else:
        _import(folder, files, asked, as_json=as_json)


def _import(folder: Path, files: Sequence[Path], asked: dict[str, Any], *, as_json: bool) -> None:
    """Read all files, then keep what they hold, unless it is only a trial."""
    if asked["name"] is not None and len(files) > 1:
        raise click.UsageError("--name is of one file")
    date = _date(asked["date"])
    made = [_read(path, date, asked) for path in files]
    names = [one.about.name for one in made]
    for name in names:
        if names.count(name) > 1:
            what = f"two files would be kept as {name!r}"
            raise InputError(what, mend="import them one by one with --name")
    if not asked["dry_run"]:
        for one in made:
            one.keep(folder)
        catalog.load.cache_clear()
    told = [one.told | {"kept": not asked["dry_run"]} for one in made]
    if as_json:
        emit_json({"imports": told, "folder": str(folder)})
        return
    for each in told:
        _print(each)


def _date(given: str | None) -> str:
    """Return the date of the prices.

    Raises:
        InputError: the one that was given is none.
    """
    if given is None:
        return datetime.now(UTC).date().isoformat()
    try:
        return day(given)
    except ValueError as error:
        raise InputError(f"{given!r} {error}", where="--date") from error


def _read(path: Path, date: str, asked: dict[str, Any]) -> Made:
    """Read one file."""
    skipped: Counter[str] | None = Counter() if asked["skip_bad"] else None
    if is_skypilot(path):
        found = read_skypilot(
            path, catalog.shipped(), date=date, cloud=asked["cloud"], skipped=skipped
        )
        return _of_offers(path, date, asked["name"], found, skipped)
    if asked["cloud"] is not None:
        raise InputError("--cloud is of price files", where=str(path))
    return _of_measurements(path, date, asked["name"], read_measurements(path, skipped), skipped)


def _of_offers(
    path: Path, date: str, name: str | None, found: Imported, skipped: Counter[str] | None
) -> Made:
    """Return what a price file makes."""
    if not found.offers:
        reasons = "; ".join(reason for reason, _ in found.left_out.most_common(2))
        raise InputError("no row of it is an offer", where=str(path), mend=reasons)
    about = Import(
        name=check_name(name or f"{found.cloud}-offers"),
        kind="offers",
        files=(path.name,),
        date=date,
        source=f"SkyPilot catalog {path.name}",
        rows=len(found.offers),
    )
    told = {
        **_about(about),
        "cloud": found.cloud,
        "read": found.rows,
        "offers": len(found.offers),
        "left_out": _counts(found.left_out),
        "handled": _counts(found.handled),
        "skipped": _counts(skipped or Counter()),
        "ignored_columns": list(found.ignored),
    }
    return Made(
        about=about, keep=lambda folder: keep_offers(folder, about, found.offers), told=told
    )


def _of_measurements(
    path: Path,
    date: str,
    name: str | None,
    rows: Sequence[Measurement],
    skipped: Counter[str] | None,
) -> Made:
    """Return what a measurement file makes."""
    if not rows:
        raise InputError("it has no rows", where=str(path))
    about = Import(
        name=check_name(name or _stem(path)),
        kind="measurements",
        files=(path.name,),
        date=max((row.date for row in rows if row.date), default=date),
        source=f"measurement file {path.name}",
        rows=len(rows),
    )
    told = {**_about(about), "read": len(rows), "skipped": _counts(skipped or Counter())}
    return Made(about=about, keep=lambda folder: keep_measurements(folder, about, rows), told=told)


def _stem(path: Path) -> str:
    """Return a name for an import out of that of its file."""
    base = path.name
    for suffix in _SUFFIXES:
        base = base.removesuffix(suffix)
    kept = "".join(c if c.isascii() and c.isalnum() else "-" for c in base.casefold())
    return kept.strip("-")[:64] or "measurements"


def _about(one: Import) -> dict[str, Any]:
    """Return an import as JSON."""
    values: dict[str, Any] = msgspec.to_builtins(one)
    return values


def _counts(counter: Counter[str]) -> list[dict[str, Any]]:
    """Return counts as JSON, the most first."""
    return [{"reason": reason, "count": count} for reason, count in counter.most_common()]


def _print(told: dict[str, Any]) -> None:
    """Print what an import made of a file."""
    console = out()
    verb = "kept" if told["kept"] else "would be kept"
    what = "offers" if told["kind"] == "offers" else "measurements"
    cloud = f" of {told['cloud']}" if "cloud" in told else ""
    rows = units.count(told["rows"])
    text = f"{', '.join(told['files'])}: {rows} {what}{cloud} {verb} as {told['name']}"
    console.print(f"{text}, from {units.count(told['read'])} rows", markup=False)
    for part in ("left_out", "handled", "skipped"):
        for one in told.get(part, ()):
            words = part.replace("_", " ")
            console.print(f"  {words} {one['count']}: {one['reason']}", markup=False)
    if told.get("ignored_columns"):
        console.print(f"  not looked at: {', '.join(told['ignored_columns'])}", markup=False)


def _print_list(found: Sequence[Import], *, as_json: bool) -> None:
    """Print what was imported."""
    if as_json:
        emit_json({"imports": [_about(one) for one in found], "folder": str(user_folder())})
        return
    table = Table(box=None, pad_edge=False)
    for head in ("name", "kind", "rows", "date", "source"):
        table.add_column(head, overflow="fold")
    for one in found:
        table.add_row(one.name, one.kind, str(one.rows), one.date, one.source)
    out().print(table if found else "nothing was imported")


def _remove(folder: Path, names: Sequence[str], *, as_json: bool) -> None:
    """Remove imports; where one is not there, none is removed."""
    missing = [name for name in names if name not in known_names(folder)]
    gone = missing or list(dict.fromkeys(names))
    for name in gone:
        remove(folder, name)
    catalog.load.cache_clear()
    if as_json:
        emit_json({"removed": gone})
        return
    for name in gone:
        out().print(f"removed {name}", markup=False)

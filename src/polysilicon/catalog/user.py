"""The user's own catalog: what was imported, one folder an import, laid over the shipped catalog.

The folder is `$POLYSILICON_HOME/catalog`, or `polysilicon/catalog` in the user's data folder. An
import is there whole or not at all: it is written beside and then takes its name.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from polysilicon.catalog.measurements import Measurement, read_measurements, write_measurements
from polysilicon.catalog.offers import Offer, read_offers
from polysilicon.catalog.offers_file import write_offers
from polysilicon.catalog.processors import Processor
from polysilicon.catalog.tables import read_rows, text
from polysilicon.disk import write_whole
from polysilicon.errors import InputError, PolysiliconError, nearest

ABOUT = "import.json"
OFFERS = "offers.csv"
SOURCES = "offer_sources.csv"
MEASUREMENTS = "measurements.csv"

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


class Import(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an import is.

    Attributes:
        name: of the import; a later one of the same name takes its place.
        kind: what it holds.
        files: names of the files that it came from.
        date: of the prices or, where the files do not tell, of the import.
        source: in words.
        rows: how many offers or measurements.
    """

    name: str
    kind: Literal["offers", "measurements"]
    files: tuple[str, ...]
    date: str
    source: str
    rows: int


def user_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Return the folder of the user's own catalog; it need not be there."""
    if home := environ.get("POLYSILICON_HOME"):
        return Path(home) / "catalog"
    base = environ.get("XDG_DATA_HOME")
    return (Path(base) if base else Path.home() / ".local" / "share") / "polysilicon" / "catalog"


def check_name(name: str) -> str:
    """Return `name` where it can be that of an import.

    Raises:
        InputError: it cannot.
    """
    if not _NAME.fullmatch(name):
        mend = "give lower case letters, digits, dots, dashes and underscores"
        raise InputError(f"{name!r} cannot be the name of an import", where="--name", mend=mend)
    return name


def imports(folder: Path) -> tuple[Import, ...]:
    """Return what was imported, the oldest first.

    Raises:
        InputError: an import's description is broken.
    """
    if not folder.is_dir():
        return ()
    found: list[Import] = []
    for about in sorted(folder.glob(f"*/{ABOUT}")):
        if not _NAME.fullmatch(about.parent.name):
            continue
        try:
            one = msgspec.json.decode(about.read_bytes(), type=Import)
        except (msgspec.MsgspecError, OSError, UnicodeDecodeError) as error:
            raise InputError(f"broken: {error}", where=str(about), mend=_mend(about)) from error
        found.append(msgspec.structs.replace(one, name=about.parent.name))
    return tuple(sorted(found, key=lambda one: (one.date, one.name)))


def keep_offers(folder: Path, about: Import, offers: Sequence[Offer]) -> None:
    """Keep imported offers, in place of an import of the same name.

    Raises:
        PolysiliconError: the disk is full, or the folder cannot be written.
    """
    fresh = _fresh(folder)
    try:
        write_offers(offers, fresh / OFFERS, fresh / SOURCES)
        _finish(folder, about, fresh)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def keep_measurements(folder: Path, about: Import, rows: Iterable[Measurement]) -> None:
    """Keep imported measurements, in place of an import of the same name.

    Raises:
        PolysiliconError: the disk is full, or the folder cannot be written.
    """
    fresh = _fresh(folder)
    try:
        write_measurements(rows, fresh / MEASUREMENTS)
        _finish(folder, about, fresh)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def names(folder: Path) -> tuple[str, ...]:
    """Return the names of all imports, of broken ones too."""
    if not folder.is_dir():
        return ()
    return tuple(sorted(p.name for p in folder.iterdir() if p.is_dir() and _NAME.fullmatch(p.name)))


def remove(folder: Path, name: str) -> None:
    """Remove an import, also a broken one.

    Raises:
        InputError: there is none of that name.
        PolysiliconError: its folder cannot be removed.
    """
    known = names(folder)
    if name not in known:
        mend = nearest(name, known) or "see `polysilicon catalog import --list`"
        raise InputError(f"nothing was imported as {name!r}", mend=mend)
    try:
        shutil.rmtree(folder / name)
    except OSError as error:
        reason = error.strerror or error
        raise PolysiliconError(f"{folder / name}: cannot be removed: {reason}") from error


def user_offers(folder: Path, processors: Mapping[str, Processor]) -> tuple[Offer, ...]:
    """Return the imported offers; of two of the same name and region the later import's.

    Raises:
        InputError: a file of an import is broken.
    """
    found: dict[tuple[str, str], Offer] = {}
    for one in imports(folder):
        if one.kind == "offers":
            for offer in import_offers(folder / one.name, processors):
                found[offer.name, offer.region] = offer
    return tuple(found.values())


def import_offers(folder: Path, processors: Mapping[str, Processor]) -> tuple[Offer, ...]:
    """Return the offers of one import.

    Raises:
        InputError: its files are broken.
    """
    columns = {"id": text, "source": text}
    try:
        sources = {row["id"]: row["source"] for _, row in read_rows(folder / SOURCES, columns)}
        return read_offers(folder / OFFERS, sources, processors)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"broken: {error}", where=str(folder), mend=_mend(folder)) from error
    except InputError as error:
        where = f"{folder}, {error.where}"
        raise InputError(error.what, where=where, mend=_mend(folder / OFFERS)) from error


def user_measurements(folder: Path) -> tuple[Measurement, ...]:
    """Return the imported measurements, those of the oldest import first.

    Raises:
        InputError: a file of an import is broken.
    """
    kept = [one for one in imports(folder) if one.kind == "measurements"]
    return tuple(row for one in kept for row in read_measurements(folder / one.name / MEASUREMENTS))


def _mend(path: Path) -> str:
    """Say how to get rid of a broken import."""
    name = path.parent.name if path.suffix else path.name
    return f"import it again, or remove it with `polysilicon catalog import --remove {name}`"


def _fresh(folder: Path) -> Path:
    """Return a new empty folder beside the imports.

    Raises:
        PolysiliconError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=".import-", dir=folder))
    except OSError as error:
        reason = error.strerror or error
        raise PolysiliconError(f"{folder}: cannot be written: {reason}") from error


def _finish(folder: Path, about: Import, fresh: Path) -> None:
    """Give a written import its name.

    Raises:
        PolysiliconError: it cannot take its place.
    """
    write_whole(fresh / ABOUT, msgspec.json.format(msgspec.json.encode(about), indent=2))
    place = folder / about.name
    try:
        fresh.chmod(0o755)
        if place.exists():
            old = _fresh(folder)
            place.rename(old / "old")
            fresh.rename(place)
            shutil.rmtree(old, ignore_errors=True)
        else:
            fresh.rename(place)
    except OSError as error:
        reason = error.strerror or error
        raise PolysiliconError(f"{place}: cannot be written: {reason}") from error

"""Journals: where a run keeps what it was asked and what ended. SQLite, or PostgreSQL."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from polysilicon.disk import write_whole
from polysilicon.errors import InputError
from polysilicon.runtime.journal import Journal
from polysilicon.runtime.journals import sqlite

if TYPE_CHECKING:
    from polysilicon.runtime.journals.shared import SharedJournal

JOURNAL_ENV = "POLYSILICON_JOURNAL"
_PLACE = "journal.json"


class Place(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a run's journal is, if not in its folder; the folder's `journal.json`.

    Attributes:
        address: of the database, without any password.
        run: names the run in it.
        shared: several gateways share it.
    """

    address: str
    run: str
    shared: bool = False


def open_journal(folder: Path, address: str | None = None, *, follows: bool = False) -> Journal:
    """Open the journal of the run in `folder`, or make one.

    A new journal is a SQLite file in the folder, unless `address`, or else the environment's
    POLYSILICON_JOURNAL, is that of a PostgreSQL database; an old one is where it was made.

    Args:
        folder: the run's folder, which must exist.
        address: `postgresql://…`; of an old journal, only where it must be reached another way.
        follows: only to read what another process writes; the journal must be there.

    Raises:
        InputError: it cannot be opened, or is elsewhere than `address` says.
    """
    path = folder / _PLACE
    place = _read(path) if path.exists() else None
    if (folder / sqlite.NAME).exists() or (place is None and follows):
        if address is not None:
            mend = "leave the address of another one out"
            raise InputError("this run has its journal in its folder", where=str(folder), mend=mend)
        return sqlite.SqliteJournal(folder, follows=follows)
    address = address or os.environ.get(JOURNAL_ENV) or (place.address if place else None)
    if address is None:
        return sqlite.SqliteJournal(folder)
    with _needs_psycopg():
        from polysilicon.runtime.journals.postgres import PostgresJournal  # noqa: PLC0415 - an extra
    known = place.run if place else None
    journal = PostgresJournal(folder, address, known, follows=follows)
    if place is None:
        kept = Place(address=journal.address, run=journal.run)
        write_whole(path, msgspec.json.encode(kept) + b"\n")
    return journal


def shared_address(folder: Path, address: str | None) -> str | None:
    """Return the address of the journal that the gateway in `folder` shares; None for its own.

    Its own is a SQLite file there. It shares one where `address`, or else the environment's
    POLYSILICON_JOURNAL, which may have the password, or else the folder's `journal.json` says so.

    Raises:
        InputError: the folder has a journal that is not shared.
    """
    path = folder / _PLACE
    place = _read(path) if path.exists() else None
    own = (folder / sqlite.NAME).exists() or (place is not None and not place.shared)
    if own and address is not None:
        mend = "give another --folder; what this one has goes on without --journal"
        raise InputError("this folder has a journal of its own", where=str(folder), mend=mend)
    if own:
        return None
    return address or os.environ.get(JOURNAL_ENV) or (place.address if place else None)


def open_shared(folder: Path, address: str, term_s: float) -> SharedJournal:
    """Open the journal that all gateways of a PostgreSQL database share.

    Args:
        folder: the gateway's own, which must exist.
        address: `postgresql://…`.
        term_s: of the gateway's lease.

    Raises:
        InputError: it cannot be opened, or is another than the folder's `journal.json` names.
    """
    path = folder / _PLACE
    known = _read(path).run if path.exists() else None
    with _needs_psycopg():
        from polysilicon.runtime.journals.shared import SharedJournal  # noqa: PLC0415 - an extra
    journal = SharedJournal(folder, address, term_s, known)
    kept = Place(address=journal.address, run=journal.run, shared=True)
    write_whole(path, msgspec.json.encode(kept) + b"\n")
    return journal


@contextmanager
def _needs_psycopg() -> Iterator[None]:
    """Say what to install where the driver is missing."""
    try:
        yield
    except ImportError as error:
        mend = "pip install 'polysilicon[postgres]'"
        raise InputError(f"a journal on PostgreSQL needs {error.name}", mend=mend) from error


def _read(path: Path) -> Place:
    """Read a run's `journal.json`.

    Raises:
        InputError: it is broken.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=Place)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputError(f"cannot be read: {error}", where=str(path)) from error

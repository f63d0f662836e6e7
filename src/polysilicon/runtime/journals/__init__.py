"""Journals: where a run keeps what it was asked and what ended. SQLite, or PostgreSQL."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from polysilicon.disk import write_whole
from polysilicon.errors import InputError
from polysilicon.runtime.journal import Journal
from polysilicon.runtime.journals import sqlite

JOURNAL_ENV = "POLYSILICON_JOURNAL"
_PLACE = "journal.json"


class Place(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a run's journal is, if not in its folder; the folder's `journal.json`.

    Attributes:
        address: of the database, without any password.
        run: names the run in it.
    """

    address: str
    run: str


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
    try:
        from polysilicon.runtime.journals.postgres import PostgresJournal  # noqa: PLC0415 - an extra
    except ImportError as error:
        mend = "pip install 'polysilicon[postgres]'"
        raise InputError(f"a journal on PostgreSQL needs {error.name}", mend=mend) from error
    known = place.run if place else None
    journal = PostgresJournal(folder, address, known, follows=follows)
    if place is None:
        kept = Place(address=journal.address, run=journal.run)
        write_whole(path, msgspec.json.encode(kept) + b"\n")
    return journal


def _read(path: Path) -> Place:
    """Read a run's `journal.json`.

    Raises:
        InputError: it is broken.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=Place)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputError(f"cannot be read: {error}", where=str(path)) from error

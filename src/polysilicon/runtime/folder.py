"""The folder of a run: made once, and one process's at a time."""

from __future__ import annotations

import fcntl
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from polysilicon.errors import InputError


def new_folder(runs: Path, name: str) -> Path:
    """Make the folder of a new run: `<runs>/<date>-<time>-<name>`, counted up where it exists.

    Raises:
        InputError: it cannot be made.
    """
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    for suffix in ("", *(f"-{n}" for n in range(2, 1000))):
        folder = runs / f"{stamp}-{name}{suffix}"
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise InputError(
                f"cannot make the run folder: {error.strerror}", where=str(folder)
            ) from error
        return folder
    raise InputError("too many runs in one second", where=str(runs))


def locked(folder: Path) -> IO[bytes]:
    """Take the folder for this process; the lock goes with the file, or with the process.

    Raises:
        InputError: another process runs it.
    """
    lock = (folder / "lock").open("wb")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.close()
        raise InputError("this run is under way in another process", where=str(folder)) from error
    return lock

"""Files that pages show: what an operator names, or what lies in the gateway's folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

import msgspec

from polysilicon.errors import InputError
from polysilicon.placement.types import Placement

MOST_BYTES = 64 * 2**20

T = TypeVar("T")


class Shown(Generic[T]):
    """A file, read again when it changes.

    Args:
        path: of it.
        named: somebody named it, so that it must be there.
        read: reads it; raises `InputError`.

    Raises:
        InputError: it was named, and is missing or wrong.
    """

    def __init__(self, path: Path, read: Callable[[Path], T], *, named: bool) -> None:
        self.path = path
        self._read, self._stamp = read, (0, 0)
        self._found: T | None = None
        self._wrong = ""
        if named:
            self._found = read(path)
            self._stamp = _stamp(path)

    def latest(self) -> tuple[T | None, str]:
        """Return what is in the file, and what is wrong with it; neither where there is none."""
        stamp = _stamp(self.path)
        if stamp != self._stamp:
            self._stamp = stamp
            self._found, self._wrong = None, ""
            if stamp != (0, 0):
                try:
                    self._found = self._read(self.path)
                except InputError as error:
                    self._wrong = str(error)
        return self._found, self._wrong


def read_placement(path: Path) -> Placement:
    """Read what `polysilicon place --json` printed.

    Raises:
        InputError: no such file, too large, or no placement.
    """
    mend = "give what `polysilicon place WORKLOAD --json` prints"
    try:
        if path.stat().st_size > MOST_BYTES:
            raise InputError(f"larger than {MOST_BYTES:,} bytes", where=str(path), mend=mend)
        return msgspec.json.decode(path.read_bytes(), type=Placement)
    except OSError as error:
        raise InputError(f"cannot read: {error.strerror}", where=str(path), mend=mend) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputError(f"no placement: {error}", where=str(path), mend=mend) from error
    except RecursionError as error:
        raise InputError("nested too deeply", where=str(path), mend=mend) from error


def _stamp(path: Path) -> tuple[int, int]:
    """Return what tells one version of a file from another; zeros where there is none."""
    try:
        found = path.stat()
    except OSError:
        return 0, 0
    return found.st_mtime_ns, found.st_size

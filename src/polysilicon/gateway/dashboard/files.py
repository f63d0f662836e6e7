"""Files that pages show: what an operator names, or what lies in the gateway's folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from polysilicon.errors import InputError

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


def _stamp(path: Path) -> tuple[int, int]:
    """Return what tells one version of a file from another; zeros where there is none."""
    try:
        found = path.stat()
    except OSError:
        return 0, 0
    return found.st_mtime_ns, found.st_size

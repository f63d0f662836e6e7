"""Files of a system's folders, read with bounds: what is in them is not to be trusted."""

from __future__ import annotations

import os
import re
import stat
from contextlib import suppress
from itertools import islice
from pathlib import Path

_MOST_BYTES = 64 * 2**10
_MOST_NAMES = 4096


def text_at(path: Path) -> str:
    """Return the first 64 KiB of a regular file as text; nothing where it cannot be read.

    Bytes that are no UTF-8 are replaced, and control characters but tabs and ends of lines dropped.
    """
    try:
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError):
        return ""
    with suppress(OSError), os.fdopen(file, "rb", buffering=0) as stream:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            return ""
        pieces, left = [], _MOST_BYTES
        while left and (piece := stream.read(left)):
            pieces.append(piece)
            left -= len(piece)
        found = b"".join(pieces).decode("utf-8", "replace")
        return "".join(c for c in found if c.isprintable() or c in "\t\n")
    return ""


def word_at(path: Path) -> str:
    """Return the first line of a file, without blanks around it."""
    return text_at(path).partition("\n")[0].strip()


def names_in(folder: Path, pattern: str = ".*") -> list[str]:
    """Return names in a folder that match a pattern, in order; at most 4,096 are looked at."""
    try:
        with os.scandir(folder) as entries:
            found = [entry.name for entry in islice(entries, _MOST_NAMES)]
    except (OSError, ValueError):
        return []
    return sorted(name for name in found if re.fullmatch(pattern, name))

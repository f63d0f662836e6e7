"""Files that are there whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from polysilicon.errors import PolysiliconError


def write_whole(path: Path, content: bytes) -> None:
    """Write a file, and the folders above it; on any failure the old file, or none, is left.

    The bytes are on the disk before the name is: a crash leaves the old file or the new one.

    Raises:
        PolysiliconError: the disk is full, or the folder cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        reason = error.strerror or error
        raise PolysiliconError(f"{path}: cannot be written: {reason}") from error
    finally:
        if temporary.exists():
            temporary.unlink()

"""Large results: files named by the hash of what they hold, so that equal ones lie there once."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

_PART = ".part"
_NEW_S = 600.0
_DIGEST_BYTES = 16


class Blobs:
    """A folder of large results.

    A file has its name only when its bytes are on the disk, and `keep` returns when the name is
    too: what a committed row names is there, also after a power cut.

    Args:
        folder: made when first used.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def clean(self) -> None:
        """Remove the parts that a crash left; for the one who writes."""
        for part in self._folder.glob(f"*{_PART}"):
            part.unlink(missing_ok=True)

    def digests(self) -> Iterator[bytes]:
        """Yield the hashes of the results that are there."""
        for path in self._folder.glob("[0-9a-f]" * 2 * _DIGEST_BYTES):
            yield path.name.encode()

    def keep(self, data: bytes) -> bytes:
        """Write `data` to the file of its hash, and return the hash; safe from any thread.

        Raises:
            OSError: it cannot be written.
        """
        digest = _digest(data)
        self._folder.mkdir(exist_ok=True)
        # Written also where the file is there: it may be cut, which only reading it would tell.
        handle, part = tempfile.mkstemp(_PART, dir=self._folder)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            Path(part).replace(self._folder / digest.decode())
        except BaseException:
            Path(part).unlink(missing_ok=True)
            raise
        self._sync_names()
        return digest

    def _sync_names(self) -> None:
        """Put the names of the folder's files on the disk."""
        handle = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def read(self, digest: bytes) -> bytes | None:
        """Return a result, or None where its file is gone or is not what it was."""
        try:
            data = (self._folder / digest.decode()).read_bytes()
        except OSError:
            return None
        return data if _digest(data) == digest else None

    def drop(self, digest: bytes) -> None:
        """Remove a result, unless an equal one may be on its way to the journal just now.

        Raises:
            OSError: it cannot be removed.
        """
        path = self._folder / digest.decode()
        if path.exists() and path.stat().st_mtime < time.time() - _NEW_S:
            path.unlink()

    def clear(self) -> None:
        """Remove all of them."""
        shutil.rmtree(self._folder, ignore_errors=True)


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=_DIGEST_BYTES).hexdigest().encode()

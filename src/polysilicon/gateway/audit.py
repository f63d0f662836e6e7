"""The audit log: a line of JSON for each request. No prompt, no output, no key is in it."""

from __future__ import annotations

import os
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import msgspec

_MOST_BYTES = 64 * 2**20
_MOST_PATH = 200


class Line(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One request.

    Attributes:
        at: when it ended, UTC, ISO 8601.
        request: its id, which the answer's header `x-request-id` has, too.
        caller: name of the key; empty where nobody was let in.
        client: address of the other end.
        method: of HTTP.
        path: without the query, and cut.
        status: of the answer; 499 where the caller left before it.
        seconds: from the head of the request to the end of the answer.
        task: the task that the call belongs to.
        pool: that took the step.
        cost_usd: of the step.
        failed: status that a failure would have had, after a stream had begun.
    """

    at: str
    request: str
    caller: str
    client: str
    method: str
    path: str
    status: int
    seconds: float
    task: str = ""
    pool: str = ""
    cost_usd: float | None = None
    failed: int = 0


class Audit:
    """Appends lines to `audit.jsonl`; the file before is kept as `audit.1.jsonl`.

    Args:
        folder: that it is in.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "audit.jsonl"
        self._file = self._open()
        self._size_bytes = os.fstat(self._file).st_size
        self._encode = msgspec.json.Encoder().encode
        self.lost = 0
        """Lines that could not be written, as the disk was full."""

    def _open(self) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def write(self, line: Line) -> None:
        """Append a line; where that fails it is counted as lost."""
        data = self._encode(line) + b"\n"
        try:
            self._size_bytes += os.write(self._file, data)
            if self._size_bytes > _MOST_BYTES:
                os.close(self._file)
                self._path.replace(self._path.with_name("audit.1.jsonl"))
                self._file, self._size_bytes = self._open(), 0
        except OSError:
            self.lost += 1

    def close(self) -> None:
        """Close the file."""
        with suppress(OSError):
            os.close(self._file)


def now() -> str:
    """Return the moment, UTC, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def cut(path: str) -> str:
    """Return a path, not longer than the log wants it."""
    return path if len(path) <= _MOST_PATH else path[:_MOST_PATH] + "…"

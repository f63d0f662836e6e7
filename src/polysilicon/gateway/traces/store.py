"""Traces that came in, kept in the gateway's folder, and the workload that is made of them.

`traces/NNNNNN.spans` holds spans reduced to what steps are made of: no prompt, no answer. A while
after the last ones came, `traces/workload.parquet` is made anew from all of them by the importer of
`polysilicon import`, in a worker process.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from polysilicon.errors import PolysiliconError
from polysilicon.runtime.executor import Workers
from polysilicon.workload.imports.run import import_files
from polysilicon.workload.imports.span_tables import SUFFIX, SpanLog

FOLDER = "traces"
WORKLOAD = "workload.parquet"
MOST_BYTES = 2 * 2**30
"""Of all files of spans, some 20 million of them; more are rejected until some are moved away."""

_QUIET_S = 2.0
_PATIENCE = 10
"""Making the workload anew takes at most one part in so many of the time."""

_LIMIT_S = 1800.0
_log = logging.getLogger("polysilicon.gateway")


class TraceStore:
    """Takes in spans; a context, in which the workload follows them.

    Args:
        folder: the gateway's.
        workers: make the workload.
        most_bytes: that all files may have together.

    Attributes:
        accepted: spans that were taken in since the start.
        rejected: spans that were not, by reason.
    """

    def __init__(self, folder: Path, workers: Workers, most_bytes: int = MOST_BYTES) -> None:
        self.folder = folder / FOLDER
        self._workers, self._most_bytes = workers, most_bytes
        self.accepted = 0
        self.rejected: Counter[str] = Counter()
        self._log: SpanLog | None = None
        self._before_bytes = sum(path.stat().st_size for path in self._files())
        self._new = asyncio.Event()
        self._following: asyncio.Task[None] | None = None
        if self._is_stale():
            self._new.set()

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob(f"*{SUFFIX}"))

    def _is_stale(self) -> bool:
        """Tell whether spans came that the workload does not have."""
        workload = self.folder / WORKLOAD
        since = workload.stat().st_mtime if workload.is_file() else 0.0
        return any(path.stat().st_mtime > since for path in self._files())

    async def __aenter__(self) -> Self:
        """Begin to follow."""
        self._following = asyncio.create_task(self._follow())
        return self

    async def __aexit__(self, *_: object) -> None:
        """Make the workload whole, and end the file."""
        assert self._following is not None
        self._following.cancel()
        with suppress(asyncio.CancelledError):
            await self._following
        if self._log is not None:
            self._log.close()
        if self._new.is_set():
            await self.refresh()

    def is_full(self) -> bool:
        """Tell whether there is no room for more."""
        written = 0 if self._log is None else self._log.size_bytes
        return self._before_bytes + written >= self._most_bytes

    def add(self, table: Any) -> None:
        """Take in spans; when this returns they are kept.

        Args:
            table: of `spans.rows.SCHEMA`.

        Raises:
            PolysiliconError: the disk is full.
        """
        if not table.num_rows:
            return
        if self._log is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            numbers = [int(p.stem) for p in self._files() if p.stem.isdigit()]
            self._log = SpanLog(self.folder / f"{max(numbers, default=0) + 1:06d}{SUFFIX}")
        self._log.append(table)
        self.accepted += table.num_rows
        self._new.set()

    async def _follow(self) -> None:
        """Make the workload anew whenever spans have come, and no more of them do for a while."""
        took_s = 0.0
        while True:
            await self._new.wait()
            await asyncio.sleep(max(_QUIET_S, took_s * _PATIENCE))
            begin_s = time.monotonic()
            await self.refresh()
            took_s = time.monotonic() - begin_s

    async def refresh(self) -> None:
        """Make the workload anew; where that fails the log says so, and later spans try again."""
        self._new.clear()
        try:
            await self._workers.call(make_workload, (str(self.folder),), {}, _LIMIT_S)
        except PolysiliconError as error:
            _log.error("no workload of the traces: %s", error)


def make_workload(folder: str) -> None:
    """Make the workload of a folder of spans, in a worker process."""
    files = sorted(Path(folder).glob(f"*{SUFFIX}"))
    import_files(files, Path(folder) / WORKLOAD, named="spans", skip_bad=True)

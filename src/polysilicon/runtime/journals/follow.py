"""Following a run while another process, or another machine, runs it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from polysilicon.runtime.journal import Committed
from polysilicon.runtime.journals import open_journal
from polysilicon.workload.run_folder import RunFolder

_PAGE = 1000
_LOOK_S = 0.2


async def follow(
    folder: Path, after: int = 0, *, address: str | None = None
) -> AsyncIterator[Committed]:
    """Yield the steps of a run as they end, in the order of commits, until the run is finished.

    Whoever stops can go on later with the `seq` of the last step seen. A run that was interrupted
    is waited for, as it may be resumed.

    Args:
        folder: the run's folder.
        after: only steps committed after this number; 0 is all.
        address: of the journal's database, where it needs a password.

    Raises:
        InputError: there is no run, or its journal cannot be read.
    """
    files = RunFolder(folder)
    files.info()
    journal = await asyncio.to_thread(open_journal, folder, address, follows=True)
    try:
        while True:
            finished = files.info().finished  # asked first: what ended before is in the next pages
            while page := await asyncio.to_thread(journal.ended, after, _PAGE):
                for step in page:
                    yield step
                after = page[-1].seq
            if finished:
                return
            await asyncio.sleep(_LOOK_S)
    finally:
        journal.close()

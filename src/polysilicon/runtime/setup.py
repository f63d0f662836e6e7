"""What an agent's `prepare` may use before the first task."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec

from polysilicon.runtime import search
from polysilicon.runtime.executor import Workers
from polysilicon.runtime.types import Document

_PREPARE_TIMEOUT_S = 3600.0


class AgentSetup:
    """The `Setup` of one agent.

    Args:
        folder: the agent's folder in the run.
        workers: the run's worker processes.
    """

    def __init__(self, folder: Path, workers: Workers) -> None:
        self.folder = folder
        self._workers = workers

    async def index(self, name: str, documents: Iterable[Document]) -> None:
        """Build the search index `name`, or keep it where it is there."""
        target = self.folder / "indexes" / name
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            await asyncio.to_thread(search.build, target, documents)

    async def call(self, fn: Callable[..., Any], /, *args: Any) -> Any:
        """Call a module-level function in a worker process."""
        result = await self._workers.call(fn, args, {}, _PREPARE_TIMEOUT_S)
        return msgspec.msgpack.decode(result.data)

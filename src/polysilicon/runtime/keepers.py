"""Functions in worker processes that keep what they loaded, such as a model's weights."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from polysilicon.runtime.executor import CallResult, Workers


class Keepers:
    """Processes of which that which was used last takes the next call, where it is free.

    Of `Workers` any may take it, and each would load what it needs anew. Here there are as many as
    there were calls at once, at most: one beside another call has a process of its own.

    Args:
        modules: that each imports when it begins.
    """

    def __init__(self, modules: Sequence[str] = ()) -> None:
        self._modules = tuple(modules)
        self._all: list[Workers] = []
        self._free: list[Workers] = []

    async def call_named(
        self, module: str, name: str, arguments: bytes, timeout_s: float
    ) -> CallResult:
        """Call a function by its name; see `Workers.call_named`."""
        if self._free:
            keeper = self._free.pop()
        else:
            keeper = Workers(1, modules=self._modules)
            self._all.append(keeper)
        try:
            return await keeper.call_named(module, name, arguments, timeout_s)
        finally:
            self._free.append(keeper)

    def processes(self) -> list[int]:
        """Return the numbers of the processes that there are."""
        return [process for keeper in self._all for process in keeper.processes()]

    async def close(self) -> None:
        """End the processes."""
        await asyncio.gather(*(keeper.close() for keeper in self._all))

"""A local engine that is loaded when the first step asks it: some agents never ask a model."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from polysilicon.errors import InputError, PolysiliconError
from polysilicon.runtime.engines import open_engine
from polysilicon.runtime.engines.native.choice import Setup
from polysilicon.runtime.engines.native.facts import facts_of
from polysilicon.runtime.engines.native.memory import check_slots, free_bytes
from polysilicon.runtime.models import check_gguf, model_name
from polysilicon.runtime.types import ChatRequest, ChatResult, EmbedResult, Engine, OnToken

LOADING, RUNNING = "loading the model", "running"
"""What a run is at while the model is loaded, and when it is."""

_CONTEXT_TOKENS = 2048


class UnloadedError(InputError):
    """The model cannot be loaded after all: nothing that asks it can be answered."""


class Late:
    """Stands for the local engine, which answers once it is loaded.

    Args:
        path: a GGUF file.
        concurrency: its slots.
        setup: how it is served.

    Raises:
        InputError: the file is missing, broken or cut, or memory has no room for as many slots.

    Attributes:
        threads: that compute while there are requests.
        tells: is told what a run is at when loading begins, and when it is over, by the thread that
            loads: the interpreter, and with it the event loop, may stand still meanwhile.
    """

    name = "llama.cpp"

    def __init__(self, path: Path, concurrency: int, setup: Setup) -> None:
        check_gguf(path)
        weights = setup.weights or path
        _check_whole(weights)
        packs = setup.kernels is not None
        check_slots(weights, concurrency, _CONTEXT_TOKENS, free_bytes(), packs=packs)
        self.model, self.concurrency = model_name(path), concurrency
        self.threads = setup.threads
        self.tells: Callable[[str], None] = _nobody
        self._open = partial(
            open_engine, self.name, path=path, concurrency=concurrency, setup=setup,
            context_tokens=_CONTEXT_TOKENS,
        )  # fmt: skip
        self._loading: asyncio.Task[Engine] | None = None

    @property
    def is_loaded(self) -> bool:
        """Whether nobody has to wait for it any more."""
        return self._loading is not None and self._loading.done()

    async def loaded(self) -> Engine:
        """Return the engine, which the first call loads; the others wait for that.

        Raises:
            UnloadedError: it cannot be loaded; so it is for all that ask later.
        """
        if self._loading is None:
            self._loading = asyncio.create_task(self._loaded())
        return await asyncio.shield(self._loading)

    async def _loaded(self) -> Engine:
        try:
            return await asyncio.to_thread(self._load)
        except PolysiliconError as error:
            raise UnloadedError(str(error)) from error

    def _load(self) -> Engine:
        self.tells(LOADING)
        try:
            return self._open()
        finally:
            self.tells(RUNNING)

    async def chat(self, request: ChatRequest, on_token: OnToken | None = None) -> ChatResult:
        """Answer `request`; see `Engine.chat`."""
        return await (await self.loaded()).chat(request, on_token)

    async def embed(self, texts: Sequence[str]) -> EmbedResult:
        """Return one vector for each text; see `Engine.embed`."""
        return await (await self.loaded()).embed(texts)

    async def close(self) -> None:
        """End the engine, if it was loaded."""
        if self._loading is not None:
            with suppress(UnloadedError):
                await (await self._loading).close()


def _check_whole(path: Path) -> None:
    """Raise `InputError` where a file has no room for the weights that its head tells of."""
    with facts_of(path) as facts:
        if facts is not None and facts.file_bytes() <= path.stat().st_size:
            return
    mend = "the file may be cut or of a newer format; pull it again"
    raise InputError("llama.cpp cannot load the model", where=str(path), mend=mend)


def _nobody(_phase: str) -> None:
    """Tell nobody."""

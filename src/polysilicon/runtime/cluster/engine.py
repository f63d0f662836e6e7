"""The engines of a pool's machines as one engine."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import msgspec

from polysilicon.runtime.cluster.machines import Machines
from polysilicon.runtime.cluster.wire import ChatMessage, EmbedMessage, Ended
from polysilicon.runtime.engines.forward import Forwarder
from polysilicon.runtime.meter import TOLD
from polysilicon.runtime.types import ChatRequest, ChatResult, EmbedResult, OnToken

_KEY_MESSAGES = 2
"""Requests that begin with the same messages, as those of a task do, go to the same machine."""

_decode_chat = msgspec.msgpack.Decoder(ChatResult).decode
_decode_embed = msgspec.msgpack.Decoder(EmbedResult).decode


class ClusterEngine:
    """Answers by the machines of a pool; each has the model, and a prefix cache of its own.

    Args:
        machines: of the pool.
        name: of their engines.
        model: that they serve.
        concurrency: sequences at once on all of them.
    """

    def __init__(self, machines: Machines, name: str, model: str, concurrency: int) -> None:
        self.name, self.model, self.concurrency = name, model, concurrency
        self._machines = machines

    @asynccontextmanager
    async def forwarder(self) -> AsyncIterator[Forwarder | None]:
        """Take a slot of the machine with the most room; yield connections to its endpoint.

        Raises:
            LostError: there is no machine.
        """
        member = await self._machines.with_room("engine")
        with member.taken("engine"):
            yield member.forwarder

    async def chat(self, request: ChatRequest, on_token: OnToken | None = None) -> ChatResult:
        """Answer `request`; see `Engine.chat`."""
        first = msgspec.msgpack.encode(request.messages[:_KEY_MESSAGES])
        key = hashlib.blake2b(first, digest_size=16).digest()
        message = ChatMessage(self._machines.number(), request)
        ended, _ = await self._machines.ask(message, "engine", key=key, on_token=on_token)
        self._tell(ended)
        return _decode_chat(ended.data)

    async def embed(self, texts: Sequence[str]) -> EmbedResult:
        """Return one vector for each text; see `Engine.embed`."""
        message = EmbedMessage(self._machines.number(), list(texts))
        ended, _ = await self._machines.ask(message, "engine")
        self._tell(ended)
        return _decode_embed(ended.data)

    def _tell(self, ended: Ended) -> None:
        """Tell the step that asks what its answer took, where that is known."""
        told = TOLD.get(None)
        if told is not None and ended.cpu_s is not None:
            told.cpu_s = (told.cpu_s or 0.0) + ended.cpu_s
            told.cores = max((member.hello.cores for member in self._machines.members), default=0)

    async def close(self) -> None:
        """Do nothing: the machines end with their pool."""

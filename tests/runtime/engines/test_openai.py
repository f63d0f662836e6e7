"""What failures of an endpoint tell: the request's fault, nobody there, gone meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import httpx
import pytest

from polysilicon.errors import EngineError
from polysilicon.runtime.engines.openai import OpenAI
from polysilicon.runtime.types import ChatRequest


def failed(answer: Callable[[httpx.Request], httpx.Response]) -> EngineError:
    async def main() -> EngineError:
        engine = OpenAI("http://there/v1", "m")
        transport = httpx.MockTransport(answer)
        engine._client = httpx.AsyncClient(base_url="http://there/v1/", transport=transport)
        try:
            with pytest.raises(EngineError) as caught:
                await engine.chat(ChatRequest(messages=({"role": "user", "content": "hi"},)))
        finally:
            await engine.close()
        return caught.value

    return asyncio.run(main())


@pytest.mark.parametrize(
    ("code", "down", "of_request"),
    [(400, False, True), (500, False, False), (502, True, False), (503, True, False)],
)
def test_an_engine_that_starts_again_is_waited_for(code, down, of_request) -> None:
    error = failed(lambda _request: httpx.Response(code))
    assert (error.down, error.of_request, error.broke) == (down, of_request, False)


@pytest.mark.parametrize(
    ("kind", "broke"),
    [(httpx.ConnectError, False), (httpx.ReadError, True), (httpx.RemoteProtocolError, True)],
)
def test_an_engine_that_went_away_meanwhile_may_have_been_broken(kind, broke) -> None:
    def answer(_request: httpx.Request) -> httpx.Response:
        raise kind("gone")

    error = failed(answer)
    assert (error.down, error.broke) == (True, broke)

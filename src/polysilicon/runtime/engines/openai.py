"""Any OpenAI-compatible endpoint: vLLM, SGLang, llama-server, hosted services."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import httpx
import msgspec

from polysilicon.errors import EngineError, InputError
from polysilicon.runtime.engines.forward import check_endpoint
from polysilicon.runtime.engines.llamacpp import request_body
from polysilicon.runtime.engines.native.call import parse_json
from polysilicon.runtime.types import ChatRequest, ChatResult, EmbedResult, OnToken

_CONNECT_S = 10.0
_DOWN = (502, 503, 504)  # nobody behind the address, as while an engine starts again
_OF_REQUEST = (400, 413, 422)  # bad, too large, cannot be processed
_UNREACHED = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
_KEEP_S = 2.0  # servers close idle connections after five seconds or more


class OpenAI:
    """An endpoint that speaks the OpenAI protocol.

    Args:
        endpoint: base URL with `/v1`.
        model: model name that the endpoint knows.
        concurrency: requests at once.
        key: API key, sent to this endpoint only.

    Raises:
        InputError: the endpoint is no HTTP address, or cannot stand in a request with its key.
    """

    name = "openai"

    def __init__(
        self, endpoint: str, model: str, *, concurrency: int = 8, key: str | None = None
    ) -> None:
        check_endpoint(endpoint, key)
        self.model = model
        self.concurrency = concurrency
        self.address, self.key = endpoint, key
        try:
            httpx.URL(endpoint)
        except httpx.InvalidURL as error:
            raise InputError(f"not an address: {error}", where=endpoint) from error
        self._client = httpx.AsyncClient(
            base_url=endpoint.rstrip("/") + "/",
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=httpx.Timeout(None, connect=_CONNECT_S),
            limits=httpx.Limits(max_connections=concurrency, keepalive_expiry=_KEEP_S),
        )

    async def chat(self, request: ChatRequest, on_token: OnToken | None = None) -> ChatResult:
        """Answer `request`; see `Engine.chat`. Cancelling closes the connection."""
        if request.adapter is not None:
            raise EngineError("adapters are loaded by llama.cpp only", of_request=True)
        pieces: list[str] = []
        usage: dict[str, Any] = {}
        finish = ""
        async for event in self._events(request_body(request, self.model)):
            usage = event.get("usage") or usage
            for choice in event.get("choices") or ():
                finish = choice.get("finish_reason") or finish
                text = (choice.get("delta") or {}).get("content")
                if text:
                    pieces.append(text)
                    if on_token:
                        on_token(text)
        if not finish:
            told = f"{self._client.base_url}: the answer broke off"
            raise EngineError(told, down=True, broke=True)
        text = "".join(pieces)
        details = usage.get("prompt_tokens_details") or {}
        return ChatResult(
            text=text,
            data=parse_json(text) if request.schema is not None else None,
            finish_reason=finish,
            prompt_tokens=usage.get("prompt_tokens", 0),
            cached_tokens=details.get("cached_tokens") or 0,
            output_tokens=usage.get("completion_tokens", 0),
        )

    async def _events(self, body: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        """Yield the server-sent events of one chat completion.

        A kept connection that the server has closed meanwhile is no failure: the request is sent
        again, once, as nothing has come back yet.
        """
        began = False
        for last in (False, True):
            try:
                async for event in self._stream(body):
                    began = True
                    yield event
            except httpx.RemoteProtocolError as error:
                if began or last:
                    raise self._failure(error) from error
            else:
                return

    async def _stream(self, body: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        """Yield the events of one attempt."""
        try:
            async with self._client.stream("POST", "chat/completions", json=body) as response:
                if response.is_error:
                    raise self._refusal(response, await response.aread())
                async for line in response.aiter_lines():
                    data = line.removeprefix("data:").strip()
                    if not line.startswith("data:") or data == "[DONE]":
                        continue
                    event = msgspec.json.decode(data, type=dict[str, Any])
                    if "error" in event:
                        raise EngineError(f"{self._client.base_url}: {event['error']}")
                    yield event
        except httpx.RemoteProtocolError:
            raise
        except (httpx.HTTPError, msgspec.DecodeError) as error:
            raise self._failure(error) from error

    async def embed(self, texts: Sequence[str]) -> EmbedResult:
        """Return one vector for each text; see `Engine.embed`."""
        body = {"model": self.model, "input": list(texts)}
        try:
            response = await self._client.post("embeddings", json=body)
            if response.is_error:
                raise self._refusal(response, response.content)
            reply = msgspec.json.decode(response.content)
            rows = sorted(reply["data"], key=lambda row: row["index"])
            vectors = [row["embedding"] for row in rows]
        except (httpx.HTTPError, msgspec.DecodeError, KeyError, TypeError) as error:
            raise self._failure(error) from error
        tokens = (reply.get("usage") or {}).get("prompt_tokens", 0)
        return EmbedResult(vectors=vectors, prompt_tokens=tokens)

    def _failure(self, error: Exception) -> EngineError:
        text = str(error) or type(error).__name__
        down = isinstance(error, httpx.TransportError)
        broke = down and not isinstance(error, _UNREACHED)
        return EngineError(f"{self._client.base_url}: {text}", down=down, broke=broke)

    def _refusal(self, response: httpx.Response, content: bytes) -> EngineError:
        text = " ".join(content[:300].decode(errors="replace").split())
        code = response.status_code
        of_request = code in _OF_REQUEST
        told = f"{self._client.base_url}: HTTP {code}: {text}"
        error = EngineError(told, of_request=of_request, down=code in _DOWN)
        error.doubtful = not of_request
        return error

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

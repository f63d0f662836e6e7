"""`/v1/embeddings` and `/v1/models`."""

from __future__ import annotations

import asyncio
import base64
import time
from contextlib import closing
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from polysilicon.errors import EngineError
from polysilicon.gateway import bodies
from polysilicon.gateway.bodies import Json, Raws
from polysilicon.gateway.calls import VIRTUAL, Placed, asked_in, models, run, unless_left
from polysilicon.gateway.chat import Reply, refusal
from polysilicon.gateway.errors import ApiError
from polysilicon.gateway.state import Gateway, caller_of, gateway_of
from polysilicon.runtime.context import LEXICAL
from polysilicon.runtime.engines.lexical import embed as embed_words
from polysilicon.runtime.pools import RunningPool
from polysilicon.runtime.types import MAX_RESULT_BYTES, Engine

_MOST_TEXTS = 2048


class EmbeddingBody(msgspec.Struct, frozen=True, kw_only=True):
    """The body of `/v1/embeddings`, as far as the gateway reads it."""

    model: Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
    input: str | Annotated[list[str | int | list[int]], msgspec.Meta(min_length=1)]
    encoding_format: Literal["float", "base64"] | None = None
    metadata: Json | None = None

    @property
    def texts(self) -> list[str]:
        """The texts.

        Raises:
            ApiError: 400; they are tokens, or too many, or none.
        """
        given = [self.input] if isinstance(self.input, str) else self.input
        texts = [text for text in given if isinstance(text, str)]
        if not 0 < len(texts) <= _MOST_TEXTS or len(texts) < len(given):
            what = f"this model takes 1 to {_MOST_TEXTS} texts"
            raise ApiError(400, what, param="input")
        return texts


class Embeddings:
    """The endpoint of embeddings, as an ASGI application."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        content = await bodies.body_of(receive)
        body = bodies.decoded(content, EmbeddingBody)
        fields = bodies.decoded(content, Raws)
        lexical = body.model == LEXICAL
        asked = asked_in(scope, body, kind="embed", name="embed")
        if lexical:
            asked.resource = "cpu"
        gateway: Gateway = scope["app"].state.gateway

        async def answer() -> None:
            found: Json = {}

            async def work(pool: RunningPool, placed: Placed) -> None:
                if lexical:
                    found.update(await _words(body, placed))
                elif pool.as_given.engine == "llama.cpp":
                    assert pool.engine is not None
                    found.update(await _here(pool.engine, body, placed))
                else:
                    found.update(await _there(gateway, pool, fields, placed))

            placed = await run(gateway, asked, work)
            found["usage"] = (found.get("usage") or {}) | placed.costs()
            await Reply(scope, send).whole(found, placed)

        await unless_left(receive, answer())


async def _words(body: EmbeddingBody, placed: Placed) -> Json:
    """Embed by words, in a thread of this process."""

    def work() -> tuple[list[list[float]], float]:
        begin_s = time.thread_time()
        vectors = embed_words(body.texts)
        return vectors, time.thread_time() - begin_s

    vectors, placed.usage.cpu_s = await asyncio.to_thread(work)
    placed.usage.cores = 1
    return _reply(vectors, body, 0)


async def _here(engine: Engine, body: EmbeddingBody, placed: Placed) -> Json:
    """Embed by the engine in this process."""
    result = await engine.embed(body.texts)
    placed.usage.prompt_tokens = result.prompt_tokens or None
    return _reply(result.vectors, body, result.prompt_tokens)


def _reply(vectors: list[list[float]], body: EmbeddingBody, tokens: int) -> Json:
    rows = []
    for index, vector in enumerate(vectors):
        value: Any = vector
        if body.encoding_format == "base64":
            value = base64.b64encode(np.array(vector, "<f4").tobytes()).decode()
        rows.append({"object": "embedding", "index": index, "embedding": value})
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "data": rows, "model": body.model, "usage": usage}


async def _there(gateway: Gateway, pool: RunningPool, fields: Raws, placed: Placed) -> Json:
    """Embed by an endpoint.

    Raises:
        EngineError: it refused or failed.
    """
    assert pool.engine is not None
    sent = bodies.for_endpoint(fields, pool.engine.model, stream=False)
    async with gateway.forwarder(pool.engine) as forwarder:
        with closing(await forwarder.post("embeddings", sent)) as answer:
            if answer.status != 200:
                raise await refusal(answer)
            content = await answer.whole(MAX_RESULT_BYTES)
    try:
        reply: Json = msgspec.json.decode(content, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise EngineError("the endpoint sent what is no JSON") from error
    tokens = (reply.get("usage") or {}).get("prompt_tokens")
    placed.usage.prompt_tokens = tokens if isinstance(tokens, int) and tokens >= 0 else None
    return reply


async def list_models(request: Request) -> Response:
    """List the models that the caller may use."""
    gateway, caller = gateway_of(request), caller_of(request)
    names = [*models(gateway, caller, "llm"), *models(gateway, caller, "embed")]
    lexical = any(
        pool.serves("embed", LEXICAL, "cpu") and caller.may_use(pool.name)
        for pool in gateway.machine.pools
    )
    names += [LEXICAL] if lexical else []
    data = [_model(gateway, name) for name in dict.fromkeys(names)]
    return _json({"object": "list", "data": data})


async def one_model(request: Request) -> Response:
    """Tell of one model.

    Raises:
        ApiError: 404; the caller may use none of that name.
    """
    gateway, caller = gateway_of(request), caller_of(request)
    name = request.path_params["model"]
    known = [*models(gateway, caller, "llm"), *models(gateway, caller, "embed"), LEXICAL]
    if name not in known:
        raise ApiError(404, f"there is no model {name!r}", code="model_not_found", param="model")
    return _json(_model(gateway, name))


def _model(gateway: Gateway, name: str) -> Json:
    pools = [p for p in gateway.machine.pools if p.engine is not None and p.engine.model == name]
    return {
        "id": name,
        "object": "model",
        "created": 0,
        "owned_by": "polysilicon",
        "virtual": name in VIRTUAL,
        "pools": [pool.name for pool in pools],
    }


def _json(value: Any) -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json")


ROUTES = (
    Route("/v1/embeddings", Embeddings(), methods=["POST"]),
    Route("/v1/models", list_models),
    Route("/v1/models/{model:path}", one_model),
)

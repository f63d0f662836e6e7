"""`/v1/chat/completions` and `/v1/completions`: forwarded to the pool that a call is placed on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import msgspec
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from polysilicon.errors import EngineError
from polysilicon.gateway import bodies, events, grammars, slots, tools
from polysilicon.gateway.bodies import ChatBody, CompletionBody, Json, Raws
from polysilicon.gateway.calls import Placed, asked_in, run, unless_left
from polysilicon.gateway.errors import NOTES, ApiError, log, of_error
from polysilicon.gateway.outside import Asked
from polysilicon.gateway.state import Gateway
from polysilicon.runtime.engines.forward import Answer
from polysilicon.runtime.pools import RunningPool
from polysilicon.runtime.types import MAX_RESULT_BYTES

Begin = Callable[[Placed], Awaitable[None]]
Write = Callable[[bytes], Awaitable[None]]

_OF_REQUEST = (400, 413, 422)  # bad, too large, cannot be processed
_SSE = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
]


@dataclass(slots=True, kw_only=True)
class Job:
    """A completion to be had.

    Attributes:
        gateway: the state.
        path: of the endpoint, below `/v1`.
        fields: of the request.
        body: the same, as a type.
        asked: the step.
        reply: the engine's whole answer, where it does not stream.
        usage: the engine's `usage`, of a stream.
        last: events that came with or after the usage, without it.
        wanted: what engines here are asked, or why they cannot be.
    """

    gateway: Gateway
    path: str
    fields: Raws
    body: ChatBody | CompletionBody
    asked: Asked
    reply: Json = field(default_factory=dict)
    usage: Json = field(default_factory=dict)
    last: list[Json] = field(default_factory=list)
    wanted: grammars.Wanted | ApiError | None = None

    @property
    def streams(self) -> bool:
        """Whether the caller wants a stream."""
        return bool(self.body.stream)


async def answered(job: Job, begin: Begin, write: Write) -> Placed:
    """Get a completion: streamed to `write`, or whole in `job.reply`.

    Args:
        job: what is to be had.
        begin: called once the stream begins.
        write: takes blocks of whole events, all but those with the usage, which `job` has.

    Raises:
        ApiError: the call is not let in, or asks for what cannot be.
        StepError: the engine failed.
    """

    async def work(pool: RunningPool, placed: Placed) -> None:
        assert pool.engine is not None
        body, emulated = await _for_pool(job, pool, placed)
        async with job.gateway.forwarder(pool.engine) as forwarder:
            with (
                slots.held(pool, job.fields) as slot,
                closing(await forwarder.post(job.path, slots.at(body, slot))) as answer,
            ):
                if answer.status != 200:
                    raise await refusal(answer)
                if job.streams and not emulated:
                    await _streamed(job, answer, placed, begin, write)
                else:
                    await _whole(job, answer, placed)
        if emulated:
            for choice in job.reply.get("choices") or ():
                message = tools.read(tools.as_text((choice.get("message") or {}).get("content")))
                choice["message"] = message
                if message.get("tool_calls"):
                    choice["finish_reason"] = "tool_calls"
            if job.streams:
                await begin(placed)

    async def prepare(pools: Sequence[RunningPool]) -> None:
        if isinstance(job.body, ChatBody):
            job.wanted = await grammars.beforehand(job.body, pools)

    return await run(job.gateway, job.asked, work, prepare)


async def _for_pool(job: Job, pool: RunningPool, placed: Placed) -> tuple[bytes, bool]:
    """Return the body that a pool's engine gets, and whether tools are emulated.

    Raises:
        ApiError: it asks for what the engine cannot do.
    """
    fields, body, emulated = job.fields, job.body, False
    assert pool.engine is not None
    wanted = grammars.Wanted()
    if bodies.emulates(pool) and isinstance(body, ChatBody):
        wanted = await _wanted_here(job, body) if pool.in_process else grammars.wanted(body)
        if wanted.told:
            messages, chosen = msgspec.json.decode(fields["messages"]), wanted.chosen
            emulated = bool(chosen.tools)
            drop = ("tools", "tool_choice", "parallel_tool_calls", "functions", "function_call")
            fields = {key: value for key, value in fields.items() if key not in drop}
            fields = bodies.replaced(fields, messages=tools.told(messages, chosen))
        if not pool.in_process:
            fields = bodies.with_schema(fields, wanted.schema)
    if pool.in_process:
        fields, placed.ignored = bodies.for_engine_here(fields, wanted.grammar)
    stream = job.streams and not emulated
    return bodies.for_endpoint(fields, pool.engine.model, stream=stream), emulated


async def _wanted_here(job: Job, body: ChatBody) -> grammars.Wanted:
    """Return what an engine here is asked, as it was found out beforehand.

    Raises:
        ApiError: 400; it cannot be asked that.
    """
    found = job.wanted
    if found is None:  # the pool has come into the fleet since
        found = await grammars.compiled(body)
    if isinstance(found, ApiError):
        raise found
    return found


async def refusal(answer: Answer) -> EngineError:
    """Return what an endpoint's refusal means; its own words only where the request is at fault."""
    content = await answer.whole(64 * 2**10)
    of_request = answer.status in _OF_REQUEST
    text = f"the engine answered HTTP {answer.status}"
    if of_request:
        try:
            said = msgspec.json.decode(content)
            error = said.get("error", said)
            message = error.get("message") if isinstance(error, dict) else error
            text = f"the engine refused: {message}"[:500]
        except (msgspec.DecodeError, AttributeError, RecursionError):
            pass
    return EngineError(text, of_request=of_request)


async def _whole(job: Job, answer: Answer, placed: Placed) -> None:
    """Take an answer that is not streamed."""
    content = await answer.whole(MAX_RESULT_BYTES)
    try:
        job.reply = msgspec.json.decode(content, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError) as error:
        raise EngineError("the endpoint sent what is no JSON") from error
    job.usage = job.reply.get("usage") or {}
    _count(job.usage, placed)


async def _streamed(job: Job, answer: Answer, placed: Placed, begin: Begin, write: Write) -> None:
    """Pass a stream on; blocks with its usage or its end are looked into, and kept.

    Raises:
        EngineError: it failed; before its first event another engine may still answer.
    """
    blocks, usage, done, begun = events.Blocks(), placed.usage, False, False
    try:
        while data := await answer.read():
            block = blocks.take(data)
            if not block:
                continue
            if usage.first_token_s is None and events.has_text(block):
                usage.first_token_s = job.gateway.clock()
            if events.may_end(block):
                done = done or events.is_done(block)
                block = _without_usage(job, block)
            if not begun:
                await begin(placed)
                begun = True
            if block:
                await write(block)
    except EngineError as error:
        raise EngineError(str(error), begun=begun) from error
    finally:
        _count(job.usage, placed)
    if not done and not job.usage:
        raise EngineError("the answer broke off", begun=begun)


def _without_usage(job: Job, block: bytes) -> bytes:
    """Return a block without the usage and the end mark, which `job` keeps.

    Raises:
        EngineError: the engine tells an error.
    """
    left = []
    for event in events.parsed(block):
        if event.get("usage"):
            job.usage = event.pop("usage")
            if not event.get("choices"):
                job.last = [event]
                continue
        left.append(events.event(event))
    return b"".join(left)


def _count(usage: Json, placed: Placed) -> None:
    """Note the tokens that an engine counted."""
    details = usage.get("prompt_tokens_details")
    kept = placed.usage
    kept.prompt_tokens = _number(usage.get("prompt_tokens"))
    kept.output_tokens = _number(usage.get("completion_tokens"))
    kept.cached_tokens = (
        _number(details.get("cached_tokens")) if isinstance(details, dict) else None
    )


def _number(value: Any) -> int | None:
    return value if isinstance(value, int) and 0 <= value < 2**53 else None


async def replied(job: Job, reply: Reply, begin: Begin, write: Write) -> Placed | None:
    """Answer through `begin` and `write`; None where it broke off, of which the caller was told.

    Raises:
        PolysiliconError: it failed before anything was sent.
    """
    try:
        placed = await answered(job, begin, write)
    except Exception as error:
        if not reply.begun:
            raise
        await reply.broken(error)
        return None
    except asyncio.CancelledError:
        await reply.cut_off(draining=job.gateway.draining)
        raise
    reply.note(placed)
    return placed


class Completions:
    """The endpoint of both kinds of completions, as an ASGI application.

    Args:
        path: below `/v1`, here and at engines.
        name: the operation, as in the step record.
        kind: type of the bodies.
    """

    def __init__(self, path: str, name: str, kind: type[ChatBody | CompletionBody]) -> None:
        self._path, self._name, self._kind = path, name, kind

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        job = self._job(scope, await bodies.body_of(receive))
        reply = Reply(scope, send)
        await unless_left(receive, self._answer(job, reply))

    def _job(self, scope: Scope, content: bytes) -> Job:
        body = bodies.decoded(content, self._kind)
        fields = bodies.decoded(content, Raws)
        asked = asked_in(scope, body, kind="llm", name=self._name)
        gateway: Gateway = scope["app"].state.gateway
        return Job(gateway=gateway, path=self._path, fields=fields, body=body, asked=asked)

    async def _answer(self, job: Job, reply: Reply) -> None:
        """Answer, with what it cost at its end."""
        placed = await replied(job, reply, reply.begin, reply.write)
        if placed is None:
            return
        if not job.streams:
            job.reply["usage"] = job.usage | placed.costs()
            await reply.whole(job.reply, placed)
            return
        for event in _emulated_events(job.reply) if job.reply else ():
            await reply.write(events.event(event))
        options = job.body.stream_options
        if options is not None and options.include_usage:
            usage = job.usage | placed.costs()
            head = job.last[0] if job.last else _head(job.reply)
            await reply.write(events.event({**head, "choices": [], "usage": usage}))
        await reply.end(events.DONE)


def _head(reply: Json) -> Json:
    """Return what is the same in all events of a stream."""
    kept = {key: reply[key] for key in ("id", "created", "model") if key in reply}
    return kept | {"object": "chat.completion.chunk"}


def _emulated_events(reply: Json) -> list[Json]:
    """Return an answer that came whole as the events of a stream."""
    head, found = _head(reply), []
    for choice in reply.get("choices") or ():
        message, index = dict(choice["message"]), choice.get("index", 0)
        if message.get("tool_calls"):
            calls = message["tool_calls"]
            message["tool_calls"] = [call | {"index": n} for n, call in enumerate(calls)]
        first = {"index": index, "delta": message, "finish_reason": None}
        last = {"index": index, "delta": {}, "finish_reason": choice.get("finish_reason")}
        found += [head | {"choices": [first]}, head | {"choices": [last]}]
    return found


class Reply:
    """The way back to the caller."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self._notes: Json = scope[NOTES]
        self._send = send
        self.begun = False

    def note(self, placed: Placed) -> None:
        """Note for the audit log where a call went, and what it cost as far as that is known."""
        self._notes["task"] = placed.task_id
        self._notes["pool"] = placed.pool.name if placed.pool else ""
        self._notes["cost_usd"] = placed.usage.cost_usd

    async def begin(self, placed: Placed) -> None:
        """Begin a stream."""
        self.note(placed)
        self.begun = True
        headers = [*_SSE, *placed.headers()]
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})

    async def write(self, data: bytes) -> None:
        """Send a part of a stream."""
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def end(self, data: bytes = b"") -> None:
        """Send the last part of a stream."""
        await self._send({"type": "http.response.body", "body": data})

    async def broken(self, error: Exception) -> None:
        """Tell in a stream that it is not whole, and end it without its end mark."""
        told = of_error(error)
        log(self._notes["request"], error)
        self._notes["failed"] = told.status
        await self.end(events.event({"error": told.fields()}))

    async def cut_off(self, *, draining: bool) -> None:
        """Tell in a stream that the gateway ends before it does."""
        if draining and self.begun:
            await self.broken(ApiError(503, "the gateway is ending", code="draining"))

    async def whole(self, value: Any, placed: Placed) -> None:
        """Send an answer of JSON."""
        self.note(placed)
        content = msgspec.json.encode(value)
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(content)).encode()),
            *placed.headers(),
        ]
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        await self._send({"type": "http.response.body", "body": content})


ROUTES = (
    Route(
        "/v1/chat/completions",
        Completions("chat/completions", "chat", ChatBody),
        methods=["POST"],
    ),
    Route(
        "/v1/completions",
        Completions("completions", "completion", CompletionBody),
        methods=["POST"],
    ),
)

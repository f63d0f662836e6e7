"""`/v1/code`: runs sandboxed code for the gateway that this machine joined.

What is asked and told is that of executors on a cluster (`runtime.cluster.wire`), in msgpack: JSON
has no infinities, and no bytes. The caller alone keeps what came of it.
"""

from __future__ import annotations

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from polysilicon.errors import PolysiliconError
from polysilicon.gateway.bodies import bytes_of
from polysilicon.gateway.calls import unless_left
from polysilicon.gateway.errors import ApiError
from polysilicon.gateway.state import caller_of, gateway_of
from polysilicon.runtime.cluster.wire import CodeMessage, Ended, Event, encode, failed, job_of
from polysilicon.runtime.here import Here
from polysilicon.runtime.results import encode_result

BYTES = "application/octet-stream"

_decode = msgspec.msgpack.Decoder(CodeMessage).decode


async def ran(request: Request) -> Response:
    """Run code in a sandbox, and tell what came of it; it is killed where the caller leaves."""
    gateway, caller = gateway_of(request), caller_of(request)
    if not caller.key.code:
        text = f"key {caller.name!r} may have no code run here; `pool join` makes such keys"
        raise ApiError(403, text, code="code_not_allowed")
    if gateway.draining:
        raise ApiError(503, "this machine is leaving", code="draining", retry_after_s=5)
    try:
        message = _decode(await bytes_of(request.receive))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ApiError(400, f"this is no code to run: {error}") from error
    events: list[Event] = []

    async def work() -> None:
        events.append(await _event(gateway.machine.here, message))

    await unless_left(request.receive, work())
    return Response(encode(events[0]), media_type=BYTES)


async def _event(here: Here, message: CodeMessage) -> Event:
    """Run code, and return what came of it."""
    try:
        done = await here.run(job_of(message), front=message.front)
        return Ended(message.number, encode_result(done.result))
    except PolysiliconError as error:
        return failed(message.number, error)


ROUTES = (Route("/v1/code", ran, methods=["POST"]),)

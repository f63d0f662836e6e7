"""`/v1/pools`: the pools that there are, and machines that join and leave."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from polysilicon.gateway.access import Caller
from polysilicon.gateway.bodies import body_of, decoded
from polysilicon.gateway.errors import ApiError
from polysilicon.gateway.joined.register import Register
from polysilicon.gateway.joined.types import (
    LEASE_S,
    JoinAnswer,
    JoinRequest,
    Name,
    PoolList,
    PoolView,
)
from polysilicon.gateway.reading import read_query
from polysilicon.gateway.state import Gateway, caller_of, gateway_of
from polysilicon.runtime.pools import RunningPool

_MOST_BODY_BYTES = 64 * 2**10


class LeaveQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which process leaves; a key with `admin` may send away any."""

    id: Annotated[str, Meta(max_length=64)] | UnsetType = UNSET


class JoinQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whether a machine only asks what would become of it, before it serves."""

    trial: bool = False


async def listed(request: Request) -> Response:
    """List the pools that the caller may use."""
    gateway, caller = gateway_of(request), caller_of(request)
    pools = [_view(gateway, p) for p in gateway.machine.pools if caller.may_use(p.name)]
    return _answer(PoolList(pools=pools))


async def joined(request: Request) -> Response:
    """Take in the machine that asks, note that it is still there, or say whether it may join."""
    gateway, caller = gateway_of(request), _joiner(request)
    body = await body_of(request.receive)
    if len(body) > _MOST_BODY_BYTES:
        text = f"a machine tells of itself in {_MOST_BODY_BYTES // 1024} KiB"
        raise ApiError(413, text, code="request_too_large")
    asked, trial = decoded(body, JoinRequest), read_query(request, JoinQuery).trial
    if gateway.draining:
        raise ApiError(503, "the gateway is ending", code="draining", retry_after_s=5)
    name = _name(request)
    if not caller.may_use(name):
        raise ApiError(403, f"this key may not use pool {name!r}", code="pool_not_allowed")
    address = request.client.host if request.client else ""
    anywhere = caller.key.admin and not gateway.access.open
    register = _register(gateway)
    take = register.try_out if trial else register.put
    member = await take(name, asked, address, any_host=anywhere)
    return _answer(
        JoinAnswer(
            pool=name,
            lease_s=LEASE_S,
            usd_per_hour=member.usd_per_hour,
            mismatches=member.mismatches,
        )
    )


async def left(request: Request) -> Response:
    """Let a machine go."""
    caller = caller_of(request)
    if not caller.key.admin:
        _joiner(request)
    given = read_query(request, LeaveQuery).id
    of = None if given is UNSET else given
    if of is None and not caller.key.admin:
        text = "this key may only let its own process leave (?id=); use one of `serve keys --admin`"
        raise ApiError(403, text, code="pool_not_yours")
    await _register(gateway_of(request)).remove(_name(request), of)
    return Response(status_code=204)


def _joiner(request: Request) -> Caller:
    """Return who calls.

    Raises:
        ApiError: 403; machines may not be joined with that key.
    """
    caller = caller_of(request)
    if not caller.key.join:
        text = f"key {caller.name!r} may join no machine; make one with `serve keys --join`"
        raise ApiError(403, text, code="join_not_allowed")
    return caller


def _name(request: Request) -> str:
    """Return the name of a pool in a path.

    Raises:
        ApiError: 400; it is none.
    """
    try:
        return msgspec.convert(request.path_params["name"], Name)
    except msgspec.ValidationError as error:
        text = "a pool's name has 1 to 63 of a-z, 0-9, '.', '_' and '-'"
        raise ApiError(400, text, param="name") from error


def _register(gateway: Gateway) -> Register:
    assert gateway.register is not None
    return gateway.register


def _view(gateway: Gateway, pool: RunningPool) -> PoolView:
    """Return what is told of a pool."""
    given = pool.as_given
    member = _register(gateway).members.get(pool.name) if pool in gateway.joined else None
    gate = pool.gates.get("engine") or pool.gates.get("cpu")
    found: dict[str, Any] = {}
    if member is not None:
        found = {"sandboxes": list(member.request.sandboxes),
                 "processor": member.request.hardware.processor.name,
                 "left_s": _register(gateway).left_s(member),
                 "mismatches": member.mismatches}  # fmt: skip
    return PoolView(
        name=pool.name,
        offer=pool.offer_name,
        region=pool.region,
        model=pool.engine.model if pool.engine else "",
        serves=list(given.serves),
        concurrency=given.concurrency if pool.engine or gate is None else gate.cap,
        units=given.units,
        up=gate is None or not gate.health.drained,
        running=sum(gate.running for gate in pool.gates.values()),
        waiting=sum(gate.waiting for gate in pool.gates.values()),
        joined=member is not None,
        **found,
    )


def _answer(value: msgspec.Struct) -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json")


ROUTES = (
    Route("/v1/pools", listed, methods=["GET"]),
    Route("/v1/pools/{name}", joined, methods=["PUT"]),
    Route("/v1/pools/{name}", left, methods=["DELETE"]),
)

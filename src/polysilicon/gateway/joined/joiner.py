"""The side of a machine that joins: it says that it is there until it leaves."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import math
import re
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from urllib.parse import urlsplit

import httpx
import msgspec

from polysilicon.errors import InputError, PolysiliconError
from polysilicon.gateway.joined.types import JoinAnswer, JoinRequest

BEAT_S = 5.0
_SLACK_S = 2.0
_ANSWER_S = 40.0
_MOST_TEXT = 500
_REFUSED = (400, 401, 403, 404, 405, 409, 413, 421)
"""Statuses after which asking to join again would not help."""
_ENDED = ("pool_exists", "pool_refused", "pool_mismatch")
"""Codes of refusals that end a machine that had joined, beside those of its key.

All others may be of what stands before a gateway that starts again.
"""

_log = logging.getLogger("polysilicon.pool")


class RefusedError(InputError):
    """The gateway refuses the machine.

    Args:
        answer: what it said.
        where: the gateway.

    Attributes:
        for_good: it ends a machine that had joined, too.
        held_s: for so long another process has the name, unless that says again that it is there.
    """

    def __init__(self, answer: httpx.Response, where: str) -> None:
        super().__init__(f"the gateway refuses: {_reason_of(answer)}", where=where)
        ended = answer.status_code in (400, 409) and _told(answer, "code") in _ENDED
        self.for_good = ended or answer.status_code in (401, 403)
        held = answer.headers.get("retry-after", "")
        conflict = answer.status_code == httpx.codes.CONFLICT
        self.held_s = int(held) if conflict and held.isdecimal() else None


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where a machine joins.

    Attributes:
        gateway: its address.
        pool: name to join by.
        key: of the gateway; None where it asks for none.
        local: address to call from; None for any.
    """

    gateway: str
    pool: str
    key: str | None = None
    local: str | None = None

    def client(self) -> httpx.AsyncClient:
        """Return connections to the gateway."""
        headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        transport = httpx.AsyncHTTPTransport(local_address=self.local)
        return httpx.AsyncClient(base_url=self.gateway.rstrip("/"), headers=headers,
                                 timeout=_ANSWER_S, transport=transport)  # fmt: skip


async def stay(
    place: Place,
    request: JoinRequest,
    joined: Callable[[JoinAnswer], None],
    leaving: asyncio.Event,
    beat_s: float = BEAT_S,
) -> None:
    """Join, say every few seconds that the machine is there, and leave at the end.

    Args:
        place: where.
        request: what the machine is.
        joined: called once it has joined.
        leaving: ends this when it is set.
        beat_s: seconds between two words.

    Raises:
        InputError: the gateway refuses the machine.
        PolysiliconError: it cannot be reached when the machine joins.
    """
    path = f"/v1/pools/{place.pool}"
    body = msgspec.json.encode(request)
    async with place.client() as client:
        answer = await _first(client, path, body, leaving, beat_s)
        if answer is None:
            return
        joined(answer)
        try:
            while not await _is_over(leaving, beat_s):
                try:
                    await _put(client, path, body)
                except PolysiliconError as error:  # it may be starting again
                    if isinstance(error, RefusedError) and error.for_good:
                        raise
                    _log.warning("%s", error)
        finally:
            with suppress(httpx.HTTPError):
                await client.delete(path, params={"id": request.id}, timeout=beat_s)


async def try_out(place: Place, request: JoinRequest, beat_s: float = BEAT_S) -> None:
    """Ask whether a machine would be taken that neither serves yet nor was measured.

    Args:
        place: where.
        request: what the machine is, as far as that is known.
        beat_s: seconds between two questions, where its name may soon be free.

    Raises:
        InputError: the gateway would refuse it.
        PolysiliconError: it cannot be reached.
    """
    async with place.client() as client:
        body = msgspec.json.encode(request)
        path = f"/v1/pools/{place.pool}?trial=true"
        await _first(client, path, body, asyncio.Event(), beat_s)


async def _first(
    client: httpx.AsyncClient, path: str, body: bytes, leaving: asyncio.Event, beat_s: float
) -> JoinAnswer | None:
    """Join; None where the machine is to leave before.

    Where another process has the name, it may be this machine's last one, whose word is not over:
    one that is there still says so, so that its time is put off.
    """
    end_s = math.inf
    while True:
        try:
            return await _put(client, path, body)
        except RefusedError as error:
            now_s = time.monotonic()
            if error.held_s is None or now_s + error.held_s > end_s + _SLACK_S:
                raise
            end_s = min(end_s, now_s + error.held_s)
            _log.warning("%s; asking again", error)
        if await _is_over(leaving, beat_s):
            return None


async def _is_over(leaving: asyncio.Event, wait_s: float) -> bool:
    """Wait, and tell whether the machine is to leave."""
    with suppress(TimeoutError):
        await asyncio.wait_for(leaving.wait(), wait_s)
    return leaving.is_set()


async def _put(client: httpx.AsyncClient, path: str, body: bytes) -> JoinAnswer:
    """Say that the machine is there.

    Raises:
        InputError: that is refused for good.
        PolysiliconError: the gateway cannot be reached, or not take it now.
    """
    where = str(client.base_url)
    try:
        answer = await client.put(path, content=body, headers={"content-type": "application/json"})
    except httpx.HTTPError as error:
        raise _unreached(where, error) from error
    if answer.status_code == httpx.codes.OK:
        try:
            return msgspec.json.decode(answer.content, type=JoinAnswer)
        except msgspec.DecodeError as error:
            raise InputError("this is no gateway of Polysilicon", where=where) from error
    if answer.status_code in _REFUSED:
        raise RefusedError(answer, where)
    raise PolysiliconError(f"{where}: {_reason_of(answer)}")


async def ask(place: Place, method: str, path: str) -> bytes:
    """Ask a gateway for something, and return its answer.

    Raises:
        InputError: it refuses.
        PolysiliconError: it cannot be reached.
    """
    try:
        async with place.client() as client:
            answer = await client.request(method, path)
    except httpx.HTTPError as error:
        raise _unreached(place.gateway, error) from error
    if answer.is_error:
        raise RefusedError(answer, place.gateway)
    return answer.content


def _unreached(where: str, error: httpx.HTTPError) -> PolysiliconError:
    """Return what is told where a gateway does not answer."""
    reason = f"the gateway cannot be reached: {error or type(error).__name__}"
    return PolysiliconError(
        f"{where}: {reason}; start it with `polysilicon serve`, or name its port"
    )


def _reason_of(answer: httpx.Response) -> str:
    """Return what an answer says is wrong, on one line."""
    told = _told(answer, "message") or answer.text
    return f"HTTP {answer.status_code}: {' '.join(told.split())[:_MOST_TEXT]}"


def _told(answer: httpx.Response, field: str) -> str:
    """Return a field of an answer's error; blank where it has none."""
    try:
        return str(msgspec.json.decode(answer.content)["error"][field])
    except (msgspec.DecodeError, KeyError, TypeError):
        return ""


def check_gateway(address: str) -> str:
    """Return a gateway's address without what stands behind its port.

    Raises:
        InputError: it is none.
    """
    try:
        parts = urlsplit(address)
        known = parts.scheme in ("http", "https") and parts.hostname and (parts.port or True)
    except ValueError:
        known = False
    if not known:
        mend = "give one such as http://127.0.0.1:8000"
        raise InputError("a gateway's address begins with http:// or https://", where=address,
                         mend=mend)  # fmt: skip
    return f"{parts.scheme}://{parts.netloc}"


def shown_address(listen: str, gateway: str) -> str:
    """Return the address at which the gateway finds a machine that listens on `listen`.

    Raises:
        InputError: it could not reach the machine there.
    """
    try:
        host = ipaddress.ip_address("127.0.0.1" if listen == "localhost" else listen)
    except ValueError as error:
        mend = "give an IP address of this machine, or 0.0.0.0"
        raise InputError(
            "no address to listen on", where=f"--listen {listen}", mend=mend
        ) from error
    facing = _facing(gateway)
    if host.is_unspecified:
        return facing
    if host.is_loopback and not ipaddress.ip_address(facing).is_loopback:
        mend = f"give --listen {facing}; callers then need the key that is made for the gateway"
        raise InputError("the gateway is elsewhere and cannot reach loopback here", mend=mend)
    return str(host)


def _facing(gateway: str) -> str:
    """Return this machine's address on the way to a gateway; nothing is sent.

    Raises:
        InputError: there is no way.
    """
    parts = urlsplit(gateway)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        family, _, _, _, address = socket.getaddrinfo(parts.hostname, port,
                                                      type=socket.SOCK_DGRAM)[0]  # fmt: skip
        with socket.socket(family, socket.SOCK_DGRAM) as way:
            way.connect(address)
            found: str = way.getsockname()[0]
    except OSError as error:
        raise InputError(f"no way there: {error.strerror or error}", where=gateway) from error
    return found.partition("%")[0]


def pool_name(text: str) -> str:
    """Return a text as a pool may be called."""
    kept = re.sub("[^a-z0-9._-]+", "-", text.lower())[:63].strip("-._")
    return kept or "machine"

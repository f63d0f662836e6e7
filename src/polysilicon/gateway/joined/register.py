"""The machines that joined: who they are, how long their word holds, and the pools they are."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import math
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

import msgspec

from polysilicon import catalog
from polysilicon.catalog.fleet import OwnPrice, Pool
from polysilicon.cost.declared import Mismatch, mismatches
from polysilicon.errors import EngineError, InputError, StepError, visible
from polysilicon.gateway.errors import ApiError
from polysilicon.gateway.joined.far import FarSandboxes
from polysilicon.gateway.joined.types import LEASE_S, JoinRequest
from polysilicon.gateway.settings import is_loopback
from polysilicon.gateway.state import Gateway
from polysilicon.runtime.dispatch import check_fleet
from polysilicon.runtime.engines.forward import Forwarder, check_endpoint
from polysilicon.runtime.jobs import Code, Executor
from polysilicon.runtime.machine import endpoint_engine, usd_per_hour
from polysilicon.runtime.pools import RunningPool
from polysilicon.runtime.types import Limits
from polysilicon.units import SECONDS_PER_HOUR

MOST_JOINED = 1000
MOST_CORES = 4096
_LOOK_S = 1.0
_ASK_S = 20.0
_log = logging.getLogger("polysilicon.gateway")
_MOST_BYTES = 2**20


@dataclass(slots=True)
class Member:
    """A machine that joined; `until_s` by the register's clock."""

    request: JoinRequest
    pool: RunningPool
    mismatches: list[Mismatch]
    usd_per_hour: float
    until_s: float


class Register:
    """The machines that joined a gateway.

    Args:
        gateway: the state.
        clock: seconds, steady.
    """

    def __init__(self, gateway: Gateway, clock: Callable[[], float] = time.monotonic) -> None:
        self._gateway, self._clock = gateway, clock
        self.members: dict[str, Member] = {}
        self._lock = asyncio.Lock()

    def left_s(self, member: Member) -> float:
        """Return seconds until a machine is drained."""
        return max(member.until_s - self._clock(), 0.0)

    async def try_out(
        self, name: str, request: JoinRequest, address: str, *, any_host: bool
    ) -> Member:
        """Return what a machine would become that neither serves yet nor was measured.

        Args:
            name: of its pool.
            request: what it tells.
            address: that it calls from.
            any_host: its endpoint may be elsewhere.

        Raises:
            ApiError: 400 or 409; it could not be taken in.
        """
        known = self._known(name)
        self._check_name(name, request, known)
        if not any_host:
            self._check_host(request.endpoint, address)
        member = self._member(name, request)
        try:
            others = [one for one in self._gateway.machine.pools if one.name != name]
            check_fleet([*others, member.pool], self._gateway.policy)
        except InputError as error:
            raise ApiError(409, str(error), code="pool_refused") from error
        finally:
            await self._gateway.machine.discard([member.pool])
        return member

    async def put(self, name: str, request: JoinRequest, address: str, *, any_host: bool) -> Member:
        """Take a machine in, or note that it is still there.

        Args:
            name: of its pool.
            request: what it tells.
            address: that it calls from.
            any_host: its endpoint may be elsewhere.

        Raises:
            ApiError: 400, 409 or 502; it cannot be taken in.
        """
        async with self._lock:
            known = self._known(name)
            if known is not None and known.request == request:
                known.until_s = self._clock() + LEASE_S
                return known
            self._check_name(name, request, known)
        if not any_host:
            self._check_host(request.endpoint, address)
        member = self._member(name, request)
        try:
            # One that is slow to answer keeps nobody else waiting.
            await _ask(request, member.pool.executor)
            async with self._lock:
                known = self._known(name)
                self._check_name(name, request, known)
                await self._work_with([member], [known] if known else [])
                self._check_name(name, request, self._known(name))  # the fleet may have it now
        except BaseException as error:
            await self._gateway.machine.discard([member.pool])
            if isinstance(error, InputError):
                raise ApiError(409, str(error), code="pool_refused") from error
            raise
        member.until_s = self._clock() + LEASE_S
        at = urlsplit(request.endpoint)  # what follows the port may be secret
        where = visible(f"{at.scheme}://{at.netloc}")
        _log.info("pool %s joined: %s at %s", name, request.model, where)
        for one in member.mismatches:
            told = (name, request.offer, one.what, one.declared, one.found)
            _log.warning("pool %s is not as %s is: %s: %s declared, %s found", *map(visible, told))
        return member

    def _known(self, name: str) -> Member | None:
        """Return the machine of a name; none where a pool of the fleet file has it now."""
        known = self.members.get(name)
        if known is not None and known.pool not in self._gateway.joined:
            del self.members[name]
            return None
        return known

    async def remove(self, name: str, of: str | None) -> None:
        """Let a machine go; its steps that are under way are finished.

        Args:
            name: of its pool.
            of: id of the process that asks; None for who may send any away.

        Raises:
            ApiError: 404 or 403; no such machine, or another process's.
        """
        async with self._lock:
            member = self._known(name)
            if member is None:
                raise ApiError(404, f"no machine joined as {name!r}", code="pool_not_found")
            if of is not None and member.request.id != of:
                text = f"pool {name!r} is of another process"
                raise ApiError(403, text, code="pool_not_yours")
            await self._work_with([], [member])
            _log.info("pool %s left", name)

    async def drain_silent(self) -> None:
        """Let go of the machines that have said nothing for too long."""
        async with self._lock:
            now_s = self._clock()
            silent = [one for one in self.members.values() if one.until_s <= now_s]
            if silent:
                for one in silent:
                    if isinstance(one.pool.executor, FarSandboxes):
                        one.pool.executor.lose()
                await self._work_with([], silent)
                told = ", ".join(sorted(one.pool.name for one in silent))
                _log.warning("drained, as they say nothing any more: %s", told)

    async def _work_with(self, come: list[Member], gone: list[Member]) -> None:
        """Take machines in and let others go; those that a fleet file put out are forgotten.

        Raises:
            InputError: the policy does not allow them.
        """
        await self._gateway.join([one.pool for one in come], [one.pool for one in gone])
        kept = [*self.members.values(), *come]
        self.members = {m.pool.name: m for m in kept if m.pool in self._gateway.joined}

    def _check_host(self, endpoint: str, address: str) -> None:
        """Raise `ApiError` where an endpoint is not on the machine that names it.

        Who may join is not thereby let to make the gateway call other machines for him, nor what
        listens on its own loopback: there a proxy would make a caller of everybody.
        """
        try:
            host = _ip(urlsplit(endpoint).hostname or "")
            same = host == _ip(address)
        except ValueError:
            same = False
        if not same:
            text = f"the endpoint's host must be the address it is joined from, {address}"
            raise ApiError(400, text, code="endpoint_elsewhere", param="endpoint")
        if host.is_loopback and not is_loopback(self._gateway.settings.host):
            text = "an endpoint on the gateway's own loopback needs a key with `admin`, too"
            raise ApiError(400, text, code="endpoint_elsewhere", param="endpoint")

    def _check_name(self, name: str, request: JoinRequest, known: Member | None) -> None:
        """Raise `ApiError` where a name is another's, or there are too many machines."""
        if known is not None and known.request.id != request.id:
            text = f"another machine joined as {name!r}, and is there still"
            left_s = math.ceil(self.left_s(known))
            raise ApiError(409, text, code="pool_exists", retry_after_s=max(left_s, 1))
        if known is None and any(pool.name == name for pool in self._gateway.machine.pools):
            raise ApiError(409, f"the fleet has a pool {name!r}", code="pool_exists")
        if known is None and len(self.members) >= MOST_JOINED:
            text = f"{MOST_JOINED:,} machines have joined, as many as may"
            raise ApiError(409, text, code="too_many_pools")

    def _member(self, name: str, request: JoinRequest) -> Member:
        """Return what a machine becomes.

        Raises:
            ApiError: 400 or 409; there is no such offer, or it is not as that says.
        """
        try:
            pool = _pool_of(name, request)
            found: list[Mismatch] = []
            if request.offer:
                offer = catalog.load().offer(request.offer, request.region or None)
                found = mismatches(offer, request.hardware, request.core_speed)
            if found and request.strict:
                told = "; ".join(f"{m.what}: {m.declared} declared, {m.found} found" for m in found)
                raise ApiError(409, f"not as {request.offer} is: {told}", code="pool_mismatch")
            running = _opened(pool, request)
        except InputError as error:
            raise ApiError(400, str(error), code="pool_refused") from error
        usd_per_hour = running.usd_per_s * 3600
        return Member(request, running, found, usd_per_hour, self._clock() + LEASE_S)


def _pool_of(name: str, request: JoinRequest) -> Pool:
    """Return the pool of a machine, as a fleet file would have it.

    Raises:
        InputError: nobody tells what it costs.
    """
    price: OwnPrice | str = request.price
    if not request.offer:
        if request.usd_per_hour is None:
            mend = "give an offer, or usd_per_hour"
            raise InputError("nothing tells what the machine costs", mend=mend)
        price = OwnPrice(usd_per_hour=request.usd_per_hour)
    fields = {
        "name": name,
        "offer": request.offer or f"own/{name}",
        "region": request.region,
        "serves": (*request.serves, *(["tool:*"] if request.sandboxes else ())),
        "engine": "openai",
        "endpoint": request.endpoint,
        "model": request.model,
        "tools": request.tools,
        "concurrency": request.concurrency,
    }
    return msgspec.convert(fields | {"price": msgspec.to_builtins(price)}, Pool)


def _opened(pool: Pool, request: JoinRequest) -> RunningPool:
    """Open the pool of a machine: its engine, its sandboxes, or both.

    A step of the engine is priced by its seconds in a slot, code by its core-seconds.

    Raises:
        InputError: the endpoint is no address, it serves nothing, or its offer has no such price.
    """
    if (request.model is None) != (not request.serves) or not (request.model or request.sandboxes):
        raise InputError("it serves nothing", mend="give model and serves, sandboxes, or all three")
    check_endpoint(request.endpoint, request.key)
    engine = endpoint_engine(pool, request.key) if request.model is not None else None
    usd_per_s = usd_per_hour(pool) / SECONDS_PER_HOUR
    cores = min(request.hardware.cores, MOST_CORES) if request.sandboxes else 0

    def price(cpu_s: float | None, service_s: float) -> tuple[float | None, float | None]:
        share = service_s / pool.concurrency if cpu_s is None or not cores else cpu_s / cores
        return usd_per_s * share, None

    if not request.sandboxes:
        return RunningPool(pool, engine, 0, price, usd_per_s)
    far = FarSandboxes(pool.name, request.endpoint, request.key, cores)
    return RunningPool(pool, engine, cores, price, usd_per_s, executor=far,
                       sandboxes=frozenset(request.sandboxes))  # fmt: skip


def _ip(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Return an address; of IPv4 also where a listener of both kinds writes it as IPv6."""
    found = ipaddress.ip_address(text)
    return getattr(found, "ipv4_mapped", None) or found


async def _ask(request: JoinRequest, executor: Executor | None) -> None:
    """Ask a machine for one token, or one vector, and to run a line of code.

    Raises:
        ApiError: 502; it did not.
    """
    if request.model is not None:
        await _ask_engine(request)
    if executor is None:
        return
    job = Code(request.sandboxes[0], "1 + 1", {}, Limits(time_s=_ASK_S / 2))
    try:
        result = (await executor.run(job)).result
    except (InputError, StepError) as error:
        text = f"the endpoint ran no code: {error}"
        raise ApiError(502, text, code="endpoint_failed") from error
    if not result.ok:
        text = "the endpoint ran no code: its sandbox failed at 1 + 1"
        raise ApiError(502, text, code="endpoint_failed")


async def _ask_engine(request: JoinRequest) -> None:
    """Ask an engine for one token, or one vector.

    Raises:
        ApiError: 502; it gave none.
    """
    chats = any(pattern.startswith("llm:") for pattern in request.serves)
    body = {"model": request.model}
    asked = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}
    whole = msgspec.json.encode(body | (asked if chats else {"input": "hi"}))
    forwarder = Forwarder(request.endpoint, request.key)
    try:
        async with asyncio.timeout(_ASK_S):
            answer = await forwarder.post("chat/completions" if chats else "embeddings", whole)
            try:
                await answer.whole(_MOST_BYTES)
            finally:
                answer.close()
        if answer.status != 200:
            # What it says is not passed on: it may be somebody else's.
            text = f"the endpoint answered HTTP {answer.status} when asked for one token"
            raise ApiError(502, text, code="endpoint_failed")
    except TimeoutError as error:
        text = f"the endpoint gave no token within {_ASK_S:g} s"
        raise ApiError(502, text, code="endpoint_failed") from error
    except EngineError as error:
        raise ApiError(
            502, f"the endpoint gave no token: {error}", code="endpoint_failed"
        ) from error
    finally:
        forwarder.close()


@asynccontextmanager
async def taking_machines(gateway: Gateway) -> AsyncIterator[None]:
    """Take machines in, and drain those that say nothing any more, while the gateway serves."""
    register = gateway.register = Register(gateway)

    async def watch() -> None:
        while True:
            await asyncio.sleep(_LOOK_S)
            await register.drain_silent()

    watching = asyncio.create_task(watch())
    try:
        yield
    finally:
        watching.cancel()

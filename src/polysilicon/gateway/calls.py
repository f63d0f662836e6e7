"""A call is a step: admitted, placed, metered, journaled; what it cost comes back with the answer.

Neither prompts nor answers are kept: the journal gets the step's record and no result.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Protocol

from starlette.datastructures import Headers
from starlette.types import Receive, Scope

from polysilicon.catalog.policy import Objective
from polysilicon.errors import EngineError, StepError, StepTimeoutError, UnreachedError, nearest
from polysilicon.gateway.about import about
from polysilicon.gateway.access import Caller
from polysilicon.gateway.errors import NOTES, ApiError, CallerLeftError
from polysilicon.gateway.guard import CALLER
from polysilicon.gateway.outside import Asked
from polysilicon.gateway.state import Gateway
from polysilicon.runtime.pools import RunningPool
from polysilicon.runtime.scope import ANY_MODEL, StepCall, Usage
from polysilicon.workload.record import Kind

VIRTUAL: dict[str, Objective | None] = {
    ANY_MODEL: None,
    f"{ANY_MODEL}:fast": "latency",
    f"{ANY_MODEL}:cheap": "cost",
}
"""Models that stand for any: what the pool is chosen by, in place of the policy's objective."""

Prepare = Callable[[Sequence[RunningPool]], Awaitable[None]]
"""Gets ready for the pools that may take a call."""

_MOST_WAITING = 1000
_RETRY_S = 2.0
_MOST_NAMES = 20
_MOST_NAME_CHARS = 64


class _Body(Protocol):
    """What all requests for work of a model have."""

    @property
    def model(self) -> str: ...

    @property
    def metadata(self) -> Mapping[str, object] | None: ...


def asked_in(scope: Scope, body: _Body, *, kind: Kind, name: str) -> Asked:
    """Return what a request asks for.

    Raises:
        ApiError: 400; what it says of itself makes no sense.
    """
    return Asked(
        request=scope[NOTES]["request"],
        caller=scope[CALLER],
        kind=kind,
        name=name,
        model=body.model,
        about=about(Headers(scope=scope), body.metadata),
    )


@dataclass(slots=True)
class Placed:
    """Where a call went and what it cost, filled in as it goes.

    Attributes:
        task_id: of the step.
        pool: that took it, the last one where several were tried.
        usage: what it used, as the step record has it.
        queued_s: seconds until the pool took it up.
        ignored: fields of the request that its engine does not know.
    """

    task_id: str
    pool: RunningPool | None = None
    usage: Usage = field(default_factory=Usage)
    queued_s: float = 0.0
    ignored: list[str] = field(default_factory=list)

    def headers(self) -> list[tuple[bytes, bytes]]:
        """Return the headers that tell of it; of what is not known yet there is none."""
        found: dict[str, str] = {"task": self.task_id, "step": self.usage.step_id}
        if self.pool is not None:
            found |= {"pool": self.pool.name, "offer": self.pool.offer_name}
            found |= {"region": self.pool.region, "queued-s": f"{self.queued_s:.6f}"}
        if self.usage.cost_usd is not None:
            found["cost-usd"] = f"{self.usage.cost_usd:.12f}"
        if self.ignored:  # callers made these names up
            names = [n[:_MOST_NAME_CHARS] for n in self.ignored[:_MOST_NAMES] if n.isprintable()]
            more = [] if len(names) == len(self.ignored) else ["…"]
            found["ignored"] = ", ".join([*names, *more])
        return [
            (f"x-polysilicon-{name}".encode(), _latin(value))
            for name, value in found.items()
            if value
        ]

    def costs(self) -> dict[str, float | str | None]:
        """Return what goes into an answer's `usage` beside the tokens."""
        usage = self.usage
        return {"cost_usd": usage.cost_usd, "energy_j": usage.energy_j, "basis": "measured"}


Work = Callable[[RunningPool, Placed], Awaitable[None]]
"""Does a call on a pool."""


async def run(
    gateway: Gateway,
    asked: Asked,
    work: Work,
    prepare: Prepare | None = None,
) -> Placed:
    """Run a call as a step.

    Args:
        gateway: the state.
        asked: what for.
        work: does it on a pool; what comes of it, it keeps elsewhere.
        prepare: does what takes long beforehand, while the call has no room at an engine.

    Raises:
        ApiError: the call is not let in.
        StepError: it failed.
    """
    if gateway.draining:
        raise ApiError(503, "the gateway is ending", code="draining", retry_after_s=_RETRY_S)
    call = _step(gateway, asked)
    allowed, caller = _check(gateway, asked, call), asked.caller
    caller.admit()
    now_s, named = gateway.clock(), not gateway.access.open
    scope = gateway.outside.scope(asked, gateway.policy, now_s, named=named)
    placed = Placed(scope.task.task_id)
    refused: list[Exception] = []
    front = scope.task.waited_for
    metered = _metered(gateway, caller, placed, work, refused, front=front)
    caller.running += 1
    try:
        if prepare is not None:
            await _prepared(prepare(allowed), gateway.settings.timeout_s)
        await gateway.runner.run(scope, call, metered, None)
    except EngineError:
        if refused:
            raise refused[-1] from None
        raise
    finally:
        caller.running -= 1
        caller.spend(placed.usage.cost_usd)
    return placed


def _metered(
    gateway: Gateway,
    caller: Caller,
    placed: Placed,
    work: Work,
    refused: list[Exception],
    *,
    front: bool,
) -> Callable[[RunningPool, Usage], Awaitable[None]]:
    """Return a call's work, which notes where it went in `placed`, and a refusal in `refused`."""
    ready_s = time.monotonic()

    async def metered(pool: RunningPool, usage: Usage) -> None:
        placed.pool, placed.usage = pool, usage
        placed.queued_s = time.monotonic() - ready_s
        try:
            caller.check_budget()  # others may have spent it while this call waited
            async with gateway.resources.engine_cpu(pool, usage, front=front):
                await work(pool, placed)
        except EngineError as error:
            error.doubtful = not isinstance(error, UnreachedError)
            raise
        except (StepError, TimeoutError):
            raise
        except Exception as error:  # only with a StepError has a step its record
            refused.append(error)
            failure = EngineError("the call was refused", of_request=True)
            failure.unasked = True
            raise failure from error

    return metered


async def _prepared(prepares: Awaitable[None], limit_s: float) -> None:
    """Await what prepares a call.

    Raises:
        StepTimeoutError: it takes longer than the call may.
    """
    try:
        async with asyncio.timeout(limit_s):
            await prepares
    except TimeoutError as error:
        raise StepTimeoutError(f"the call was not ready within {limit_s:g} s") from error


def _step(gateway: Gateway, asked: Asked) -> StepCall:
    """Return the step of a call."""
    names = [pool.name for pool in gateway.machine.pools if _may(asked, pool)]
    every = len(names) == len(gateway.machine.pools)
    return StepCall(
        kind=asked.kind,
        name=asked.name,
        model=ANY_MODEL if asked.model in VIRTUAL else asked.model,
        resource=asked.resource,
        arguments=asked.request,
        timeout_s=gateway.settings.timeout_s,
        only=None if every else frozenset(names),
        objective=VIRTUAL.get(asked.model),
        once=True,
    )


def _may(asked: Asked, pool: RunningPool) -> bool:
    region = asked.about.region
    return asked.caller.may_use(pool.name) and (not region or fnmatchcase(pool.region, region))


def _check(gateway: Gateway, asked: Asked, call: StepCall) -> list[RunningPool]:
    """Return the pools that may take a call.

    Raises:
        ApiError: there are none, or too many calls wait for them.
    """
    _check_class(gateway, asked)
    serving = [pool for pool in gateway.machine.pools if pool.serves_call(call)]
    if not serving:
        mend = nearest(asked.model, models(gateway, asked.caller, asked.kind))
        text = f"no pool serves {asked.kind}:{asked.model}" + (f"; {mend}" if mend else "")
        raise ApiError(404, text, code="model_not_found", param="model")
    allowed = [pool for pool in serving if call.only is None or pool.name in call.only]
    if not allowed:
        text = f"no pool that serves {asked.model} may take this call: key or region forbid it"
        raise ApiError(403, text, code="pool_not_allowed")
    if min(pool.gates[call.resource].waiting for pool in allowed) >= _MOST_WAITING:
        text = f"{_MOST_WAITING} calls wait already"
        raise ApiError(429, text, code="queue_full", retry_after_s=_RETRY_S)
    return allowed


def _check_class(gateway: Gateway, asked: Asked) -> None:
    """Raise `ApiError` where a class of data is that of a rule but for its spelling.

    No rule would hold for it, and the data would go where the rule was to keep it from.
    """
    given = asked.about.data_class
    known = {rule.data_class for rule in gateway.policy.residency}
    if given is None or given in known:
        return
    meant = [name for name in known if _letters(name) == _letters(given)]
    if meant:
        text = f"data class {given!r} is spelt {meant[0]!r} in the policy"
        raise ApiError(400, text, param="metadata.data_class")


def _letters(name: str) -> str:
    return "".join(filter(str.isalnum, name.casefold()))


def models(gateway: Gateway, caller: Caller, kind: Kind) -> list[str]:
    """Return the models that a caller may use for a kind of step, the virtual ones first."""
    names = [
        pool.engine.model
        for pool in gateway.machine.pools
        if pool.engine is not None
        and caller.may_use(pool.name)
        and pool.serves(kind, pool.engine.model, "engine")
    ]
    return [*VIRTUAL, *dict.fromkeys(names)] if names and kind == "llm" else [*dict.fromkeys(names)]


def _latin(value: str) -> bytes:
    """Return a header's value; what cannot be in one is escaped."""
    return value.encode("ascii", "backslashreplace").replace(b"\r", b"").replace(b"\n", b"")


async def unless_left(receive: Receive, work: Awaitable[None]) -> None:
    """Await work that answers a request, and cancel it once its caller has left.

    Args:
        receive: of the request, whose body has been read.
        work: the answer.

    Raises:
        CallerLeftError: the caller left.
    """
    main = asyncio.current_task()
    assert main is not None
    left = False

    async def watch() -> None:
        nonlocal left
        while (await receive())["type"] != "http.disconnect":
            pass
        left = True
        main.cancel()

    watching = asyncio.create_task(watch())
    try:
        await work
    except asyncio.CancelledError:
        if left and main.uncancel() == 0:
            raise CallerLeftError from None
        raise
    finally:
        watching.cancel()

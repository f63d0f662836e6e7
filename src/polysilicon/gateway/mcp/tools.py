"""The tools of MCP, each a step of the gateway: scheduled, metered, recorded, not kept."""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from polysilicon.errors import InputError, PolysiliconError, nearest
from polysilicon.gateway.access import Caller
from polysilicon.gateway.errors import ApiError
from polysilicon.gateway.mcp import verbs
from polysilicon.gateway.mcp.arguments import Describe, Estimate, Place, RunCode, Search
from polysilicon.gateway.state import Gateway
from polysilicon.runtime.context import DEFAULT_SANDBOX
from polysilicon.runtime.jobs import Code
from polysilicon.runtime.pools import RunningPool
from polysilicon.runtime.results import encode_result
from polysilicon.runtime.scope import Scope, StepCall, TaskState, Usage
from polysilicon.runtime.types import Limits

T = TypeVar("T")
TYPES: dict[str, type[msgspec.Struct]] = {
    "run_code": RunCode,
    "search": Search,
    "estimate": Estimate,
    "place": Place,
    "describe": Describe,
}
"""The tools, and what they take."""

AGENT = "mcp"
"""Agent of the step records of tools."""

_OF_ALL = ("gateway", "traces")
"""Workloads that have the steps of all callers."""

_LIMITS_S = {"estimate": 60.0, "place": 300.0, "describe": 120.0}
_SEARCH_S = 60.0
_GRACE_S = 10.0


async def call(gateway: Gateway, caller: Caller, name: str, given: dict[str, Any]) -> Any:
    """Call a tool, and return its result.

    Raises:
        PolysiliconError: the arguments are wrong, the caller may not, or it failed.
    """
    if name not in TYPES:
        raise InputError(f"there is no tool {name!r}", mend=nearest(name, TYPES))
    try:
        asked = msgspec.convert(given, TYPES[name])
    except msgspec.ValidationError as error:
        raise InputError(str(error), where=name) from error
    if getattr(asked, "workload", "") in _OF_ALL and not caller.key.admin:
        text = "this key may not see what others do; put a workload of your own into the folder"
        raise ApiError(403, text, code="not_admin")
    caller.admit()
    caller.running += 1
    try:
        if isinstance(asked, RunCode):
            return await _run_code(gateway, caller, asked)
        if isinstance(asked, Search):
            return await _search(gateway, caller, asked)
        return await _verb(gateway, caller, name, msgspec.to_builtins(asked))
    finally:
        caller.running -= 1


async def _run_code(gateway: Gateway, caller: Caller, asked: RunCode) -> Any:
    limits = Limits(time_s=asked.time_s, memory_bytes=asked.memory_mb * 1_000_000)
    job = Code(DEFAULT_SANDBOX, asked.code, asked.inputs, limits)

    async def work(pool: RunningPool, usage: Usage) -> Any:
        done = await gateway.resources.executor(pool).run(job)
        usage.cpu_s, usage.cores = done.cpu_s, 1
        usage.startup_s, usage.memory_bytes = done.startup_s, done.memory_bytes
        return msgspec.msgpack.decode(encode_result(done.result))

    return await _step(gateway, caller, "code", limits.time_s + _GRACE_S, work)


async def _search(gateway: Gateway, caller: Caller, asked: Search) -> Any:
    index = gateway.resources.here.index(await _index_folder(gateway, asked.index))

    async def work(_pool: RunningPool, usage: Usage) -> Any:
        hits = await asyncio.to_thread(index.search, asked.query, asked.k)
        usage.cores = 1
        return {"hits": msgspec.to_builtins(hits)}

    return await _step(gateway, caller, "search", _SEARCH_S, work)


async def _index_folder(gateway: Gateway, name: str) -> Path:
    """Return the folder of an index: one of an agent, which is prepared for it, or the operator's.

    Raises:
        InputError: there is none.
    """
    tasks = gateway.tasks
    assert tasks is not None
    agent, _, last = name.rpartition("/")
    prepared = [a for a in tasks.agents.values() if a.prepare is not None and a.name == agent]
    for found in prepared:
        await tasks.prepare(found)
    known = {f"{path.parent.parent.name}/{path.name}": path
             for path in gateway.folder.glob("agents/*/indexes/*")}  # fmt: skip
    known |= {path.name: path for path in gateway.folder.glob("indexes/*")}
    alone = [path for full, path in known.items() if full.rpartition("/")[2] == last]
    found_path = known.get(name) or (alone[0] if not agent and len(alone) == 1 else None)
    if found_path is None:
        able = (f"{a.name}/…" for a in tasks.agents.values() if a.prepare is not None)
        mend = f"known: {', '.join([*sorted(known), *able])}"
        raise InputError("there is no such index", where=name[:80], mend=mend)
    return found_path


async def _verb(gateway: Gateway, caller: Caller, name: str, given: dict[str, Any]) -> Any:
    limit_s = _LIMITS_S[name]
    folder = str(gateway.folder.resolve())

    async def work(_pool: RunningPool, usage: Usage) -> Any:
        workers = gateway.resources.here.workers
        result = await workers.call(verbs.told, (name, given, folder), {}, limit_s)
        usage.cpu_s, usage.cores, usage.wait_s = result.cpu_s, 1, result.wait_s
        return msgspec.msgpack.decode(result.data)

    found = await _step(gateway, caller, name, limit_s + _GRACE_S, work)
    if "error" in found:
        raise PolysiliconError(found["error"])
    return found["result"]


async def _step(
    gateway: Gateway,
    caller: Caller,
    name: str,
    limit_s: float,
    work: Callable[[RunningPool, Usage], Awaitable[T]],
) -> T:
    """Do a tool's work as a step of a task of its own; the journal keeps no result of it."""
    found: list[T] = []
    used: list[Usage] = []

    async def metered(pool: RunningPool, usage: Usage) -> None:
        used.append(usage)
        found.append(await work(pool, usage))

    task_id = f"mcp-{secrets.token_hex(8)}"
    rng = random.Random(task_id)  # noqa: S311 - no secret
    state = TaskState(task_id=task_id, agent=AGENT, arrival_s=gateway.clock(), rng=rng)
    only = caller.only(pool.name for pool in gateway.machine.pools)
    call = StepCall(kind="tool", name=name, timeout_s=limit_s, only=only, once=True)
    try:
        await gateway.runner.run(Scope(state), call, metered, None)
    finally:
        caller.spend(sum(usage.cost_usd or 0.0 for usage in used[-1:]))
    return found[-1]

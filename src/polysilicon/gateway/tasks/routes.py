"""`/v1/tasks` and `/v1/agents` over HTTP.

A task's events come as server-sent events: `task`, as it is when one begins to look; `begin` for
each step that is under way or begins; `step` for each that has ended or ends, whose id goes on
where one left off (`Last-Event-ID`); `end`, with which the stream ends. A comment now and then
keeps the connection.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from polysilicon.gateway.bodies import body_of, decoded
from polysilicon.gateway.errors import NOTES, ApiError
from polysilicon.gateway.reading import read_query
from polysilicon.gateway.state import Gateway, caller_of, gateway_of
from polysilicon.gateway.tasks.metrics import TaskCollector
from polysilicon.gateway.tasks.register import Asked, Entry, Register, SqliteRegister
from polysilicon.gateway.tasks.service import Tasks
from polysilicon.gateway.tasks.types import (
    OVER,
    AgentList,
    AgentView,
    Bounds,
    Status,
    TaskList,
    TaskRequest,
)
from polysilicon.runtime.journal import Committed
from polysilicon.runtime.lengths import kept_lengths, lengths_path
from polysilicon.runtime.loader import bundled_names, load_agent
from polysilicon.runtime.tasks import TaskRunner
from polysilicon.runtime.types import Agent
from polysilicon.runtime.watchdog import Watchdog
from polysilicon.workload.record import StepRecord

_PAGE = 200
_BEAT_S = 15.0
_LONGEST_KEY = 255
_END = "end"
_BLOCKED_S = 30.0
"""How long an agent may keep the event loop, on which all calls wait."""

_encode = msgspec.json.encode


Told = Callable[[StepRecord], None]


class TaskQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which tasks to list.

    Attributes:
        limit: how many at most.
        after: only tasks that were accepted before this one.
        agent: only of this agent.
        status: only of this status.
    """

    limit: Annotated[int, Meta(ge=1, le=100)] = 20
    after: str | UnsetType = UNSET
    agent: str | UnsetType = UNSET
    status: Status | UnsetType = UNSET


def agents_of(given: tuple[str, ...]) -> dict[str, Agent]:
    """Return the agents of a gateway: the bundled ones, and those that the operator named.

    Raises:
        InputError: there is no such agent.
    """
    found = [load_agent(name) for name in (*bundled_names(), *given)]
    return {agent.name: agent for agent in found}


@asynccontextmanager
async def serving_tasks(gateway: Gateway) -> AsyncIterator[None]:
    """Run the tasks of a gateway while it serves.

    Raises:
        InputError: an agent that the operator named cannot be had.
    """
    settings = gateway.settings
    runner = TaskRunner(
        gateway.journal, gateway.resources, gateway.folder, settings.task_timeout_s,
        lengths=kept_lengths(lengths_path()),
    )  # fmt: skip
    tasks = Tasks(
        agents_of(settings.agents),
        gateway.access,
        lambda: [pool.name for pool in gateway.machine.pools],
        runner,
        _register(gateway),
        gateway.feed,
        bounds=Bounds(at_once=settings.tasks_at_once, waiting=settings.tasks_waiting),
        wall=gateway.wall,
    )
    runner_of_steps = gateway.runner
    runner_of_steps.on_begin = _both(runner_of_steps.on_begin, tasks.step_begun)
    runner_of_steps.on_end = _both(runner_of_steps.on_end, tasks.step_ended)
    gateway.tasks = tasks
    gateway.metrics.registry.register(TaskCollector(gateway))
    try:
        async with Watchdog(_BLOCKED_S), tasks:
            yield
    finally:
        runner.lengths.keep(lengths_path())


def _register(gateway: Gateway) -> Register:
    """Return the register of tasks, beside the journal."""
    if gateway.shared is None:
        return SqliteRegister(gateway.folder, gateway.journal)
    from polysilicon.gateway.tasks.shared import SharedRegister  # noqa: PLC0415 - an extra

    return SharedRegister(gateway.shared)


def _both(first: Told | None, second: Told) -> Told:
    """Return what tells two listeners of a step."""

    def told(step: StepRecord) -> None:
        if first is not None:
            first(step)
        second(step)

    return told


def _tasks_of(request: Request) -> Tasks:
    tasks = gateway_of(request).tasks
    assert tasks is not None
    return tasks


def _answer(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(_encode(value), status, headers, media_type="application/json")


async def submit(request: Request) -> Response:
    """Accept a task: 202, or 200 where it was accepted before with this Idempotency-Key."""
    gateway, caller = gateway_of(request), caller_of(request)
    key = request.headers.get("idempotency-key")
    if key is not None and not 0 < len(key) <= _LONGEST_KEY:
        raise ApiError(400, f"Idempotency-Key has 1 to {_LONGEST_KEY} characters")
    asked = decoded(await body_of(request.receive), TaskRequest)
    if gateway.draining:
        raise ApiError(503, "the gateway is ending", code="draining", retry_after_s=5)
    view, new = await _tasks_of(request).accept(asked, caller, key)
    request.scope[NOTES]["task"] = view.id
    headers = {"location": f"/v1/tasks/{view.id}"}
    return _answer(view, 202 if new else 200, headers)


async def listed(request: Request) -> Response:
    """List the caller's tasks, newest first; with `admin`, those of all callers."""
    tasks, caller = _tasks_of(request), caller_of(request)
    query = read_query(request, TaskQuery)
    before = None if query.after is UNSET else (await tasks.views.entry(query.after, caller)).seq
    asked = Asked(
        caller=None if caller.key.admin else caller.name,
        agent=query.agent or None,
        status=query.status or None,
        before=before,
        limit=query.limit + 1,
    )
    found = await tasks.register.page(asked)
    data = [await tasks.views.view(entry) for entry in found[: query.limit]]
    return _answer(TaskList(data=data, has_more=len(found) > query.limit))


async def fetched(request: Request) -> Response:
    """Return a task."""
    tasks = _tasks_of(request)
    return _answer(await tasks.views.view(await _entry(request)))


async def cancelled(request: Request) -> Response:
    """Cancel a task, and return it once it has ended; one that has ended stays as it is."""
    return _answer(await _tasks_of(request).cancel(await _entry(request)))


async def agents(request: Request) -> Response:
    """List the agents."""
    found = [
        AgentView(name=agent.name, help=agent.help, example=_example(agent))
        for agent in _tasks_of(request).agents.values()
    ]
    return _answer(AgentList(data=found))


async def events(request: Request) -> Response:
    """Follow a task."""
    entry, last = await _entry(request), request.headers.get("last-event-id", "")
    if last == _END:
        return Response(status_code=204)  # as the standard says: do not come again
    if last and not (last.isascii() and last.isdigit() and len(last) < 19):
        raise ApiError(400, "this is no id of an event", param="Last-Event-ID")
    followed = _followed(gateway_of(request), _tasks_of(request), entry, int(last or 0))
    headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
    return StreamingResponse(followed, headers=headers, media_type="text/event-stream")


async def all_tasks(request: Request) -> Response:
    """List or submit; one route, so that a wrong method is told both right ones."""
    return await (submit if request.method == "POST" else listed)(request)


async def _entry(request: Request) -> Entry:
    """Return the task that the path names."""
    task_id = request.path_params["task_id"]
    found = await _tasks_of(request).views.entry(task_id, caller_of(request))
    request.scope[NOTES]["task"] = found.task_id
    return found


def _example(agent: Agent) -> Any:
    """Return a sample input of an agent; None where it has none."""
    inputs: Iterator[Any] = iter(agent.inputs() if agent.inputs is not None else ())
    return next(inputs, None)


async def _followed(
    gateway: Gateway, tasks: Tasks, entry: Entry, after: int
) -> AsyncIterator[bytes]:
    """Yield the events of a task until it has ended, or the gateway ends.

    Steps are read from the journal a page at a time, so that a slow reader costs no memory.
    """
    yield _event("task", await tasks.views.view(entry))
    begun: set[str] = set()
    told_s = time.monotonic()
    while True:
        # Asked for first: what happens from here on wakes us.
        waiting = asyncio.ensure_future(tasks.changed(entry.task_id))
        try:
            await asyncio.sleep(0)
            entry = await tasks.register.get(entry.task_id) or entry
            over = entry.status in OVER  # before the steps: the last of them are in the next pages
            while page := await gateway.journal.ended_of(entry.task_id, after, _PAGE):
                for step in page:
                    yield _step(step)
                after, told_s = page[-1].seq, time.monotonic()
            live = tasks.live.get(entry.task_id)
            for step_id, record in dict(live.running if live else {}).items():
                if step_id not in begun:
                    begun.add(step_id)
                    yield _event("begin", _told(record))
            if over:
                yield _event(_END, await tasks.views.view(entry), _END)
                return
            if tasks.closed:
                return
            while not (await asyncio.wait([waiting], timeout=_BEAT_S))[0]:
                yield b": \n\n"
            if time.monotonic() - told_s > _BEAT_S:  # nothing new of one that another gateway has
                told_s = time.monotonic()
                yield b": \n\n"
        finally:
            waiting.cancel()


def _step(step: Committed) -> bytes:
    return _event("step", _told(step.record), str(step.seq))


def _told(step: StepRecord) -> dict[str, Any]:
    """Return what is known of a step."""
    known = msgspec.structs.asdict(step)
    return {name: value for name, value in known.items() if value is not None}


def _event(kind: str, data: Any, number: str = "") -> bytes:
    head = f"id: {number}\n" if number else ""
    return b"%sevent: %s\ndata: %s\n\n" % (head.encode(), kind.encode(), _encode(data))


ROUTES = (
    Route("/v1/tasks", all_tasks, methods=["GET", "POST"]),
    Route("/v1/tasks/{task_id}", fetched, methods=["GET"]),
    Route("/v1/tasks/{task_id}/cancel", cancelled, methods=["POST"]),
    Route("/v1/tasks/{task_id}/events", events, methods=["GET"]),
    Route("/v1/agents", agents, methods=["GET"]),
)

"""A task while it waits or runs: the sums of its steps, and who watches it."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from polysilicon.errors import InputError
from polysilicon.gateway.access import Caller
from polysilicon.gateway.errors import ApiError
from polysilicon.gateway.tasks.register import Entry
from polysilicon.gateway.tasks.types import Status, TaskEvent, TaskRequest
from polysilicon.runtime.scope import added
from polysilicon.runtime.tasks import CANCELLED, one_line
from polysilicon.runtime.types import Agent
from polysilicon.runtime.watchdog import TaskBlockedError
from polysilicon.workload.record import StepRecord

GONE = f"{CANCELLED}: the key that it was asked for with is gone"


@dataclass(slots=True)
class Live:
    """What is known of a task that has not ended; sums of its steps so far.

    It is one of its caller's calls at once, from its beginning to `ended`. One that is `cancelled`
    is to end without having run.
    """

    entry: Entry
    arrival_s: float
    begun_s: float | None = None
    steps: int = 0
    cost_usd: float | None = None
    energy_j: float | None = None
    caller: Caller | None = None
    cancelled: bool = False
    running: dict[str, StepRecord] = field(default_factory=dict)
    watchers: list[asyncio.Future[None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Count as a call that is under way."""
        if self.caller is not None:
            self.caller.running += 1

    def ended(self) -> None:
        """Count no more, and tell those who watch."""
        if self.caller is not None:
            self.caller.running -= 1
        self.wake()

    def add(self, step: StepRecord) -> None:
        """Count a step that ended."""
        self.running.pop(step.step_id, None)
        self.steps += 1
        self.cost_usd = added(self.cost_usd, step.cost_usd)
        self.energy_j = added(self.energy_j, step.energy_j)

    def wake(self) -> None:
        """Tell those who watch that something has changed."""
        watchers, self.watchers = self.watchers, []
        for future in watchers:
            if not future.done():
                future.set_result(None)


def event_of(entry: Entry, status: Status, error: str | None) -> TaskEvent:
    """Return what the feed tells of a task."""
    return TaskEvent(
        task_id=entry.task_id, agent=entry.agent, caller=entry.caller, status=status, error=error
    )


def spent(caller: Caller) -> str:
    """Return why a task ends whose caller has spent its budget."""
    return f"{CANCELLED}: the budget of key {caller.name!r} is spent"


def entry_of(request: TaskRequest, agent: Agent, caller: str, now_s: float) -> Entry:
    """Return a task that is asked for as the register takes it in.

    Raises:
        ApiError: 400; the input is none for that agent, or cannot be kept.
    """
    *_, encoded = _inputs(request, agent)
    return Entry(
        seq=0,
        task_id=f"task-{secrets.token_hex(12)}",
        caller=caller,
        agent=agent.name,
        input=encoded,
        created_at=now_s,
        status="queued",
        given=_given(request),
    )


def is_same(known: Entry, request: TaskRequest, agent: Agent | None) -> bool:
    """Tell whether a request is the one that a task was taken in for.

    What was given decides, whatever its agent would make of it today, or in this folder; so does
    what the agent made of it, which is what the task shows.

    Raises:
        ApiError: 400; it is another one, and none for its agent.
    """
    if known.agent != request.agent:
        return False
    return known.given == _given(request) or known.input in _inputs(request, agent)


def _given(request: TaskRequest) -> str:
    """Return a hash of an input as it came; the order of its keys says nothing."""
    data = _encoded(request.input, order="deterministic")
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def _inputs(request: TaskRequest, agent: Agent | None) -> Iterator[bytes]:
    """Yield the input of a task as it was given, then as its agent accepts it; the last is kept.

    Raises:
        ApiError: 400; it is none for that agent, or cannot be kept.
    """
    yield _encoded(request.input)
    if agent is None or agent.accept is None:
        return
    try:
        accepted = agent.accept(request.input)
    except InputError as error:
        raise ApiError(400, str(error), code="input_refused", param="input") from error
    except (Exception, SystemExit, TaskBlockedError) as error:  # foreign code may raise anything
        text = f"agent {agent.name!r} does not accept it: {one_line(error)}"
        raise ApiError(400, text, code="input_refused", param="input") from error
    yield _encoded(accepted)


def _encoded(value: Any, order: Literal["deterministic"] | None = None) -> bytes:
    try:
        return msgspec.msgpack.encode(value, order=order)
    except (TypeError, OverflowError, UnicodeEncodeError, RecursionError) as error:
        raise ApiError(400, f"input: it cannot be kept: {error}", param="input") from error

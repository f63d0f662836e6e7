"""What is said of tasks over HTTP. The OpenAPI document is made of these types."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

import msgspec
from msgspec import Meta

Status = Literal["queued", "in_progress", "completed", "failed", "cancelled"]

STATUSES: tuple[str, ...] = get_args(Status)
OVER = frozenset({"completed", "failed", "cancelled"})
"""What a task that has ended may be."""


class TaskRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A task to run.

    Attributes:
        agent: one of those that the gateway runs.
        input: what the agent is given.
    """

    agent: Annotated[str, Meta(min_length=1, max_length=200)]
    input: dict[str, Any]


class TaskView(msgspec.Struct, frozen=True, kw_only=True):
    """A task, as it is now.

    Attributes:
        id: of the task.
        object: always `task`.
        agent: that runs it.
        status: `failed` is an error of the agent or a limit, told in `error`.
        created_at: when it was accepted, seconds since 1970.
        input: what the agent was given.
        output: what it returned; null before it completed.
        error: one line, where it failed or was cancelled.
        quality: 1 for the right outcome, 0 for the wrong one, null where nobody can tell.
        steps: how many steps have ended.
        cost_usd: dollars, by what was measured, of those that have a price; null where none has.
        energy_j: joules of those of which they are known; null where they are of none.
        run_s: seconds from its first step to its end or to now, downtime of the gateway left out.
    """

    id: str
    object: Literal["task"] = "task"
    agent: str
    status: Status
    created_at: float
    input: Any
    output: Any = None
    error: str | None = None
    quality: float | None = None
    steps: int = 0
    cost_usd: float | None = None
    energy_j: float | None = None
    run_s: float | None = None


class TaskList(msgspec.Struct, frozen=True, kw_only=True):
    """A page of tasks, newest first.

    Attributes:
        object: always `list`.
        data: the tasks.
        has_more: there are older ones; ask again with `after` the last one's id.
    """

    object: Literal["list"] = "list"
    data: list[TaskView]
    has_more: bool


class AgentView(msgspec.Struct, frozen=True, kw_only=True):
    """An agent that the gateway runs; `example` is an input, where it has any."""

    name: str
    help: str
    example: Any = None


class AgentList(msgspec.Struct, frozen=True, kw_only=True):
    """The agents that the gateway runs."""

    object: Literal["list"] = "list"
    data: list[AgentView]


class TaskEvent(msgspec.Struct, frozen=True, kw_only=True):
    """What the feed's events of kind `task` hold: a task was accepted, begun or ended.

    Attributes:
        task_id: of the task.
        agent: that runs it.
        caller: name of the key that asked for it.
        status: that it has now.
        error: one line, where it failed or was cancelled.
    """

    task_id: str
    agent: str
    caller: str
    status: Status
    error: str | None = None


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """How many tasks may be under way at once, and how many may wait; more are refused."""

    at_once: int
    waiting: int

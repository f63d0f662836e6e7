"""Agents that run elsewhere: their calls, and the tasks that these belong to."""

from __future__ import annotations

import random
import time
from collections import OrderedDict
from dataclasses import dataclass

from polysilicon import schedule
from polysilicon.catalog.policy import Policy
from polysilicon.gateway.about import About
from polysilicon.gateway.access import Caller
from polysilicon.runtime.lengths import Lengths
from polysilicon.runtime.scope import Scope, TaskState
from polysilicon.workload.record import Kind

_MOST_TASKS = 10_000

_NOT_TOLD = Lengths()
"""Nobody tells when such tasks end, so none is known: those with the least service go first."""


@dataclass(slots=True, kw_only=True)
class Asked:
    """What a call asks for.

    Attributes:
        request: its id.
        caller: who asks.
        kind: `llm` or `embed`.
        name: the operation, as in the step record.
        model: as the caller named it.
        about: what was said of it.
        resource: what the step waits for.
    """

    request: str
    caller: Caller
    kind: Kind
    name: str
    model: str
    about: About
    resource: str = "engine"

    @property
    def agent(self) -> str:
        """Name of the agent; the caller's where none was told."""
        return self.about.agent or self.caller.name


class Tasks:
    """Tasks of outside agents, by what their calls say; those not heard of for long are forgotten.

    A task that is forgotten and comes again is the same task in all records; only what was known
    of its prompts' prefixes and of its parents is gone.
    """

    def __init__(self) -> None:
        self._scopes: OrderedDict[tuple[str, ...], Scope] = OrderedDict()

    def scope(self, asked: Asked, policy: Policy, now_s: float, *, named: bool) -> Scope:
        """Return the line of steps that a call belongs to.

        Args:
            asked: the call.
            policy: what tells agents' SLOs.
            now_s: by the clock of the step records.
            named: callers have names, which their tasks get as a prefix.
        """
        about = asked.about
        if not about.task:
            return Scope(_state(asked, asked.request, policy, now_s))
        key = (asked.caller.name, about.task, asked.agent, about.data_class or "")
        scope = self._scopes.get(key)
        if scope is None:
            task_id = f"{asked.caller.name}/{about.task}" if named else about.task
            scope = self._scopes[key] = Scope(_state(asked, task_id, policy, now_s))
            if len(self._scopes) > _MOST_TASKS:
                self._scopes.popitem(last=False)
        self._scopes.move_to_end(key)
        scope.task.deadline_s = _deadline(asked, policy)
        scope.task.moved()
        scope.task.occurrences.clear()  # ids are of requests, which never come again
        return scope


def _state(asked: Asked, task_id: str, policy: Policy, now_s: float) -> TaskState:
    slo = policy.slo_of(asked.agent)
    return TaskState(
        task_id=task_id,
        agent=asked.agent,
        arrival_s=now_s,
        rng=random.Random(task_id),  # noqa: S311 - spreads retries
        klass=schedule.INTERACTIVE if slo and slo.interactive else schedule.BATCH,
        deadline_s=_deadline(asked, policy),
        data_class=asked.about.data_class,
        lengths=_NOT_TOLD,
    )


def _deadline(asked: Asked, policy: Policy) -> float:
    """Return until when a call should be done, by `time.monotonic`."""
    slo = policy.slo_of(asked.agent)
    limit_s = asked.about.deadline_s
    return time.monotonic() + (min(limit_s, slo.p99_s) if slo else limit_s)

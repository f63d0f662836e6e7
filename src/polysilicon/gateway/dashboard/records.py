"""What the dashboard's pages show, as plain records: a page is a function of one `Snapshot`.

Moments are seconds since the gateway's journal began, as in the step record.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from polysilicon.cost.elsewhere import Elsewhere
from polysilicon.gateway.totals import Sums
from polysilicon.runtime.dispatch import Decision
from polysilicon.workload.record import StepRecord

Health = Literal["up", "failing", "drained"]
TaskState = Literal["running", "waiting", "ok", "failed", "cancelled"]

UNENDED: tuple[TaskState, ...] = ("running", "waiting")


class Room(msgspec.Struct, frozen=True, kw_only=True):
    """Room of a pool for steps that need one resource.

    Attributes:
        resource: `engine`, `cpu` or `wait`.
        running: steps that have it.
        waiting: steps that wait for it.
        cap: how many may have it at once.
        mean_s: mean service of its steps; 0 before the first.
    """

    resource: str
    running: int
    waiting: int
    cap: int
    mean_s: float = 0.0


class PoolNow(msgspec.Struct, frozen=True, kw_only=True):
    """A pool of the fleet as it is now.

    Attributes:
        name: of it.
        offer: what it is made of.
        region: where.
        units: machines.
        serves: patterns of step classes.
        model: of its engine; None where it has none.
        usd_per_hour: of all units; None where it is not known.
        price: which price that is, and where it is from.
        committed: that it is paid for whether it is used or not.
        rooms: by resource.
        health: of its engine.
        failures: of it in a row.
        used: what its steps took and cost so far; None where there are none.
        spent_usd: of its steps since the gateway started.
    """

    name: str
    offer: str
    region: str
    units: int
    serves: tuple[str, ...]
    model: str | None = None
    usd_per_hour: float | None = None
    price: str = ""
    committed: bool = False
    rooms: tuple[Room, ...] = ()
    health: Health = "up"
    failures: int = 0
    used: Sums | None = None
    spent_usd: float = 0.0


class TaskNow(msgspec.Struct, frozen=True, kw_only=True):
    """A task as it is now, and its steps.

    Attributes:
        task_id: as in the step record.
        agent: that runs it, or that a caller named.
        state: of it.
        arrival_s: when it came.
        end_s: when it ended; None while it goes on.
        steps: that ended, and those under way, which have no `end_s`; of many the latest.
        steps_left_out: earlier ones that are no longer kept here.
        cost_usd: of all its steps; None where none has a price.
        error: one line, where it failed.
        may_cancel: whether the reader may cancel it.
        why: where its steps went and why, where there was a choice; only of a task by itself.
    """

    task_id: str
    agent: str
    state: TaskState
    arrival_s: float
    end_s: float | None = None
    steps: tuple[StepRecord, ...] = ()
    steps_left_out: int = 0
    cost_usd: float | None = None
    error: str | None = None
    may_cancel: bool = False
    why: tuple[Decision, ...] = ()


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    """What a key has spent of what it may spend; no limit where `limit_usd` is None."""

    key: str
    spent_usd: float
    limit_usd: float | None
    window: str = ""


class Spending(msgspec.Struct, frozen=True, kw_only=True):
    """Dollars of steps over time, in buckets of equal length; the last one is not over yet."""

    start_s: float
    bucket_s: float
    usd: tuple[float, ...]


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """All that the pages show of one moment.

    Attributes:
        now_s: that moment.
        up_s: since the gateway started.
        month: of the calendar, such as `2026-11`, UTC.
        version: of Polysilicon.
        draining: it takes no more work.
        troubles: what a person should see first, a line each.
        pools: of the fleet.
        tasks: that go on, then those that ended last, the latest first.
        tasks_left_out: others that go on and are not in `tasks`.
        missed: events that came faster than they could be looked at; their steps are in the sums.
        running: steps under way, of all tasks.
        sums: of all steps so far; None before the first one.
        books: the same by `agent`, `kind`, `model` and `pool`.
        spending: of steps since the gateway started.
        budgets: of the keys that the reader may see.
        keyed: keys are in force.
        reader: name of the reader's key; empty without one.
    """

    now_s: float
    up_s: float
    month: str
    version: str
    draining: bool = False
    troubles: tuple[str, ...] = ()
    pools: tuple[PoolNow, ...] = ()
    tasks: tuple[TaskNow, ...] = ()
    tasks_left_out: int = 0
    missed: int = 0
    running: int = 0
    sums: Sums | None = None
    books: Mapping[str, Mapping[str, Sums]] = {}
    spending: Spending | None = None
    budgets: tuple[Budget, ...] = ()
    keyed: bool = False
    reader: str = ""


class Chrome(msgspec.Struct, frozen=True, kw_only=True):
    """What is around every page.

    Attributes:
        token: that a form must bring back.
        every_s: seconds between looks for news; 0 for a page that stays as it is.
        said: a line that tells what became of the reader's last request.
        query: of the page's own address.
    """

    token: str = ""
    every_s: float = 2.0
    said: str = ""
    query: Mapping[str, str] = {}


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """The work seen here, estimated on other offers.

    Attributes:
        tasks: that were estimated.
        steps: of them.
        age_s: how long ago.
        rows: offers with an estimate.
        refused: offers without one, and why.
        left_out: tasks that called models of which nothing is known.
        unknown: these models.
        trouble: why there is no estimate, where it failed.
        busy: a newer one is being made.
    """

    tasks: int = 0
    steps: int = 0
    age_s: float = 0.0
    rows: Sequence[Elsewhere] = ()
    refused: Sequence[tuple[str, str]] = ()
    left_out: int = 0
    unknown: Sequence[str] = ()
    trouble: str = ""
    busy: bool = False

"""Which pool takes a step: what pools, their queues and the policy are, put before `schedule`."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from polysilicon import schedule
from polysilicon.catalog.fleet import LOCAL
from polysilicon.catalog.policy import Objective, Policy
from polysilicon.errors import InputError, PolicyError
from polysilicon.runtime.known import Known
from polysilicon.runtime.pools import RunningPool
from polysilicon.runtime.scope import StepCall, TaskState

_MOST_TOLD = 32
"""Pools that a decision names."""


class Candidate(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was known of a pool when a step was placed.

    Attributes:
        pool: its name.
        score_usd: what the step would cost there, lateness priced in; None where it may not go.
        usd_per_s: dollars of one second of a step's share of the pool.
        work_s: how long steps of this name take there, as measured.
        saved_s: of these, what the prompt that the task left in its prefix cache saves.
        queue_s: how long it would wait.
        refused: why it may not go there; empty where it may.
    """

    pool: str
    score_usd: float | None = None
    usd_per_s: float | None = None
    work_s: float | None = None
    saved_s: float | None = None
    queue_s: float | None = None
    refused: str = ""


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """Where a step went, and why; a line of the run's `decisions.jsonl`.

    Attributes:
        task_id: of the step.
        step_id: of the step.
        attempt: 0 for the first; fallbacks and retries count on.
        pool: that takes it.
        trial: its engine is tried with it, which stands beside others on the same cores.
        why: the pools of the fleet, as they were known then; of a fleet of more than 32 the 32
            that would cost least.
    """

    task_id: str
    step_id: str
    attempt: int
    pool: str
    trial: bool = False
    why: list[Candidate]


@dataclass(slots=True)
class Choice:
    """A pool that was chosen; `reserved_usd` counts for its vendor until it is settled.

    A `trial` may go wrong: then the step is for another engine.
    """

    pool: RunningPool
    trial: bool = False
    reserved_usd: float = 0.0
    why: list[Candidate] = field(default_factory=list)


class Dispatcher:
    """Chooses pools for the steps of a run.

    Args:
        pools: the fleet.
        policy: what is allowed and wanted.
        tell: gets each decision; None where nobody asks for them.

    Raises:
        InputError: the fleet is not allowed, or the policy asks for what is not known.
    """

    def __init__(
        self,
        pools: Sequence[RunningPool],
        policy: Policy | None = None,
        tell: Callable[[Decision], None] | None = None,
    ) -> None:
        self.policy = policy or Policy()
        self._pools, self._tell = pools, tell
        # First: what is known below takes the gates' news from another dispatcher.
        check_fleet(pools, self.policy)
        self._vendors = list(dict.fromkeys(vendor(pool.offer_name) for pool in pools))
        codes = [self._vendors.index(vendor(pool.offer_name)) for pool in pools]
        self._vendor = np.array(codes, np.int64)
        self._most_share = np.array([self.policy.vendor_share_max.get(v, 1.0)
                                     for v in self._vendors])  # fmt: skip
        self._spent_usd = np.zeros(len(self._vendors))
        self._pools_known = Known(pools, self.policy)
        free = not self.policy.residency and not self.policy.vendor_share_max
        self._only = pools[0] if len(pools) == 1 and free and tell is None else None

    def spend(self, offer: str | None, usd: float | None) -> None:
        """Note what a step cost on an offer, for the shares of the vendors of the fleet."""
        if usd and offer is not None and vendor(offer) in self._vendors:
            self._spent_usd[self._vendors.index(vendor(offer))] += usd

    def settle(self, choice: Choice, usd: float | None) -> None:
        """Note what a step that was chosen cost; nothing where it did not run there."""
        if choice.reserved_usd or usd:
            self.spend(choice.pool.offer_name, (usd or 0.0) - choice.reserved_usd)
            choice.reserved_usd = 0.0

    def tell(self, choice: Choice, task: TaskState, step_id: str, attempt: int) -> None:
        """Tell where a step goes, as it goes there."""
        if self._tell is not None:
            name = choice.pool.name
            self._tell(Decision(
                task_id=task.task_id, step_id=step_id, attempt=attempt, pool=name,
                trial=choice.trial, why=choice.why,
            ))  # fmt: skip

    def choose(
        self, call: StepCall, task: TaskState, *, without: Sequence[RunningPool] = ()
    ) -> Choice | None:
        """Return the pool that takes a step; None where no other than `without` may.

        Whoever gets one must `settle` it.

        Raises:
            InputError: no pool serves such steps.
        """
        only = self._only
        if only is not None and call.only is None and only.serves_call(call):
            return None if without else Choice(only)
        pools = self._pools_known
        serves = pools.serves(call)
        if not serves.any():
            what = f"{call.kind}:{call.model or call.name}"
            what += " with an adapter, which llama.cpp alone adds" if call.adapter else ""
            mend = "add it to `serves` of a pool, or choose another model"
            raise InputError(f"no pool serves {what}", mend=mend)
        now_s = time.monotonic()
        resident = pools.resident(task.data_class)
        up = serves & pools.up(call.resource, now_s)
        asked, failed = pools.asked(call), self._places(without)
        may = self._allowed(serves & asked & ~failed & up, resident)
        if not may.any():  # rather a pool that failed before than none
            may = self._allowed(serves & asked & ~failed, resident)
        objective = call.objective or self.policy.objective
        known = self._known(call, task, objective)
        slack_s, late = _lateness(task, now_s, objective)
        index = schedule.choose(*known, may, slack_s, late)
        if index < 0:
            return None
        choice = Choice(self._pools[index])
        choice.trial = call.resource == "engine" and choice.pool.would_try(call.name)
        if self.policy.vendor_share_max:
            price, work_s, _ = choice.pool.load(call.resource, call.name)
            choice.reserved_usd = price * work_s
            self.spend(choice.pool.offer_name, choice.reserved_usd)
        if self._tell is not None:
            found = schedule.scores(*known, may, slack_s, late)
            choice.why = self._why(serves, asked, resident, up, ~failed, (found, *known))
        return choice

    def other(
        self, call: StepCall, task: TaskState, *, without: Sequence[RunningPool] = ()
    ) -> Choice | None:
        """Return what `choose` does; None, too, where a reload left no pool for such steps."""
        try:
            return self.choose(call, task, without=without)
        except InputError:
            return None

    def hedge_after_s(
        self, call: StepCall, task: TaskState, choice: Choice, without: Sequence[RunningPool]
    ) -> float:
        """Return after how long a second pool should be asked, too; infinite where that never pays.

        What a second request costs is its dollars; joules have no price to weigh lateness with.
        None of `without` is the second one.
        """
        objective = call.objective or self.policy.objective
        if not call.hedge or len(self._pools) < 2 or objective == "energy":
            return math.inf
        times_s = choice.pool.gates[call.resource].times_s(call.name)
        if times_s.size < schedule.TELLING_TIMES:
            return math.inf
        other = self.other(call, task, without=without)
        if other is None:
            return math.inf
        self.settle(other, None)
        price, work_s, queue_s = other.pool.load(call.resource, call.name)
        price = 0.0 if objective == "latency" else price
        slack_s, late = _lateness(task, time.monotonic(), objective)
        return schedule.hedge_after_s(times_s, queue_s + work_s, price * work_s, slack_s, late)

    def ended(self, task: TaskState) -> None:
        """Forget a task that takes no more steps; no room is kept for it."""
        for gate in self._pools_known.holding:
            gate.ended(task)

    def refusal(self, call: StepCall, task: TaskState) -> PolicyError:
        """Return why no pool may take a step."""
        what = call.model or call.name
        serves, asked = self._pools_known.serves(call), self._pools_known.asked(call)
        every = np.ones(len(self._pools), np.bool_)
        resident = self._pools_known.resident(task.data_class)
        told = self._why(serves, asked, resident, every, every)
        reasons = "; ".join(f"{c.pool}: {c.refused}" for c in told)
        return PolicyError(f"the policy lets no pool take {call.kind}:{what}: {reasons}")

    def _places(self, pools: Sequence[RunningPool]) -> Any:
        """Return a flag for each pool of the fleet: whether it is one of some."""
        found = np.zeros(len(self._pools), np.bool_)
        for pool in pools:
            if (at := self._pools_known.place_of(pool)) is not None:
                found[at] = True
        return found

    def _allowed(self, able: Any, resident: Any) -> Any:
        spent, share = np.maximum(self._spent_usd, 0.0), self._most_share
        able = able & (share[self._vendor] > 0.0)  # before anything is spent, a share of 0 is kept
        return schedule.allowed(able, resident, self._vendor, spent, share)

    def _known(
        self, call: StepCall, task: TaskState, objective: Objective
    ) -> tuple[Any, Any, Any, Any]:
        """Return price, work, what is saved of it, and queue of each pool, by the objective."""
        loads = self._pools_known.loads(call.resource, call.name)
        price = loads.price_usd_per_s
        if objective == "latency":
            price = np.zeros_like(price)
        elif objective == "energy":
            price = self._pools_known.watts_a_slot(call.resource)
        prompts = task.prompts if call.resource == "engine" else {}
        return price, loads.work_s, self._pools_known.saved_s(prompts), loads.queue_s

    def _why(
        self, serves: Any, asked: Any, resident: Any, up: Any, left: Any,
        scored: tuple[Any, ...] | None = None,
    ) -> list[Candidate]:  # fmt: skip
        """Return of each pool what it would cost there, or why it may not go there."""
        order: Sequence[int] = range(len(self._pools))
        if len(self._pools) > _MOST_TOLD and scored is not None:
            order = sorted(np.argsort(scored[0], kind="stable")[:_MOST_TOLD].tolist())
        found = []
        for at in order[:_MOST_TOLD]:
            pool, name = self._pools[at], self._vendors[self._vendor[at]]
            if scored is not None and scored[0][at] < np.inf:
                score, price, work_s, saved_s, queue_s = (float(column[at]) for column in scored)
                found.append(Candidate(
                    pool=pool.name, score_usd=score, usd_per_s=price, work_s=work_s,
                    saved_s=saved_s, queue_s=queue_s,
                ))  # fmt: skip
                continue
            reason = (
                "it does not serve such steps" if not serves[at]
                else "this call may not use it" if not asked[at]
                else f"the data may not be in region {pool.region!r}" if not resident[at]
                else "it failed for this step" if not left[at]
                else "it is drained, and not yet to be probed" if not up[at]
                else f"{name} has its share of the dollars"
            )  # fmt: skip
            found.append(Candidate(pool=pool.name, refused=reason))
        return found


def _lateness(task: TaskState, now_s: float, objective: Objective) -> tuple[float, float]:
    """Return seconds until the task is late, and what a second of that counts."""
    if objective == "latency":
        return 0.0, 1.0
    late = schedule.SLO_LATE_USD_PER_S if task.deadline_s < np.inf else schedule.LATE_USD_PER_S
    return task.deadline_s - now_s, late


def check_fleet(pools: Sequence[RunningPool], policy: Policy) -> None:
    """Raise `InputError` where pools are not allowed, or the objective is not known of them."""
    policy.check_supply((pool.offer_name, pool.units) for pool in pools)
    for pool in pools:
        if policy.objective == "energy" and pool.watts is None:
            mend = "take objective cost or latency"
            raise InputError("its power is not known", where=f"pool {pool.name!r}", mend=mend)


def load_rules(*, choosing: bool) -> None:
    """Load the compiled rules that steps are placed and ordered by: half a second, in a thread.

    Otherwise the first step that is placed, or the first after a task ended, waits for that, and
    the event loop with it, and the tokens of all others.

    Args:
        choosing: there are several pools to choose from.
    """
    none, codes, flags = np.zeros(0), np.zeros(0, np.int64), np.zeros(0, np.bool_)
    schedule.usual_s(none, 0, 0, 0.0)
    schedule.level(none, 0, 0, 0.0, 0.0)
    if choosing:
        schedule.allowed(flags, flags, codes, none, none)
        schedule.choose(none, none, none, none, flags, 0.0, 0.0)


def vendor(offer: str) -> str:
    """Return the vendor of an offer, by its name."""
    return LOCAL if offer == LOCAL else offer.partition("/")[0]


@contextmanager
def written(path: Path) -> Iterator[Callable[[Decision], None]]:
    """Give what appends decisions to a file, a line each; where it is full, no more are told."""
    encode = msgspec.json.Encoder().encode
    with path.open("ab", buffering=0) as file:
        full = False

        def tell(decision: Decision) -> None:
            nonlocal full
            if not full:
                try:
                    file.write(encode(decision) + b"\n")
                except OSError:  # the journal will say so; it is no reason to fail a task
                    full = True

        yield tell

"""Which pool takes a step: what pools, their queues and the policy are, put before `schedule`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from polysilicon import schedule
from polysilicon.catalog.fleet import LOCAL
from polysilicon.catalog.policy import Policy
from polysilicon.errors import InputError
from polysilicon.runtime.pools import RunningPool
from polysilicon.runtime.scope import StepCall, TaskState

# Without an SLO a second counts next to nothing, with one it outweighs most machines' price.
_LATE_USD_PER_S = {False: 1e-6, True: 1e-2}


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
        why: the pools of the fleet, as they were known then.
    """

    task_id: str
    step_id: str
    attempt: int
    pool: str
    why: list[Candidate]


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
        self._vendors = list(dict.fromkeys(vendor(pool.offer_name) for pool in pools))
        codes = [self._vendors.index(vendor(pool.offer_name)) for pool in pools]
        self._vendor = np.array(codes, np.int64)
        self._most_share = np.array([self.policy.vendor_share_max.get(v, 1.0)
                                     for v in self._vendors])  # fmt: skip
        self._spent_usd = np.zeros(len(self._vendors))
        free = not self.policy.residency and not self.policy.vendor_share_max
        self._only = pools[0] if len(pools) == 1 and free and tell is None else None
        self._check()

    def _check(self) -> None:
        """Raise `InputError` where the fleet is not allowed, or the objective not known of it."""
        for pool in self._pools:
            most = self.policy.supply_max.get(pool.offer_name)
            if most is not None and pool.units > most:
                what = f"it has {pool.units} units of {pool.offer_name}; the policy allows {most}"
                raise InputError(what, where=f"pool {pool.name!r}")
            if self.policy.objective == "energy" and pool.watts is None:
                mend = "take objective cost or latency"
                raise InputError("its power is not known", where=f"pool {pool.name!r}", mend=mend)

    def spend(self, offer: str | None, usd: float | None) -> None:
        """Note what a step cost on an offer, for the shares of the vendors of the fleet."""
        if offer is not None and vendor(offer) in self._vendors:
            self._spent_usd[self._vendors.index(vendor(offer))] += usd or 0.0

    def choose(
        self,
        call: StepCall,
        task: TaskState,
        step_id: str,
        *,
        attempt: int = 0,
        without: Iterable[RunningPool] = (),
    ) -> RunningPool | None:
        """Return the pool that takes a step; None where all that may are in `without`.

        Raises:
            InputError: no pool serves such steps, or the policy allows none that does.
        """
        what = call.model or call.name
        if self._only is not None and self._only.serves(call.kind, what, call.resource):
            return None if without else self._only
        serves = np.array([p.serves(call.kind, what, call.resource) for p in self._pools])
        if not serves.any():
            mend = "add it to `serves` of a pool, or choose another model"
            raise InputError(f"no pool serves {call.kind}:{what}", mend=mend)
        now_s = time.monotonic()
        resident = np.array([self.policy.resident(task.data_class, p.region) for p in self._pools])
        up = np.array([p.health.up(now_s) for p in self._pools])
        left = np.array([p not in without for p in self._pools])
        may = self._allowed(serves & left & up, resident)
        if not may.any():  # rather a pool that failed before than none
            may = self._allowed(serves & left, resident)
        if not may.any() and not self._allowed(serves, resident).any():
            told = self._why(serves, resident, up, left)
            reasons = "; ".join(f"{c.pool}: {c.refused}" for c in told)
            raise InputError(f"the policy lets no pool take {call.kind}:{what}: {reasons}")
        known = self._known(call, task, may)
        slack_s, late = self._lateness(task, now_s)
        index = schedule.choose(*known, may, slack_s, late)
        if index < 0:
            return None
        if self._tell is not None:
            found = schedule.scores(*known, may, slack_s, late)
            why = self._why(serves, resident, up, left)
            for at in np.flatnonzero(may).tolist():
                price, work_s, saved_s, queue_s = (float(column[at]) for column in known)
                why[at] = Candidate(
                    pool=self._pools[at].name, score_usd=float(found[at]), usd_per_s=price,
                    work_s=work_s, saved_s=saved_s, queue_s=queue_s,
                )  # fmt: skip
            name = self._pools[index].name
            self._tell(Decision(
                task_id=task.task_id, step_id=step_id, attempt=attempt, pool=name, why=why
            ))  # fmt: skip
        return self._pools[index]

    def _allowed(self, able: Any, resident: Any) -> Any:
        spent, share = self._spent_usd, self._most_share
        return schedule.allowed(able, resident, self._vendor, spent, share)

    def _known(self, call: StepCall, task: TaskState, may: Any) -> tuple[Any, Any, Any, Any]:
        """Return price, work, what is saved of it, and queue of each pool, by the objective."""
        rows = []
        for pool, ok in zip(self._pools, may, strict=True):
            if not ok:
                rows.append((0.0, 0.0, 0.0, 0.0))
                continue
            price, work_s, queue_s = pool.load(call.resource, call.name)
            saved_s = pool.saved_s(task.prompts) if call.resource == "engine" else 0.0
            if self.policy.objective == "latency":
                price = 0.0
            elif self.policy.objective == "energy":
                price = (pool.watts or 0.0) / pool.gates[call.resource].cap
            rows.append((price, work_s, saved_s, queue_s))
        price_, work_, saved_, queue_ = (np.array(column) for column in zip(*rows, strict=True))
        return price_, work_, saved_, queue_

    def _lateness(self, task: TaskState, now_s: float) -> tuple[float, float]:
        """Return seconds until the task is late, and what a second of that counts."""
        if self.policy.objective == "latency":
            return 0.0, 1.0
        timed = task.deadline_s < np.inf
        return task.deadline_s - now_s, _LATE_USD_PER_S[timed]

    def _why(self, serves: Any, resident: Any, up: Any, left: Any) -> list[Candidate]:
        """Return for each pool why it may not take a step, as far as one of these says so."""
        found = []
        for at, pool in enumerate(self._pools):
            name = self._vendors[self._vendor[at]]
            reason = (
                "it does not serve such steps" if not serves[at]
                else f"the data may not be in region {pool.region!r}" if not resident[at]
                else "it failed for this step" if not left[at]
                else "it failed and is left alone for now" if not up[at]
                else f"{name} has its share of the dollars"
            )  # fmt: skip
            found.append(Candidate(pool=pool.name, refused=reason))
        return found


def vendor(offer: str) -> str:
    """Return the vendor of an offer, by its name."""
    return LOCAL if offer == LOCAL else offer.partition("/")[0]


@contextmanager
def written(path: Path) -> Iterator[Callable[[Decision], None]]:
    """Give what appends decisions to a file, a line each."""
    encode = msgspec.json.Encoder().encode
    with path.open("ab") as file:

        def tell(decision: Decision) -> None:
            file.write(encode(decision) + b"\n")

        yield tell

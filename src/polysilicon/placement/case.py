"""What is to be placed, and the program that says so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import msgspec
import numpy as np
import numpy.typing as npt

from polysilicon.catalog.policy import Policy
from polysilicon.cost.energy import watts
from polysilicon.placement.classes import Classes
from polysilicon.placement.deadlines import Tail
from polysilicon.placement.eligible import Eligible, Option, Pairs
from polysilicon.placement.program import LEAST_LOAD, Codes, Numbers, Program, Row, bearing
from polysilicon.placement.queueing import cap
from polysilicon.placement.tasks import Tasks

Mask = npt.NDArray[np.bool_]

HURRIED, PATIENT = 0.1, 1.0
"""Mean wait over mean service: tried first of pools that steps with an SLO may go to; of others."""


ASSUMED_SHARE = 0.25
"""Of what an option could serve it is taken to serve so much at first, which says how many servers
its cap is for: few in small fleets, where caps are then never too high, and many in large ones."""


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """A rule of the policy, which may be in conflict with others.

    Attributes:
        kind: `slo`, `residency`, `supply`, `vendor` or `redundancy`.
        subject: the agent, class of data, offer or vendor.
        words: as a person says it.
    """

    kind: str
    subject: str
    words: str


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be placed; arrays over options are of shape (options,).

    Attributes:
        policy: what is allowed and wanted.
        classes: of steps.
        tasks: some of each agent.
        options: pools that could be.
        pairs: classes and options.
        cv2: variance of service of each option over its squared mean.
        mean_s: mean service.
    """

    policy: Policy
    classes: Classes
    tasks: Tasks
    options: Sequence[Option]
    pairs: Pairs
    cv2: Numbers
    mean_s: Numbers

    @property
    def usd(self) -> Numbers:
        """Dollars an hour of a unit of each option."""
        return np.array([option.site.usd_per_hour for option in self.options])

    @property
    def slots(self) -> Numbers:
        """Steps at once on a unit of each option."""
        return np.array([option.concurrency for option in self.options], np.float64)

    def attribute(self, of: str) -> npt.NDArray[np.str_]:
        """Return `offer`, `vendor`, `region` or `kind` of each option."""
        told = {
            "offer": [o.site.offer.name for o in self.options],
            "vendor": [o.site.offer.cloud for o in self.options],
            "region": [o.site.offer.region for o in self.options],
            "kind": [o.site.offer.kind for o in self.options],
        }
        return np.array(told[of])

    def slo_agents(self) -> list[str]:
        """Return the agents whose tasks have an SLO."""
        return [slo.agent for slo in self.policy.slo]

    def rules(self) -> list[Rule]:
        """Return the rules of the policy."""
        policy = self.policy
        found = [
            Rule(kind="slo", subject=s.agent, words=f"SLO of {s.agent} (p99 ≤ {s.p99_s:g} s)")
            for s in policy.slo
        ]
        for rule in policy.residency:
            words = f"residency of {rule.data_class} ({', '.join(rule.regions)})"
            found.append(Rule(kind="residency", subject=rule.data_class, words=words))
        for offer, units in policy.supply_max.items():
            found.append(Rule(kind="supply", subject=offer, words=f"supply of {offer} (≤ {units})"))
        for vendor, share in policy.vendor_share_max.items():
            words = f"vendor share of {vendor} (≤ {share:.0%})"
            found.append(Rule(kind="vendor", subject=vendor, words=words))
        if policy.redundancy is not None:
            words = f"redundancy (any one {policy.redundancy} may be lost)"
            found.append(Rule(kind="redundancy", subject=policy.redundancy, words=words))
        return found


@dataclass(slots=True)
class State:
    """What the loop of solving and checking has learnt.

    Attributes:
        wait: mean wait over mean service that each option may have.
        servers: that the cap of each option is for.
        cap: how busy its servers may be.
        tails: rows of SLOs, while the optimum splits them over steps.
        factor: by agent, what part of its SLO may be planned with.
        bars: by agent, once its SLO is split: the pairs that are slower than their step's part.
        worth: by agent, what one more second of its SLO is worth.
        pace: by class, how slow its operation may be beside its fastest, by the relaxation.
        lost: pools whose loss must be borne, where any one pool may be lost.
        ceiling: by agent, the largest factor that a check has not refused.
    """

    wait: Numbers
    servers: Numbers
    cap: Numbers
    tails: list[Tail] = field(default_factory=list)
    factor: dict[str, float] = field(default_factory=dict)
    bars: dict[str, Mask] = field(default_factory=dict)
    worth: dict[str, float] = field(default_factory=dict)
    pace: Numbers = field(default_factory=lambda: np.zeros(0))
    lost: list[int] = field(default_factory=list)
    ceiling: dict[str, float] = field(default_factory=dict)

    def copy(self) -> State:
        """Return what a fleet was found with."""
        return replace(self, factor=dict(self.factor), bars=dict(self.bars))

    def restore(self, kept: State) -> None:
        """Go back to waits, caps, factors and bars that a fleet was found with."""
        self.wait, self.cap, self.servers = kept.wait, kept.cap, kept.servers
        self.factor, self.bars = dict(kept.factor), dict(kept.bars)

    def recap(self, case: Case) -> None:
        """Work the caps out for the numbers of servers that are assumed."""
        self.cap = cap(self.servers, self.wait, case.cv2)


def case_of(policy: Policy, classes: Classes, tasks: Tasks, found: Eligible) -> Case:
    """Return the case, with how service varies on each option."""
    pairs, options = found.pairs, len(found.options)
    rate = classes.rates[pairs.code]
    service = np.maximum(pairs.seconds, 1e-9)

    def mean(values: Numbers) -> Numbers:
        total = np.bincount(pairs.option, weights=rate, minlength=options)
        return np.bincount(pairs.option, weights=rate * values, minlength=options) / np.maximum(
            total, 1e-300
        )

    mean_s = mean(service)
    cv2 = mean(service**2) / np.maximum(mean_s, 1e-300) ** 2 - 1.0
    return Case(
        policy=policy,
        classes=classes,
        tasks=tasks,
        options=found.options,
        pairs=pairs,
        cv2=np.maximum(cv2, 0.0),
        mean_s=mean_s,
    )


def resident(case: Case, without: frozenset[Rule] = frozenset()) -> Mask:
    """Return the pairs that residency allows, rules left out as told."""
    policy = case.policy
    dropped = {rule.subject for rule in without if rule.kind == "residency"}
    rules = tuple(rule for rule in policy.residency if rule.data_class not in dropped)
    policy = msgspec.structs.replace(policy, residency=rules)
    of_class = [one.data_class for one in case.classes.each]
    kinds = list(dict.fromkeys(of_class))
    regions = [option.site.offer.region for option in case.options]
    allowed = np.array([[policy.resident(kind, region) for region in regions] for kind in kinds])
    place = np.array([kinds.index(kind) for kind in of_class], np.int64)
    return np.asarray(allowed[place[case.pairs.code], case.pairs.option], dtype=np.bool_)


def start(case: Case, hurried_wait: float = HURRIED) -> State:
    """Return the state to begin with: pools as large as if they served a part of what they can.

    Args:
        case: what is to be placed.
        hurried_wait: mean wait over mean service of pools that steps with an SLO may go to.
    """
    pairs, options = case.pairs, len(case.options)
    rate = case.classes.rates[pairs.code]
    units = np.floor(
        np.bincount(pairs.option, weights=rate * pairs.work_s, minlength=options) * ASSUMED_SHARE
    )
    hurried = set(case.slo_agents())
    fast = np.array([one.agent in hurried for one in case.classes.each], dtype=bool)
    some = np.bincount(pairs.option, weights=fast[pairs.code], minlength=options) > 0
    state = State(
        wait=np.where(some, hurried_wait, PATIENT),
        servers=np.maximum(units, 1.0) * case.slots,
        cap=np.ones(options),
        factor=dict.fromkeys(hurried, 1.0),
    )
    state.recap(case)
    return state


def program_of(
    case: Case, state: State, allowed: Mask, without: frozenset[Rule] = frozenset()
) -> tuple[Program, Codes]:
    """Return the program, and which pairs of the case its pairs are.

    Args:
        case: what is to be placed.
        state: caps, SLO rows.
        allowed: pairs that may be used; residency and bars come on top.
        without: rules of the policy that are left out.
    """
    free = {rule.subject for rule in without if rule.kind == "slo"}
    chosen = np.flatnonzero(allowed & resident(case, without) & ~barred(state, free))
    pairs = case.pairs.take(chosen)
    rate = case.classes.rates[pairs.code]
    load = rate * pairs.work_s / np.maximum(state.cap[pairs.option], 1e-6)
    unit_cost, pair_cost = _costs(case, pairs)
    program = Program(
        classes=len(case.classes.each),
        pair_class=pairs.code,
        pair_row=pairs.option,
        load=np.maximum(load, LEAST_LOAD),
        pair_cost=pair_cost,
        row_pool=np.arange(len(case.options)),
        unit_cost=unit_cost,
        rows=[*_slo_rows(case, state, pairs, without), *_share_rows(case, without)],
    )
    kinds = {rule.kind for rule in without}
    if case.policy.redundancy in (None, "machine") or "redundancy" in kinds:
        return program, chosen
    return bearing(program, losses(case, state, pairs)), chosen


def barred(state: State, free: set[str]) -> Mask | np.bool_:
    """Return the pairs that are too slow for an agent, those of some agents left out."""
    bars = [bar for agent, bar in state.bars.items() if agent not in free]
    return np.logical_or.reduce(bars) if bars else np.False_


def losses(case: Case, state: State, pairs: Pairs) -> list[Mask]:
    """Return what may be lost: the options that are gone with each region, vendor or pool."""
    of = case.policy.redundancy
    options = np.arange(len(case.options))
    if of == "pool":
        return [options == lost for lost in state.lost]
    assert of is not None
    where = case.attribute(of)
    there = np.unique(where[np.unique(pairs.option)])
    return [where == one for one in there]


def _costs(case: Case, pairs: Pairs) -> tuple[Numbers, Numbers]:
    """Return what a unit costs, and what all of a class costs on a pair, by the objective.

    Dollars an hour; or watts: machines that idle, and what work adds; or mean seconds of steps.
    """
    if case.policy.objective == "cost":
        return case.usd, np.zeros(len(pairs.code))
    rate = case.classes.rates[pairs.code]
    if case.policy.objective == "latency":
        # Dollars only break ties: a dollar an hour is a billionth of a second.
        return case.usd * 1e-9, rate / case.classes.rates.sum() * pairs.seconds
    power = [watts(option.site.offer) for option in case.options]
    idle = np.array([0.0 if one is None else one.idle_w for one in power])
    full = np.array([0.0 if one is None else one.full_w for one in power])
    return idle + 1e-9 * case.usd, rate * pairs.work_s * (full - idle)[pairs.option]


def _slo_rows(case: Case, state: State, pairs: Pairs, without: frozenset[Rule]) -> list[Row]:
    """Return a row for each tail of an agent with an SLO."""
    dropped = {rule.subject for rule in without if rule.kind == "slo"} | state.bars.keys()
    rows = []
    for number, tail in enumerate(state.tails):
        slo = case.policy.slo_of(tail.agent)
        if slo is None or tail.agent in dropped:
            continue
        rows.append(
            Row(
                name=f"SLO of {tail.agent}, path {number}",
                kind="slo",
                subject=tail.agent,
                limit=slo.p99_s * state.factor[tail.agent] - tail.pause_s,
                pairs=tail.seconds(pairs),
            )
        )
    return rows


def _share_rows(case: Case, without: frozenset[Rule]) -> list[Row]:
    """Return the rows of supply and of vendors' shares of the dollars."""
    left: set[tuple[str, str]] = {(rule.kind, rule.subject) for rule in without}
    offers, vendors, usd = case.attribute("offer"), case.attribute("vendor"), case.usd
    rows = []
    supply: Mapping[str, int] = case.policy.supply_max
    for name, units in supply.items():
        mine = (offers == name).astype(np.float64)
        if mine.any() and ("supply", name) not in left:
            rows.append(
                Row(name=f"supply of {name}", kind="supply", subject=name, limit=units, units=mine)
            )
    for name, share in case.policy.vendor_share_max.items():
        if (vendors == name).any() and ("vendor", name) not in left:
            weights = np.where(vendors == name, usd, 0.0) - share * usd
            rows.append(
                Row(
                    name=f"vendor share of {name}",
                    kind="vendor",
                    subject=name,
                    limit=0.0,
                    units=weights,
                )
            )
    return rows

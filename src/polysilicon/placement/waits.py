"""How long steps with an SLO may wait: as long as makes the cheapest fleet that keeps the SLO.

A pool whose steps may wait longer needs fewer machines, and its steps fewer seconds elsewhere.
Which pays depends on how large pools are and how near the SLO is to the least possible: large ones
hardly wait though they are busy (Halfin and Whitt), and tight SLOs leave little for waits. Each
fleet keeps its SLOs by the percentile that its own queues make, whatever the waits it began with;
so fleets are found for several mean waits, from the usual one on in both directions while that
pays: shorter ones where seconds are worth anything, longer ones where a pool is as full as it may
be.
"""

from __future__ import annotations

import msgspec

from polysilicon.placement.case import HURRIED, PATIENT, Case, Mask, Rule, State, start
from polysilicon.placement.settle import LIMIT_S, Outcome, begin, settle
from polysilicon.placement.solve import NotInTimeError

SHORTER = (0.03, 0.01)
"""Mean waits over mean service, less than `HURRIED`."""

LONGER = (0.4, 1.0)

ENOUGH = 8.0
"""After so many times the seconds of a round no further wait is tried."""

_FULL = 0.9


class Tried(msgspec.Struct, frozen=True, kw_only=True):
    """A fleet that was found for a mean wait.

    Attributes:
        wait: mean wait over mean service that steps with an SLO were allowed at first.
        state: what was learnt.
        found: the fleet; None where there is none.
    """

    wait: float
    state: State
    found: Outcome | None

    def late(self, without: frozenset[Rule]) -> bool:
        """Tell whether there is no fleet, or one that misses an SLO that is not left out."""
        if self.found is None or self.found.loose:
            return True
        free = {rule.subject for rule in without if rule.kind == "slo"}
        return bool(self.found.late.keys() - free)

    @property
    def effort_s(self) -> float:
        """Nominal seconds that it took, where a fleet was found."""
        return 0.0 if self.found is None else self.found.effort_s

    @property
    def full(self) -> bool:
        """Whether a pool is about as busy as its cap allows, so that waits are what it is for."""
        if self.found is None:
            return False
        used = self.found.units > 0
        return bool((self.found.busy[used] > _FULL * self.state.cap[used]).any())

    def beats(self, other: Tried, without: frozenset[Rule]) -> bool:
        """Tell whether this keeps more of what is wanted, or as much and is cheaper."""
        if self.found is None or other.found is None:
            return self.found is not None
        if self.late(without) != other.late(without):
            return other.late(without)
        return self.found.solved.cost < other.found.solved.cost * (1.0 - 1e-6)


def cheapest(
    case: Case, allowed: Mask, without: frozenset[Rule] = frozenset(), limit_s: float = LIMIT_S
) -> Tried:
    """Return the cheapest fleet that keeps the SLOs, over how long steps may wait.

    Args:
        case: what is to be placed.
        allowed: pairs that may be used.
        without: rules that are left out.
        limit_s: nominal seconds of branch and bound in each round.

    Raises:
        NotInTimeError: no fleet was found in time, though there may be one.
    """
    asked = set(case.slo_agents())
    asked -= {rule.subject for rule in without if rule.kind == "slo"}
    if not asked:
        wait = PATIENT if case.slo_agents() else HURRIED
        return tried(case, allowed, wait, without, limit_s=limit_s)
    best = tried(case, allowed, HURRIED, without, limit_s=limit_s)
    effort_s = best.effort_s
    # Where seconds are what is wanted, waits are not in the objective: the usual ones are kept.
    if case.policy.objective == "latency":
        return best
    late = best.late(without)
    dear = late or max(best.state.worth.values(), default=0.0) > 0.0
    for waits, pays in ((LONGER, best.full and not late), (SHORTER, dear)):
        if not pays or best.wait != HURRIED:
            continue
        for wait in waits:
            if effort_s > ENOUGH * limit_s:
                return best
            again = tried(case, allowed, wait, without, before=best, limit_s=limit_s)
            effort_s += again.effort_s
            if not again.beats(best, without):
                break
            best = again
    return best


def tried(
    case: Case,
    allowed: Mask,
    wait: float,
    without: frozenset[Rule] = frozenset(),
    *,
    before: Tried | None = None,
    limit_s: float = LIMIT_S,
) -> Tried:
    """Return the fleet for one mean wait, near to that for another one where that is known."""
    state = start(case, wait)
    begin(case, state, allowed)
    near = None if before is None or before.found is None else before.found.units
    try:
        found = settle(case, state, allowed, without=without, limit_s=limit_s, near=near)
    except NotInTimeError:
        if near is None:
            raise
        found = None  # there is a fleet already
    return Tried(wait=wait, state=state, found=found)

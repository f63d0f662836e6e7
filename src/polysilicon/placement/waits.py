"""How long steps with an SLO may wait: as long as makes the cheapest fleet that keeps the SLO.

A pool whose steps may wait longer needs fewer machines, and its steps fewer seconds elsewhere.
Which pays depends on how large pools are and how near the SLO is to the least possible: large ones
hardly wait though they are busy (Halfin and Whitt), and tight SLOs leave nothing for waits. So
fleets are found for several mean waits, from the usual one on in both directions while that pays:
shorter ones where seconds are worth anything, longer ones where a pool is as full as it may be.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from polysilicon.placement.case import HURRIED, Case, Mask, Rule, State, start
from polysilicon.placement.settle import Outcome, begin, settle
from polysilicon.placement.solve import NotInTimeError

SHORTER = (0.02, 1e-3)
"""Mean waits over mean service, less than `HURRIED`; the last is next to none."""

LONGER = (0.4, 1.0)

_FULL = 0.9


class Tried(msgspec.Struct, frozen=True, kw_only=True):
    """A fleet that was found for a mean wait.

    Attributes:
        wait: mean wait of steps with an SLO over their mean service, at most.
        state: what was learnt.
        found: the fleet; None where there is none.
    """

    wait: float
    state: State
    found: Outcome | None

    @property
    def late(self) -> bool:
        """Whether there is no fleet, or one that misses an SLO."""
        return self.found is None or not self.found.holds

    @property
    def full(self) -> bool:
        """Whether a pool is about as busy as its cap allows, so that waits are what it is for."""
        if self.found is None:
            return False
        used = self.found.units > 0
        return bool((self.found.busy[used] > _FULL * self.state.cap[used]).any())

    def beats(self, other: Tried) -> bool:
        """Tell whether this keeps more of what is wanted, or as much and is cheaper."""
        if self.found is None or other.found is None:
            return self.found is not None
        if self.late != other.late:
            return other.late
        return self.found.solved.cost < other.found.solved.cost * (1.0 - 1e-6)


def cheapest(case: Case, allowed: Mask) -> Tried:
    """Return the cheapest fleet that keeps the SLOs, over how long steps may wait.

    Where there is none, what is returned was tried with next to no waits.

    Args:
        case: what is to be placed.
        allowed: pairs that may be used.
    """
    best = tried(case, allowed, HURRIED)
    # Where seconds are what is wanted, waits are not in the objective: the usual ones are kept.
    if not case.slo_agents() or case.policy.objective == "latency":
        return best
    if best.late or max(best.state.worth.values(), default=0.0) > 0.0:
        best = _along(case, allowed, best, SHORTER)
    if best.wait == HURRIED and best.full:
        best = _along(case, allowed, best, LONGER)
    return best


def enough(case: Case, allowed: Mask, wait: float, without: frozenset[Rule]) -> Tried:
    """Return a fleet for a mean wait, or for shorter ones where it is late.

    Args:
        case: what is to be placed.
        allowed: pairs that may be used.
        wait: mean over mean service.
        without: rules that are left out.
    """
    best = tried(case, allowed, wait, without)
    late = best.found is None or bool(best.found.late)
    for shorter in (share for share in SHORTER if share < wait and late):
        again = tried(case, allowed, shorter, without, best)
        best = again if again.beats(best) else best
        late = best.found is None or bool(best.found.late)
        if not late:
            break
    return best


def _along(case: Case, allowed: Mask, best: Tried, waits: Sequence[float]) -> Tried:
    """Return the best of further waits, one after the other while that is better."""
    for wait in waits:
        again = tried(case, allowed, wait, before=best)
        lost = again.found is None and best.found is None
        if not (lost or again.beats(best)):
            break
        best = again
    return best


def tried(
    case: Case,
    allowed: Mask,
    wait: float,
    without: frozenset[Rule] = frozenset(),
    before: Tried | None = None,
) -> Tried:
    """Return the fleet for one mean wait, near to that for another one where that is known."""
    state = start(case, wait)
    begin(case, state, allowed)
    if before is None or before.found is None:
        found = settle(case, state, allowed, without=without)
        return Tried(wait=wait, state=state, found=found)
    try:
        found = settle(case, state, allowed, without=without, near=before.found.units)
    except NotInTimeError:  # there is a fleet already
        found = None
    return Tried(wait=wait, state=state, found=found)

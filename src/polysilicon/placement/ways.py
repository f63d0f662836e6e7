"""What ways to pools and interruptions of their machines take, on top of the cost model's seconds.

A machine that is taken away at a constant rate h begins what it does again: a step of s seconds
takes (e^(h·s) - 1) / h of its machine on average, for each attempt ends with the chance e^(-h·s).
While one is replaced, others are paid for in its place.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from polysilicon.catalog.policy import Policy
from polysilicon.placement.classes import StepClass
from polysilicon.placement.eligible import Eligible, Pairs, Refused
from polysilicon.placement.program import Numbers
from polysilicon.units import SECONDS_PER_HOUR

_MOST_RISK = 3.0
"""Interruptions in the time of a step, above which no pool takes it: 20 attempts on average."""


def with_ways(found: Eligible, classes: Sequence[StepClass], policy: Policy) -> Eligible:
    """Return pairs whose seconds have in them what interruptions and networks take.

    Args:
        found: pairs by the cost model.
        classes: of steps.
        policy: how often spot machines are taken away, and what ways take.
    """
    pairs = found.pairs
    delay_s = _delay_s(found, classes, policy)
    pairs = msgspec.structs.replace(pairs, fixed_s=pairs.fixed_s + delay_s)
    spot = np.array([option.site.price == "spot" for option in found.options], dtype=bool)
    if policy.spot is None or not spot.any():
        return msgspec.structs.replace(found, pairs=pairs)
    rate = policy.spot.interruptions_per_hour / SECONDS_PER_HOUR
    mine = spot[pairs.option]
    risk = np.where(mine, rate * np.maximum(pairs.seconds - delay_s, 0.0), 0.0)
    kept = np.flatnonzero(risk <= _MOST_RISK)
    pairs, risk, mine = pairs.take(kept), risk[kept], mine[kept]
    again = np.expm1(risk) / np.where(risk > 0, risk, 1.0)
    again = np.where(risk > 0, again, 1.0)
    spare = np.where(mine, 1.0 + rate * policy.spot.restart_s, 1.0)
    return _without_idle(found, _again(pairs, again, spare))


def _without_idle(found: Eligible, pairs: Pairs) -> Eligible:
    """Return what is left where options lost all of their pairs, and refuse these."""
    kept = np.unique(pairs.option)
    lost = np.setdiff1d(np.arange(len(found.options)), kept)
    reason = "its steps hardly end between the interruptions that the policy tells"
    refused = [
        Refused(
            offer=one.site.offer.name, what=f"{one.role}:{one.model}".rstrip(":"),
            reason=reason, count=1,
        )
        for one in (found.options[at] for at in lost.tolist())
    ]  # fmt: skip
    place = np.full(len(found.options), -1)
    place[kept] = np.arange(len(kept))
    return Eligible(
        options=[found.options[at] for at in kept.tolist()],
        pairs=msgspec.structs.replace(pairs, option=place[pairs.option]),
        refused=[*found.refused, *refused],
    )


def _again(pairs: Pairs, again: Numbers, spare: Numbers) -> Pairs:
    """Return pairs whose steps are begun so often, on machines of which some are being replaced."""
    lost_s = (again - 1.0) * pairs.seconds
    return msgspec.structs.replace(
        pairs, work_s=pairs.work_s * again * spare, fixed_s=pairs.fixed_s + lost_s
    )


def _delay_s(found: Eligible, classes: Sequence[StepClass], policy: Policy) -> Numbers:
    """Return seconds of the way there and back of each pair, 0 where none is told."""
    delay_s = np.zeros(len(found.pairs.code))
    from_ = np.array([one.region or "" for one in classes])[found.pairs.code]
    to = np.array([option.site.offer.region for option in found.options])
    there = to[found.pairs.option] if len(to) else np.zeros(0, dtype="U1")
    for link in policy.link:
        one, two = link.regions
        across = ((from_ == one) & (there == two)) | ((from_ == two) & (there == one))
        delay_s += np.where(across, link.delay_s, 0.0)
    return delay_s

"""Of very many options those that can matter: none of their vendor and kind beats them in all.

An option is measured by three figures, as if it served all that it can: dollars of machines in
fractions, which count in large fleets; dollars of whole machines, which count in small ones; and
the mean seconds of a step. What is left out is counted, never dropped silently.
"""

from __future__ import annotations

import msgspec
import numpy as np

from polysilicon.catalog.policy import Policy
from polysilicon.placement.eligible import Eligible, Option, Refused
from polysilicon.placement.program import Codes, Numbers

MANY_PAIRS = 30_000
"""A program of more pairs is solved over a shortlist."""

_MOST = 8
"""Options of a vendor, kind, role and model that a shortlist keeps at most."""


def shortlist(found: Eligible, rates: Numbers, policy: Policy) -> Eligible:
    """Return the options that can matter, where there are very many; else all of them.

    Args:
        found: all options.
        rates: steps a second of each class.
        policy: rules by which regions differ, and offers whose supply is limited.
    """
    if len(found.pairs.code) <= MANY_PAIRS:
        return found
    figures = _figures(found, rates)
    groups: dict[tuple[object, ...], list[int]] = {}
    for place, option in enumerate(found.options):
        groups.setdefault(_alike(option, policy), []).append(place)
    kept: list[int] = []
    for members in groups.values():
        limited = [m for m in members if found.options[m].site.offer.name in policy.supply_max]
        others = np.array([m for m in members if m not in limited], np.int64)
        kept += limited + _best(others, figures)
    kept.sort()
    place_of = np.full(len(found.options), -1, np.int64)
    place_of[kept] = np.arange(len(kept))
    pairs = found.pairs.take(np.flatnonzero(place_of[found.pairs.option] >= 0))
    gone = next(o for place, o in enumerate(found.options) if place_of[place] < 0)
    out = Refused(
        offer=gone.site.offer.name,
        what="ways to serve",
        reason="another of its vendor and kind is as cheap and as fast",
        count=len(found.options) - len(kept),
    )
    return Eligible(
        options=[found.options[place] for place in kept],
        pairs=msgspec.structs.replace(pairs, option=place_of[pairs.option]),
        refused=[*found.refused, out],
    )


def _alike(option: Option, policy: Policy) -> tuple[object, ...]:
    """Return what options share of which one can stand for another."""
    offer = option.site.offer
    allowed = tuple(policy.resident(r.data_class, offer.region) for r in policy.residency)
    region = offer.region if policy.redundancy == "region" else ""
    return option.role, option.model, offer.cloud, offer.kind, region, allowed


def _figures(found: Eligible, rates: Numbers) -> Numbers:
    """Return classes not served, dollars in fractions and whole, seconds: (options, 4)."""
    pairs, options = found.pairs, len(found.options)
    rate = rates[pairs.code]
    load = np.bincount(pairs.option, weights=rate * pairs.work_s, minlength=options)
    seconds = np.bincount(pairs.option, weights=rate * pairs.seconds, minlength=options)
    total = np.bincount(pairs.option, weights=rate, minlength=options)
    usd = np.array([option.site.usd_per_hour for option in found.options])
    served = np.bincount(pairs.option, minlength=options)
    return np.stack([-served, load * usd, np.ceil(load) * usd, seconds / total], axis=1)


def _best(members: Codes, figures: Numbers) -> list[int]:
    """Return the members that no other beats, at most `_MOST`, evenly spread over seconds."""
    mine = figures[members]
    front = [
        place
        for place in range(len(members))
        if not any(
            (mine[other] <= mine[place]).all()
            and ((mine[other] < mine[place]).any() or other < place)
            for other in range(len(members))
            if other != place
        )
    ]
    front.sort(key=lambda place: mine[place][3])
    if len(front) > _MOST:
        # The cheapest in either way stay whatever their seconds are.
        must = {min(front, key=lambda place: mine[place][figure]) for figure in (1, 2, 3)}
        step = np.linspace(0, len(front) - 1, _MOST - len(must)).round().astype(int)
        front = sorted(must | {front[at] for at in step})
    return [int(members[place]) for place in front]

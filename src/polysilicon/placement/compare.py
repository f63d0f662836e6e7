"""Simpler fleets to compare with, and others that are nearly as good."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec
import numpy as np

from polysilicon.placement.case import Case, Mask, Rule, State, program_of, start
from polysilicon.placement.eligible import Site
from polysilicon.placement.explain import named
from polysilicon.placement.program import Numbers, Row, covers, with_rows
from polysilicon.placement.settle import Outcome, begin, settle
from polysilicon.placement.solve import NotInTimeError, relax, solve
from polysilicon.placement.types import Alternative, Baseline
from polysilicon.placement.waits import Tried, cheapest

WITHIN = 0.05
"""By so much an alternative's objective may be worse, as a share."""

DIFFERS = 0.1
"""By so much less of the dollars must go to the vendor or kind that the best fleet has most of."""

_MOST_TRIED, _MOST_SOLVED, _LIMIT_S = 12, 3, 1.0
"""Restricted fleets of which parts of machines are solved, and whole ones; seconds of a round."""


Found = tuple[Baseline, tuple[State, Outcome] | None]
"""What is said of a simpler fleet, and what was learnt and found of one that is not the best."""


class Compared(msgspec.Struct, frozen=True, kw_only=True):
    """What simpler fleets cost, and the cheapest of them where it beats the fleet itself.

    Attributes:
        baselines: simpler fleets.
        better: what was learnt and found; None where none is cheaper. SLOs are split by steps that
            are not proved best, so that fewer options may give a better fleet.
    """

    baselines: Sequence[Baseline]
    better: tuple[State, Outcome] | None


def compared(case: Case, found: Outcome) -> Compared:
    """Return what simpler fleets cost: each keeps the same SLOs and residency where it can.

    They need not keep supply, vendors' shares or redundancy, which one vendor or one offer cannot.

    Args:
        case: what is placed.
        found: the fleet; where it is as simple itself, it is the baseline.
    """
    families = _families(case)
    told = [_best_of(case, found, name, candidates) for name, candidates in families]
    better = [pair for _, pair in told if pair is not None and pair[1].holds]
    cheapest = min(better, key=lambda pair: pair[1].solved.cost, default=None)
    if cheapest is not None:
        # It may be as simple in other ways too, in which no fleet as cheap was found.
        told = [
            _cheaper(_simple(case, cheapest[1], name, candidates), one)
            for (name, candidates), one in zip(families, told, strict=True)
        ]
    if _lenient(case) or cheapest is None or cheapest[1].solved.cost >= found.solved.cost:
        cheapest = None
    return Compared(baselines=[one for one, _ in told], better=cheapest)


def _cheaper(one: Found | None, other: Found) -> Found:
    """Return a simple fleet that keeps the SLOs, unless another one does and is no dearer."""
    if one is None or one[0].usd_per_hour is None:
        return other
    known = other[0].usd_per_hour
    worse = not other[0].meets_slo or known is None or known > one[0].usd_per_hour
    return one if worse else other


def _families(case: Case) -> list[tuple[str, list[tuple[str, Mask]]]]:
    """Return simpler kinds of fleets: what they are called, and name and options of each."""
    kinds, vendors = case.attribute("kind"), case.attribute("vendor")
    offers = np.array([f"{o.site.offer.name} {o.site.offer.region}" for o in case.options])
    tools = np.array([option.role == "tool" for option in case.options])
    families = []
    for name, kind in (("best GPU", "gpu"), ("best CPU", "cpu")):
        mine = [
            (offer, (offers == offer) | (tools & (kind != "cpu")))
            for offer in dict.fromkeys(offers[kinds == kind].tolist())
        ]
        families.append((f"all on the {name}", mine))
    alone = [(vendor, vendors == vendor) for vendor in dict.fromkeys(vendors.tolist())]
    families.append(("one vendor only", alone))
    families.append(("cheapest per token", [("", _cheapest(case))]))
    return families


def _simple(
    case: Case, found: Outcome, name: str, candidates: list[tuple[str, Mask]]
) -> Found | None:
    """Return what is said of a fleet that is as simple as some are; None where it is not."""
    for label, mask in candidates:
        if found.holds and mask[found.units > 0].all():
            return _told(case, found, name, label), None
    return None


def _cheapest(case: Case) -> Mask:
    """Return the options of the offer whose work costs the least, for each role and model.

    Seconds are forgotten as the offer is chosen; how it then serves is free, as it is for whoever
    has bought it.
    """
    pairs = case.pairs
    rate = case.classes.rates[pairs.code]
    options = len(case.options)
    usd = np.bincount(
        pairs.option, weights=rate * pairs.work_s * case.usd[pairs.option], minlength=options
    )
    serves = np.bincount(pairs.option, minlength=options)
    best: dict[tuple[str, str], tuple[int, float, Site]] = {}
    for place, option in enumerate(case.options):
        key = option.role, option.model
        mine = (-int(serves[place]), float(usd[place]), option.site)
        if key not in best or mine[:2] < best[key][:2]:
            best[key] = mine
    sites = {key: site for key, (_, _, site) in best.items()}
    return np.array([option.site == sites[option.role, option.model] for option in case.options])


def _lenient(case: Case) -> frozenset[Rule]:
    """Return the rules that baselines need not keep."""
    return frozenset(r for r in case.rules() if r.kind in ("supply", "vendor", "redundancy"))


def _best_of(case: Case, best: Outcome, name: str, candidates: list[tuple[str, Mask]]) -> Found:
    """Return the cheapest of some restricted fleets: of those that keep the SLOs, if any does.

    Each is found as the fleet itself is, so that what is saved is saved at equal SLOs.

    Args:
        case: what is placed.
        best: the fleet that they are compared with.
        name: what they are called.
        candidates: a name and the options of each.
    """
    simple = _simple(case, best, name, candidates)
    if simple is not None:
        return simple
    lenient = _lenient(case)
    slos = frozenset(rule for rule in case.rules() if rule.kind == "slo")
    slow: list[str] = []
    for without in (lenient, lenient | slos) if slos else (lenient,):
        ranked = sorted(_ranked(case, candidates, without), key=lambda one: one[0])
        chosen: tuple[str, Tried] | None = None
        for least, label, mask in ranked[:_MOST_SOLVED]:
            if chosen is not None and least >= _cost(chosen[1]):
                break
            try:
                again = cheapest(case, mask[case.pairs.option], without, _LIMIT_S)
            except NotInTimeError as error:
                slow.append(f"{label}: {error}" if label else str(error))
                continue
            keeps = again.found is not None and not again.late(without)
            if keeps and (chosen is None or _cost(again) < _cost(chosen[1])):
                chosen = label, again
        if chosen is not None and chosen[1].found is not None:
            label, again = chosen
            return _told(case, chosen[1].found, name, label), (again.state, chosen[1].found)
        if slow:
            break
    note = f"not found: {slow[0]}" if slow else "it cannot serve all steps"
    none = Baseline(name=name, offers=[], usd_per_hour=None, meets_slo=False, note=note)
    return none, None


def _cost(one: Tried) -> float:
    """Return what a fleet costs by the objective; infinity where there is none."""
    return float("inf") if one.found is None else one.found.solved.cost


def _told(case: Case, found: Outcome, name: str, label: str) -> Baseline:
    """Return what is said of a restricted fleet."""
    missed = list(found.late)
    return Baseline(
        name=f"{name} ({label.split(' ', maxsplit=1)[0]})" if label else name,
        offers=list(_made_of(case, found)),
        usd_per_hour=float(case.usd @ found.units),
        meets_slo=not missed,
        note=f"misses the SLO of {named(missed)}" if missed else "",
    )


def _ranked(
    case: Case, candidates: list[tuple[str, Mask]], without: frozenset[Rule]
) -> Iterator[tuple[float, str, Mask]]:
    """Yield the costs of restricted fleets that can serve all, machines in fractions."""
    pairs, classes = case.pairs, len(case.classes.each)
    rate = case.classes.rates[pairs.code]
    usd = rate * pairs.work_s * case.usd[pairs.option]
    rough = []
    for label, mask in candidates:
        mine = mask[pairs.option]
        least = np.full(classes, np.inf)
        np.minimum.at(least, pairs.code[mine], usd[mine])
        if np.isfinite(least).all():
            rough.append((float(least.sum()), label, mask))
    for _, label, mask in sorted(rough, key=lambda one: one[0])[:_MOST_TRIED]:
        state = start(case)
        begin(case, state, mask[pairs.option])
        program, _ = program_of(case, state, mask[pairs.option], without)
        found = relax(with_rows(program, covers(program)))
        if found is not None:
            yield found.cost, label, mask


def _made_of(case: Case, found: Outcome) -> dict[str, int]:
    """Return the units of each offer."""
    units: dict[str, int] = {}
    for place in np.flatnonzero(found.units > 0):
        name = case.options[int(place)].site.offer.name
        units[name] = units.get(name, 0) + int(found.units[place])
    return units


def alternatives(case: Case, state: State, found: Outcome) -> list[Alternative]:
    """Return fleets nearly as good as the best one that need its main vendor or kind less."""
    results: dict[tuple[tuple[str, int], ...], Alternative] = {}
    usd = case.usd * found.units
    for of in ("vendor", "kind"):
        where = case.attribute(of)
        spent = {one: float(usd[where == one].sum()) for one in np.unique(where).tolist()}
        main = max(spent, key=lambda one: spent[one])
        other = _without(case, state, found, where == main)
        if other is None:
            continue
        before = spent[main] / max(float(usd.sum()), 1e-12)
        dollars = case.usd * other.units
        share = float(dollars[where == main].sum()) / max(float(dollars.sum()), 1e-12)
        if before - share < DIFFERS:
            continue
        cost = float(other.program.unit_cost @ other.units)
        cost += float(other.program.pair_cost[: len(other.chosen)] @ other.share[other.chosen])
        made = _made_of(case, other)
        results.setdefault(
            tuple(sorted(made.items())),
            Alternative(
                name=f"{share:.0%} of the dollars for {main} instead of {before:.0%}",
                usd_per_hour=float(dollars.sum()),
                extra=cost / found.solved.cost - 1.0 if found.solved.cost > 0 else 0.0,
                pools=made,
            ),
        )
    return list(results.values())


def _without(case: Case, state: State, found: Outcome, main: Mask) -> Outcome | None:
    """Return the fleet that needs some options least, at a few per cent more; None for none."""
    allowed = np.ones(len(case.pairs.code), dtype=bool)
    program, _ = program_of(case, state, allowed)
    most = found.solved.cost * (1.0 + WITHIN)
    limit = Row(
        name="nearly as good",
        kind="near",
        subject="",
        limit=most,
        units=program.unit_cost,
        pairs=program.pair_cost,
    )
    weight: Numbers = np.where(main, case.usd, 0.0) + 1e-3 * program.unit_cost
    other = msgspec.structs.replace(
        with_rows(program, [limit]), unit_cost=weight, pair_cost=1e-3 * program.pair_cost
    )
    try:
        answer = solve(other)
    except NotInTimeError:  # the fleet itself is there; others are worth no more time
        return None
    if answer is None:
        return None
    # Its queues are looked at under the same caps: options that it did not use stay away.
    used = answer.units > 0
    fresh = start(case)
    begin(case, fresh, used[case.pairs.option])
    result = settle(case, fresh, used[case.pairs.option])
    if result is None or not result.holds or result.solved.cost > most * (1.0 + 1e-6):
        return None
    return result

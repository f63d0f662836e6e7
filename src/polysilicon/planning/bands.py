"""How sure a plan's cost is: what the cost model says of the work, and the bands of its seconds."""

from __future__ import annotations

import numpy as np

from polysilicon.planning.answer import Answer
from polysilicon.planning.compose import Composed
from polysilicon.planning.needs import Need
from polysilicon.planning.places import Place, work_of_unit
from polysilicon.planning.plan import OptionFacts
from polysilicon.planning.work import Way


def facts_of(composed: Composed) -> list[OptionFacts]:
    """Return what each offer does of each need, and what that rests on."""
    found = []
    for need in composed.needs:
        for place in composed.places:
            per_unit = work_of_unit(place, need, composed.policy)
            if per_unit <= 0 or place.only_spot:
                continue
            way = _way(place, need)
            note = "given" if way is None else way.note
            if way is not None and place.asked.like is not None:
                note = f"like {place.asked.like}: {note}"
            if way is not None and place.asked.performance != 1.0:
                note = f"{place.asked.performance:g} times, as given: {note}"
            found.append(
                OptionFacts(
                    need=need.name,
                    offer=place.asked.name,
                    region=place.region,
                    per_unit=per_unit,
                    usd_per_hour=place.hourly,
                    basis="given" if way is None else way.basis,
                    low=1.0 if way is None else way.low,
                    high=1.0 if way is None else way.high,
                    note=note,
                    price_basis=place.price_basis,
                )
            )
    return found


def band_of(composed: Composed, answer: Answer) -> tuple[float, float]:
    """Return factors on the cost when all seconds lie at the ends of their bands.

    Machines are as many as the seconds ask for, so dollars go with them; each offer's share is by
    the machines that serve, at their price by the hour where there is one.
    """
    weights = np.zeros(3)
    bands = {(f.need, f.offer, f.region): (f.low, f.high) for f in facts_of(composed)}
    problem = composed.problem
    for one in answer.served:
        if one.option < 0:
            continue
        place = composed.places[one.option]
        per_unit = problem.options[one.option].work
        for at, need in enumerate(composed.needs):
            work = float(problem.probability @ one.work[:, :, at].sum(axis=1))
            band = bands.get((need.name, place.asked.name, place.region))
            if per_unit[at] <= 0 or work <= 0 or band is None:
                continue
            machines = work / float(per_unit[at]) * (place.hourly or 1.0)
            weights += machines * np.array([1.0, *band])
    if weights[0] <= 0:
        return 1.0, 1.0
    return float(weights[1] / weights[0]), float(weights[2] / weights[0])


def _way(place: Place, need: Need) -> Way | None:
    """Return how a place serves a need by the cost model; None where the file tells its work."""
    if need.demand in place.asked.work or place.base is None:
        return None
    return need.ways.get(place.base.name)

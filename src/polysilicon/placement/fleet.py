"""The fleet file of a placement, and the figures of its pools."""

from __future__ import annotations

import numpy as np

from polysilicon.catalog.fleet import LOCAL, RECIPES, Fleet, Pool
from polysilicon.cost.engine_choice import ENGINE
from polysilicon.placement.case import Case, State
from polysilicon.placement.eligible import Option
from polysilicon.placement.program import Numbers
from polysilicon.placement.queueing import wait_share
from polysilicon.placement.settle import Outcome
from polysilicon.placement.types import PoolPlan
from polysilicon.units import SECONDS_PER_HOUR


def fleet_of(case: Case, state: State, found: Outcome, room: Numbers) -> Fleet:
    """Return the fleet file of an outcome, a pool for each option with machines, in their order.

    Args:
        case: what was placed.
        state: its caps.
        found: the outcome.
        room: what a unit's room is worth, dollars an hour, shape (options,).
    """
    names = _names(case, found)
    pools = []
    for place, name in names.items():
        option = case.options[place]
        local = option.site.offer.name == LOCAL
        served = local and option.engine not in ("", ENGINE)
        spot = case.policy.spot if option.site.price == "spot" else None
        pools.append(
            Pool(
                name=name,
                offer=option.site.offer.name,
                region="" if local else option.site.offer.region,
                units=int(found.units[place]),
                serves=_serves(case, option),
                engine="openai" if served or not local else "llama.cpp",
                recipe=RECIPES.get(option.engine) if served else None,
                model=option.model or None,
                concurrency=option.concurrency,
                count=option.count,
                price=option.site.price,
                interruptions_per_hour=0.0 if spot is None else spot.interruptions_per_hour,
                restart_s=0.0 if spot is None else spot.restart_s,
                usd_per_s=share_usd(case, state, place, room),
            )
        )
    return Fleet(pool=tuple(pools), link=case.policy.link)


def share_usd(case: Case, state: State, place: int, room: Numbers) -> float | None:
    """Return dollars for one second of a step's share of a pool; None where dollars do not count.

    Args:
        case: what was placed.
        state: its caps; work is counted against them.
        place: the option.
        room: what a unit's room is worth, dollars an hour.
    """
    if case.policy.objective != "cost":
        return None
    per_machine_s = float(room[place]) / float(state.cap[place]) / SECONDS_PER_HOUR
    return per_machine_s / case.options[place].concurrency


def _names(case: Case, found: Outcome) -> dict[int, str]:
    """Return a name for each option with machines: what it is and what it serves."""
    names: dict[int, str] = {}
    seen: dict[str, int] = {}
    for place in np.flatnonzero(found.units > 0).tolist():
        option = case.options[place]
        words = [option.model or "tools", option.site.offer.name.partition("/")[2] or LOCAL]
        name = " on ".join(words)
        seen[name] = seen.get(name, 0) + 1
        names[place] = name if seen[name] == 1 else f"{name} {seen[name]}"
    return names


def _serves(case: Case, option: Option) -> tuple[str, ...]:
    """Return what a pool of an option serves."""
    if option.role != "tool":
        return (f"{option.role}:{option.model}",)
    cpu_s = case.classes.batch["cpu_s"]
    embeds = any(
        one.kind == "embed" and not np.isnan(cpu_s[at]) for at, one in enumerate(case.classes.each)
    )
    return ("tool:*", "embed:*") if embeds else ("tool:*",)


def _note(case: Case, option: Option) -> str:
    """Return what the figures of a pool rest on."""
    if option.site.price != "spot" or case.policy.spot is not None:
        return option.note
    told = "interruptions are not counted: the policy tells no [spot]"
    return f"{option.note}; {told}" if option.note else told


def plans(case: Case, state: State, found: Outcome, room: Numbers) -> list[PoolPlan]:
    """Return the figures of each pool, in the order of the fleet."""
    waits = wait_share(found.servers, found.busy, case.cv2) * case.mean_s
    pools = []
    for place, name in _names(case, found).items():
        option = case.options[place]
        offer = option.site.offer
        pools.append(
            PoolPlan(
                name=name,
                offer=offer.name,
                region=offer.region,
                kind=offer.kind,
                role=option.role,
                model=option.model,
                units=int(found.units[place]),
                utilisation=float(found.busy[place]),
                cap=float(state.cap[place]),
                wait_s=float(waits[place]),
                concurrency=option.concurrency,
                count=option.count,
                price=option.site.price,
                usd_per_hour=float(case.usd[place] * found.units[place]),
                usd_per_s=share_usd(case, state, place, room),
                basis=option.basis,
                note=_note(case, option),
            )
        )
    return pools

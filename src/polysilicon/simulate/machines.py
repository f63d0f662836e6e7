"""What the pools of a fleet are, before any arrays: machines, their engines, what they can do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
from msgspec.structs import replace

from polysilicon.catalog.catalog import Catalog
from polysilicon.catalog.fleet import LOCAL, RECIPES, Fleet, OwnPrice, Pool
from polysilicon.catalog.machine import detect
from polysilicon.catalog.offers import Offer
from polysilicon.catalog.policy import Policy
from polysilicon.cost.batch import batch_of
from polysilicon.cost.bulk import estimate_all
from polysilicon.cost.energy import Watts, watts
from polysilicon.cost.engine_choice import ENGINE
from polysilicon.cost.estimates import REFUSED
from polysilicon.cost.kinds import here, speed_from
from polysilicon.cost.llm.engine import EngineLaw, Usual, engine_law
from polysilicon.cost.money import share_usd, usd_per_s
from polysilicon.cost.tools import Slowdown
from polysilicon.cost.types import Basis, Load
from polysilicon.errors import InputError, NoBasisError
from polysilicon.simulate.program import TOKEN_THREADS, Route
from polysilicon.workload.record import StepRecord

_SAMPLE_TOKENS = 512


class Ability(msgspec.Struct, frozen=True, kw_only=True):
    """What a pool makes of steps of a route.

    Attributes:
        amount: seconds of one thread for each unit of a step's work; 1 of engines.
        low: factor at the lower end of the band.
        high: at the upper end.
        basis: of that.
    """

    amount: float
    low: float
    high: float
    basis: Basis


class Machines(msgspec.Struct, frozen=True, kw_only=True):
    """The machines of one pool.

    Attributes:
        pool: as in the fleet file.
        offer: of the catalog.
        region: where; `local` for this machine.
        usd_per_s: of one machine.
        watts: of one machine; None where a fact is missing.
        threads: vCPUs of one machine for steps on cores; 0 where it serves none.
        engine: how its engines iterate; None where it has none.
        abilities: what it can do with each route that it may take.
        refusals: why it takes no other, by route.
    """

    pool: Pool
    offer: Offer
    region: str
    usd_per_s: float
    watts: Watts | None
    threads: float
    engine: EngineLaw | None
    abilities: Mapping[int, Ability]
    refusals: Mapping[int, str]


def machines_of(
    fleet: Fleet,
    routes: Sequence[Route],
    usual: Mapping[str, Usual],
    catalog: Catalog,
    policy: Policy,
    measured_on: str,
) -> list[Machines]:
    """Return the machines of each pool of a fleet.

    Args:
        fleet: the pools.
        routes: of all steps that will come.
        usual: sizes of LLM steps by the model that they name, blank for none.
        catalog: facts and measurements.
        policy: what is allowed.
        measured_on: offer on which core-seconds were spent of steps that do not say.

    Raises:
        InputError: an unknown offer, a model that no pool can hold, a route that no pool takes,
            more units than there are.
    """
    policy.check_supply((pool.offer, pool.units) for pool in fleet.pool)
    pools = _one_machine(fleet.pool)
    routes = [replace(r, offer=r.offer or measured_on) for r in routes]
    found = [_machines(pool, routes, usual, catalog, policy) for pool in pools]
    for at, route in enumerate(routes):
        if not any(at in machines.abilities for machines in found):
            told = "; ".join(f"{m.pool.name}: {m.refusals[at]}" for m in found)
            mend = f"add {route.kind}:{route.what or '*'} to `serves` of a pool that can"
            raise InputError(f"no pool takes {route.kind}:{route.what}: {told}",
                             where="fleet", mend=mend)  # fmt: skip
    return found


def _one_machine(pools: Sequence[Pool]) -> list[Pool]:
    """Return pools with one in place of a server on this machine and the tools beside it.

    They are paid once, and slow each other as an engine in process and tools do.

    Raises:
        InputError: several engines share the cores of this machine.
    """
    here = [pool for pool in pools if pool.offer == LOCAL]
    if len(here) < 2 or not any(pool.is_here for pool in here):
        return list(pools)
    engines = [p for p in here if any(what.startswith(("llm", "*")) for what in p.serves)]
    if len(engines) > 1 or len({pool.units for pool in here}) > 1:
        what = "engines that share the cores of one machine are not simulated"
        mend = 'leave all but one of them out; a pool for tools alone has serves = ["tool:*"]'
        raise InputError(what, where="fleet", mend=mend)
    owner = next((pool for pool in here if not pool.is_here), here[0])
    serving = engines[0] if engines else owner
    whole = replace(
        serving,
        name=" and ".join(pool.name for pool in here),
        serves=tuple(dict.fromkeys(what for pool in here for what in pool.serves)),
        price=owner.price,
    )
    return [whole if pool is here[0] else pool for pool in pools if pool not in here[1:]]


def engine_of(pool: Pool) -> str:
    """Return the engine of a pool of this machine, by the name under which it is measured.

    Raises:
        NoBasisError: nobody tells which it is.
    """
    if ENGINE in (pool.engine, pool.recipe):
        return ENGINE
    for engine, recipe in RECIPES.items():
        if pool.recipe == recipe:
            return engine
    known = " or ".join(f'"{recipe}"' for recipe in RECIPES.values())
    raise NoBasisError(f"which engine serves there is not told: give recipe = {known}")


def _machines(
    pool: Pool,
    routes: Sequence[Route],
    usual: Mapping[str, Usual],
    catalog: Catalog,
    policy: Policy,
) -> Machines:
    """Return the machines of a pool."""
    local = pool.offer == LOCAL
    place = f"fleet, pool {pool.name!r}"
    try:
        offer = here(catalog) if local else catalog.offer(pool.offer, pool.region or None)
        price = _usd_per_s(pool, offer)
    except (InputError, NoBasisError) as error:
        raise InputError(str(error), where=place) from error
    region = LOCAL if local else offer.region
    refusals: dict[int, str] = {}
    serves: list[int] = []
    for at, route in enumerate(routes):
        if not pool.serves_step(route.kind, route.what or "*"):
            refusals[at] = "it does not serve such steps"
        elif not policy.resident(route.data_class, region):
            refusals[at] = f"the data may not be in region {region!r}"
        else:
            serves.append(at)
    engine, cannot = _engine(pool, offer, {at: routes[at] for at in serves}, usual, catalog)
    refusals |= cannot
    abilities: dict[int, Ability] = {}
    for at in serves:
        if at in cannot:
            continue
        try:
            abilities[at] = _ability(routes[at], offer, engine, catalog)
        except NoBasisError as error:
            refusals[at] = str(error)
    return Machines(
        pool=pool,
        offer=offer,
        region=region,
        usd_per_s=price,
        watts=watts(offer),
        threads=_threads(offer, [routes[at] for at in abilities]),
        engine=engine,
        abilities=abilities,
        refusals=refusals,
    )


def _usd_per_s(pool: Pool, offer: Offer) -> float:
    """Return dollars for a second of one machine.

    Raises:
        NoBasisError: the price is not known.
    """
    if pool.offer == LOCAL and not isinstance(pool.price, OwnPrice):
        return share_usd(offer, float(detect().cores))
    return usd_per_s(offer, pool.price)


def _threads(offer: Offer, routes: Sequence[Route]) -> float:
    """Return threads of one machine for steps on cores: vCPUs, or eight for each accelerator."""
    on_cores = [route for route in routes if route.kind != "llm"]
    if not on_cores:
        return 0.0
    if offer.name == LOCAL:
        return float(detect().cores)
    if offer.kind != "cpu" and all(route.tokens for route in on_cores):
        return TOKEN_THREADS * float(offer.accelerators or 1)
    return float(offer.vcpus or 0)


def _engine(
    pool: Pool,
    offer: Offer,
    routes: Mapping[int, Route],
    usual: Mapping[str, Usual],
    catalog: Catalog,
) -> tuple[EngineLaw | None, dict[int, str]]:
    """Return the engine of a pool, and why it does not take some LLM steps that it serves.

    A pool holds one model: the one that it names, or the one that its steps do.

    Raises:
        InputError: its steps name several models and it names none, or the count cannot be.
    """
    asked = {at: route.what for at, route in routes.items() if route.kind == "llm"}
    if not asked:
        return None, {}
    place = f"fleet, pool {pool.name!r}"
    try:
        names = {what: catalog.model(what).name for what in set(asked.values()) if what}
        named = catalog.model(pool.model).name if pool.model else None
    except InputError as error:
        raise InputError(str(error), where=place) from error
    models = set(names.values())
    if named is None and len(models) != 1:
        mend = 'add model = "…" to this pool of a fleet file'
        what = "which model it holds is not told" if not models else "its steps name several models"
        raise InputError(what, where=place, mend=mend)
    model = catalog.model(named or models.pop())
    cannot = {
        at: f"it holds {model.name}"
        for at, what in asked.items()
        if names.get(what, model.name) != model.name
    }
    sizes = [usual[what] for at, what in asked.items() if at not in cannot]
    if not sizes:
        return None, cannot
    size = _like_all(sizes)
    try:
        law = engine_law(
            model, offer, catalog, concurrency=pool.concurrency, count=pool.count, usual=size,
            engine=engine_of(pool) if pool.offer == LOCAL else "",
        )  # fmt: skip
    except NoBasisError as error:
        return None, cannot | {at: str(error) for at in asked if at not in cannot}
    except InputError as error:
        raise InputError(str(error), where=place) from error
    return law, cannot


def _like_all(sizes: Sequence[Usual]) -> Usual:
    """Return the usual sizes of steps that name a model in several ways."""

    def mean(of: str) -> float:
        return sum(getattr(size, of) for size in sizes) / len(sizes)

    return Usual(
        prompt=mean("prompt"),
        output=mean("output"),
        longest=max(size.longest for size in sizes),
        context=mean("context"),
        spread=mean("spread"),
    )


def _ability(route: Route, offer: Offer, engine: EngineLaw | None, catalog: Catalog) -> Ability:
    """Return what an offer makes of steps of a route.

    Raises:
        NoBasisError: nothing is known.
    """
    if route.kind == "llm":
        assert engine is not None
        return Ability(amount=1.0, low=engine.low, high=engine.high, basis=engine.basis)
    if route.tokens:
        return _by_tokens(route, offer, catalog)
    speed: Slowdown = speed_from(route.offer, offer, catalog)
    return Ability(amount=speed.ratio, low=speed.low / speed.ratio, high=speed.high / speed.ratio,
                   basis="calibrated")  # fmt: skip


def _by_tokens(route: Route, offer: Offer, catalog: Catalog) -> Ability:
    """Return what an offer takes for a token of an embedding or training step.

    Raises:
        NoBasisError: nothing is known.
    """
    step = StepRecord(
        task_id="1", step_id="1", name=route.method or route.kind, kind=route.kind,  # type: ignore[arg-type]
        model=route.what, prompt_tokens=_SAMPLE_TOKENS,
    )  # fmt: skip
    said = estimate_all(batch_of([step]), offer, Load(), catalog)
    if said.basis[0] == REFUSED:
        raise NoBasisError(said.note(0))
    service_s = float(said["service_s"][0])
    return Ability(
        amount=service_s / _SAMPLE_TOKENS * TOKEN_THREADS,
        low=float(said["low_s"][0]) / service_s,
        high=float(said["high_s"][0]) / service_s,
        basis=("measured", "calibrated", "roofline")[int(said.basis[0])],
    )

"""Which pools could take which classes, and what each step takes of them, from the cost model.

A pool of tools is machines of a CPU offer, estimated with all cores busy. A pool of a model is
machines that hold copies of it, each on so many accelerators, with so many steps at once: of these
ways all are options that are the cheapest for a class, and, where seconds count, all that are not
worse in both. Embedding and training steps hold a machine's share each, as the cost model says.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec
import numpy as np

from polysilicon.catalog.catalog import Catalog
from polysilicon.catalog.fleet import LOCAL, OwnPrice
from polysilicon.catalog.offers import Offer, Price
from polysilicon.cost.batch import Batch
from polysilicon.cost.bulk import estimate_all
from polysilicon.cost.engine_choice import ENGINE
from polysilicon.cost.estimates import REFUSED, Estimates
from polysilicon.cost.llm.choose import own_profile
from polysilicon.cost.types import BASES, Load, Serving
from polysilicon.errors import InputError
from polysilicon.placement.classes import Classes
from polysilicon.placement.program import Codes, Numbers

MOST_AT_ONCE = 512
MOST_ON_CPUS = 32
# At this price dollars are machine-seconds.
_BY_SECONDS = OwnPrice(usd_per_hour=3600.0)
# A way that serves so little cheaper than with half as many steps at once ends the search.
_PAYS = 0.97


class Site(msgspec.Struct, frozen=True, kw_only=True):
    """An offer in a region at one of its prices."""

    offer: Offer
    price: Price
    usd_per_hour: float


class Option(msgspec.Struct, frozen=True, kw_only=True):
    """A pool that there could be.

    Attributes:
        site: offer, region and price.
        role: `tool`, `llm`, `embed` or `train`.
        model: that it holds; blank of tools.
        concurrency: steps at once on one unit.
        count: accelerators of one copy; None where the cost model chose, and on CPUs.
        basis: of its seconds.
        note: what they rest on.
        engine: of the model, where it was asked for; blank where the cost model chose.
    """

    site: Site
    role: str
    model: str
    concurrency: int
    count: int | None
    basis: str
    note: str
    engine: str = ""


class Refused(msgspec.Struct, frozen=True, kw_only=True):
    """Why offers cannot take steps: the first offer, and how many of them."""

    offer: str
    what: str
    reason: str
    count: int


class Pairs(msgspec.Struct, frozen=True, kw_only=True):
    """Classes and options that could take them; arrays of shape (pairs,), classes rising.

    Attributes:
        code: the class.
        option: the option.
        work_s: machine-seconds of a step.
        fixed_s: seconds of a step that its size does not change: start-up.
        first_s: to the first token.
        rest_s: what is left; of tools all of the work.
        low: lower end of the band of its seconds, over the best estimate.
        high: upper end.
    """

    code: Codes
    option: Codes
    work_s: Numbers
    fixed_s: Numbers
    first_s: Numbers
    rest_s: Numbers
    low: Numbers
    high: Numbers

    @property
    def seconds(self) -> Numbers:
        """Seconds of the step that stands for its class, without what it waits for others."""
        return self.fixed_s + self.first_s + self.rest_s

    def take(self, chosen: Codes) -> Pairs:
        """Return some pairs."""
        return Pairs(**{name: getattr(self, name)[chosen] for name in self.__struct_fields__})


class Eligible(msgspec.Struct, frozen=True, kw_only=True):
    """Options, pairs, and what was refused."""

    options: Sequence[Option]
    pairs: Pairs
    refused: Sequence[Refused]


class _Way(msgspec.Struct, frozen=True, kw_only=True):
    """One way in which an offer serves some classes; arrays over these."""

    role: str
    model: str
    concurrency: int
    count: int | None
    basis: str
    note: str
    engine: str
    code: Codes
    values: dict[str, Numbers]

    @property
    def seconds(self) -> Numbers:
        """Seconds of a step of each class."""
        return self.values["fixed_s"] + self.values["first_s"] + self.values["rest_s"]


def eligible(classes: Classes, sites: Sequence[Site], catalog: Catalog, *, timed: bool) -> Eligible:
    """Return the pools that could be, and the classes that each could take.

    Args:
        classes: of steps.
        sites: where.
        catalog: facts.
        timed: seconds count, and not only dollars.

    Raises:
        InputError: an amount of a step cannot be.
    """
    by_offer: dict[str, list[Site]] = {}
    for site in sites:
        by_offer.setdefault(site.offer.name, []).append(site)
    refusals: dict[tuple[str, str], Refused] = {}
    options: list[Option] = []
    found: list[tuple[int, _Way]] = []
    for name, places in by_offer.items():
        for what, codes, batch in _groups(classes):
            reasons: dict[str, int] = {}
            ways = list(_ways(what, codes, batch, places[0].offer, catalog, reasons))
            for reason in reasons if not ways else ():
                _count(refusals, name, ":".join(what).rstrip(":"), reason)
            for way in _useful(ways, timed=timed):
                for site in places:
                    found.append((len(options), way))
                    options.append(_option(site, way))
    return Eligible(options=options, pairs=_pairs(found), refused=list(refusals.values()))


def _count(refusals: dict[tuple[str, str], Refused], offer: str, what: str, reason: str) -> None:
    """Count a refusal."""
    # The cost model's words name the offer; like cases of several are counted together.
    told = reason.replace(offer, "the offer")
    before = refusals.get((what, told), Refused(offer=offer, what=what, reason=told, count=0))
    refusals[what, told] = msgspec.structs.replace(before, count=before.count + 1)


def _groups(classes: Classes) -> Iterator[tuple[tuple[str, str], Codes, Batch]]:
    """Yield role and model, and the classes that a pool of these takes."""
    cpu_s = classes.batch["cpu_s"]
    keys = []
    for place, one in enumerate(classes.each):
        tool = one.kind == "tool" or (one.kind == "embed" and not np.isnan(cpu_s[place]))
        keys.append(("tool", "") if tool else (one.kind, one.model or ""))
    for key in dict.fromkeys(keys):
        codes = np.array([i for i, other in enumerate(keys) if other == key], np.int64)
        yield key, codes, classes.batch.take(codes)


def _ways(
    what: tuple[str, str],
    codes: Codes,
    batch: Batch,
    offer: Offer,
    catalog: Catalog,
    reasons: dict[str, int],
) -> Iterator[_Way]:
    """Yield the ways in which an offer serves some classes, and note why it does not.

    Raises:
        InputError: an amount of a step cannot be.
    """
    role, model = what
    most = MOST_ON_CPUS if offer.kind == "cpu" else MOST_AT_ONCE
    for first in _loads(role, model, offer):
        before, load = np.inf, first
        while True:
            try:
                said = estimate_all(batch, offer, load, catalog, _BY_SECONDS)
            except InputError as error:
                # What cannot be on this offer, such as a split of the model, may be on others.
                reasons[str(error)] = reasons.get(str(error), 0) + 1
                break
            good = np.flatnonzero(said.basis != REFUSED)
            for step in np.flatnonzero(said.basis == REFUSED).tolist():
                reasons[said.note(step)] = reasons.get(said.note(step), 0) + 1
            if not len(good):
                break
            way = _way(role, model, load, offer, codes, batch, said, good)
            work = float(way.values["work_s"].mean())
            if role == "llm" and (len(good) < len(codes) and before < np.inf):
                break
            if work > before * _PAYS:
                break
            yield way
            if role != "llm" or load.concurrency * 2 > most:
                break
            before = work
            load = msgspec.structs.replace(load, concurrency=load.concurrency * 2)


def _loads(role: str, model: str, offer: Offer) -> Iterator[Load]:
    """Yield the loads to begin with: of tools a machine whose cores are all busy.

    On this machine one for each engine that was measured with the model; where none was, of the one
    that serves by itself, whatever other engines are known to do on such machines.
    """
    if role == "tool":
        vcpus = offer.vcpus or 1
        yield Load(utilisation=(vcpus - 1) / vcpus)
    elif role == "llm" and offer.name == LOCAL:
        own = own_profile()
        measured = [] if own is None else [one.engine for one in own.engines_of(model)]
        yield from (Load(serving=Serving(engine=engine)) for engine in measured or [ENGINE])
    elif role == "llm" and offer.kind != "cpu" and offer.accelerators:
        count = 1
        while count < offer.accelerators:
            yield Load(serving=Serving(count=count))
            count *= 2
        yield Load(serving=Serving(count=offer.accelerators))
    else:
        yield Load()


def _way(
    role: str,
    model: str,
    load: Load,
    offer: Offer,
    codes: Codes,
    batch: Batch,
    said: Estimates,
    good: Codes,
) -> _Way:
    """Return a way with its figures."""
    steps = batch.take(good)
    service_s, work_s = said["service_s"][good], said["cost_usd"][good]
    fixed_s = np.zeros(len(good))
    first_s = np.zeros(len(good))
    if role == "llm":
        first_s = said["ttft_s"][good]
    elif role == "tool":
        fixed_s = steps.or_else("startup_s", 0.0)
        service_s = service_s - steps.or_else("wait_s", 0.0)
    count = load.serving.count
    copies = 1 if count is None else (offer.accelerators or 1) // count
    at_once = int(load.concurrency) * copies
    if role == "tool":
        at_once = offer.vcpus or 1
    elif role != "llm":
        at_once = max(round(float((service_s / work_s).mean())), 1)
    return _Way(
        role=role,
        model=model,
        concurrency=at_once,
        count=count,
        basis=BASES[int(said.basis[good].max())],
        note=said.note(int(good[0])),
        engine=load.serving.engine,
        code=codes[good],
        values={
            "work_s": work_s,
            "fixed_s": fixed_s,
            "first_s": first_s,
            "rest_s": np.maximum(service_s - fixed_s - first_s, 0.0),
            "low": np.minimum(_factor(said["low_s"][good], said["service_s"][good]), 1.0),
            "high": np.maximum(_factor(said["high_s"][good], said["service_s"][good]), 1.0),
        },
    )


def _factor(end_s: Numbers, service_s: Numbers) -> Numbers:
    """Return the end of a band over its middle; 1 of steps that take no time."""
    some = service_s > 0
    return np.where(some, end_s / np.where(some, service_s, 1.0), 1.0)


def _useful(ways: Sequence[_Way], *, timed: bool) -> list[_Way]:
    """Leave out ways that are better at nothing."""
    if len(ways) < 2:
        return list(ways)
    if timed:
        return [way for way in ways if not any(_beats(other, way) for other in ways)]
    cheapest: dict[int, tuple[float, int]] = {}
    for place, way in enumerate(ways):
        for code, work_s in zip(way.code.tolist(), way.values["work_s"].tolist(), strict=True):
            cheapest[code] = min(cheapest.get(code, (np.inf, -1)), (work_s, place))
    return [ways[place] for place in sorted({place for _, place in cheapest.values()})]


def _beats(one: _Way, other: _Way) -> bool:
    """Tell whether a way is cheaper and faster for all that another one serves."""
    if one is other or len(one.code) != len(other.code):
        return False
    cheaper = one.values["work_s"] < other.values["work_s"]
    return bool((cheaper & (one.seconds < other.seconds)).all())


def _option(site: Site, way: _Way) -> Option:
    """Return a way at a site."""
    return Option(
        site=site,
        role=way.role,
        model=way.model,
        concurrency=way.concurrency,
        count=way.count,
        basis=way.basis,
        note=way.note,
        engine=way.engine,
    )


def _pairs(found: Sequence[tuple[int, _Way]]) -> Pairs:
    """Return all pairs, in the order of their classes."""
    if not found:
        empty = np.zeros(0)
        whole = np.zeros(0, np.int64)
        names = ("work_s", "fixed_s", "first_s", "rest_s", "low", "high")
        return Pairs(code=whole, option=whole, **dict.fromkeys(names, empty))
    every = Pairs(
        code=np.concatenate([way.code for _, way in found]),
        option=np.concatenate([np.full(len(way.code), place) for place, way in found]),
        **{
            name: np.concatenate([way.values[name] for _, way in found])
            for name in found[0][1].values
        },
    )
    return every.take(np.lexsort((every.option, every.code)))

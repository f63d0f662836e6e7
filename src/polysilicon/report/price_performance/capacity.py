"""How many requests a second a machine serves while each of them keeps what was promised.

A closed loop of c requests at once gives c / service(c) requests a second (Little's law: J. Little,
Operations Research 9(3), 1961). On CPUs it is no more than prompts alone would take one after
another, for a prompt keeps all cores busy, which the law for many at once does not know. The
capacity is the largest of these at which first and later tokens keep the SLO. It is worked out
three times: by the best estimate of all seconds, by the slow ends of their bands, and by the fast
ones.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from polysilicon.catalog.catalog import Catalog
from polysilicon.catalog.models import ModelArchitecture
from polysilicon.catalog.offers import Offer
from polysilicon.cost import Load, Serving, estimate
from polysilicon.cost.llm.choose import law_for
from polysilicon.cost.llm.law import LlmLaw, Numbers
from polysilicon.cost.types import BASES, Basis
from polysilicon.errors import InputError, NoBasisError
from polysilicon.report.price_performance.studies import (
    CONCURRENCIES,
    COPIES,
    MIXES,
    MOST_ON_CPUS,
    SLOS,
    Slo,
    ToolTask,
)
from polysilicon.workload.record import StepRecord

ENDS = ("best", "slow", "fast")
"""Ends of the bands that capacities are worked out by."""


class Capacity(msgspec.Struct, frozen=True, kw_only=True):
    """What a machine serves.

    Attributes:
        offer: the machine.
        per_s: requests a second by the best estimate; 0 where it does not keep the SLO.
        slow_per_s: the same if all seconds are at the slow end of their bands.
        fast_per_s: if they are at the fast end.
        at_once: requests at once, of the best estimate.
        first_s: then, to the first token; of tool work a whole run.
        later_s: then, for each later token; 0 of tool work.
        basis: of the seconds.
        note: what they rest on.
    """

    offer: Offer
    per_s: float = 0.0
    slow_per_s: float = 0.0
    fast_per_s: float = 0.0
    at_once: int = 0
    first_s: float = 0.0
    later_s: float = 0.0
    basis: Basis = "roofline"
    note: str = ""

    def end(self, name: str) -> float:
        """Return the capacity by an end of the band."""
        return {"best": self.per_s, "slow": self.slow_per_s, "fast": self.fast_per_s}[name]


class Answers(msgspec.Struct, frozen=True, kw_only=True):
    """Capacities of machines, and what could not be estimated.

    Attributes:
        capacities: by names of mix and SLO; of tool work the mix is blank.
        refused: groups of machines by the reason why none of them can be estimated.
    """

    capacities: Mapping[tuple[str, str], Sequence[Capacity]]
    refused: Mapping[str, int]


def groups_of(catalog: Catalog) -> list[list[Offer]]:
    """Return machines of the same processor and size, cheapest first, each in its cheapest region.

    The size is vCPUs, or accelerators; the machines of a group differ in memory and price.
    """
    groups: dict[tuple[str, str, int | None], list[Offer]] = {}
    for name in dict.fromkeys(offer.name for offer in catalog.offers):
        offer = catalog.offer(name)
        if offer.on_demand_usd_per_hour is None:
            continue
        chip = "unknown" if offer.processor is None else offer.processor.name
        size = offer.vcpus if offer.kind == "cpu" else offer.accelerators
        groups.setdefault((offer.kind, chip, size), []).append(offer)
    for group in groups.values():
        group.sort(key=lambda offer: (offer.usd_per_hour(), offer.name))
    return [groups[key] for key in sorted(groups, key=lambda key: (key[0], key[1], key[2] or 0))]


def llm_answers(name: str, catalog: Catalog) -> Answers:
    """Return what machines serve of a model, for all mixes and SLOs."""
    model = catalog.model(name)
    found: dict[tuple[str, str], list[Capacity]] = {
        (m.name, s.name): [] for m in MIXES for s in SLOS
    }
    refused: Counter[str] = Counter()
    for group in groups_of(catalog):
        reason = ""
        for offer in group:
            try:
                told = llm_capacities(model, offer, catalog)
            except NoBasisError as error:
                reason = reason or str(error)
                continue
            for key, capacity in told.items():
                found[key].append(capacity)
            break
        else:
            refused[reason] += 1
    return Answers(capacities=found, refused=refused)


def llm_capacities(
    model: ModelArchitecture, offer: Offer, catalog: Catalog
) -> dict[tuple[str, str], Capacity]:
    """Return what a machine serves of a model, by mix and SLO.

    Raises:
        NoBasisError: nothing is known, or the model does not fit.
    """
    found = {(mix.name, slo.name): Capacity(offer=offer) for mix in MIXES for slo in SLOS}
    refusal: NoBasisError | None = None
    known = False
    for serving in _servings(offer):
        try:
            for law, at_once in _laws(model, offer, serving, catalog):
                known = True
                if not _add(found, law, at_once):
                    break
        except NoBasisError as error:
            refusal = refusal or error
    if not known and refusal is not None:
        raise refusal
    return found


def _servings(offer: Offer) -> Iterator[Serving]:
    """Return ways to serve: on CPUs both engines, else copies on 1, 2, 4 and 8 accelerators."""
    if offer.kind == "cpu":
        yield from (Serving(engine="llama.cpp"), Serving(engine="vllm"))
        return
    if offer.accelerators is None:
        yield Serving()
        return
    for count in COPIES:
        if count <= offer.accelerators:
            yield Serving(count=count)


def _laws(
    model: ModelArchitecture, offer: Offer, serving: Serving, catalog: Catalog
) -> Iterator[tuple[LlmLaw, int]]:
    """Return the laws of more and more requests at once, as long as they fit.

    Raises:
        NoBasisError: not even one request can be estimated.
    """
    longest = float(max(mix.prompt + mix.output for mix in MIXES))
    for at_once in CONCURRENCIES:
        if offer.kind == "cpu" and at_once > MOST_ON_CPUS:
            return
        load = Load(concurrency=at_once, serving=serving)
        try:
            law = law_for(model, offer, load, catalog, longest)
        except (NoBasisError, InputError) as error:
            if at_once > 1:
                return
            raise NoBasisError(str(error)) from error
        if law.largest_tokens < longest:
            return
        yield law, at_once


def _add(found: dict[tuple[str, str], Capacity], law: LlmLaw, at_once: int) -> bool:
    """Take what a law says into the capacities; tell whether any SLO is kept at all.

    Args:
        found: capacities so far.
        law: of so many requests at once.
        at_once: how many.
    """
    first, later, basis = _ends(law)
    kept = False
    for i, mix in enumerate(MIXES):
        for slo in SLOS:
            rates = dict.fromkeys(ENDS, 0.0)
            for end in ENDS:
                first_s, later_s = float(first[end][i]), float(later[end][i])
                if first_s <= slo.ttft_s and later_s <= slo.tpot_s:
                    rates[end] = 1.0 / (law.share * (first_s + (mix.output - 1) * later_s))
            kept = kept or rates["fast"] > 0
            key = mix.name, slo.name
            found[key] = _better(
                found[key],
                rates,
                at_once=at_once,
                first_s=float(first["best"][i]),
                later_s=float(later["best"][i]),
                basis=BASES[int(basis[i])],
                note=law.note,
            )
    return kept


def _better(before: Capacity, rates: Mapping[str, float], **said: Any) -> Capacity:
    """Return a capacity with the better of two rates, and what is said of the best one."""
    after = msgspec.structs.replace(
        before,
        slow_per_s=max(before.slow_per_s, rates["slow"]),
        fast_per_s=max(before.fast_per_s, rates["fast"]),
    )
    if rates["best"] <= before.per_s:
        return after
    return msgspec.structs.replace(after, per_s=rates["best"], **said)


def _ends(
    law: LlmLaw,
) -> tuple[dict[str, Numbers], dict[str, Numbers], npt.NDArray[np.int8]]:
    """Return seconds to the first and of each later token by end of the band, and their basis."""
    prompt = np.array([float(mix.prompt) for mix in MIXES])
    output = np.array([float(mix.output) for mix in MIXES])
    said = law.seconds(prompt, np.zeros(len(MIXES)), output)
    first = {"best": said.ttft_s, "slow": said.ttft_high_s, "fast": said.ttft_low_s}
    later = {"best": said.tpot_s, "slow": said.tpot_high_s, "fast": said.tpot_low_s}
    return first, later, said.basis


def tool_answers(task: ToolTask, catalog: Catalog) -> Answers:
    """Return how many tasks of tool work machines do a second."""
    found: dict[tuple[str, str], list[Capacity]] = {("", slo.name): [] for slo in SLOS}
    refused: Counter[str] = Counter()
    for group in groups_of(catalog):
        try:
            for slo in SLOS:
                found["", slo.name].append(tool_capacity(task, group[0], slo, catalog))
        except NoBasisError:
            # The model's own words name each offer; here like cases are counted together.
            unsized = group[0].vcpus is None
            what = "how many vCPUs it has" if unsized else "the core speed of its CPUs"
            refused[f"{what} is not known"] += 1
    return Answers(capacities=found, refused=refused)


def tool_capacity(task: ToolTask, offer: Offer, slo: Slo, catalog: Catalog) -> Capacity:
    """Return how many tasks a machine does a second while each run ends within the SLO.

    Raises:
        NoBasisError: the core speed or the number of vCPUs is not known.
    """
    step = StepRecord(
        task_id="task", step_id="1", name="run", kind="tool", cpu_s=task.cpu_s, offer=task.offer
    )
    found = Capacity(offer=offer)
    for at_once in _runs_at_once(offer.vcpus or 1):
        busy = (at_once - 1) / (offer.vcpus or 1)
        said = estimate(step, offer, Load(utilisation=busy), catalog)
        rates = {
            end: at_once / (run_s * task.runs) if run_s <= slo.run_s else 0.0
            for end, run_s in (
                ("best", said.service_s),
                ("slow", said.high_s),
                ("fast", said.low_s),
            )
        }
        found = _better(
            found,
            rates,
            at_once=at_once,
            first_s=said.service_s,
            basis=said.basis,
            note=said.note,
        )
    return found


@lru_cache(maxsize=64)
def _runs_at_once(vcpus: int) -> tuple[int, ...]:
    """Return from one run to two for each vCPU."""
    parts: Iterable[float] = (0.25, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.25, 1.5, 2.0)
    return tuple(sorted({1, *(max(round(vcpus * part), 1) for part in parts)}))

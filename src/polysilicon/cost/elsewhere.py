"""The same work elsewhere: what tasks would take and cost on other offers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import reduce
from statistics import median

import msgspec

from polysilicon.catalog.catalog import Catalog
from polysilicon.catalog.fleet import LOCAL
from polysilicon.catalog.offers import Offer
from polysilicon.cost.batch import batch_of
from polysilicon.cost.bulk import estimate_all
from polysilicon.cost.estimate import one_of
from polysilicon.cost.estimates import REFUSED
from polysilicon.cost.kinds import here
from polysilicon.cost.types import Basis, Estimate, Load, weakest
from polysilicon.errors import InputError
from polysilicon.workload.record import StepRecord

# More tasks than these change the median little and would take long for many offers.
MAX_TASKS = 500


class Elsewhere(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The work on one offer.

    Attributes:
        offer: name.
        region: where.
        usd_per_1000_tasks: at on-demand prices.
        p50_s: median over tasks of the longest path through their steps, without queueing.
        basis: the weakest of its steps.
        low_s: median of the longest paths at the low ends of the steps' bands.
        high_s: the same at the high ends.
        note: what the numbers rest on.
    """

    offer: str
    region: str
    usd_per_1000_tasks: float
    p50_s: float
    basis: Basis
    low_s: float
    high_s: float
    note: str = ""


class Refused(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An offer without an estimate: the commonest reason, and how many steps were refused."""

    offer: str
    region: str
    reason: str
    count: int


def elsewhere(
    steps: Sequence[StepRecord],
    catalog: Catalog,
    offers: Sequence[Offer] | None = None,
    concurrency: int = 1,
) -> tuple[list[Elsewhere], list[Refused]]:
    """Estimate the same tasks on each offer.

    On accelerator offers the LLM steps run on the accelerator, all others on a CPU offer of the
    same cloud, which the note names. Steps that failed and left no figures are not counted. Of
    more than `MAX_TASKS` tasks, as many are taken, evenly spread.

    Args:
        steps: of whole tasks.
        catalog: offers, models, rates.
        offers: where to; by default this machine and those of the catalog's comparison.
        concurrency: LLM steps that share a machine at once.

    Returns:
        The offers with an estimate, and those without.

    Raises:
        InputError: the steps of a task depend on each other in a circle.
    """
    tasks = _tasks(steps)
    if not tasks:
        return [], []
    chosen = _spread(list(tasks), MAX_TASKS)
    about = f"{len(chosen)} of {len(tasks)} tasks" if len(chosen) < len(tasks) else ""
    sample = {task: tasks[task] for task in chosen}
    rows: list[Elsewhere] = []
    refused: list[Refused] = []
    for offer in offers if offers is not None else default_offers(catalog):
        found = _on_offer(sample, offer, catalog, Load(concurrency=concurrency))
        if isinstance(found, Refused):
            refused.append(found)
        else:
            note = "; ".join(part for part in (found.note, about) if part)
            rows.append(msgspec.structs.replace(found, note=note))
    return rows, refused


def default_offers(catalog: Catalog) -> list[Offer]:
    """Return this machine and the offers of the catalog's comparison."""
    return [here(catalog), *(catalog.offer(c.offer, c.region) for c in catalog.comparisons)]


def companion(offer: Offer, catalog: Catalog) -> Offer | None:
    """Return the CPU offer of the same cloud that runs tools beside an accelerator offer.

    It is the one that the comparison names for the offer or another of its cloud, or else the
    first CPU offer of that cloud in the comparison.
    """
    rows = [c for c in catalog.comparisons if c.offer.partition("/")[0] == offer.cloud]
    rows.sort(key=lambda c: c.offer != offer.name)
    for row in rows:
        if row.companion:
            return catalog.offer(row.companion, row.companion_region)
    plain = [c for c in rows if not c.companion]
    return catalog.offer(plain[0].offer, plain[0].region) if plain else None


def critical_path_s(steps: Sequence[StepRecord], service_s: Mapping[str, float]) -> float:
    """Return the longest path through a task's steps.

    Args:
        steps: of one task; a parent that is not among them counts as done at 0.
        service_s: seconds by step id.

    Raises:
        InputError: the steps depend on each other in a circle.
    """
    waiting = {step.step_id: {p for p in step.parent_ids if p in service_s} for step in steps}
    parents = {step_id: tuple(before) for step_id, before in waiting.items()}
    children: dict[str, list[str]] = {}
    for step_id, before in waiting.items():
        for parent in before:
            children.setdefault(parent, []).append(step_id)
    ready = [step_id for step_id, before in waiting.items() if not before]
    end_s: dict[str, float] = {}
    while ready:
        step_id = ready.pop()
        begin_s = max((end_s[parent] for parent in parents[step_id]), default=0.0)
        end_s[step_id] = begin_s + service_s[step_id]
        for child in children.get(step_id, ()):
            waiting[child].discard(step_id)
            if not waiting[child]:
                ready.append(child)
    if len(end_s) < len(waiting):
        left = sorted(waiting.keys() - end_s.keys())
        raise InputError(f"steps {', '.join(left[:3])} wait for each other", where=steps[0].task_id)
    return max(end_s.values(), default=0.0)


def _tasks(steps: Sequence[StepRecord]) -> dict[str, list[StepRecord]]:
    """Return the steps that can be estimated, by task."""
    tasks: dict[str, list[StepRecord]] = {}
    for step in steps:
        task = tasks.setdefault(step.task_id, [])
        if step.outcome in (None, "ok") or _has_figures(step):
            task.append(step)
    return {task_id: task for task_id, task in tasks.items() if task}


def _has_figures(step: StepRecord) -> bool:
    """Tell whether a failed step left what an estimate needs."""
    if step.kind == "llm":
        return step.prompt_tokens is not None and step.output_tokens is not None
    return step.cpu_s is not None


def _spread(items: list[str], most: int) -> list[str]:
    """Return at most `most` items, evenly spread."""
    if len(items) <= most:
        return items
    return [items[i * len(items) // most] for i in range(most)]


def _on_offer(
    tasks: Mapping[str, list[StepRecord]], offer: Offer, catalog: Catalog, load: Load
) -> Elsewhere | Refused:
    """Estimate all tasks on one offer."""
    beside = companion(offer, catalog) if offer.kind != "cpu" else None
    steps = [step for task in tasks.values() for step in task]
    moved = [beside is not None and step.kind != "llm" for step in steps]
    found: dict[int, Estimate] = {}
    reasons: Counter[str] = Counter()
    for place, chosen in (
        (offer, [i for i, away in enumerate(moved) if not away]),
        (beside, [i for i, away in enumerate(moved) if away]),
    ):
        if place is None or not chosen:
            continue
        said = estimate_all(batch_of([steps[i] for i in chosen]), place, load, catalog)
        for at, i in enumerate(chosen):
            if said.basis[at] == REFUSED:
                reasons[said.note(at)] += 1
            else:
                found[i] = one_of(said, at, place)
    if reasons:
        reason, count = reasons.most_common(1)[0][0], reasons.total()
        return Refused(offer=offer.name, region=offer.region, reason=reason, count=count)
    told = [offer.note] if offer.name == LOCAL and offer.note else []
    notes = Counter(found[i].note for i, step in enumerate(steps) if step.kind == "llm")
    told += [note for note, _ in notes.most_common(1)]
    if any(moved) and beside is not None:
        told.append(f"tools on {beside.name} in {beside.region}")
    by_id = {(step.task_id, step.step_id): found[i] for i, step in enumerate(steps)}
    paths = [
        _paths(task, {step.step_id: by_id[step.task_id, step.step_id] for step in task})
        for task in tasks.values()
    ]
    p50_s, low_s, high_s = (median(ends) for ends in zip(*paths, strict=True))
    return Elsewhere(
        offer=offer.name,
        region=offer.region,
        usd_per_1000_tasks=sum(e.cost_usd for e in found.values()) / len(tasks) * 1000,
        p50_s=p50_s,
        basis=reduce(weakest, (e.basis for e in found.values())),
        low_s=low_s,
        high_s=high_s,
        note="; ".join(told),
    )


def _paths(
    steps: Sequence[StepRecord], found: Mapping[str, Estimate]
) -> tuple[float, float, float]:
    """Return the longest path of a task, and at the low and the high ends of its steps."""
    return (
        critical_path_s(steps, {key: e.service_s for key, e in found.items()}),
        critical_path_s(steps, {key: e.low_s for key, e in found.items()}),
        critical_path_s(steps, {key: e.high_s for key, e in found.items()}),
    )

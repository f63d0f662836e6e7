"""What is wrong with a shape file, in one line."""

from __future__ import annotations

from polysilicon.errors import InputError, nearest
from polysilicon.workload.generate.numbers import LARGEST
from polysilicon.workload.generate.program import MOST_TOKENS
from polysilicon.workload.generate.shape import (
    DRAWN,
    MOST_WIDTH,
    PLAIN,
    Arrivals,
    Shape,
    ShapeFile,
    Stage,
    StepShape,
)


def check(file: ShapeFile, where: str) -> None:
    """Refuse a shape file that says nothing that can be played.

    Raises:
        InputError: so it is; names agent, stage or step.
    """
    if not file.shapes:
        raise InputError("it has no shapes", where=where)
    for shape in file.shapes:
        at = f"{where}, {shape.agent}"
        check_arrivals(shape.arrivals, f"{at}, arrivals")
        for step in shape.steps:
            _check_step(step, f"{at}, step {step.id}")
        _check_chain(shape, at)
        _check_dependence(shape, at)


def check_arrivals(given: Arrivals, where: str) -> None:
    """Refuse arrivals that cannot be.

    Raises:
        InputError: so they are.
    """
    for name, length in (("day", 24), ("week", 7)):
        curve = getattr(given, name)
        if len(curve) != length or min(curve) < 0 or not 0 < sum(curve) < float("inf"):
            what = f"{name} has {length} values, none of them negative, not all zero"
            raise InputError(what, where=where)
    rules = (
        ("rate_per_s", 0 < given.rate_per_s <= 1e9, "above 0 and at most 1e9"),
        ("span_s", 0 <= given.span_s < 1e12, "at least 0"),
        ("growth_per_month", -0.99 <= given.growth_per_month <= 10, "between -0.99 and 10"),
        ("dispersion", 1 <= given.dispersion <= 1e6, "at least 1 (Poisson)"),
        ("window_s", 1e-3 <= given.window_s <= 86_400, "between 0.001 and 86400"),
        ("burst_s", 0 <= given.burst_s <= 400 * given.window_s, "at most 400 windows"),
    )
    for name, right, wanted in rules:
        if not right:
            raise InputError(f"{name} must be {wanted}", where=where)


def _check_step(step: StepShape, where: str) -> None:
    """Refuse a step without what its kind needs.

    Raises:
        InputError: so it is.
    """
    if step.new_tokens and step.start_tokens is None:
        raise InputError("new_tokens without start_tokens", where=where)
    if not 0 <= (step.context_tokens or 0) <= MOST_TOKENS:
        raise InputError(f"context_tokens must be from 1 to {MOST_TOKENS:g}", where=where)
    for name in ("start_tokens", "cached_share", *PLAIN):
        number = getattr(step, name)
        if number is not None:
            number.check(f"{where}, {name}")
    for name, least in (("start_cached", 0.0), ("new_tokens", -float("inf"))):
        laws = getattr(step, name)
        for law in laws:
            law.check(f"{where}, {name}", least=least)
        levels = [law.from_tokens for law in laws]
        if levels and (levels[0] != 0 or levels != sorted(set(levels))):
            raise InputError("from_tokens must rise from 0", where=f"{where}, {name}")


def _check_chain(shape: Shape, where: str) -> None:
    """Refuse a chain of stages that names what is not there, or weights that are none.

    Raises:
        InputError: so it is.
    """
    stages, steps = [s.id for s in shape.stages], [s.id for s in shape.steps]
    for kind, ids in (("stage", stages), ("step", steps)):
        for each in ids:
            if ids.count(each) > 1:
                raise InputError(f"{kind} {each!r} is there twice", where=where)
    places = list(shape.ends_at)
    if not places or places[0] != 1 or places != sorted(set(places)) or places[-1] > LARGEST:
        raise InputError(f"ends_at must rise from 1, to {LARGEST:g} at most", where=where)
    _check_weights(shape.begin, stages, f"{where}, begin")
    for stage in shape.stages:
        _check_stage(stage, steps, stages, len(places), f"{where}, stage {stage.id}")
    _check_ends(shape, where)


def _check_ends(shape: Shape, where: str) -> None:
    """Refuse a chain from one of whose stages no end is ever reached.

    Raises:
        InputError: so it is.
    """
    ending = {stage.id for stage in shape.stages if max(stage.end) > 0}
    size = -1
    while len(ending) > size:
        size = len(ending)
        ending |= {
            stage.id
            for stage in shape.stages
            if any(weight > 0 and name in ending for name, weight in stage.next.items())
        }
    stuck = [stage.id for stage in shape.stages if stage.id not in ending]
    if stuck:
        mend = "give it, or a stage after it, a chance to end"
        raise InputError("tasks never end", where=f"{where}, stage {stuck[0]}", mend=mend)


def _check_stage(
    stage: Stage, steps: list[str], stages: list[str], places: int, where: str
) -> None:
    """Refuse a stage without steps, with weights that are none, or that leads nowhere.

    Raises:
        InputError: so it is.
    """
    if not stage.steps or (stage.lanes and len(stage.steps) != 1):
        raise InputError("a stage has steps, one kind of them in lanes", where=where)
    for some in stage.steps:
        _known(some.step, steps, where)
        if not some.counts or min(some.counts) < 0 or not 0 < sum(some.counts) < float("inf"):
            raise InputError("counts are finite weights, not all zero", where=where)
        if len(some.counts) > MOST_WIDTH:
            raise InputError(f"more than {MOST_WIDTH} steps at once", where=where)
    if len(stage.end) not in (1, places) or not all(0 <= e <= 1 for e in stage.end):
        raise InputError("end has chances, one or as many as ends_at", where=where)
    if min(stage.end) < 1 or stage.next:
        _check_weights(stage.next, stages, f"{where}, next")


def _check_weights(weights: dict[str, float], known: list[str], where: str) -> None:
    """Refuse weights that are none, or of what is not there.

    Raises:
        InputError: so they are.
    """
    if not weights:
        raise InputError("is empty", where=where, mend="name a stage with its weight")
    for name, weight in weights.items():
        _known(name, known, where)
        if not 0 <= weight < float("inf"):
            raise InputError(f"weight {weight:g} of {name}", where=where)
    if not 0 < sum(weights.values()) < float("inf"):
        raise InputError("all weights are zero, or their sum is not finite", where=where)


def _known(name: str, known: list[str], where: str) -> None:
    """Refuse a name that is not there.

    Raises:
        InputError: so it is.
    """
    if name not in known:
        raise InputError(f"there is no {name!r}", where=where, mend=nearest(name, known))


def _check_dependence(shape: Shape, where: str) -> None:
    """Refuse correlations that cannot be.

    Raises:
        InputError: so they are.
    """
    for word, low, high in (("task_share", 0.0, 1.0), ("memory", -0.999, 0.999)):
        for column, share in getattr(shape, word).items():
            _known(column, list(DRAWN), f"{where}, {word}")
            if not low <= share <= high:
                raise InputError(f"{share:g} of {column}", where=f"{where}, {word}")
    for pair in shape.together:
        for column in pair.columns:
            _known(column, list(DRAWN), f"{where}, together")
        if not -1 <= pair.r <= 1 or pair.columns[0] == pair.columns[1]:
            raise InputError(f"r is {pair.r:g}", where=f"{where}, together")

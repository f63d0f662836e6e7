"""From a problem file to a plan and back: composed, changed, solved, told, kept for the next."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import numpy as np

from polysilicon.catalog.catalog import Catalog
from polysilicon.errors import InputError
from polysilicon.planning.answer import ConflictError, Progress, Warm
from polysilicon.planning.change import change_of, in_file, in_numbers
from polysilicon.planning.compose import Composed, Source, compose
from polysilicon.planning.conflict_words import conflict_words
from polysilicon.planning.explored import explore
from polysilicon.planning.file import ProblemFile
from polysilicon.planning.machines import in_machines
from polysilicon.planning.plan_file import Kept, PlanFile
from polysilicon.planning.solve import solve
from polysilicon.planning.summary import plan_of

_MOST_KEPT = 8
"""Price arrays in a plan file: the last ones tell most."""


class Effort(msgspec.Struct, frozen=True, kw_only=True):
    """How long to solve.

    Attributes:
        gap: that is small enough.
        time_s: seconds after which the best so far is taken.
        explore_s: seconds for regret and worth, which are left out where they do not suffice.
        stop: is asked now and then; True ends the solve.
        progress: is told how far it is.
    """

    gap: float = 0.005
    time_s: float = 60.0
    explore_s: float = 0.0
    stop: Callable[[], bool] | None = None
    progress: Callable[[Progress], None] | None = None


def planned(
    file: ProblemFile,
    changes: Sequence[str],
    source: Source,
    catalog: Catalog,
    effort: Effort,
    warm: Kept | None = None,
) -> PlanFile:
    """Return the plan for a problem.

    Args:
        file: the problem.
        changes: to it, as `what-if` takes them.
        source: where it comes from.
        catalog: facts and prices.
        effort: how long.
        warm: of an earlier plan for nearly the same.

    Raises:
        InputError: a problem or a change that cannot be.
        InfeasibleError: no plan keeps all rules; names those in conflict.
    """
    composed = composed_of(file, changes, source, catalog)
    try:
        answer = solve(
            composed.problem,
            gap=effort.gap,
            time_s=effort.time_s,
            progress=effort.progress,
            stop=effort.stop,
            warm=None if warm is None else warm_of(warm, composed),
        )
    except ConflictError as error:
        raise conflict_words(error, composed) from error
    if answer.status != "stopped":  # who stops it wants what there is
        answer = in_machines(
            composed.problem, answer, gap=effort.gap, time_s=effort.time_s / 4, stop=effort.stop
        )
    explored = explore(composed, answer, effort.explore_s, effort.stop)
    plan = plan_of(composed, answer, explored)
    return PlanFile(
        made=source.today,
        folder=str(source.folder.absolute()),
        problem=file,
        changes=list(changes),
        plan=plan,
        warm=kept_of(answer.warm, composed),
    )


def composed_of(
    file: ProblemFile, changes: Sequence[str], source: Source, catalog: Catalog
) -> Composed:
    """Return a problem in numbers, with changes as `what-if` takes them.

    Raises:
        InputError: a problem or a change that cannot be.
    """
    each = [change_of(told) for told in changes]
    return in_numbers(compose(in_file(file, each), source, catalog), each)


def recomposed(kept: PlanFile, where: str, catalog: Catalog) -> Composed:
    """Return the problem of a plan file in numbers.

    Raises:
        InputError: what it was made from is not there any more.
    """
    return composed_of(kept.problem, kept.changes, source_of(kept, where), catalog)


def source_of(kept: PlanFile, where: str) -> Source:
    """Return where the problem of a plan file comes from; what was the future then stays so."""
    return Source(folder=Path(kept.folder), where=where, today=kept.made)


def kept_of(warm: Warm, composed: Composed) -> Kept:
    """Return what the next solve starts from, for a file."""
    prices = [
        zlib.compress(np.ascontiguousarray(one, np.float32).tobytes(), 1)
        for one in warm.prices[-_MOST_KEPT:]
    ]
    return Kept(
        shape=composed.problem.shape,
        prices=prices,
        units=[(c, o, units) for (c, o), units in warm.units.items()],
        columns=[(c, o) for c, o in warm.columns],
    )


def warm_of(kept: Kept, composed: Composed) -> Warm | None:
    """Return what a solve starts from; None where the problem has another shape now.

    Raises:
        InputError: the file's prices are broken.
    """
    shape = composed.problem.shape
    if tuple(kept.shape) != shape:
        return None
    size = int(np.prod(shape)) * 4
    prices = []
    for packed in kept.prices:
        reader = zlib.decompressobj()
        try:
            raw = reader.decompress(packed, size + 1)
        except zlib.error as error:
            raise InputError("what the next solve starts from is broken", where="warm",
                             mend="solve the problem again") from error  # fmt: skip
        values = np.frombuffer(raw[: len(raw) // 4 * 4], np.float32).astype(np.float64)
        if len(values) * 4 != size or len(raw) != size or not np.isfinite(values).all():
            continue
        prices.append(values.reshape(shape))
    known = len(composed.problem.contracts)
    return Warm(
        prices=tuple(prices),
        units={(c, o): units for c, o, units in kept.units if 0 <= c < known},
        columns=tuple((c, o) for c, o in kept.columns if 0 <= c < known),
    )

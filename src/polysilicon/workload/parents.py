"""Parents of steps of which others are cut out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from polysilicon.errors import InputError
from polysilicon.workload.checks import find_fault

Mask = npt.NDArray[np.bool_]


def inherited(table: Any, kept: Mask, where: str) -> list[list[str]]:
    """Return the parents of each kept row, of which none is cut.

    Args:
        table: whole tasks.
        kept: which rows are, shape (rows,).
        where: the file, named in errors.

    Raises:
        InputError: a step of a task breaks a rule, such as a parent that is not there.
    """
    if fault := find_fault(table):
        spot = f"{where}, task {table['task_id'][fault.row]}, {fault.field}"
        raise InputError(fault.what, where=spot, mend="mend the workload before it is cut")
    keys = list(zip(table["task_id"].to_pylist(), table["step_id"].to_pylist(), strict=True))
    parents = [ids or [] for ids in table["parent_ids"].to_pylist()]
    row_of = {key: row for row, key in enumerate(keys)}
    found: dict[int, list[str]] = {}  # of rows that are cut: those that stand for them
    result = []
    for row in np.flatnonzero(kept).tolist():
        task = keys[row][0]
        before = [row_of[task, one] for one in parents[row]]
        waiting = [one for one in before if not kept[one]]
        while waiting:
            above = [row_of[task, one] for one in parents[waiting[-1]]]
            missing = [one for one in above if not kept[one] and one not in found]
            if missing:
                waiting.extend(missing)
            else:
                found[waiting.pop()] = _stand_ins(above, kept, found, keys)
        result.append(_stand_ins(before, kept, found, keys))
    return result


def _stand_ins(
    rows: Iterable[int],
    kept: Mask,
    found: dict[int, list[str]],
    keys: list[tuple[str, str]],
) -> list[str]:
    """Return the ids of rows that are kept, and of those that stand for the others, each once."""
    ids = [id_ for row in rows for id_ in ([keys[row][1]] if kept[row] else found[row])]
    return list(dict.fromkeys(ids))

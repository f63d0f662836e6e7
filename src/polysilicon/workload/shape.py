"""The shape of tasks: how many steps, how deep their chains, how wide, and how parallel.

All tasks are walked at once, a level of their graphs at a time: each link is followed once.
"""

from __future__ import annotations

import msgspec
import numpy as np

from polysilicon.workload.checks import edges
from polysilicon.workload.groups import (
    Codes,
    Floats,
    TaskTimes,
    count_by,
    service_s,
    sum_by,
    used_codes,
)
from polysilicon.workload.spreads import Spread, spread
from polysilicon.workload.workload import Workload


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """The shape of tasks; spreads over tasks.

    A task of several steps none of which names a parent may be a chain or a bag: nothing tells.
    It is counted as unlinked, and has neither depth, width nor critical path.

    Attributes:
        steps: steps of a task.
        unlinked: tasks of several steps without any parent.
        depth: steps on the longest chain through parents.
        width: most steps at the same depth.
        critical_path_s: longest chain of service times, of tasks all of whose steps tell theirs.
        parallelism: summed service time over the critical path, of the same tasks.
    """

    steps: Spread
    unlinked: int
    depth: Spread
    width: Spread
    critical_path_s: Spread
    parallelism: Spread


def shape(workload: Workload, times: TaskTimes) -> Shape:
    """Return the shape of a workload's tasks.

    Args:
        workload: all steps.
        times: of its tasks.
    """
    codes, tasks = times.codes, len(times.names)
    child, parent = links(workload, codes)
    service = service_s(workload)
    level, finish = walk(child, parent, np.nan_to_num(service))
    steps = times.steps
    unlinked = (steps > 1) & (count_by(codes[child], tasks) == 0)
    depth, path_s = np.zeros(tasks), np.zeros(tasks)
    np.maximum.at(depth, codes, level)
    np.maximum.at(path_s, codes, finish)
    untimed = count_by(codes[np.isnan(service)], tasks) > 0
    path_s[unlinked | untimed] = np.nan
    summed = sum_by(service, codes, tasks)
    ratio = np.divide(summed, path_s, out=np.full(tasks, np.nan), where=path_s > 0)
    known = ~unlinked
    return Shape(
        steps=spread(steps.astype(np.float64)),
        unlinked=int(unlinked.sum()),
        depth=spread(depth[known]),
        width=spread(_width(codes, level, tasks)[known]),
        critical_path_s=spread(path_s),
        parallelism=spread(ratio),
    )


def links(workload: Workload, task: Codes) -> tuple[Codes, Codes]:
    """Return the rows of the child and of the parent of each link, in order of the child.

    Args:
        workload: all steps.
        task: of each step, shape (steps,).
    """
    step, child, parent_step = edges(workload.table)
    width = int(step.max(initial=-1)) + 1
    keys = task * width + step
    order = np.argsort(keys)
    at = np.searchsorted(keys, task[child] * width + parent_step, sorter=order)
    return child, order[at]


def walk(child: Codes, parent: Codes, service: Floats) -> tuple[Codes, Floats]:
    """Walk graphs without cycles from their roots.

    Args:
        child: row of each link, shape (links,).
        parent: row of each link, shape (links,).
        service: seconds that each row takes, shape (rows,).

    Returns:
        Rows on the longest chain that ends in each row, itself included, and the seconds of the
        dearest such chain; both of shape (rows,).
    """
    rows = len(service)
    order = np.argsort(parent, kind="stable")
    kids_of = child[order]
    fanout = np.bincount(parent, minlength=rows)
    first = np.cumsum(fanout) - fanout
    waits = np.bincount(child, minlength=rows)
    level, finish = np.zeros(rows, np.int64), np.zeros(rows)
    last = np.empty(rows, np.int64)
    front, depth = np.flatnonzero(waits == 0), 0
    while len(front):
        depth += 1
        level[front] = depth
        finish[front] += service[front]
        counts = fanout[front]
        # The links of each row of the front lie side by side from `first` on.
        before = np.cumsum(counts) - counts
        at = np.repeat(first[front] - before, counts) + np.arange(counts.sum())
        kids = kids_of[at]
        np.maximum.at(finish, kids, np.repeat(finish[front], counts))
        np.subtract.at(waits, kids, 1)
        free = kids[waits[kids] == 0]
        places = np.arange(len(free))
        last[free] = places  # of rows that several links made free, one place is kept
        front = free[last[free] == places]
    return level, finish


def _width(codes: Codes, level: Codes, tasks: int) -> Floats:
    """Return the most rows of each task that are at the same level, shape (tasks,)."""
    deepest = int(level.max(initial=0)) + 1
    used, place = used_codes(codes * deepest + level, tasks * deepest)
    counts = count_by(place, len(used))
    width = np.zeros(tasks)
    np.maximum.at(width, used // deepest, counts.astype(np.float64))
    return width

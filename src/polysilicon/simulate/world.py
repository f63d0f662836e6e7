"""The world of a simulation, given the tasks that come next, and rid of those that ended.

Arrays of steps, tasks and links are longer than what they hold, so that pieces of a long workload
are added without copying all that is known.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from polysilicon.schedule.types import Codes, Flags
from polysilicon.simulate import heaps
from polysilicon.simulate.program import Program
from polysilicon.simulate.state import EDGES, NONE, OPEN, STEPS, TASKS, World

_GROWTH = 1.5


def fed(world: World, program: Program) -> World:
    """Return a world that knows further tasks, all of which arrive after those it knows."""
    rows, known, links = (int(world.sizes[what]) for what in (STEPS, TASKS, EDGES))
    grown = world._replace(
        steps=_longer(world.steps, rows, program.steps),
        tasks=_longer(world.tasks, known, program.tasks),
        edges=_longer(world.edges, links, program.edges),
    )
    steps = grown.steps[rows : rows + len(program.steps)]
    steps["task"] += known
    steps["child"] += links
    grown.tasks[known : known + len(program.tasks)]["first"] += rows
    grown.edges[links : links + len(program.edges)] += rows
    grown.sizes[[STEPS, TASKS, EDGES]] += [len(steps), len(program.tasks), len(program.edges)]
    grown.sizes[OPEN] += len(program.tasks)
    return _with_room(grown)


def _longer(table: Any, used: int, more: Any) -> Any:
    """Return a table with further rows after those that are used."""
    need = used + len(more)
    if need > len(table):
        longer = np.zeros(max(need, int(len(table) * _GROWTH)), table.dtype)
        longer[:used] = table[:used]
        table = longer
    table[used:need] = more
    return table


def _with_room(world: World) -> World:
    """Return a world whose heaps have room for all its steps."""
    n, pools = len(world.steps), world.pools
    # A step takes a thread at least, so no more jobs run than there are threads.
    room = np.minimum(np.ceil(pools["whole"]), n).astype(np.int64)
    if len(world.delays) >= n and int(room.sum()) <= len(world.jobs):
        return world
    at = np.cumsum(room) - room
    jobs = np.zeros(int(room.sum()), heaps.ENTRY)
    for pool, new in enumerate(at.tolist()):
        old, count = int(pools["job_at"][pool]), int(pools["jobs"][pool])
        jobs[new : new + count] = world.jobs[old : old + count]
    pools["job_at"] = at
    more = np.zeros(max(n - len(world.delays), 0), heaps.ENTRY)
    return world._replace(jobs=jobs, delays=np.concatenate((world.delays, more)))


def ended(world: World) -> tuple[Flags, Flags]:
    """Tell which steps are of tasks that have ended, and which tasks these are."""
    tasks = world.tasks["left"][: world.sizes[TASKS]] == 0
    return tasks[world.steps["task"][: world.sizes[STEPS]]], tasks


def forget(world: World, gone: Flags, tasks_gone: Flags) -> None:
    """Take tasks that ended, and their steps, out of a world.

    Args:
        world: changed in place.
        gone: which steps.
        tasks_gone: which tasks.
    """
    kept, tasks_kept = ~gone, ~tasks_gone
    row, task = _places(kept), _places(tasks_kept)
    edge_of = np.repeat(np.arange(len(kept)), world.steps["children"][: len(kept)])
    edges = row[world.edges[: world.sizes[EDGES]][kept[edge_of]]]
    steps = world.steps[: len(kept)][kept]
    tasks = world.tasks[: len(tasks_kept)][tasks_kept]
    steps["task"] = task[steps["task"]]
    steps["child"] = np.cumsum(steps["children"]) - steps["children"]
    steps["next"] = _moved(steps["next"], row)
    tasks["first"] = row[tasks["first"]]
    for table, columns in ((world.buckets, ("head", "tail")), (world.engines, ("first", "last"))):
        for column in columns:
            table[column] = _moved(table[column], row)
    for heap in (world.delays, world.jobs, world.slots):
        # What lies beyond the end of a heap is never read.
        heap["item"] = _moved(np.minimum(heap["item"], len(row) - 1), row)
    world.steps[: len(steps)], world.tasks[: len(tasks)] = steps, tasks
    world.edges[: len(edges)] = edges
    world.sizes[[STEPS, TASKS, EDGES]] = [len(steps), len(tasks), len(edges)]


def _places(kept: Flags) -> Codes:
    """Return the row that each kept row will have, -1 of others."""
    return np.where(kept, np.cumsum(kept) - 1, NONE)


def _moved(rows: Any, row: Codes) -> Any:
    """Return rows where they are now; -1 stays."""
    return np.where(rows == NONE, NONE, row[np.maximum(rows, 0)])

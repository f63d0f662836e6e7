"""The world of a simulation, given the tasks that come next, and rid of those that ended."""

from __future__ import annotations

from typing import Any

import numpy as np

from polysilicon.schedule.types import Codes, Flags
from polysilicon.simulate import heaps
from polysilicon.simulate.program import Program
from polysilicon.simulate.state import NONE, World


def fed(world: World, program: Program) -> World:
    """Return a world that knows further tasks, all of which arrive after those it knows."""
    rows, known = len(world.steps), len(world.tasks)
    world.sizes[2] += len(program.tasks)
    steps, tasks = program.steps.copy(), program.tasks.copy()
    steps["task"] += known
    steps["child"] += len(world.edges)
    tasks["first"] += rows
    grown = world._replace(
        steps=np.concatenate((world.steps, steps)),
        tasks=np.concatenate((world.tasks, tasks)),
        edges=np.concatenate((world.edges, program.edges + rows)),
    )
    return _with_room(grown)


def _with_room(world: World) -> World:
    """Return a world whose heaps have room for all its steps."""
    n, pools = len(world.steps), world.pools
    # A step takes a thread at least, so no more jobs run than there are threads.
    room = np.minimum(np.ceil(pools["whole"]), n).astype(np.int64)
    at = np.cumsum(room) - room
    jobs = np.zeros(int(room.sum()), heaps.ENTRY)
    for pool, new in enumerate(at.tolist()):
        old, count = int(pools["job_at"][pool]), int(pools["jobs"][pool])
        jobs[new : new + count] = world.jobs[old : old + count]
    pools["job_at"] = at
    more = np.zeros(max(n - len(world.delays), 0), heaps.ENTRY)
    return world._replace(jobs=jobs, delays=np.concatenate((world.delays, more)))


def ended(world: World) -> Flags:
    """Tell which steps are of tasks that have ended, shape (steps,)."""
    return np.asarray((world.tasks["left"] == 0)[world.steps["task"]], np.bool_)


def without_ended(world: World) -> World:
    """Return a world that has forgotten the tasks that ended."""
    kept, tasks_kept = ~ended(world), world.tasks["left"] > 0
    row, task = _places(kept), _places(tasks_kept)
    edge_of = np.repeat(np.arange(len(kept)), world.steps["children"])
    steps, tasks = world.steps[kept], world.tasks[tasks_kept]
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
    return world._replace(steps=steps, tasks=tasks, edges=row[world.edges[kept[edge_of]]])


def _places(kept: Flags) -> Codes:
    """Return the row that each kept row will have, -1 of others."""
    return np.where(kept, np.cumsum(kept) - 1, NONE)


def _moved(rows: Any, row: Codes) -> Any:
    """Return rows where they are now; -1 stays."""
    return np.where(rows == NONE, NONE, row[np.maximum(rows, 0)])

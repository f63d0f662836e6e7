"""Steps that wait at a pool: buckets by class and service left, each first come, first served.

`schedule.next_step` decides among the first of each bucket. Without deadlines that is what it
would decide among all: within a bucket nothing but age distinguishes them. With deadlines steps
behind the first of their bucket are not looked at.
"""

from __future__ import annotations

import numpy as np

from polysilicon import schedule
from polysilicon.schedule.types import counted_part, part
from polysilicon.simulate.state import BUCKETS, LEVELS, NONE, World


@part
def level(w: World, task: int) -> int:
    """Return the level of a task by the service that is left of it, as the runtime tells it."""
    attained_s, agent = w.tasks[task].attained_s, w.tasks[task].agent
    if agent == NONE:
        return min(schedule.doublings(attained_s), LEVELS - 1)
    first, ended = agent * schedule.REMEMBERED, w.lasted[agent]
    found = schedule.level(w.lengths, first, ended, w.usual_s[agent], attained_s)
    return min(found, LEVELS - 1)


@part
def remember(w: World, task: int) -> None:
    """Note the service that a task has had in all, which has ended."""
    agent = w.tasks[task].agent
    if agent != NONE:
        first, ended = agent * schedule.REMEMBERED, w.lasted[agent]
        w.lengths[first + ended % schedule.REMEMBERED] = w.tasks[task].attained_s
        w.lasted[agent] = ended + 1
        if schedule.looks(ended + 1):
            w.usual_s[agent] = schedule.usual_s(w.lengths, first, ended + 1, w.usual_s[agent])


@part
def enqueue(w: World, step: int, pool: int, gate: int, now_s: float) -> None:
    """Let a step wait at a pool; gate 0 is its cores, 1 its engines."""
    task = w.steps[step].task
    bucket = w.tasks[task].klass * LEVELS + level(w, task)
    w.steps[step].since = now_s
    w.steps[step].next = NONE
    if w.buckets[pool, gate, bucket].tail == NONE:
        w.buckets[pool, gate, bucket].head = step
        w.gates[pool, gate].filled |= 1 << bucket
    else:
        w.steps[w.buckets[pool, gate, bucket].tail].next = step
    w.buckets[pool, gate, bucket].tail = step
    w.gates[pool, gate].waiting += 1


@counted_part
def next_bucket(w: World, pool: int, gate: int, now_s: float) -> int:
    """Return the bucket whose first step runs next; there must be one."""
    filled = w.gates[pool, gate].filled
    if filled & (filled - 1) == 0:  # one alone
        found = 0
        while filled >> found != 1:
            found += 1
        return found
    buckets = np.empty(BUCKETS, np.int64)
    levels, klass = np.empty(BUCKETS, np.int64), np.empty(BUCKETS, np.int64)
    since, slack = np.empty(BUCKETS), np.empty(BUCKETS)
    n = 0
    for bucket in range(BUCKETS):
        if filled >> bucket & 1:
            step = w.buckets[pool, gate, bucket].head
            task = w.steps[step].task
            buckets[n], klass[n] = bucket, bucket // LEVELS
            levels[n], since[n] = bucket % LEVELS, w.steps[step].since
            slack[n] = w.tasks[task].deadline_s - now_s - w.gates[pool, gate].mean_s
            n += 1
    chosen = schedule.next_step(
        levels[:n], since[:n], klass[:n], slack[:n], np.zeros(n), now_s, schedule.STARVE_S
    )
    return buckets[chosen]


@part
def dequeue(w: World, pool: int, gate: int, bucket: int) -> None:
    """Take the first step of a bucket out of the queue."""
    after = w.steps[w.buckets[pool, gate, bucket].head].next
    w.buckets[pool, gate, bucket].head = after
    if after == NONE:
        w.buckets[pool, gate, bucket].tail = NONE
        w.gates[pool, gate].filled &= ~(1 << bucket)
    w.gates[pool, gate].waiting -= 1

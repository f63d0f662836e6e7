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
def left_s(w: World, task: int) -> float:
    """Return the service that a task is expected to need still, as the runtime expects it."""
    attained_s, agent = w.tasks[task].attained_s, w.tasks[task].agent
    if agent == NONE:
        return attained_s
    first = agent * schedule.REMEMBERED
    return schedule.expected_left_s(w.lengths, first, w.lasted[agent], attained_s)


@part
def remember(w: World, task: int) -> None:
    """Note the service that a task has had in all, which has ended."""
    agent = w.tasks[task].agent
    if agent != NONE:
        place = w.lasted[agent] % schedule.REMEMBERED
        w.lengths[agent * schedule.REMEMBERED + place] = w.tasks[task].attained_s
        w.lasted[agent] += 1


@part
def enqueue(w: World, step: int, pool: int, gate: int, now_s: float) -> None:
    """Let a step wait at a pool; gate 0 is its cores, 1 its engines."""
    task = w.steps[step].task
    w.tasks[task].left_s = left_s(w, task)
    level = min(schedule.level(w.tasks[task].left_s), LEVELS - 1)
    bucket = w.tasks[task].klass * LEVELS + level
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
    left, since = np.empty(BUCKETS), np.empty(BUCKETS)
    slack, klass = np.empty(BUCKETS), np.empty(BUCKETS, np.int64)
    n = 0
    for bucket in range(BUCKETS):
        if filled >> bucket & 1:
            step = w.buckets[pool, gate, bucket].head
            task = w.steps[step].task
            buckets[n], klass[n] = bucket, w.tasks[task].klass
            left[n], since[n] = w.tasks[task].left_s, w.steps[step].since
            slack[n] = w.tasks[task].deadline_s - now_s - w.gates[pool, gate].mean_s
            n += 1
    chosen = schedule.next_step(
        left[:n], since[:n], klass[:n], slack[:n], np.zeros(n), now_s, schedule.STARVE_S
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

"""Machines that fail or are taken away, and come back: what ran there begins again elsewhere.

Each machine of a pool fails at a constant rate, also while it is down, when that means nothing
(thinning of a Poisson process; P. Lewis, G. Shedler, Nav. Res. Logist. Q. 26 (1979), 403). So the
next failure of n machines is exponential with n times the rate, and any of them is hit alike.
"""

from __future__ import annotations

import math

import numpy as np

from polysilicon.schedule.types import compiled, counted_part, part
from polysilicon.simulate import batches, cores, heaps, queues
from polysilicon.simulate.state import FAILS, IDLE, NONE, World

MOST_ATTEMPTS = 1000


@compiled
def reckon(w: World) -> None:
    """Say anew when the next machine fails or is back."""
    station = w.stations.size - 1
    due_s = w.fails[0].key if w.sizes[FAILS] > 0 else math.inf
    heaps.move(w.stations, 0, w.stations.size, station, due_s)


@compiled
def expect(w: World, rng: np.random.Generator, pool: int, now_s: float) -> None:
    """Draw when the next machine of a pool fails; nothing where they never do."""
    mean_s = w.pools[pool].failure_s / w.pools[pool].machines
    if mean_s < math.inf:
        heaps.push(w.fails, 0, w.sizes[FAILS], now_s + rng.exponential(mean_s), pool)
        w.sizes[FAILS] += 1


@counted_part
def goes(w: World, rng: np.random.Generator, pool: int, now_s: float) -> None:
    """Take away any machine of a pool, and say when it is back; nothing where it is down."""
    pools, e = w.pools, w.engines
    expect(w, rng, pool, now_s)
    machine = int(rng.integers(0, pools[pool].machines))
    first = pools[pool].first + machine * pools[pool].copies
    if pools[pool].last > pools[pool].first:
        if e[first].down:
            return
    elif machine >= pools[pool].up:  # machines without engines are alike: the last ones are down
        return
    if w.sizes[FAILS] == w.fails.size:
        raise ValueError("more machines are down at once than there is room to remember")
    for engine in range(first, min(first + pools[pool].copies, pools[pool].last)):
        _stop(w, engine, pool, now_s)
    if pools[pool].cores > 0.0:
        _lose_cores(w, rng, pool, now_s)
    pools[pool].up -= 1
    code = w.pools.size * (1 + machine) + pool
    heaps.push(w.fails, 0, w.sizes[FAILS], now_s + pools[pool].repair_s, code)
    w.sizes[FAILS] += 1


@part
def comes(w: World, code: int, now_s: float) -> int:
    """Bring a machine back, empty; returns its pool."""
    pools, e = w.pools, w.engines
    pool, machine = code % w.pools.size, code // w.pools.size - 1
    first = pools[pool].first + machine * pools[pool].copies
    for engine in range(first, min(first + pools[pool].copies, pools[pool].last)):
        e[engine].down = False
        batches.loaded(w, engine, 0)
    if pools[pool].whole > 0.0:
        cores.advance(w, pool, now_s)
        pools[pool].cores += pools[pool].whole / pools[pool].machines
        cores.reckon(w, pool, now_s)
    pools[pool].up += 1
    return pool


@part
def _stop(w: World, engine: int, pool: int, now_s: float) -> None:
    """Take an engine away; its steps wait for another, and its cache is gone."""
    e = w.engines
    if e[engine].phase != IDLE:
        passed_s = now_s - e[engine].begun_s
        e[engine].clock += passed_s / e[engine].shared_by
        e[engine].busy_s += passed_s
        batches.stop(w, engine, now_s)
    e[engine].down = True
    at = w.pools[pool].first
    heaps.move(w.loads, at, w.pools[pool].last - at, engine, math.inf)
    step = e[engine].first
    while step != NONE:
        after = w.steps[step].next
        _again(w, engine, step, pool, now_s)
        step = after
    for place in range(e[engine].decoding):
        _again(w, engine, w.slots[e[engine].slot_at + place].item, pool, now_s)
    e[engine].first, e[engine].last = NONE, NONE
    e[engine].decoding, e[engine].running = 0, 0
    e[engine].context, e[engine].used = 0.0, 0.0
    e[engine].written += w.laws[pool].kv + 1.0


@part
def _again(w: World, engine: int, step: int, pool: int, now_s: float) -> None:
    """A step lost its engine: what it had is paid, and it waits for another."""
    s = w.steps
    had = max(w.engines[engine].clock - s[step].clock, 0.0)
    s[step].usd += had * w.pools[pool].engine_usd_per_s
    _tried(w, step)
    queues.enqueue(w, step, pool, 1, now_s)


@counted_part
def _lose_cores(w: World, rng: np.random.Generator, pool: int, now_s: float) -> None:
    """Take the cores of a machine away, and of the jobs as many as ran there, any of them."""
    pools = w.pools
    cores.advance(w, pool, now_s)
    share = pools[pool].jobs / pools[pool].up
    lost = int(share)
    if rng.random() < share - lost:
        lost += 1
    pools[pool].cores -= pools[pool].whole / pools[pool].machines
    while pools[pool].jobs > 0 and (lost > 0 or pools[pool].threads > pools[pool].cores + 1e-9):
        at = pools[pool].job_at
        place = int(rng.integers(0, pools[pool].jobs))
        step = w.jobs[at + place].item
        heaps.remove(w.jobs, at, pools[pool].jobs, place)
        cores.left(w, step, pool, now_s)
        _tried(w, step)
        queues.enqueue(w, step, pool, 0, now_s)
        lost -= 1
    cores.reckon(w, pool, now_s)


@part
def _tried(w: World, step: int) -> None:
    """Give up where machines fail so often that a step never ends."""
    if w.steps[step].attempts >= MOST_ATTEMPTS:
        raise ValueError("machines fail too often: a step began a thousand times and never ended")

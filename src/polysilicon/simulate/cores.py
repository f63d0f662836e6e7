"""Cores of a pool: a queue of many servers whose threads slow each other down.

All threads of a pool run at one rate, which depends on how many there are. So a clock of work done
by each of them, which runs at that rate, says when a job ends: at the clock's value when it began
plus its own work, whatever comes and goes meanwhile (processor sharing in virtual time; L.
Kleinrock, "Queueing Systems" vol. 2, 1976, section 4.4). Machines of a pool are one set of cores.
"""

from __future__ import annotations

import math

from polysilicon.schedule.types import Floats, part
from polysilicon.simulate import heaps
from polysilicon.simulate.state import World


@part
def at_threads(table: Floats, pool: int, threads: float, step: float) -> float:
    """Return a value of a pool's table over threads, between its points linear."""
    place = threads / step
    low = int(place)
    if low + 1 >= table.shape[1]:
        return table[pool, table.shape[1] - 1]
    share = place - low
    return table[pool, low] * (1.0 - share) + table[pool, low + 1] * share


@part
def rate_of(w: World, pool: int) -> float:
    """Return how fast each thread of a pool does work now."""
    pools = w.pools
    threads = pools[pool].threads
    alone = at_threads(w.alone, pool, threads, pools[pool].step)
    if pools[pool].coupled == 0 or pools[pool].active == 0:
        return alone
    beside = at_threads(w.beside, pool, threads, pools[pool].step)
    share = pools[pool].active / (pools[pool].last - pools[pool].first)
    return alone + (beside - alone) * share


@part
def advance(w: World, pool: int, now_s: float) -> None:
    """Let the threads of a pool work until now."""
    p = w.pools[pool]
    passed_s = now_s - p.last_s
    if passed_s > 0.0:
        if p.jobs > 0:
            p.clock += passed_s * rate_of(w, pool)
            p.busy_s += passed_s * p.threads
        p.last_s = now_s


@part
def reckon(w: World, pool: int, now_s: float) -> None:
    """Say anew when the next job of a pool ends; its threads have worked until now."""
    p, due_s = w.pools[pool], math.inf
    if p.jobs == 0:
        p.clock = 0.0
    else:
        left_s = w.jobs[p.job_at].key - p.clock
        due_s = now_s + max(left_s, 0.0) / rate_of(w, pool)
    heaps.move(w.stations, 0, w.stations.size, 1 + pool, due_s)


@part
def begin(w: World, step: int, pool: int, now_s: float) -> None:
    """Start a step on a pool's cores; there must be room."""
    p, s = w.pools[pool], w.steps[step]
    advance(w, pool, now_s)
    seconds = s.work * w.routes[s.route, pool].amount / s.threads + s.startup_s
    heaps.push(w.jobs, p.job_at, p.jobs, p.clock + seconds, step)
    p.jobs += 1
    p.threads += s.threads
    s.start_s = now_s
    s.attempts += 1
    reckon(w, pool, now_s)


@part
def end_one(w: World, pool: int, now_s: float) -> int:
    """End the job that is due, and return its step."""
    p = w.pools[pool]
    advance(w, pool, now_s)
    step = w.jobs[p.job_at].item
    p.clock = max(p.clock, w.jobs[p.job_at].key)
    heaps.remove(w.jobs, p.job_at, p.jobs, 0)
    left(w, step, pool, now_s)
    return step


@part
def left(w: World, step: int, pool: int, now_s: float) -> None:
    """Free the cores of a step that is out of the heap, and count what it had of them."""
    p, s = w.pools[pool], w.steps[step]
    p.jobs -= 1
    p.threads -= s.threads
    s.usd += (now_s - s.start_s) * s.threads * p.thread_usd_per_s
    reckon(w, pool, now_s)


@part
def room(w: World, step: int, pool: int) -> bool:
    """Tell whether a pool has cores for a step."""
    return w.pools[pool].threads + w.steps[step].threads <= w.pools[pool].cores

"""The events of a simulation, one after the other: what is due, whom it sets free, where that goes.

Order is (time, kind, place): what ends comes before what arrives, delays before cores before
engines before failures, and each heap goes by time and then by row. Rows are in the order of
arrival and names, so nothing depends on the order of a file.
"""

from __future__ import annotations

import math

import numpy as np

from polysilicon import schedule
from polysilicon.schedule.types import compiled, part
from polysilicon.simulate import batches, cores, failures, heaps, queues, routing
from polysilicon.simulate.state import (
    DELAYS,
    FAILS,
    NONE,
    OPEN,
    TASKS,
    THINKS,
    TRAVELS,
    WAITS,
    World,
)


@compiled
def run(
    w: World, rng: np.random.Generator, upcoming: int, until_s: float, most: int
) -> tuple[int, int, float]:
    """Play until a moment, or for so many events.

    Args:
        w: changed in place.
        rng: of failures.
        upcoming: row of the next task that arrives.
        until_s: first moment of which not all is known yet; infinite at the end.
        most: events.

    Returns:
        Row of the next task that arrives, events played (fewer than `most` where nothing is due
        before `until_s`), and the time of the last.
    """
    now_s, events = 0.0, 0
    pools = w.pools.size
    while events < most:
        arrival_s = math.inf
        if upcoming < w.sizes[TASKS]:
            arrival_s = w.tasks[upcoming].arrival_s
        station = w.stations[0].member
        due_s = w.stations[station].key
        if min(due_s, arrival_s) >= until_s or (arrival_s == math.inf and w.sizes[OPEN] == 0):
            break
        events += 1
        if arrival_s < due_s:
            now_s = arrival_s
            arrive(w, upcoming, now_s)
            upcoming += 1
            continue
        now_s = due_s
        if station == 0:
            undelay(w, now_s)
        elif station <= pools:
            end_job(w, station - 1, now_s)
        elif station < w.stations.size - 1:
            turn(w, station - 1 - pools, now_s)
        else:
            fail(w, rng, now_s)
    return upcoming, events, now_s


@part
def arrive(w: World, task: int, now_s: float) -> None:
    """Let the first steps of a task begin."""
    first = w.tasks[task].first
    for step in range(first, first + w.tasks[task].steps):
        if w.steps[step].pending == 0:
            think(w, step, now_s)


@part
def think(w: World, step: int, now_s: float) -> None:
    """All parents of a step have ended: it is ready when somebody has thought."""
    if w.steps[step].think_s > 0.0:
        delay(w, step, THINKS, now_s + w.steps[step].think_s)
    else:
        ready(w, step, now_s)


@part
def delay(w: World, step: int, stage: int, until_s: float) -> None:
    """Let a step be nowhere until a moment."""
    w.steps[step].stage = stage
    heaps.push(w.delays, 0, w.sizes[DELAYS], until_s, step)
    w.sizes[DELAYS] += 1
    _reckon_delays(w)


@part
def _reckon_delays(w: World) -> None:
    """Say anew when the next step comes out of a delay."""
    due_s = w.delays[0].key if w.sizes[DELAYS] > 0 else math.inf
    if due_s != w.stations[0].key:
        heaps.move(w.stations, 0, w.stations.size, 0, due_s)


@part
def undelay(w: World, now_s: float) -> None:
    """Take the step that is due out of the delays."""
    step = w.delays[0].item
    heaps.remove(w.delays, 0, w.sizes[DELAYS], 0)
    w.sizes[DELAYS] -= 1
    _reckon_delays(w)
    stage = w.steps[step].stage
    if stage == THINKS:
        ready(w, step, now_s)
    elif stage == TRAVELS:
        enter(w, step, now_s)
    else:
        finish(w, step, now_s)


@part
def ready(w: World, step: int, now_s: float) -> None:
    """Send a step to a pool."""
    s = w.steps
    s[step].ready_s = now_s
    route = s[step].route
    if route == NONE:  # it is known how long it took, and that it needs none of these machines
        s[step].start_s = now_s
        delay(w, step, WAITS, now_s + s[step].wait_s)
        return
    pool = w.only[route]
    if pool == NONE:
        pool = routing.choose(w, step, now_s)
    s[step].pool = pool
    way_s = w.routes[route, pool].delay_s
    if way_s > 0.0:
        delay(w, step, TRAVELS, now_s + way_s)
    else:
        enter(w, step, now_s)


@part
def enter(w: World, step: int, now_s: float) -> None:
    """Start a step at its pool, or let it wait there."""
    pool, p = w.steps[step].pool, w.pools[w.steps[step].pool]
    if w.steps[step].engine:
        if w.gates[pool, 1].waiting == 0:
            engine = batches.pick(w, step, pool)
            if engine != NONE:
                batches.admit(w, step, engine, now_s)
                return
        queues.enqueue(w, step, pool, 1, now_s)
        fill_engines(w, pool, NONE, now_s)
        return
    w.steps[step].threads = min(w.steps[step].threads, p.whole / p.machines)
    if w.gates[pool, 0].waiting == 0 and cores.room(w, step, pool):
        start_job(w, step, pool, now_s)
    else:
        queues.enqueue(w, step, pool, 0, now_s)
        fill_cores(w, pool, now_s)


@part
def fill_engines(w: World, pool: int, free: int, now_s: float) -> None:
    """Give slots to steps that wait for a pool, as long as an engine has room for the next one.

    Args:
        w: changed in place.
        pool: which.
        free: engine that just got room, when nobody else had; -1 where none is known. Once it is
            given to the first step, others may have room for the next.
        now_s: the moment.
    """
    while w.gates[pool, 1].waiting > 0:
        bucket = queues.next_bucket(w, pool, 1, now_s)
        step = w.buckets[pool, 1, bucket].head
        engine = free
        if free == NONE or not batches.fits(w, step, free):
            engine = batches.pick(w, step, pool)
        if engine == NONE:
            break
        free = NONE
        queues.dequeue(w, pool, 1, bucket)
        batches.admit(w, step, engine, now_s)


@part
def start_job(w: World, step: int, pool: int, now_s: float) -> None:
    """Start a step on cores; engines on the same machine feel it from their next iteration on."""
    cores.begin(w, step, pool, now_s)
    disturb(w, pool, now_s)


@part
def disturb(w: World, pool: int, now_s: float) -> None:
    """The threads on a machine changed, on which engines compute too."""
    if w.pools[pool].coupled == 1:
        for engine in range(w.pools[pool].first, w.pools[pool].last):
            batches.shorten(w, engine, now_s)


@part
def end_job(w: World, pool: int, now_s: float) -> None:
    """End the job that is due on a pool's cores, and start who waited for them."""
    step = cores.end_one(w, pool, now_s)
    disturb(w, pool, now_s)
    if w.steps[step].wait_s > 0.0:
        delay(w, step, WAITS, now_s + w.steps[step].wait_s)
    else:
        finish(w, step, now_s)
    fill_cores(w, pool, now_s)


@part
def fill_cores(w: World, pool: int, now_s: float) -> None:
    """Start steps that wait for a pool's cores, as long as there is room for the next."""
    while w.gates[pool, 0].waiting > 0:
        bucket = queues.next_bucket(w, pool, 0, now_s)
        step = w.buckets[pool, 0, bucket].head
        if not cores.room(w, step, pool):
            break
        queues.dequeue(w, pool, 0, bucket)
        start_job(w, step, pool, now_s)


@part
def turn(w: World, engine: int, now_s: float) -> None:
    """An engine is at the end of an iteration: who has ended goes, who waits comes."""
    e, s = w.engines, w.steps
    batches.end_phase(w, engine, now_s)
    e[engine].closed = True
    # All that ended leave before any of their children looks for the emptiest engine.
    first = last = batches.ended(w, engine)
    while last != NONE:
        s[last].next = batches.ended(w, engine)
        last = s[last].next
    while first != NONE:
        after = s[first].next
        finish(w, first, now_s)
        first = after
    fill_engines(w, e[engine].pool, engine, now_s)
    e[engine].closed = False
    batches.begin(w, engine, now_s)


@part
def finish(w: World, step: int, now_s: float) -> None:
    """A step has ended: count it, and free those that waited for it."""
    s, task = w.steps, w.steps[step].task
    s[step].end_s = now_s
    service_s = now_s - s[step].start_s
    w.tasks[task].attained_s += service_s
    pool = s[step].pool
    if pool != NONE:
        gate = 1 if s[step].engine else 0
        mean_s = w.gates[pool, gate].mean_s
        w.gates[pool, gate].mean_s = schedule.smoothed(mean_s, service_s)
        w.spent_usd[w.vendor[pool]] += s[step].usd
    w.tasks[task].left -= 1
    if w.tasks[task].left == 0:
        w.sizes[OPEN] -= 1
        queues.remember(w, task)
    first = s[step].child
    for edge in range(first, first + s[step].children):
        child = w.edges[edge]
        s[child].pending -= 1
        if s[child].pending == 0:
            think(w, child, now_s)


@part
def fail(w: World, rng: np.random.Generator, now_s: float) -> None:
    """A machine fails, or one is back: who ran there waits again, who waited may start."""
    code = w.fails[0].item
    heaps.remove(w.fails, 0, w.sizes[FAILS], 0)
    w.sizes[FAILS] -= 1
    if code < w.pools.size:
        pool = code
        failures.goes(w, rng, pool, now_s)
        disturb(w, pool, now_s)
    else:
        pool = failures.comes(w, code, now_s)
    failures.reckon(w)
    fill_cores(w, pool, now_s)
    fill_engines(w, pool, NONE, now_s)

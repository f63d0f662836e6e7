"""Where a step goes: what it would find at each pool, put before the runtime's own decision."""

from __future__ import annotations

import math

import numpy as np

from polysilicon import schedule
from polysilicon.schedule.types import counted_part, part
from polysilicon.simulate import batches
from polysilicon.simulate.state import World


@counted_part
def choose(w: World, step: int, now_s: float) -> int:
    """Return the pool that takes a step, as the runtime would choose it.

    Where vendors have had their shares so that none may take it, all may: it has to go somewhere.
    """
    n, route = w.pools.size, w.steps[step].route
    able = np.zeros(n, np.bool_)
    for pool in range(n):
        able[pool] = w.routes[route, pool].able
    if w.wish[0].shares:
        resident = np.ones(n, np.bool_)  # where its data may be is part of `able`
        fit = schedule.allowed(able, resident, w.vendor, w.spent_usd, w.most_share)
        if fit.any():
            able = fit
    known = np.zeros((4, n))
    for pool in range(n):
        if able[pool]:
            found = at_engines(w, step, pool) if w.steps[step].engine else at_cores(w, step, pool)
            known[0, pool], known[1, pool], known[2, pool], known[3, pool] = found
    slack_s = w.tasks[w.steps[step].task].deadline_s - now_s
    late = w.wish[0].late_usd_per_s
    if w.wish[0].latency:
        known[0, :] = 0.0
        slack_s, late = 0.0, 1.0
    elif slack_s < math.inf:
        late = w.wish[0].very_late_usd_per_s
    return schedule.choose(known[0], known[1], known[2], known[3], able, slack_s, late)


@part
def at_cores(w: World, step: int, pool: int) -> tuple[float, float, float, float]:
    """Return dollars a second, work, what is saved of it and queue of a step on a pool's cores."""
    s, p, route = w.steps[step], w.pools[pool], w.routes[w.steps[step].route, pool]
    cap = max(p.cores, 1.0)
    work_s = s.work * route.amount / s.threads + s.startup_s + s.wait_s
    gate = w.gates[pool, 0]
    queue_s = schedule.queued_s(gate.mean_s, p.threads + gate.waiting, cap)
    usd_per_s = p.thread_usd_per_s * s.threads
    return priced(p.thread_price, usd_per_s), work_s, 0.0, queue_s + route.delay_s


@part
def at_engines(w: World, step: int, pool: int) -> tuple[float, float, float, float]:
    """Return the same of a step on a pool's engines; the emptiest of them stands for all."""
    s, p, law = w.steps[step], w.pools[pool], w.laws[pool]
    engines = p.last - p.first
    emptiest = w.engines[w.loads[p.first].member]
    running = min(emptiest.running + 1, law.slots)
    decode = w.decode[pool, running]
    context = s.prompt + s.output / 2.0
    least = min(s.shared, s.prompt - 1.0)
    work_s = batches.prefill_s(w, pool, s.prompt - least)
    work_s += s.output * (decode.base_s + decode.context_s * running * context)
    saved_s, home = 0.0, w.tasks[s.task].home
    if p.first <= home < p.last:
        more = max(batches.found(w, step, home) - least, 0.0)
        saved_s = batches.prefill_s(w, pool, more) - batches.prefill_s(w, pool, 0.0)
    gate = w.gates[pool, 1]
    there = float(emptiest.running * engines + gate.waiting)
    queue_s = schedule.queued_s(gate.mean_s, there, float(law.slots * engines))
    delay_s = w.routes[s.route, pool].delay_s
    usd_per_s = priced(p.slot_price, p.engine_usd_per_s / running)
    return usd_per_s, work_s, saved_s, queue_s + delay_s


@part
def priced(told: float, usd_per_s: float) -> float:
    """Return the price that was told for a step's share, else its part of the machine's."""
    return usd_per_s if math.isnan(told) else told

"""Where a step goes: what it would find at each pool, put before the runtime's own decision."""

from __future__ import annotations

import math

import numpy as np

from polysilicon import schedule
from polysilicon.schedule.types import counted_part, part
from polysilicon.simulate import batches
from polysilicon.simulate.state import World

_UNKNOWN_S = 1.0  # as in the runtime: mean service of a pool that served nothing yet


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
    queue_s = queued_s(w, pool, 0, p.threads + w.gates[pool, 0].waiting, cap)
    usd_per_s = p.thread_usd_per_s * s.threads
    return priced(p.dual_usd_per_s, usd_per_s), work_s, 0.0, queue_s + route.delay_s


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
    there = float(emptiest.running * engines + w.gates[pool, 1].waiting)
    queue_s = queued_s(w, pool, 1, there, float(law.slots * engines))
    delay_s = w.routes[s.route, pool].delay_s
    usd_per_s = priced(p.dual_usd_per_s, p.engine_usd_per_s / running)
    return usd_per_s, work_s, saved_s, queue_s + delay_s


@part
def priced(dual_usd_per_s: float, usd_per_s: float) -> float:
    """Return the price of a placement where there is one, else that of what shares the machine."""
    return usd_per_s if math.isnan(dual_usd_per_s) else dual_usd_per_s


@part
def queued_s(w: World, pool: int, gate: int, there: float, cap: float) -> float:
    """Return seconds until there is room, with so many there, by the mean service so far."""
    mean_s = w.gates[pool, gate].mean_s
    if mean_s == 0.0:
        mean_s = _UNKNOWN_S
    return mean_s * max(0.0, there + 1.0 - cap) / cap

"""Engines with continuous batching, without an event for every token.

While nobody comes, ends or has a prompt to compute, iterations are alike but for the contexts that
grow by one token of each sequence. So m iterations of b sequences with S tokens take
    m·(base(b) + context(b)·S) + context(b)·b·m·(m - 1)/2
seconds, a closed form, and a clock that counts iterations says when a sequence ends: at its value
when it began to decode plus its tokens. Who comes in between waits for the end of the iteration
that is under way, which is found by solving that form for m. An iteration that takes prompts is an
event of its own; prompts are taken first come, first served, as many tokens as `batch` leaves
(A. Agrawal et al., arXiv 2403.02310, section 4, "chunked prefills").
"""

from __future__ import annotations

import math

from polysilicon.schedule.types import part
from polysilicon.simulate import cores, heaps
from polysilicon.simulate.state import DECODES, IDLE, NONE, PREFILLS, World

LOOKS = 64
"""Engines looked at for one with memory for a step, where the emptiest has none."""


@part
def run_s(w: World, engine: int, runs: float) -> float:
    """Return seconds of so many iterations from the begin of a phase that only decodes."""
    e, pool = w.engines, w.engines[engine].pool
    b = e[engine].decoding
    more_s = w.decode[pool, b].context_s
    first_s = w.decode[pool, b].base_s + more_s * e[engine].context
    return (runs * first_s + more_s * b * runs * (runs - 1.0) / 2.0) * e[engine].slow


@part
def prefill_s(w: World, pool: int, tokens: float) -> float:
    """Return seconds of an iteration with so many new prompt tokens, by the table."""
    table, grid = w.prefill, w.laws[pool].grid
    low = min(int(tokens / grid), table.shape[1] - 2)
    share = tokens / grid - low
    return table[pool, low] + (table[pool, low + 1] - table[pool, low]) * share


@part
def found(w: World, step: int, engine: int) -> float:
    """Return prompt tokens of a step that the cache of an engine holds.

    What its task left there is kept while what was written since fits beside what runs; ended
    sequences go first come, first gone. Elsewhere there is what all tasks share.
    """
    s, e, task = w.steps, w.engines, w.steps[step].task
    kept = s[step].shared
    if w.tasks[task].home == engine:
        since = e[engine].written - w.tasks[task].mark
        if since <= w.laws[e[engine].pool].kv - e[engine].used:
            kept = max(kept, s[step].cached)
    return min(kept, s[step].prompt - 1.0)


@part
def fits(w: World, step: int, engine: int) -> bool:
    """Tell whether an engine has a slot and memory for a step."""
    e, pool = w.engines, w.engines[engine].pool
    if e[engine].down or e[engine].running >= w.laws[pool].slots:
        return False
    kv, s = w.laws[pool].kv, w.steps[step]
    return s.prompt + s.output <= kv and e[engine].used + held(w, step) <= kv


@part
def held(w: World, step: int) -> float:
    """Return the tokens of memory that a step holds on average while it decodes.

    Memory is taken block by block as tokens come, so that those that began earlier hold more of it
    and those that began later less: the same rule by which the cost model says what fits.
    """
    return w.steps[step].prompt + w.steps[step].output / 2.0


@part
def pick(w: World, step: int, pool: int) -> int:
    """Return the engine that takes a step: that of its task, or the emptiest with room; or -1."""
    first, last = w.pools[pool].first, w.pools[pool].last
    home = w.tasks[w.steps[step].task].home
    ours = first <= home < last and fits(w, step, home)
    if ours and found(w, step, home) > w.steps[step].shared:
        return home
    chosen = w.loads[first].member
    if fits(w, step, chosen):
        return chosen
    if w.loads[chosen].key >= w.laws[pool].slots:
        return NONE
    # Few sequences may fill the memory of the emptiest; the first places of the heap come next.
    chosen, least = NONE, math.inf
    for place in range(first, min(last, first + LOOKS)):
        engine = w.loads[place].member
        key = w.loads[engine].key
        if heaps.before(key, engine, least, chosen) and fits(w, step, engine):
            chosen, least = engine, key
    return chosen


@part
def loaded(w: World, engine: int, change: int) -> None:
    """Count a sequence that comes (1) or goes (-1)."""
    e, pool = w.engines, w.engines[engine].pool
    e[engine].running += change
    if not e[engine].down:
        first = w.pools[pool].first
        members = w.pools[pool].last - first
        heaps.move(w.loads, first, members, engine, float(e[engine].running))


@part
def admit(w: World, step: int, engine: int, now_s: float) -> None:
    """Give a step a slot; it is in the batch from the next iteration on."""
    s, e = w.steps, w.engines
    kept = found(w, step, engine)
    s[step].left = max(s[step].prompt - kept, 1.0)
    s[step].context = s[step].prompt - s[step].left
    s[step].found = s[step].context
    s[step].start_s, s[step].next = now_s, NONE
    s[step].attempts += 1
    e[engine].used += held(w, step)
    if e[engine].phase != IDLE:
        if e[engine].begun_s == now_s and e[engine].phase == PREFILLS:
            stop(w, engine, now_s)  # it has done nothing yet, and begins again with this one
        elif e[engine].phase == DECODES:
            shorten(w, engine, now_s)
    s[step].clock = e[engine].clock
    if e[engine].phase != IDLE:
        s[step].clock += (e[engine].until_s - e[engine].begun_s) / e[engine].shared_by
    loaded(w, engine, 1)
    if e[engine].first == NONE:
        e[engine].first = step
    else:
        s[e[engine].last].next = step
    e[engine].last = step
    if e[engine].phase == IDLE and not e[engine].closed:
        begin(w, engine, now_s)


@part
def shorten(w: World, engine: int, now_s: float) -> None:
    """End a phase that only decodes with the iteration that is under way now."""
    e, pool = w.engines, w.engines[engine].pool
    if e[engine].phase != DECODES:
        return
    passed_s = now_s - e[engine].begun_s
    b = e[engine].decoding
    half = w.decode[pool, b].context_s * b * e[engine].slow / 2.0
    line = run_s(w, engine, 1.0) - half
    if half > 0.0:
        runs = (math.sqrt(line * line + 4.0 * half * passed_s) - line) / (2.0 * half)
    else:
        runs = passed_s / line
    whole = max(math.ceil(runs - 1e-9), 0.0)
    while run_s(w, engine, whole) < passed_s:
        whole += 1.0
    if whole < e[engine].runs:
        e[engine].runs = whole
        _until(w, engine, e[engine].begun_s + run_s(w, engine, whole))


@part
def _until(w: World, engine: int, until_s: float) -> None:
    """Say when the phase of an engine ends."""
    station = 1 + w.pools.size + engine
    w.engines[engine].until_s = until_s
    heaps.move(w.stations, 0, w.stations.size, station, until_s)


@part
def stop(w: World, engine: int, now_s: float) -> None:
    """Let an engine do nothing."""
    e, pool = w.engines, w.engines[engine].pool
    if e[engine].phase != IDLE:
        e[engine].phase = IDLE
        _until(w, engine, math.inf)
        if w.pools[pool].coupled != 0:
            cores.advance(w, pool, now_s)
            w.pools[pool].active -= 1
            cores.reckon(w, pool, now_s)


@part
def begin(w: World, engine: int, now_s: float) -> None:
    """Begin the next phase of an engine that does nothing, if it has anything to do."""
    e, s, pool = w.engines, w.steps, w.engines[engine].pool
    b = e[engine].decoding
    if e[engine].first == NONE and b == 0:
        return
    pools = w.pools
    if pools[pool].coupled != 0:
        cores.advance(w, pool, now_s)
        pools[pool].active += 1
        cores.reckon(w, pool, now_s)
        threads = pools[pool].threads
        e[engine].slow = cores.at_threads(w.slower, pool, threads, pools[pool].step)
    e[engine].begun_s = now_s
    e[engine].shared_by = e[engine].running
    if e[engine].first == NONE:
        e[engine].phase = DECODES
        e[engine].runs = w.slots[e[engine].slot_at].key - e[engine].turned
        _until(w, engine, now_s + run_s(w, engine, e[engine].runs))
        return
    e[engine].phase = PREFILLS
    room = max(w.laws[pool].batch - b, 1.0)
    tokens, pairs, pieces = 0.0, 0.0, 0
    step = e[engine].first
    while step != NONE and tokens < room:
        taken = min(s[step].left, room - tokens)
        tokens += taken
        pairs += taken * (s[step].context + taken / 2.0)
        pieces += 1
        step = s[step].next
    seconds = prefill_s(w, pool, tokens) + w.laws[pool].pair_s * pairs
    seconds += w.laws[pool].piece_s * (pieces - 1)
    if b > 0:
        seconds += w.decode[pool, b].base_s + w.decode[pool, b].context_s * e[engine].context
    e[engine].taken = tokens
    _until(w, engine, now_s + seconds * e[engine].slow)


@part
def take_prompts(w: World, engine: int, now_s: float) -> None:
    """At the end of an iteration that took prompts: who is through has its first token."""
    e, s = w.engines, w.steps
    left = e[engine].taken
    while left > 0.0:
        step = e[engine].first
        taken = min(s[step].left, left)
        left -= taken
        s[step].left -= taken
        s[step].context += taken
        if s[step].left > 0.0:
            break
        e[engine].first = s[step].next
        if e[engine].first == NONE:
            e[engine].last = NONE
        s[step].first_s = now_s
        ends = e[engine].turned + max(s[step].output - 1.0, 0.0)
        at = e[engine].slot_at
        heaps.push(w.slots, at, e[engine].decoding, ends, step)
        e[engine].decoding += 1
        e[engine].context += s[step].prompt


@part
def end_phase(w: World, engine: int, now_s: float) -> None:
    """Count what the phase that ends now has done; the engine does nothing then."""
    e = w.engines
    passed_s = now_s - e[engine].begun_s
    e[engine].clock += passed_s / e[engine].shared_by
    e[engine].busy_s += passed_s
    if e[engine].phase == DECODES:
        e[engine].turned += e[engine].runs
        e[engine].context += e[engine].runs * e[engine].decoding
    else:
        e[engine].turned += 1.0
        e[engine].context += e[engine].decoding
        take_prompts(w, engine, now_s)
    stop(w, engine, now_s)


@part
def ended(w: World, engine: int) -> int:
    """Return a sequence that has its last token, out of its slot; -1 where there is none."""
    e, s = w.engines, w.steps
    at = e[engine].slot_at
    if e[engine].decoding == 0 or w.slots[at].key > e[engine].turned:
        return NONE
    step = w.slots[at].item
    heaps.remove(w.slots, at, e[engine].decoding, 0)
    e[engine].decoding -= 1
    later = max(s[step].output - 1.0, 0.0)
    e[engine].context -= s[step].prompt + later
    e[engine].used -= held(w, step)
    e[engine].written += s[step].prompt + s[step].output
    task = s[step].task
    w.tasks[task].home, w.tasks[task].mark = engine, e[engine].written
    rate = w.pools[e[engine].pool].engine_usd_per_s
    s[step].usd += (e[engine].clock - s[step].clock) * rate
    loaded(w, engine, -1)
    return step

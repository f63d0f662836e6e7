"""Tasks walked through a fleet whose queues are known: when each of their steps runs.

All tasks of a piece are walked at once, a level of their graphs at a time. How long a step waits is
drawn from what its queue was like when it came; what it takes then follows from its own sizes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from polysilicon.errors import PolysiliconError
from polysilicon.schedule.types import Codes, Flags, Floats
from polysilicon.simulate.failures import MOST_ATTEMPTS
from polysilicon.simulate.fluid.backlog import LEVELS
from polysilicon.simulate.fluid.flows import SUMS, Flows
from polysilicon.simulate.fluid.levels import Levels
from polysilicon.simulate.fluid.park import Park
from polysilicon.simulate.program import Program
from polysilicon.simulate.state import NONE


class Walk:
    """Walks programs; each gets the times of its steps.

    Args:
        park: the fleet.
        levels: of its queues; None where nothing is known of them yet.
        flows: takes what steps ask of pools.
        rng: of waits, of pools where several share a route, and of failures.

    Attributes:
        busy_s: thread-seconds of cores and engine-seconds so far, shape (2, pools).
    """

    def __init__(
        self, park: Park, levels: Levels | None, flows: Flows, rng: np.random.Generator
    ) -> None:
        self._park, self._levels, self._flows, self._rng = park, levels, flows, rng
        self.busy_s = np.zeros((2, len(park.pools)))
        self._home: Codes = np.zeros(0, np.int64)
        self._left_s: Floats = np.zeros(0)

    def through(self, program: Program) -> None:
        """Write pools, times, dollars and what was in caches into the steps of whole tasks."""
        steps, tasks = program.steps, program.tasks
        fanout = steps["children"].astype(np.int64)
        parent = np.repeat(np.arange(len(steps)), fanout)
        pending = np.bincount(program.edges, minlength=len(steps))
        self._home = np.full(len(tasks), NONE)
        self._left_s = np.zeros(len(tasks))
        before_s = tasks["arrival_s"][steps["task"]]
        front = np.flatnonzero(pending == 0)
        first = np.cumsum(fanout) - fanout
        while len(front):
            steps["ready_s"][front] = before_s[front] + steps["think_s"][front]
            self._play(program, front)
            counts = fanout[front]
            edges = np.repeat(first[front] - np.cumsum(counts) + counts, counts)
            edges += np.arange(len(edges))
            child = program.edges[edges]
            np.maximum.at(before_s, child, steps["end_s"][parent[edges]])
            np.subtract.at(pending, child, 1)
            child = np.unique(child)
            front = child[pending[child] == 0]

    def _play(self, program: Program, rows: Codes) -> None:
        """Play steps that are ready."""
        steps, park = program.steps, self._park
        route = steps["route"][rows].astype(np.int64)
        idle = rows[route == NONE]
        steps["start_s"][idle] = steps["ready_s"][idle]
        steps["end_s"][idle] = steps["ready_s"][idle] + steps["wait_s"][idle]
        rows, route = rows[route != NONE], route[route != NONE]
        if not len(rows):
            return
        pool = self._sent(route, steps["ready_s"][rows])
        steps["pool"][rows] = pool
        at_s = steps["ready_s"][rows] + park.routes["delay_s"][route, pool]
        engine = park.engine[route]
        values = {name: np.zeros(len(rows)) for name in SUMS}
        prompt_s = np.zeros((len(park.pools), len(rows)))
        slack_s = program.tasks["deadline_s"][steps["task"][rows]] - steps["ready_s"][rows]
        dated = np.isfinite(slack_s)
        values["count"][:], values["dated"][dated] = 1.0, 1.0
        values["slack"][dated] = slack_s[dated]
        for serve, mine in ((self._cores, ~engine), (self._engines, engine)):
            if mine.any():
                serve(program, rows[mine], (pool[mine], at_s[mine]), (values, prompt_s, mine))
        self._flows.add(at_s, route, values, prompt_s)

    def _sent(self, route: Codes, ready_s: Floats) -> Codes:
        """Return the pool of each step: drawn by the shares of its route, or the first that can."""
        able = self._park.routes["able"][route]
        if self._levels is None or (able.sum(axis=1) == 1).all():
            return np.asarray(able.argmax(axis=1), np.int64)
        below = self._levels.shares(route, ready_s)
        drawn = self._rng.random((len(route), 1)) * (1.0 - 1e-9)
        return np.asarray((drawn >= below).sum(axis=1), np.int64)

    def _waits(self, pool: Codes, gate: int, at_s: Floats) -> Floats:
        """Draw how long steps wait."""
        if self._levels is None:
            return np.zeros(len(pool))
        return self._levels.waits(pool, gate, at_s, self._rng.random(len(pool)) * LEVELS[-1])

    def _again(self, steps: Any, rows: Codes, pool: Codes, seconds: Floats) -> Floats:
        """Return the seconds that failed attempts take, drawn, and count the attempts.

        What fails begins again from nothing, so that n attempts fail with the n-th power of the
        chance that one does.
        """
        steps["attempts"][rows] = 1
        risk = self._park.hazard[pool] * seconds
        if not risk.any():
            return np.zeros(len(rows))
        if (np.expm1(np.minimum(risk, 700.0)) > MOST_ATTEMPTS).any():
            raise PolysiliconError("steps take too long to end before their machines fail")
        some = np.maximum(risk, 1e-12)
        chance = -np.expm1(-some)
        failed = np.floor(np.log1p(-self._rng.random(len(rows))) / np.log(chance))
        lost_s = seconds * (1.0 / some - 1.0 / np.expm1(some))
        steps["attempts"][rows] += failed.astype(np.int32)
        return np.asarray(failed * lost_s, np.float64)

    def _cores(self, program: Program, rows: Codes, where: tuple[Codes, Floats],
               out: tuple[dict[str, Floats], Floats, Flags]) -> None:  # fmt: skip
        """Play steps on cores."""
        steps, park = program.steps, self._park
        pool, at_s = where
        route = steps["route"][rows]
        most = park.pools["whole"] / park.pools["machines"]
        steps["threads"][rows] = np.minimum(steps["threads"][rows], most[pool])
        threads = steps["threads"][rows].astype(np.float64)
        work = steps["work"][rows].astype(np.float64)
        begun_s = steps["startup_s"][rows].astype(np.float64)
        start_s = at_s + self._waits(pool, 0, at_s)
        slow = 1.0 if self._levels is None else self._levels.at("slow", pool, start_s)
        seconds = (work * park.routes["amount"][route, pool] / threads + begun_s) * slow
        lost_s = self._again(steps, rows, pool, seconds)
        done_s = start_s + lost_s + seconds
        steps["start_s"][rows] = start_s + lost_s
        steps["end_s"][rows] = done_s + steps["wait_s"][rows]
        steps["usd"][rows] = (lost_s + seconds) * threads * park.usd[0][pool]
        spent_s = (lost_s + seconds) * threads
        self.busy_s[0] += np.bincount(pool, spent_s, len(park.pools))
        values, _, mine = out
        more = 1.0 + lost_s / np.maximum(seconds, 1e-300)
        values["threads"][mine], values["squares"][mine] = threads, threads**2
        values["work"][mine], values["startup"][mine] = work * more, threads * begun_s * more

    def _engines(self, program: Program, rows: Codes, where: tuple[Codes, Floats],
                 out: tuple[dict[str, Floats], Floats, Flags]) -> None:  # fmt: skip
        """Play steps on engines."""
        steps, park, levels = program.steps, self._park, self._levels
        pool, at_s = where
        prompt = steps["prompt"][rows].astype(np.float64)
        shared = np.minimum(steps["shared"][rows].astype(np.float64), prompt)
        start_s = at_s + self._waits(pool, 1, at_s)
        found = self._found(steps, rows, pool, start_s)
        # Who waits takes the first slot that is free, mostly on another engine than its task's.
        found = np.where((start_s > at_s) & (park.engines[pool] > 1.0), shared, found)
        later = np.maximum(steps["output"][rows] - 1.0, 0.0)
        new = np.maximum(prompt - found, 1.0)
        every_s = self._prompts(new, prompt - new)
        prompt_s = every_s[pool, np.arange(len(rows))]
        first_s, running = np.zeros(len(rows)), np.ones(len(rows))
        slow = np.ones(len(rows))
        token_s = park.decode["base_s"][pool, 1] + park.decode["context_s"][pool, 1] * prompt
        if levels is not None:
            named = ("first_s", "token_s", "running", "beside")
            first_s, token_s, running, slow = (levels.at(n, pool, start_s) for n in named)
        took_s = first_s + prompt_s * slow
        seconds = took_s + later * token_s
        lost_s = self._again(steps, rows, pool, seconds)
        steps["start_s"][rows] = start_s + lost_s
        steps["first_s"][rows] = start_s + lost_s + took_s
        steps["end_s"][rows] = end_s = start_s + lost_s + seconds
        steps["found"][rows] = prompt - new
        steps["usd"][rows] = (lost_s + seconds) / running * park.usd[1][pool]
        spent_s = (lost_s + seconds) / running
        self.busy_s[1] += np.bincount(pool, spent_s, len(park.pools))
        task = steps["task"][rows]
        self._home[task], self._left_s[task] = pool, end_s
        values, prompts, mine = out
        more = 1.0 + lost_s / np.maximum(seconds, 1e-300)
        context = prompt + later / 2.0
        values["threads"][mine] = values["squares"][mine] = 1.0
        values["later"][mine], values["contexts"][mine] = later * more, later * context * more
        values["held"][mine] = prompt + (later + 1.0) / 2.0
        prompts[:, mine] = every_s * more

    def _found(self, steps: Any, rows: Codes, pool: Codes, at_s: Floats) -> Floats:
        """Return prompt tokens that are in a cache: their task's, where that is there and kept."""
        shared, task = steps["shared"][rows].astype(np.float64), steps["task"][rows]
        ours = self._home[task] == pool
        if self._levels is not None:
            away_s = np.maximum(at_s - self._left_s[task], 0.0)
            written = away_s * self._levels.at("written", pool, at_s)
            ours &= written <= self._levels.at("kept", pool, at_s)
        return np.where(ours, np.maximum(shared, steps["cached"][rows]), shared)

    def _prompts(self, new: Floats, before: Floats) -> Floats:
        """Return seconds of iterations with prompts on each pool alone, shape (pools, steps)."""
        park = self._park
        found = np.zeros((len(park.pools), len(new)))
        for pool in np.flatnonzero(park.engines > 0):
            law, table = park.laws[pool], park.prefill[pool]
            grid = np.arange(len(table)) * law["grid"]
            most = float(law["batch"])
            whole = np.ceil(new / most) - 1.0
            found[pool] = whole * np.interp(most, grid, table)
            found[pool] += np.interp(new - whole * most, grid, table)
            found[pool] += law["pair_s"] * new * (before + new / 2.0)
        return found

"""The fluid mode: fleets of any size, with queues as flows over time instead of steps in them.

Tasks are read piece by piece, as often as it takes, and never kept. Each time they are walked
through queues as they were found the last time; what they then ask of pools, by windows of time,
gives new queues. That ends when waits stay as they are.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from polysilicon.catalog.fleet import Fleet
from polysilicon.catalog.policy import Policy
from polysilicon.schedule.types import Floats
from polysilicon.simulate.counts import Counts, Put, Told
from polysilicon.simulate.fluid.flows import WINDOWS, Flows
from polysilicon.simulate.fluid.levels import Levels
from polysilicon.simulate.fluid.park import park_of
from polysilicon.simulate.fluid.paths import Walk
from polysilicon.simulate.fluid.settle import Settled
from polysilicon.simulate.machines import Machines
from polysilicon.simulate.program import Program, own_program, shuffled_program
from polysilicon.simulate.source import Source, Survey

MOST_ROUNDS = 12
CLOSE = 0.01
"""Waits that change by no more of what steps take are settled."""

_DAMPED = 4
"""After so many rounds waits are moved half way only, so that they do not swing."""


class Fluid:
    """One replication.

    Args:
        machines: of the pools.
        survey: of the workload.
        policy: what is wanted.
        fleet: its links.
        seed: of draws.

    Attributes:
        counts: what came of it.
        busy_s: thread-seconds and engine-seconds of each pool, shape (2, pools).
        played_s: wall seconds of playing.
        notes: what to know of it.
    """

    def __init__(
        self,
        machines: Sequence[Machines],
        survey: Survey,
        policy: Policy,
        fleet: Fleet,
        seed: tuple[int, int],
    ) -> None:
        self._survey, self._policy, self._seed = survey, policy, seed
        self._park = park_of(machines, survey.routes, policy, fleet.link)
        self.counts = Counts(machines, survey, policy)
        self.busy_s: Floats = np.zeros((2, len(machines)))
        self.played_s = 0.0
        self.notes: tuple[str, ...] = ()

    def play(self, source: Source, put: Put | None, told: Told | None, *, shuffled: bool) -> None:
        """Play all tasks of a source.

        Args:
            source: of the tasks.
            put: takes tables of steps; None where nobody wants them.
            told: how far it is.
            shuffled: another task comes at each arrival.
        """
        levels: Levels | None = None
        for number in range(MOST_ROUNDS):
            flows = self._walk(source, levels, told, shuffled=shuffled)
            begun = time.perf_counter()
            found = Settled(self._park, flows, self._survey.steps).levels()
            far = found.apart(levels, self._weights(flows, found))
            levels = found if levels is None or number < _DAMPED else found.mixed(levels)
            self.played_s += time.perf_counter() - begun
            if far <= CLOSE:
                break
        self._walk(source, levels, told, shuffled=shuffled, count=True, put=put)
        self._tell(far, rounds=number + 1, width_s=flows.width_s)

    def _tell(self, far: float, *, rounds: int, width_s: float) -> None:
        """Say how the figures were found."""
        words = f"fluid mode: queues as flows over windows of {width_s:.3g} s, found in {rounds} "
        words += f"rounds, the last of which changed waits by {far:.1%} of what steps take"
        self.notes = (words,)
        if far > CLOSE:
            self.notes += (f"waits are not settled: they still move by {far:.1%}",)

    def _walk(
        self,
        source: Source,
        levels: Levels | None,
        told: Told | None,
        *,
        shuffled: bool,
        count: bool = False,
        put: Put | None = None,
    ) -> Flows:
        """Walk all tasks; at last count them."""
        park, tasks = self._park, 0
        flows = Flows(len(park.routes), len(park.pools))
        mixing = np.random.default_rng((*self._seed, 1))
        # Alike in all rounds, so that these differ by what queues are like alone.
        rng = np.random.default_rng((*self._seed, 2))
        walk = Walk(park, levels, flows, rng)
        for made in source.programs(self._policy, self._survey.routes):
            program = shuffled_program(made, mixing) if shuffled else own_program(made)
            begun = time.perf_counter()
            flows.reach(float(program.tasks["arrival_s"][0]), float(program.tasks["arrival_s"][-1]))
            walk.through(program)
            tasks += len(program.tasks)
            self.played_s += time.perf_counter() - begun
            if count:
                self._count(program, put)
            if told is not None:
                told(tasks, self._survey.tasks)
        self.busy_s = walk.busy_s
        return flows

    def _count(self, program: Program, put: Put | None) -> None:
        """Count a piece whose tasks have all ended."""
        agent = self.counts.codes(program.agents)
        of = program.steps["task"].astype(np.int64)
        rows = np.arange(len(program.steps))
        tasks = program.tasks["arrival_s"], agent
        self.counts.add_tasks(program.steps, rows, program.person, of, tasks)
        self.counts.add_steps(program.steps, rows, agent[of], program.kind, self._park.routes,
                              (put, program.table))  # fmt: skip

    def _weights(self, flows: Flows, levels: Levels) -> Floats:
        """Return steps of each gate, pool and window."""
        share = np.diff(levels.below, axis=1, prepend=0.0)
        count = flows.of("count")
        found = np.zeros((2, len(self._park.pools), WINDOWS))
        for gate in range(2):
            mine = self._park.engine == bool(gate)
            found[gate] = np.einsum("rpw,rw->pw", share[mine], count[mine])
        return found

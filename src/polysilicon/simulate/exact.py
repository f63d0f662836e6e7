"""The exact mode: every step of every task is an event, played as the runtime would."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from polysilicon.catalog.fleet import Fleet
from polysilicon.catalog.policy import Policy
from polysilicon.errors import PolysiliconError
from polysilicon.schedule.types import Codes, Flags, Floats
from polysilicon.simulate import failures, kernel
from polysilicon.simulate.counts import Counts, Put, Told
from polysilicon.simulate.fleet import empty_world
from polysilicon.simulate.machines import Machines
from polysilicon.simulate.program import Program, shuffled_program
from polysilicon.simulate.source import Source, Survey
from polysilicon.simulate.state import NONE, STEPS, TASKS
from polysilicon.simulate.world import ended, fed, forget
from polysilicon.workload.groups import NONE as NOBODY

MOST_OPEN = 16_000_000
"""Steps of tasks that have arrived and not ended, some 500 bytes each while they are added."""

_EVENTS = 500_000
"""Played at a stretch; between them there is time for Ctrl-C and for progress."""


class TooManyOpenError(PolysiliconError):
    """More steps are in flight than there is memory for."""


class Exact:
    """One replication.

    Args:
        machines: of the pools.
        survey: of the workload.
        policy: what is wanted.
        fleet: its links.
        rng: of failures and of the order of tasks.

    Attributes:
        counts: what came of it.
        played_s: wall seconds of playing.
        may_give_up: where there are more than `MOST_OPEN` steps in flight.
    """

    def __init__(
        self,
        machines: Sequence[Machines],
        survey: Survey,
        policy: Policy,
        fleet: Fleet,
        rng: np.random.Generator,
    ) -> None:
        self._machines, self._survey, self._policy, self._rng = machines, survey, policy, rng
        agents = survey.agents
        self.world = empty_world(machines, survey.routes, policy, fleet.link, len(agents))
        self._nobody = agents.index(NOBODY) if NOBODY in agents else NONE
        self.counts = Counts(machines, survey, policy)
        self.played_s = 0.0
        kernel.run(self.world, rng, 0, 0.0, 0)  # loads machine code, or compiles it
        self.may_give_up = False
        self._agent: Codes = np.zeros(0, np.int64)
        self._kind: Codes = np.zeros(0, np.int64)
        self._person: Flags = np.zeros(0, np.bool_)
        self._table: Any = None

    def play(self, source: Source, put: Put | None, told: Told | None, *, shuffled: bool) -> None:
        """Play all tasks of a source.

        Args:
            source: of the tasks.
            put: takes tables of steps of tasks that ended; None where nobody wants them.
            told: how far it is.
            shuffled: another task comes at each arrival.
        """
        fed_tasks = coming = 0
        for program, until_s in self._programs(source, shuffled=shuffled):
            if fed_tasks == 0:
                self._begin_failures(float(program.tasks["arrival_s"][0]))
            # The last tasks of the piece before come at the same moment as the first of this one.
            upcoming = int(self.world.sizes[TASKS]) - coming
            self._feed(program, keep=put is not None)
            upcoming = self._run(upcoming, until_s, fed_tasks - coming - upcoming, told)
            fed_tasks += len(program.tasks)
            coming = int(self.world.sizes[TASKS]) - upcoming
            self._harvest(put, everything=until_s == math.inf)
        if self.world.sizes[TASKS]:
            what = f"{self.world.sizes[TASKS]:,} tasks wait for ever"
            raise PolysiliconError(f"{what}: their steps fit into no machine that is up")

    @property
    def busy_s(self) -> Floats:
        """Thread-seconds and engine-seconds of each pool so far, shape (2, pools)."""
        pools, engines = self.world.pools, self.world.engines
        each = np.bincount(engines["pool"], engines["busy_s"], len(pools))
        return np.stack([pools["busy_s"], each])

    def _programs(self, source: Source, *, shuffled: bool) -> Iterator[tuple[Program, float]]:
        """Yield programs, each with the first arrival of the next one."""
        before: Program | None = None
        for made in source.programs(self._policy, self._survey.routes):
            program = shuffled_program(made, self._rng) if shuffled else made
            if before is not None:
                yield before, float(program.tasks["arrival_s"][0])
            before = program
        if before is not None:
            yield before, math.inf

    def _begin_failures(self, now_s: float) -> None:
        """Draw the first failures, from the first arrival on."""
        for pool in range(len(self._machines)):
            failures.expect(self.world, self._rng, pool, now_s)
        failures.reckon(self.world)

    def _feed(self, program: Program, *, keep: bool) -> None:
        """Let further tasks be known."""
        codes = self.counts.codes(program.agents)
        known = int(self.world.sizes[TASKS])
        self.world = fed(self.world, program)
        named = np.where(codes == self._nobody, NONE, codes)
        self.world.tasks["agent"][known : known + len(codes)] = named
        if self.may_give_up and self.world.sizes[STEPS] > MOST_OPEN:
            raise TooManyOpenError(f"more than {MOST_OPEN:,} steps in flight")
        self._agent = np.concatenate((self._agent, codes))
        self._kind = np.concatenate((self._kind, program.kind))
        self._person = np.concatenate((self._person, program.person))
        if keep:
            tables = [program.table] if self._table is None else [self._table, program.table]
            self._table = pa.concat_tables(tables)

    def _run(self, upcoming: int, until_s: float, before: int, told: Told | None) -> int:
        """Play until a moment; at the end, until all tasks have ended.

        Returns:
            Row of the next task that arrives.
        """
        events = _EVENTS
        while events == _EVENTS:
            begun = time.perf_counter()
            try:
                upcoming, events, _ = kernel.run(self.world, self._rng, upcoming, until_s, _EVENTS)
            except ValueError as error:
                raise PolysiliconError(str(error)) from error
            self.played_s += time.perf_counter() - begun
            if told is not None:
                told(before + upcoming, self._survey.tasks)
        return upcoming

    def _harvest(self, put: Put | None, *, everything: bool) -> None:
        """Count the tasks that ended, write their steps, and forget them.

        It is put off until they are half of what is known, for then it costs little.
        """
        world = self.world
        gone, tasks_gone = ended(world)
        if not everything and gone.sum() * 2 < len(gone):
            return
        of = (np.cumsum(tasks_gone) - 1)[world.steps["task"][: len(gone)]]
        agent = self._agent[tasks_gone]
        arrival_s = world.tasks["arrival_s"][: len(tasks_gone)][tasks_gone]
        rows = np.flatnonzero(gone)
        of = of[rows]
        self.counts.add_tasks(world.steps, rows, self._person[rows], of, (arrival_s, agent))
        out = put, self._table
        self.counts.add_steps(world.steps, rows, agent[of], self._kind[rows], world.routes, out)
        if put is not None:
            self._table = self._table.filter(pa.array(~gone))
        self._agent, self._kind = self._agent[~tasks_gone], self._kind[~gone]
        self._person = self._person[~gone]
        forget(world, gone, tasks_gone)

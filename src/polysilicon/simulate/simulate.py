"""A workload played on a fleet: `simulate(workload, fleet) -> Result`."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from polysilicon.catalog.catalog import Catalog
from polysilicon.catalog.catalog import load as load_catalog
from polysilicon.catalog.fleet import LOCAL, Fleet
from polysilicon.catalog.policy import Policy
from polysilicon.disk import atomic
from polysilicon.errors import InputError, PolysiliconError
from polysilicon.placement.sites import check_names
from polysilicon.schedule.types import Codes, Flags, Floats
from polysilicon.simulate import failures, kernel
from polysilicon.simulate.fleet import empty_world
from polysilicon.simulate.machines import Machines, machines_of
from polysilicon.simulate.output import played
from polysilicon.simulate.program import Program
from polysilicon.simulate.result import Result, result_of, with_intervals
from polysilicon.simulate.series import Series
from polysilicon.simulate.source import Source, Survey
from polysilicon.simulate.state import TASKS
from polysilicon.simulate.tally import Tally
from polysilicon.simulate.world import ended, fed, forget
from polysilicon.workload.files import check_suffix, stream
from polysilicon.workload.workload import Workload

_EVENTS = 500_000
"""Played at a stretch; between them there is time for Ctrl-C and for progress."""

_HARVEST = 1_000_000
"""Steps that are counted and written at a time."""

Told = Callable[[int, int], None]
"""`told(tasks that arrived, tasks)`."""

Put = Callable[[Any], None]
"""Takes a table of steps."""


def simulate(
    workload: Workload | Path | Source,
    fleet: Fleet,
    *,
    policy: Policy | None = None,
    catalog: Catalog | None = None,
    seed: int = 0,
    replications: int = 1,
    output: Path | None = None,
    told: Told | None = None,
) -> Result:
    """Play a workload on a fleet.

    The first replication is the workload as it is. In the others its tasks change places: another
    task comes at each arrival. All draw their own failures.

    Args:
        workload: in memory, a file or run folder, or a source that tells more of it; large files
            are read in pieces.
        fleet: the pools.
        policy: SLOs and rules; none by default.
        catalog: facts and measurements; those that come with Polysilicon by default.
        seed: of failures and of the order of tasks.
        replications: how often; from 2 on the result has intervals.
        output: where the steps of the first replication go, as a workload file.
        told: how far it is.

    Raises:
        InputError: the workload cannot be read, or the fleet cannot serve it.
    """
    if replications < 1:
        raise InputError(f"replications is {replications}", mend="it is at least 1")
    if output is not None:
        check_suffix(output)
    begun = time.perf_counter()
    rules, facts = policy or Policy(), catalog or load_catalog()
    source = workload if isinstance(workload, Source) else Source(workload)
    if source.measured_on != LOCAL:
        facts.offer(source.measured_on)
    survey = source.survey(rules)
    check_names(rules, facts, survey.agents)
    machines = machines_of(fleet, survey.routes, survey.usual, facts, rules, source.measured_on)
    results = []
    for number in range(replications):
        played_s = time.perf_counter()
        run = _Run(machines, survey, rules, fleet, np.random.default_rng((seed, number)))
        with ExitStack() as open_files:
            put = None
            if output is not None and number == 0:
                path = open_files.enter_context(atomic(output))
                put = open_files.enter_context(stream(path, output.suffix))
            run.play(source, put, told, shuffled=number > 0)
        now = time.perf_counter()
        seconds = (now - (begun if number == 0 else played_s), run.played_s)
        told_of = (run.world, run.tally, run.series, survey)
        results.append(result_of(machines, *told_of, seconds, source.measured_on))
    return with_intervals(results)


class _Run:
    """One replication."""

    def __init__(
        self,
        machines: Sequence[Machines],
        survey: Survey,
        policy: Policy,
        fleet: Fleet,
        rng: np.random.Generator,
    ) -> None:
        self._machines, self._survey, self._policy, self._rng = machines, survey, policy, rng
        self.world = empty_world(machines, survey.routes, policy, fleet.link)
        slos = [policy.slo_of(agent) for agent in survey.agents]
        slo_s = np.array([np.nan if slo is None else slo.p99_s for slo in slos])
        self.tally = Tally(survey.agents, slo_s, len(machines))
        self.series = Series(machines)
        self.played_s = 0.0
        kernel.run(self.world, rng, 0, 0.0, 0)  # loads machine code, or compiles it
        self._agent_of = {agent: code for code, agent in enumerate(survey.agents)}
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

    def _programs(self, source: Source, *, shuffled: bool) -> Iterator[tuple[Program, float]]:
        """Yield programs, each with the first arrival of the next one."""
        before: Program | None = None
        for made in source.programs(self._policy, self._survey.routes):
            program = _shuffled(made, self._rng) if shuffled else made
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
        self.world = fed(self.world, program)
        agent = np.array([self._agent_of[name] for name in program.agents], np.int64)
        self._agent = np.concatenate((self._agent, agent))
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
        end_s = np.full(int(tasks_gone.sum()), -np.inf)
        np.maximum.at(end_s, of[gone], world.steps["end_s"][: len(gone)][gone])
        agent = self._agent[tasks_gone]
        arrival_s = world.tasks["arrival_s"][: len(tasks_gone)][tasks_gone]
        self.tally.add_tasks(arrival_s, end_s, self._paused_s(gone, of, len(agent)), agent)
        rows = np.flatnonzero(gone)
        for at in range(0, len(rows), _HARVEST):
            some = rows[at : at + _HARVEST]
            steps = world.steps[some]
            sent, way_s = steps["pool"] >= 0, np.zeros(len(steps))
            at_pool = (steps["route"][sent], steps["pool"][sent])
            way_s[sent] = world.routes["delay_s"][at_pool]
            self.tally.add_steps(steps, agent[of[some]], self._kind[some], way_s)
            self.series.add(steps)
            if put is not None:
                table = self._table.take(pa.array(some))
                put(played(table, steps, self._machines, world.routes))
        if put is not None:
            self._table = self._table.filter(pa.array(~gone))
        self._agent, self._kind = self._agent[~tasks_gone], self._kind[~gone]
        self._person = self._person[~gone]
        forget(world, gone, tasks_gone)

    def _paused_s(self, gone: Flags, of: Codes, tasks: int) -> Floats:
        """Return seconds in which persons paused, of tasks that ended.

        Args:
            gone: which steps are theirs.
            of: which of these tasks each step is of.
            tasks: how many they are.
        """
        rows = np.flatnonzero(gone & self._person)
        steps = self.world.steps[rows]
        lasted_s = steps["end_s"] - steps["start_s"]
        paused_s = np.bincount(of[rows], weights=lasted_s, minlength=tasks)
        return np.asarray(paused_s, np.float64)


def _shuffled(program: Program, rng: np.random.Generator) -> Program:
    """Return a program in which another task comes at each arrival."""
    order = rng.permutation(len(program.tasks))
    tasks = program.tasks[order]
    slack_s = tasks["deadline_s"] - tasks["arrival_s"]
    tasks["arrival_s"] = program.tasks["arrival_s"]
    tasks["deadline_s"] = tasks["arrival_s"] + slack_s
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    steps = program.steps.copy()
    steps["task"] = place[steps["task"]]
    agents = [program.agents[task] for task in order.tolist()]
    return msgspec.structs.replace(program, tasks=tasks, steps=steps, agents=agents)

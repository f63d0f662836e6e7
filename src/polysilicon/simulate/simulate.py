"""A workload played on a fleet: `simulate(workload, fleet) -> Result`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np

from polysilicon.catalog.catalog import Catalog
from polysilicon.catalog.catalog import load as load_catalog
from polysilicon.catalog.fleet import LOCAL, Fleet
from polysilicon.catalog.policy import Policy
from polysilicon.disk import atomic
from polysilicon.errors import InputError
from polysilicon.placement.sites import check_names
from polysilicon.simulate.exact import Exact, TooManyOpenError
from polysilicon.simulate.fluid.run import Fluid
from polysilicon.simulate.machines import Machines, machines_of
from polysilicon.simulate.result import Result, result_of, with_intervals
from polysilicon.simulate.source import Source, Survey
from polysilicon.workload.files import check_suffix, stream
from polysilicon.workload.workload import Workload

Mode = Literal["auto", "exact", "fluid"]

MOST_SLOTS = 100_000_000
"""Slots of a pool's engines that are played exactly; each takes 16 bytes and more."""


def simulate(
    workload: Workload | Path | Source,
    fleet: Fleet,
    *,
    policy: Policy | None = None,
    catalog: Catalog | None = None,
    seed: int = 0,
    replications: int = 1,
    mode: Mode = "auto",
    output: Path | None = None,
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
        mode: `exact` plays every step as an event, `fluid` has queues as flows over time; `auto` is
            exact where the fleet's engines have at most 100 million slots and at most 16 million
            steps are in flight.
        output: where the steps of the first replication go, as a workload file.

    Raises:
        InputError: the workload cannot be read, the fleet cannot serve it, or it is too large for
            the exact mode that was asked for.
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
    asked = _Asked(
        machines=machines,
        survey=survey,
        policy=rules,
        fleet=fleet,
        source=source,
        output=output,
        seed=seed,
        begun=begun,
        may_change=mode == "auto",
    )
    played_as = _mode(mode, machines)
    try:
        results = _played(asked, replications, played_as)
    except TooManyOpenError as error:
        results = _played(asked, replications, "fluid")
        note = f"fluid mode was taken: {error}"
        results = [msgspec.structs.replace(r, notes=(note, *r.notes)) for r in results]
    return with_intervals(results)


class _Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be played.

    Attributes:
        machines: of the pools.
        survey: of the workload.
        policy: what is wanted.
        fleet: the pools.
        source: of the tasks.
        output: where steps go.
        seed: of draws.
        begun: when all of it began, by the clock.
        may_change: exact play may be given up for want of memory.
    """

    machines: Sequence[Machines]
    survey: Survey
    policy: Policy
    fleet: Fleet
    source: Source
    output: Path | None
    seed: int
    begun: float
    may_change: bool


def _mode(mode: Mode, machines: Sequence[Machines]) -> Mode:
    """Return the mode that a fleet is played in.

    Raises:
        InputError: exact was asked for, and it is too large for that.
    """
    for one in machines:
        if one.engine is None or mode == "fluid":
            continue
        slots = one.engine.slots * one.engine.copies * one.pool.units
        if slots > MOST_SLOTS:
            if mode == "auto":
                return "fluid"
            place = f"fleet, pool {one.pool.name!r}"
            mend = f"{MOST_SLOTS:,} can be played exactly; take the fluid mode"
            raise InputError(f"{slots:,} slots of engines", where=place, mend=mend)
    return "exact" if mode == "auto" else mode


def _played(asked: _Asked, replications: int, mode: Mode) -> list[Result]:
    """Play all replications.

    Args:
        asked: what.
        replications: how often.
        mode: `exact` or `fluid`.

    Raises:
        TooManyOpenError: so it was.
    """
    results = []
    for number in range(replications):
        played_s = time.perf_counter()
        run = _run(asked, mode, number)
        if isinstance(run, Exact) and asked.may_change:
            run.may_give_up = True
        with ExitStack() as open_files:
            put = None
            if asked.output is not None and number == 0:
                path = open_files.enter_context(atomic(asked.output))
                put = open_files.enter_context(stream(path, asked.output.suffix))
            run.play(asked.source, put, asked.source.told, shuffled=number > 0)
        now = time.perf_counter()
        seconds = (now - (asked.begun if number == 0 else played_s), run.played_s)
        found = result_of(asked.machines, run.counts, run.busy_s, asked.survey, asked.policy,
                          seconds, asked.source.measured_on)  # fmt: skip
        notes = (*found.notes, *(run.notes if isinstance(run, Fluid) else ()))
        results.append(msgspec.structs.replace(found, mode=mode, notes=notes))
    return results


def _run(asked: _Asked, mode: Mode, number: int) -> Exact | Fluid:
    """Return a replication that is to be played."""
    of = (asked.machines, asked.survey, asked.policy, asked.fleet)
    if mode == "fluid":
        return Fluid(*of, (asked.seed, number))
    return Exact(*of, np.random.default_rng((asked.seed, number)))

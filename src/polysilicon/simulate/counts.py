"""Tasks and steps that ended, counted and written, whichever mode played them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from polysilicon.catalog.policy import Policy
from polysilicon.schedule.types import Codes, Flags, Floats
from polysilicon.simulate.machines import Machines
from polysilicon.simulate.output import played
from polysilicon.simulate.series import Series
from polysilicon.simulate.source import Survey
from polysilicon.simulate.tally import Tally

_AT_ONCE = 1_000_000
"""Steps that are counted and written at a time."""

Told = Callable[[int, int], None]
"""`told(tasks that arrived, tasks)`."""

Put = Callable[[Any], None]
"""Takes a table of steps."""


class Counts:
    """What came of a replication so far.

    Args:
        machines: of the pools.
        survey: of the workload.
        policy: SLOs.

    Attributes:
        tally: seconds, dollars and tokens.
        series: of pools over time.
    """

    def __init__(self, machines: Sequence[Machines], survey: Survey, policy: Policy) -> None:
        self._machines = machines
        slos = [policy.slo_of(agent) for agent in survey.agents]
        slo_s = np.array([np.nan if slo is None else slo.p99_s for slo in slos])
        self.tally = Tally(survey.agents, slo_s, len(machines))
        self.series = Series(machines)
        self._agent_of = {agent: code for code, agent in enumerate(survey.agents)}

    def codes(self, agents: Sequence[str]) -> Codes:
        """Return the code of each agent."""
        return np.array([self._agent_of[name] for name in agents], np.int64)

    def add_tasks(
        self, table: Any, rows: Codes, person: Flags, of: Codes, tasks: tuple[Floats, Codes]
    ) -> None:
        """Count tasks that ended.

        Args:
            table: records.
            rows: of their steps among them.
            person: in which of these a person pauses.
            of: which task each of these is of.
            tasks: arrival and agent's code of each.
        """
        arrival_s, agent = tasks
        end_s = np.full(len(agent), -np.inf)
        np.maximum.at(end_s, of, table["end_s"][rows])
        some = rows[person]
        lasted_s = table["end_s"][some] - table["start_s"][some]
        paused_s = np.bincount(of[person], weights=lasted_s, minlength=len(agent))
        self.tally.add_tasks(arrival_s, end_s, np.asarray(paused_s, np.float64), agent)

    def add_steps(
        self,
        table: Any,
        rows: Codes,
        agent: Codes,
        kind: Codes,
        routes: Any,
        out: tuple[Put | None, Any],
    ) -> None:
        """Count steps of tasks that ended, and write them where somebody wants them.

        Args:
            table: records.
            rows: of the steps among them.
            agent: of the task of each of the rows.
            kind: of each of the rows.
            routes: what pools make of steps.
            out: takes tables of steps, or None; and the workload's rows, as many as records.
        """
        put, workload = out
        for at in range(0, len(rows), _AT_ONCE):
            some = slice(at, at + _AT_ONCE)
            steps = table[rows[some]]
            sent, way_s = steps["pool"] >= 0, np.zeros(len(steps))
            way_s[sent] = routes["delay_s"][steps["route"][sent], steps["pool"][sent]]
            self.tally.add_steps(steps, agent[some], kind[some], way_s)
            self.series.add(steps)
            if put is not None:
                taken = workload.take(pa.array(rows[some]))
                put(played(taken, steps, self._machines, routes))

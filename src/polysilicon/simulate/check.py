"""What placements are checked by: the workload played on the fleet that is to be printed."""

from __future__ import annotations

import msgspec
import numpy as np
import pyarrow as pa

from polysilicon.catalog.catalog import Catalog
from polysilicon.catalog.fleet import Fleet
from polysilicon.catalog.policy import Policy
from polysilicon.placement.classes import PERSON
from polysilicon.placement.types import Verdict
from polysilicon.simulate.simulate import simulate
from polysilicon.simulate.source import Source
from polysilicon.workload.workload import Workload


class Player(msgspec.Struct, frozen=True, kw_only=True):
    """Plays workloads on fleets; see `polysilicon.placement.types.Check`.

    Attributes:
        policy: SLOs and rules.
        catalog: facts and measurements.
        measured_on: offer on which core-seconds were spent of steps that do not say.
    """

    policy: Policy
    catalog: Catalog
    measured_on: str

    def __call__(self, fleet: Fleet, workload: Workload) -> Verdict:
        """Return what became of the tasks; persons take no time."""
        source = Source(without_persons(workload), self.measured_on)
        result = simulate(source, fleet, policy=self.policy, catalog=self.catalog)
        p99_s = {agent: of.p99 for agent, of in result.agents.items() if of.p99 is not None}
        return Verdict(p99_s=p99_s, by="simulated")


def without_persons(workload: Workload) -> Workload:
    """Return a workload in which persons answer at once, and nobody thinks between steps."""
    names, words = workload.codes("name")
    person = np.array([word == PERSON for word in words], np.bool_)[names]
    table = workload.table
    for column in ("ready_s", "start_s", "first_token_s", "end_s"):
        at = table.schema.get_field_index(column)
        empty = pa.nulls(len(table), table.schema.field(column).type)
        table = table.set_column(at, column, empty)
    at = table.schema.get_field_index("wait_s")
    wait_s = np.where(person, 0.0, workload.numbers("wait_s"))
    values = pa.array(wait_s, mask=np.isnan(wait_s))
    return Workload(table.set_column(at, "wait_s", values))

"""What placements are checked by: the workload played on the fleet that is to be printed."""

from __future__ import annotations

import msgspec
import numpy as np
import pyarrow as pa

from polysilicon.catalog.catalog import Catalog
from polysilicon.catalog.fleet import Fleet
from polysilicon.catalog.policy import Policy
from polysilicon.placement.types import Verdict
from polysilicon.simulate.program import of_kind
from polysilicon.simulate.simulate import simulate
from polysilicon.simulate.source import Source
from polysilicon.workload.workload import Workload

_TIMES = ("ready_s", "start_s", "first_token_s", "end_s")


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
        """Return what became of the tasks."""
        source = Source(without_thinking(workload), self.measured_on)
        result = simulate(source, fleet, policy=self.policy, catalog=self.catalog)
        p99_s = {agent: of.p99 for agent, of in result.own_s.items() if of.p99 is not None}
        return Verdict(p99_s=p99_s, by="simulated")


def without_thinking(workload: Workload) -> Workload:
    """Return a workload in which each step is ready as soon as those before it have ended.

    What lies between recorded steps is not the fleet's to shorten. Steps of which only the recorded
    seconds are known keep these; LLM steps that name no model are not placed, so they are of those.
    """
    nameless = of_kind(workload, "llm") & (workload.codes("model")[0] < 0)
    lasted_s = workload.numbers("end_s") - workload.numbers("start_s")
    waits = np.isnan(workload.numbers("cpu_s")) & np.isnan(workload.numbers("wait_s"))
    wait_s = np.where(waits, lasted_s, workload.numbers("wait_s"))
    columns = {name: pa.nulls(len(workload), pa.float64()) for name in _TIMES}
    columns["wait_s"] = pa.array(wait_s, mask=np.isnan(wait_s))
    prompt = workload.numbers("prompt_tokens")
    columns["prompt_tokens"] = pa.array(prompt, mask=np.isnan(prompt) | nameless)
    cached = workload.numbers("cached_tokens")
    columns["cached_tokens"] = pa.array(cached, mask=np.isnan(cached) | nameless)
    table = workload.table
    for name, values in columns.items():
        at = table.schema.get_field_index(name)
        table = table.set_column(at, name, values.cast(table.schema.field(name).type))
    return Workload(table)

"""The steps of a simulation as a workload again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from polysilicon.schedule.types import Codes
from polysilicon.simulate.machines import Machines
from polysilicon.simulate.state import NONE

_TIMES = {"ready_s": "ready_s", "start_s": "start_s", "end_s": "end_s", "cost_usd": "usd"}


def played(table: Any, steps: Any, machines: Sequence[Machines], routes: Any) -> Any:
    """Return rows of a workload with what the simulation says of them.

    What a step was, how long it waited and started up stays as it is; where and when it ran, its
    core-seconds there, what it found in the cache and what it cost are those of the simulation.

    Args:
        table: rows as they were.
        steps: records of the same steps.
        machines: of the pools.
        routes: what pools make of steps.
    """
    sent = steps["pool"] != NONE
    llm = sent & steps["engine"]
    cores = sent & ~steps["engine"]
    amount = routes["amount"][np.maximum(steps["route"], 0), np.maximum(steps["pool"], 0)]
    new = {column: _known(steps[name], steps["ready_s"]) for column, name in _TIMES.items()}
    new["first_token_s"] = pa.array(steps["first_s"], mask=~llm)
    names = (
        ("pool", [m.pool.name for m in machines]),
        ("offer", [m.offer.name for m in machines]),
        ("region", [m.region for m in machines]),
    )
    for column, texts in names:
        new[column] = pc.coalesce(_texts(steps["pool"], texts), table[column].combine_chunks())
    had_cpu = cores & ~np.isnan(_numbers(table["cpu_s"]))
    new["cpu_s"] = _either(steps["work"] * amount, had_cpu, table["cpu_s"])
    new["cached_tokens"] = _either(steps["found"], llm, table["cached_tokens"])
    new["outcome"] = pa.array(["ok"] * len(steps))
    for column, values in new.items():
        at = table.schema.get_field_index(column)
        table = table.set_column(at, column, values.cast(table.schema.field(column).type))
    return table


def _known(values: Any, ready_s: Any) -> Any:
    """Return numbers of steps that happened."""
    return pa.array(values, mask=np.isnan(ready_s))


def _texts(codes: Codes, texts: Sequence[str]) -> Any:
    """Return the text of each code, null for -1."""
    return pa.array(list(texts), pa.string()).take(pa.array(codes, mask=codes == NONE))


def _numbers(column: Any) -> Any:
    """Return a column of numbers, NaN where there is none."""
    return column.cast(pa.float64()).fill_null(float("nan")).to_numpy()


def _either(values: Any, chosen: Any, column: Any) -> Any:
    """Return values where they are chosen, else those of a column."""
    old = _numbers(column)
    found = np.where(chosen, values, old)
    return pa.array(found, mask=np.isnan(found))

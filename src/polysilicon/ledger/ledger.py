"""The ledger: what the steps of a workload cost, by task, agent, kind, pool and name.

Money is counted in whole picodollars, so that the sums by any grouping are equal to the total, not
close to it. One picodollar is far below what the shortest step costs.
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from polysilicon.errors import InputError
from polysilicon.workload.groups import Codes, count_by, labelled, sum_by
from polysilicon.workload.workload import Workload

PICODOLLARS = 10**12
_SPLIT = 10**6  # sums are kept in two halves, so that no sum of 64-bit integers runs over
_STEP_MAX_USD = 9e6  # picodollars of one step fit into 64 bits up to here


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """The sums of some steps; None where not one of them tells.

    Attributes:
        steps: how many.
        failed: how many of them did not end `ok`.
        prompt_tokens: cached ones included.
        cached_tokens: found in a prefix cache.
        output_tokens: generated.
        core_s: core-seconds.
        energy_j: joules.
        picodollars: money, exact.
        unpriced: steps without a cost; their money is not in the sum.
        unmetered: steps without joules; their energy is not in the sum.
    """

    steps: int
    failed: int
    prompt_tokens: int | None
    cached_tokens: int | None
    output_tokens: int | None
    core_s: float | None
    energy_j: float | None
    picodollars: int
    unpriced: int
    unmetered: int

    @property
    def cost_usd(self) -> float | None:
        """Dollars of the priced steps, or None where no step has a price."""
        return None if self.unpriced == self.steps else self.picodollars / PICODOLLARS


class Ledger(msgspec.Struct, frozen=True, kw_only=True):
    """The total and its sums by what a step belongs to; steps without a value are `(none)`."""

    total: Entry
    by_task: dict[str, Entry]
    by_agent: dict[str, Entry]
    by_kind: dict[str, Entry]
    by_pool: dict[str, Entry]
    by_name: dict[str, Entry]


def ledger(workload: Workload) -> Ledger:
    """Return the ledger of a workload.

    Raises:
        InputError: one step costs more than nine million dollars.
    """
    money = picodollars(workload)
    everything = np.zeros(len(workload), np.int64)
    by = {
        column: _entries(workload, money, *labelled(workload, column))
        for column in ("task_id", "agent", "kind", "pool", "name")
    }
    return Ledger(
        total=_entries(workload, money, everything, ["total"])["total"],
        by_task=by["task_id"],
        by_agent=by["agent"],
        by_kind=by["kind"],
        by_pool=by["pool"],
        by_name=by["name"],
    )


def picodollars(workload: Workload) -> npt.NDArray[np.int64]:
    """Return the cost of each step in picodollars, shape (steps,); 0 where it has no price.

    Raises:
        InputError: one step costs more than nine million dollars.
    """
    usd = np.nan_to_num(workload.numbers("cost_usd"))
    if len(usd) and usd.max() > _STEP_MAX_USD:
        row = int(usd.argmax())
        what = f"{usd[row]:.0f} dollars for one step"
        raise InputError(what, where=f"workload, row {row} (from 0), cost_usd")
    return np.rint(usd * PICODOLLARS).astype(np.int64)


def exact_sums(values: npt.NDArray[np.int64], codes: Codes, groups: int) -> list[int]:
    """Return the exact sum of each group as Python integers.

    Args:
        values: shape (rows,), not negative.
        codes: the group of each row, shape (rows,).
        groups: how many groups there are.
    """
    high, low = np.zeros(groups, np.int64), np.zeros(groups, np.int64)
    np.add.at(high, codes, values // _SPLIT)
    np.add.at(low, codes, values % _SPLIT)
    return [h * _SPLIT + s for h, s in zip(high.tolist(), low.tolist(), strict=True)]


def _known_sums(
    values: npt.NDArray[np.float64], codes: Codes, groups: int, *, whole: bool = False
) -> list[Any]:
    """Return the sum of each group, None where it has no known value.

    Args:
        values: shape (rows,), NaN where unknown.
        codes: the group of each row, shape (rows,).
        groups: how many groups there are.
        whole: sum exactly, as integers.
    """
    seen = count_by(codes[~np.isnan(values)], groups)
    if whole:
        sums: list[Any] = exact_sums(np.nan_to_num(values).astype(np.int64), codes, groups)
    else:
        sums = sum_by(values, codes, groups).tolist()
    return [value if n else None for value, n in zip(sums, seen.tolist(), strict=True)]


def _entries(
    workload: Workload, money: npt.NDArray[np.int64], codes: Codes, names: list[str]
) -> dict[str, Entry]:
    """Return the entry of each group, by name, in order of first appearance."""
    size = len(names)
    outcome, outcome_names = workload.codes("outcome")
    bad = [code for code, name in enumerate(outcome_names) if name != "ok"]
    cost, energy = workload.numbers("cost_usd"), workload.numbers("energy_j")
    tokens = [
        _known_sums(workload.numbers(column), codes, size, whole=True)
        for column in ("prompt_tokens", "cached_tokens", "output_tokens")
    ]
    columns = (
        count_by(codes, size).tolist(),
        count_by(codes[np.isin(outcome, bad)], size).tolist(),
        *tokens,
        _known_sums(workload.numbers("cpu_s"), codes, size),
        _known_sums(energy, codes, size),
        exact_sums(money, codes, size),
        count_by(codes[np.isnan(cost)], size).tolist(),
        count_by(codes[np.isnan(energy)], size).tolist(),
    )
    fields = Entry.__struct_fields__
    return {
        name: Entry(**dict(zip(fields, row, strict=True)))
        for name, row in zip(names, zip(*columns, strict=True), strict=True)
    }

"""Less is never dearer to ask: lifting a limit, or allowing another pool, raises no cost."""

from __future__ import annotations

import msgspec
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from placement_programs import small
from polysilicon.placement.program import Program
from polysilicon.placement.solve import solve


def cost(program: Program) -> float:
    found = solve(program, gap=0.0)
    return np.inf if found is None else found.cost


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10**6), more=st.floats(0.0, 3.0))
def test_a_wider_limit_costs_no_more(seed: int, more: float) -> None:
    program = small(np.random.default_rng(seed))
    before = cost(program)
    for place, row in enumerate(program.rows):
        rows = list(program.rows)
        rows[place] = msgspec.structs.replace(row, limit=row.limit + more)
        assert cost(msgspec.structs.replace(program, rows=rows)) <= before * (1 + 1e-6)


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10**6), caps=st.floats(1.0, 2.0))
def test_higher_caps_cost_no_more(seed: int, caps: float) -> None:
    program = small(np.random.default_rng(seed))
    roomy = msgspec.structs.replace(program, load=np.maximum(program.load / caps, 1e-5))
    assert cost(roomy) <= cost(program) * (1 + 1e-6)


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10**6), data=st.data())
def test_a_pair_that_residency_forbids_makes_nothing_cheaper(
    seed: int, data: st.DataObject
) -> None:
    program = small(np.random.default_rng(seed))
    gone = data.draw(st.integers(0, len(program.pair_class) - 1))
    left = np.delete(np.arange(len(program.pair_class)), gone)
    rows = [
        row if row.pairs is None else msgspec.structs.replace(row, pairs=row.pairs[left])
        for row in program.rows
    ]
    strict = msgspec.structs.replace(
        program,
        pair_class=program.pair_class[left],
        pair_row=program.pair_row[left],
        load=program.load[left],
        pair_cost=program.pair_cost[left],
        rows=rows,
    )
    assert cost(strict) >= cost(program) * (1 - 1e-6)

"""A plan never costs more with more supply, looser caps, or more places allowed."""

from __future__ import annotations

import msgspec
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from planned import option, problem, units
from polysilicon.planning.problem import Cap
from polysilicon.planning.solve import solve

replace = msgspec.structs.replace
GAP = 1e-7


@st.composite
def cases(draw):
    """Return a small problem whose supply and caps may bind."""
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    demand = rng.uniform(2, 12, (2, 3, 3, 2))
    options = tuple(
        option(
            f"o{n}",
            price=float(rng.uniform(0.8, 1.5)),
            work=tuple(rng.uniform(0.5, 1.5, 2)),
            region=f"r{n}",
            supply=draw(st.floats(0, 12)),
            on_demand_limit=float(rng.choice([4.0, np.inf])) if n else np.inf,
        )
        for n in range(3)
    )
    contracts = tuple(
        units(f"c{n}", n, orders=(0, 1), term_months=2, monthly_usd=730 * float(fee))
        for n, fee in enumerate(rng.uniform(0.3, 0.9, 3))
    )
    cap = Cap(
        name="power", options=(0, 1, 2), weights=(1.0, 2.0, 1.0), limit=draw(st.floats(0, 30))
    )
    return problem(demand, options=options, contracts=contracts, caps=(cap,))


@settings(max_examples=15, deadline=None)
@given(cases(), st.integers(0, 2), st.floats(0, 10))
def test_cost_falls_with_supply_and_caps(case, which, more):
    before = solve(case, gap=GAP)
    roomy = tuple(
        replace(one, supply=one.supply + more) if n == which else one
        for n, one in enumerate(case.options)
    )
    caps = tuple(replace(cap, limit=cap.limit + more) for cap in case.caps)
    for wider in (replace(case, options=roomy), replace(case, caps=caps)):
        assert solve(wider, gap=GAP).lower_bound_usd <= before.cost_usd * (1 + 1e-9)


@settings(max_examples=15, deadline=None)
@given(cases(), st.integers(1, 2), st.integers(0, 1))
def test_cost_rises_with_residency(case, which, cls):
    """A class that may not go to a region any more never makes the plan cheaper."""
    free = solve(case, gap=GAP)
    work = case.options[which].work.copy()
    work[cls] = 0.0
    options = tuple(
        replace(one, work=work) if n == which else one for n, one in enumerate(case.options)
    )
    assert solve(replace(case, options=options), gap=GAP).cost_usd >= free.lower_bound_usd * (
        1 - 1e-9
    )

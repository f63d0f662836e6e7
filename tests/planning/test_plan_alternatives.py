"""Plans that cost nearly as little and buy from others."""

from __future__ import annotations

import numpy as np
import pytest

from planned import option, problem, units
from polysilicon.planning.alternatives import alternatives, shares
from polysilicon.planning.solve import solve


def case(dearer: float):
    """Return a steady demand that two vendors can serve, one of them dearer."""
    options = (option("a", vendor="v", price=3.0), option("b", vendor="w", price=3.0))
    contracts = (
        units("a", 0, term_months=2, monthly_usd=730.0),
        units("b", 1, term_months=2, monthly_usd=730.0 * dearer),
    )
    demand = np.full((1, 2, 2, 1), 10.0)
    return problem(demand, options=options, contracts=contracts)


def test_an_equal_vendor_can_take_all():
    asked = case(1.03)
    best = solve(asked, gap=1e-7)
    assert shares(asked, best) == {"v": pytest.approx(1.0)}
    (other,) = alternatives(asked, best, within=0.05, gap=1e-7)
    assert other.vendor == "v"
    assert other.shares == {"w": pytest.approx(1.0)}
    assert other.dearer == pytest.approx(0.03, rel=1e-5)


def test_a_dearer_vendor_takes_as_much_as_the_budget_allows():
    # A share w of dollars at 1.2 buys units for 1 / (1 + w / (1 - w) / 1.2): 8 % dearer at a half.
    asked = case(1.2)
    best = solve(asked, gap=1e-7)
    (other,) = alternatives(asked, best, within=0.1, gap=1e-7)
    assert other.shares["v"] == pytest.approx(0.5, rel=1e-5)
    assert other.dearer == pytest.approx(2.4 / 2.2 - 1, rel=1e-5)
    assert not alternatives(asked, best, within=0.01, gap=1e-7)


def test_a_vendor_that_has_little_gets_as_much_as_the_budget_allows():
    # Half of the units may come from each of two cheap vendors; the third is 2 % dearer.
    options = tuple(option(name, vendor=name, price=3.0, supply=20.0) for name in "uvw")
    contracts = tuple(
        units(name, at, term_months=2, monthly_usd=730.0 * (1.02 if name == "w" else 1.0))
        for at, name in enumerate("uvw")
    )
    demand = np.full((1, 2, 2, 1), 10.0)
    caps = {"u": 0.6, "v": 0.6}
    asked = problem(demand, options=options, contracts=contracts, vendor_share_max=caps)
    best = solve(asked, gap=1e-7)
    assert "w" not in shares(asked, best)
    found = alternatives(asked, best, within=0.05, gap=1e-7)
    (most,) = [one for one in found if one.more and one.vendor == "w"]
    assert most.shares == {"w": pytest.approx(1.0)}
    assert most.dearer == pytest.approx(0.02, rel=1e-4)

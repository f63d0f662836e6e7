"""Closed forms: straight-line and annuity depreciation, break-even, and the integral of power."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from polysilicon import catalog
from polysilicon.catalog.owned import HOURS_PER_YEAR, Owned
from polysilicon.cost.energy import joules, watts
from polysilicon.cost.money import usd_per_s

OFFER = catalog.load().offer("aws/m7g.2xlarge", "us-east-1")


def test_straight_line_depreciation():
    owned = Owned(capex_usd=50_000.0, life_years=5.0, residual_share=0.1)
    assert owned.usd_per_hour() == pytest.approx(9_000.0 / HOURS_PER_YEAR)


def test_an_annuity_pays_the_capital_back_with_interest():
    rate, years = 0.08, 4
    owned = Owned(capex_usd=1e5, life_years=years, discount_rate=rate, residual_share=0.2)
    yearly = owned.capital_usd_per_year()
    worth = sum(yearly / (1 + rate) ** n for n in range(1, years + 1))
    assert worth + 0.2e5 / (1 + rate) ** years == pytest.approx(1e5)


def test_the_annuity_tends_to_the_straight_line():
    straight = Owned(capex_usd=1e5, life_years=5.0, residual_share=0.3)
    nearly = Owned(capex_usd=1e5, life_years=5.0, residual_share=0.3, discount_rate=1e-6)
    assert nearly.usd_per_hour() == pytest.approx(straight.usd_per_hour(), rel=1e-5)


def test_power_space_and_staff_by_hand():
    owned = Owned(
        capex_usd=1e5,
        life_years=5.0,
        busy_w=1000.0,
        idle_w=400.0,
        utilisation=0.5,
        pue=1.5,
        usd_per_kwh=0.10,
        colocation_usd_per_kw_month=150.0,
        operations_share=0.05,
    )
    power = 0.7 * 1.5 * 0.10 * HOURS_PER_YEAR
    expected = 20_000.0 + power + 150.0 * 12 + 5_000.0
    assert owned.usd_per_hour() == pytest.approx(expected / HOURS_PER_YEAR)


def test_owning_breaks_even_with_renting_at_the_ratio_of_their_prices():
    rent = usd_per_s(OFFER) * 3600
    full = Owned(capex_usd=0.4 * rent * HOURS_PER_YEAR * 5, life_years=5.0)
    part = replace(full, usable_share=0.4)
    assert full.usd_per_hour() == pytest.approx(0.4 * rent)
    assert part.usd_per_hour() == pytest.approx(rent)


@pytest.mark.parametrize("load", [0.1, 0.3, 0.7, 1.0])
def test_the_steps_of_a_machine_use_what_the_machine_uses(load):
    """Steps that fill a machine to some load answer together for its power at that load."""
    count, seconds = 5, 20.0
    each = joules(
        OFFER,
        busy_s=load * OFFER.vcpus * seconds / count,
        wall_s=seconds,
        share=1 / count,
        utilisation=load,
    )
    assert count * each.best_j == pytest.approx(watts(OFFER).at(load) * seconds)


def test_power_is_concave_between_idle_and_full():
    machine = watts(OFFER)
    assert machine.at(0.0) == machine.idle_w
    assert machine.at(1.0) == machine.at(7.0) == machine.full_w
    assert machine.at(0.5) > (machine.idle_w + machine.full_w) / 2

"""Contracts as problem files tell them, against bills that are worked out by hand."""

from __future__ import annotations

import pytest

from plan_problems import solved

HOURS = 730.0
YEAR = 12 * HOURS
DRAWN = HOURS * 10  # all work of a month at a discount of a half
NEED = """
[horizon]
months = 12
hours = "mean"

[[demand]]
name = "work"
unit = "units"
amount = 10

[[offer]]
name = "v/box"
regions = ["here"]
work = { work = 1.0 }
on_demand_usd_per_hour = 2.0
mw = 0.01
"""


def deal(shape: str, *more: str) -> str:
    """Return a contract that is signed at once or never."""
    when = () if any("signed" in one for one in more) else ("last_order = 1",)
    lines = [f'shape = "{shape}"', 'name = "deal"', 'offers = ["v/*"]', *when, *more]
    return "[[contract]]\n" + "\n".join(lines) + "\n"


def draw(first: float, second: float, *more: str) -> str:
    """Return two half-years of promised dollars."""
    usd = f"commitment_usd = [{first * DRAWN}, {second * DRAWN}]"
    return deal("drawdown", "term_months = 12", "period_months = 6", "discount = 0.5", usd, *more)


SIGNED = "buy = false\nsigned = [{ order = 0, units = 1 }]"
TERM = "term_months = 12\nusd_per_hour = 1.0"
PAY = "term_months = 12\nunits = 12\nusd_per_hour = 1.2\nminimum_share = 0.75"
CASES = {
    "units": (deal("units", TERM), 10 * YEAR),
    "late": (deal("units", TERM, "lead_months = 3"), 10 * (6 * HOURS + 9 * HOURS)),
    "megawatts": (deal("units", "term_months = 12\nusd_per_hour = 100", 'unit = "MW"'), 10 * YEAR),
    "tiers": (deal("units", TERM, "tiers = [{ above = 4, discount = 0.5 }]"), 7 * YEAR),
    "prorated": (
        deal("units", "term_months = 24\nusd_per_hour = 1.0", "upfront_share = 0.5",
             'beyond = "prorated"'), 10 * YEAR,
    ),
    "owed": (
        deal("units", "term_months = 18\nusd_per_hour = 0.8", 'beyond = "owed"'),
        10 * 0.8 * 1.5 * YEAR,
    ),
    "extended": (
        deal("units", "term_months = 6\nusd_per_hour = 1.0",
             "extend = { term_months = 6, usd_per_hour = 1.5, fee_usd = 100 }"),
        10 * (6 * HOURS + 9 * HOURS + 100),
    ),
    "dollars": (deal("hourly-dollars", "term_months = 12\ndiscount = 0.3"), 14 * YEAR),
    "drawdown with a ramp": (draw(6, 6, "headroom = 0"), 12 * DRAWN),
    "shortfall": (draw(8, 4, "headroom = 0.5"), 14 * DRAWN),
    "excess carried": (draw(4, 8, "excess_carried = 0.5"), 13 * DRAWN),
    "shortfall credited": (draw(8, 4, "shortfall_credit = 1.0"), 12 * DRAWN),
    "drawdown a month old": (draw(6, 6, SIGNED, "headroom = 0"), 11 * DRAWN + 20 * HOURS),
    "drawdown that begins later": (
        draw(6, 6, "lead_months = 2", "headroom = 0"), 2 * 20 * HOURS + 10 * DRAWN,
    ),
    "signed, and begins later": (
        draw(6, 6, SIGNED, "lead_months = 3", "headroom = 0"), 2 * 20 * HOURS + 10 * DRAWN,
    ),
    "take or pay": (deal("take-or-pay", PAY), 12 * YEAR),
    "half of it idle": (
        deal("take-or-pay", PAY, SIGNED)
        + "[[scenario]]\nname = 's'\nprobability = 1\ndemand = 0.5",
        9 * 1.2 * 11 * HOURS + 5 * 2 * HOURS,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("text", "usd"), CASES.values(), ids=CASES)
def test_a_plan_costs_what_its_contract_bills(tmp_path, text, usd):
    plan = solved(tmp_path, NEED + text).plan
    assert plan.cost_usd == pytest.approx(usd, rel=1e-6)
    assert sum(plan.money[0].months) == pytest.approx(usd, rel=1e-6)


def test_the_months_of_a_drawdown_that_begins_later(tmp_path):
    (one,) = solved(tmp_path, NEED + draw(6, 6, "lead_months = 2", "headroom = 0")).plan.commitments
    assert (one.order_month, one.start_month, one.end_month) == ("2026-12", "2027-02", "2028-01")


def test_used_of_a_drawdown_is_what_is_not_lost(tmp_path):
    (one,) = solved(tmp_path, NEED + draw(8, 4, "headroom = 0.5")).plan.commitments
    assert one.utilisation == pytest.approx(10 / 12)


def test_money_by_month_is_the_cost_in_todays_dollars(tmp_path):
    rate = NEED.replace('hours = "mean"', 'hours = "mean"\ndiscount_rate = 0.1')
    scenarios = "".join(
        f'[[scenario]]\nname = "{factor}"\nprobability = 0.5\ndemand = {factor}\n'
        for factor in (0.5, 1.5)
    )
    plan = solved(tmp_path, rate + draw(5, 7, "headroom = 0.2") + scenarios).plan
    assert plan.worth_of_month[6] == pytest.approx(1.1**-0.5)
    parts = [money.present(plan.worth_of_month) for money in plan.money]
    for scenario, each, money in zip(plan.scenarios, parts, plan.money, strict=True):
        assert sum(each.values()) == pytest.approx(scenario.cost_usd, rel=1e-6)
        now = zip(money.months, plan.worth_of_month, strict=True)
        assert sum(usd * worth for usd, worth in now) == pytest.approx(scenario.cost_usd, rel=1e-6)
    mean = sum(one.probability * one.cost_usd for one in plan.scenarios)
    assert plan.mean_usd == plan.cost_usd == pytest.approx(mean)
    left = sum(0.5 * each["on_demand"] for each in parts)
    assert plan.left_usd == pytest.approx(left)
    assert plan.left_share == pytest.approx(left / mean)
    # What is drawn is told apart from what is lost.
    assert parts[0]["spend"] > 0
    assert parts[0]["committed"] > 0
    assert parts[1]["committed"] == pytest.approx(0.0, abs=1e-3)


def test_capital_of_owned_machines_bears_interest_once(tmp_path):
    rack = """
[[offer]]
name = "own/rack"
regions = ["here"]
rented = false
work = { work = 1.0 }
[[contract]]
shape = "owned"
name = "racks"
offers = ["own/*"]
last_order = 1
machine = { capex_usd = 12000, life_years = 2, residual_share = 0.1, discount_rate = 0.1 }
"""
    plan = solved(tmp_path, NEED + rack).plan
    # Half of the life lies in the horizon.
    assert plan.cost_usd == pytest.approx(10 * 12000 * (1 - 0.1 / 1.1**2) / 2, rel=1e-6)

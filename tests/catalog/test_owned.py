from __future__ import annotations

import pytest

from polysilicon.catalog.owned import HOURS_PER_YEAR, Owned
from polysilicon.errors import InputError


def test_idle_machines_draw_less():
    owned = Owned(capex_usd=1.0, life_years=1.0, busy_w=500.0, idle_w=100.0, utilisation=0.25)
    assert owned.mean_w() == 200.0


def test_hours_that_serve_pay_for_those_that_do_not():
    whole = Owned(capex_usd=HOURS_PER_YEAR, life_years=1.0)
    half = Owned(capex_usd=HOURS_PER_YEAR, life_years=1.0, usable_share=0.5)
    assert whole.usd_per_hour() == pytest.approx(1.0)
    assert half.usd_per_hour() == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"capex_usd": -1.0}, "capex_usd is -1"),
        ({"capex_usd": float("inf")}, "capex_usd is inf"),
        ({"usd_per_kwh": float("nan")}, "usd_per_kwh is nan"),
        ({"residual_share": 1.5}, "residual_share is 1.5"),
        ({"life_years": 0.0}, "greater than 0"),
        ({"usable_share": 0.0}, "greater than 0"),
        ({"pue": 0.9}, "pue is at least 1"),
        ({"idle_w": 2.0, "busy_w": 1.0}, "idle_w at most busy_w"),
    ],
)
def test_impossible_machines(wrong, text):
    figures = {"capex_usd": 1000.0, "life_years": 5.0} | wrong
    with pytest.raises(InputError, match=text):
        Owned(**figures)

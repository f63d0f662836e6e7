from __future__ import annotations

import pytest
from msgspec.structs import replace

from polysilicon import catalog, cost
from polysilicon.catalog.fleet import OwnPrice
from polysilicon.catalog.owned import Owned
from polysilicon.cost.money import (
    Interruption,
    rework,
    scarcer_usd,
    spot_usd_per_s,
    usd_per_s,
)
from polysilicon.cost.types import weakest
from polysilicon.errors import InputError, NoBasisError

CATALOG = catalog.load()
OFFER = CATALOG.offer("aws/m7g.2xlarge", "us-east-1")
PLAIN = replace(
    OFFER,
    vcpus=8,
    memory_bytes=32 * 2**30,
    on_demand_usd_per_hour=0.36,
    spot_usd_per_hour=0.18,
    reserved_1y_usd_per_hour=0.27,
)
OWNED = Owned(capex_usd=87_660.0, life_years=5.0)


def test_an_hour_of_all_vcpus_is_the_hourly_price():
    assert cost.share_usd(OFFER, 8 * 3600.0) == pytest.approx(OFFER.on_demand_usd_per_hour)
    cheap = replace(OFFER, spot_usd_per_hour=0.08)
    assert cost.share_usd(cheap, 3600.0, "spot") == pytest.approx(0.01)


def test_an_unknown_price_or_size_is_refused():
    with pytest.raises(NoBasisError, match="no 3y price"):
        cost.share_usd(OFFER, 1.0, "3y")
    with pytest.raises(NoBasisError, match="how many vCPUs"):
        cost.share_usd(replace(OFFER, vcpus=None), 1.0)


def test_every_kind_of_price():
    assert usd_per_s(PLAIN) == pytest.approx(1e-4)
    assert usd_per_s(PLAIN, "1y") == pytest.approx(0.75e-4)
    assert usd_per_s(PLAIN, OwnPrice(usd_per_hour=7.2)) == pytest.approx(2e-3)
    assert usd_per_s(PLAIN, OWNED) == pytest.approx(2.0 / 3600)
    assert usd_per_s(replace(PLAIN, on_demand_usd_per_hour=None), OWNED) > 0


def test_the_scarcer_resource_sets_the_price():
    hour = 3600.0
    # One of 8 vCPUs for an hour, and half of the memory: memory is scarcer.
    assert scarcer_usd(PLAIN, hour, hour, 16 * 2**30) == pytest.approx(0.18)
    assert scarcer_usd(PLAIN, hour, hour, 1 * 2**30) == pytest.approx(0.36 / 8)
    assert scarcer_usd(PLAIN, hour, hour, None, price="spot") == pytest.approx(0.18 / 8)
    # A step that waits keeps its memory and no core.
    assert scarcer_usd(PLAIN, 0.0, hour, 8 * 2**30) == pytest.approx(0.09)


def test_accelerators_are_a_resource_too():
    gpu = replace(PLAIN, kind="gpu", accelerators=8, on_demand_usd_per_hour=80.0)
    assert scarcer_usd(gpu, 0.0, 3600.0, None, accelerator_s=3600.0) == pytest.approx(10.0)
    assert scarcer_usd(gpu, 4 * 3600.0, 3600.0, None, accelerator_s=3600.0) == pytest.approx(40.0)
    alone = replace(gpu, vcpus=None)
    assert scarcer_usd(alone, 0.0, 3600.0, None, accelerator_s=3600.0) == pytest.approx(10.0)
    with pytest.raises(NoBasisError, match="how many vCPUs"):
        scarcer_usd(alone, 1.0, 1.0, None)
    with pytest.raises(NoBasisError, match="how many accelerators"):
        scarcer_usd(PLAIN, 0.0, 1.0, None, accelerator_s=1.0)


def test_spot_pays_for_what_is_lost():
    half = Interruption(per_hour=0.5, lost_s=1800.0, restart_s=1800.0)
    assert rework(half) == pytest.approx(2.0)
    assert spot_usd_per_s(PLAIN, half) == pytest.approx(2.0 * 0.18 / 3600)
    assert spot_usd_per_s(PLAIN, Interruption(per_hour=0.0)) == usd_per_s(PLAIN, "spot")


@pytest.mark.parametrize(
    ("interruption", "text"),
    [
        (Interruption(per_hour=2.0, lost_s=1800.0), "2 interruptions an hour"),
        (Interruption(per_hour=-1.0), "negative"),
        (Interruption(per_hour=1.0, lost_s=-1.0), "negative"),
    ],
)
def test_impossible_interruptions(interruption, text):
    with pytest.raises(InputError, match=text):
        rework(interruption)


def test_the_weakest_basis():
    assert weakest("measured", "calibrated") == "calibrated"
    assert weakest("roofline", "calibrated") == "roofline"

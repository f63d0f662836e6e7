from __future__ import annotations

import pytest
from msgspec.structs import replace

from polysilicon import catalog, cost
from polysilicon.cost.energy import machine_joules
from polysilicon.cost.types import weakest
from polysilicon.errors import NoBasisError

CATALOG = catalog.load()
OFFER = CATALOG.offer("aws/m7g.2xlarge", "us-east-1")


def test_an_hour_of_all_vcpus_is_the_hourly_price():
    assert cost.share_usd(OFFER, 8 * 3600.0) == pytest.approx(OFFER.on_demand_usd_per_hour)
    cheap = replace(OFFER, spot_usd_per_hour=0.08)
    assert cost.share_usd(cheap, 3600.0, "spot") == pytest.approx(0.01)


def test_an_unknown_price_or_size_is_refused():
    with pytest.raises(NoBasisError, match="no 3y price"):
        cost.share_usd(OFFER, 1.0, "3y")
    with pytest.raises(NoBasisError, match="how many vCPUs"):
        cost.share_usd(replace(OFFER, vcpus=None), 1.0)


def test_joules_are_the_share_of_the_tdp():
    chip = OFFER.processor
    assert cost.share_joules(OFFER, 64.0) == pytest.approx(chip.tdp_w)
    smt = CATALOG.offer("aws/m7i.2xlarge")
    assert cost.share_joules(smt, 96.0) == pytest.approx(smt.processor.tdp_w)
    assert machine_joules(OFFER, 2.0, 0.5) == pytest.approx(chip.tdp_w / 8)
    gpu = CATALOG.offer("aws/p5.48xlarge")
    assert machine_joules(gpu, 10.0, 0.125) == pytest.approx(7000)


@pytest.mark.parametrize("missing", ["tdp_w", "cores", "vcpus_per_core"])
def test_a_missing_fact_means_unknown_joules(missing):
    blind = replace(OFFER, processor=replace(OFFER.processor, **{missing: None}))
    assert cost.share_joules(blind, 1.0) is None


def test_no_joules_without_a_processor_or_size():
    assert cost.share_joules(replace(OFFER, processor=None), 1.0) is None
    assert machine_joules(replace(OFFER, processor=None), 1.0, 1.0) is None
    assert machine_joules(replace(OFFER, vcpus=None), 1.0, 1.0) is None
    assert cost.share_joules(CATALOG.offer("aws/p5.48xlarge"), 1.0) is None
    assert machine_joules(CATALOG.offer("aws/g6f.xlarge"), 1.0, 1.0) is None
    assert machine_joules(CATALOG.offer("aws/trn1.2xlarge"), 1.0, 1.0) is None


def test_the_weakest_basis():
    assert weakest("measured", "calibrated") == "calibrated"
    assert weakest("roofline", "calibrated") == "roofline"
    assert weakest("measured", "measured") == "measured"

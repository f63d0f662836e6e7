from __future__ import annotations

import pytest
from msgspec.structs import replace

from polysilicon import catalog
from polysilicon.cost.carbon import grams, pue
from polysilicon.errors import InputError

CATALOG = catalog.load()
OFFER = CATALOG.offer("aws/m7g.2xlarge", "us-east-1")


def test_a_kilowatt_hour_by_hand():
    grid = CATALOG.grid_carbon["aws", "us-east-1"].g_co2e_per_kwh
    assert grams(3.6e6, OFFER, CATALOG) == pytest.approx(grid * 1.14)
    assert grams(0.0, OFFER, CATALOG) == 0.0


def test_each_cloud_has_its_overhead():
    assert pue(OFFER) < pue(replace(OFFER, name="hyperion/large"))
    assert all(1.0 < pue(replace(OFFER, name=f"{c}/x")) < 1.3 for c in ("aws", "gcp", "azure"))


def test_an_unknown_grid_stays_unknown():
    assert grams(1.0, replace(OFFER, region="atlantis-1"), CATALOG) is None
    assert grams(1.0, replace(OFFER, name="local", region="local"), CATALOG) is None


def test_a_region_without_a_figure_stays_unknown():
    blank = [key for key, row in CATALOG.grid_carbon.items() if row.g_co2e_per_kwh is None]
    for cloud, region in blank[:1]:
        assert grams(1.0, replace(OFFER, name=f"{cloud}/x", region=region), CATALOG) is None


def test_negative_energy_is_refused():
    with pytest.raises(InputError, match="energy is -1"):
        grams(-1.0, OFFER, CATALOG)

from __future__ import annotations

import msgspec

from polysilicon.catalog.catalog import Catalog
from polysilicon.catalog.diff import diff
from polysilicon.catalog.offers import Offer
from polysilicon.catalog.tables import data_folder


def offer(name, usd=None, spot=None, **facts):
    return Offer(name=name, region="r", on_demand_usd_per_hour=usd, spot_usd_per_hour=spot, **facts)


def test_what_came_went_and_changed():
    before = [
        offer("aws/a", 1.0, 0.5),
        offer("aws/b", 1.0, vcpus=2),
        offer("aws/gone", 3.0),
        offer("gcp/x", 1.0),
    ]
    after = [
        offer("aws/a", 1.1, 0.25),
        offer("aws/b", 1.0, 0.2, vcpus=4),
        offer("aws/new", 2.0),
        offer("azure/y", 1.0),
    ]
    found = diff(before, after)
    assert (found.clouds, found.compared) == (("aws",), 2)
    assert [(c.name, c.price, round(c.change, 9)) for c in found.prices] == [
        ("aws/a", "spot", -0.5),
        ("aws/a", "on-demand", 0.1),
    ]
    assert [(c.name, c.fact, c.before, c.after) for c in found.facts] == [
        ("aws/b", "spot price", "", "0.2"),
        ("aws/b", "vcpus", "2", "4"),
    ]
    assert [place.name for place in found.added] == ["aws/new"]
    assert [place.name for place in found.removed] == ["aws/gone"]


def test_a_catalog_does_not_differ_from_itself():
    offers = Catalog(data_folder()).offers
    found = diff(offers, offers)
    assert found.compared == len(offers)
    assert (found.prices, found.facts, found.added, found.removed) == ((), (), (), ())


def test_there_and_back_are_opposites():
    offers = Catalog(data_folder()).offers[:50]
    dearer = [
        msgspec.structs.replace(o, on_demand_usd_per_hour=2 * o.on_demand_usd_per_hour)
        for o in offers[10:]
        if o.on_demand_usd_per_hour is not None
    ]
    there, back = diff(offers, dearer), diff(dearer, offers)
    assert {c.change for c in there.prices} == {1.0}
    assert {c.change for c in back.prices} == {-0.5}
    assert there.removed == back.added

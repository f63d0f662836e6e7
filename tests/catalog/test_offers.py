from __future__ import annotations

import pytest

from polysilicon import catalog
from polysilicon.catalog.commitments import read_commitments
from polysilicon.catalog.offers import in_order, read_offers, select
from polysilicon.errors import InputError

HEAD = (
    "name,region,processor,accelerators,vcpus,memory_gib,on_demand_usd_per_hour,"
    "spot_usd_per_hour,reserved_1y_usd_per_hour,reserved_3y_usd_per_hour,date,source,note\n"
)


def read(tmp_path, rows):
    file = tmp_path / "o.csv"
    file.write_text(HEAD + rows, "utf-8")
    return read_offers(file, {"o1": "a price list"}, catalog.load().processors)


def test_enough_offers_clouds_and_regions():
    offers = catalog.load().offers
    assert len([o for o in offers if o.on_demand_usd_per_hour is not None]) >= 300
    assert {o.cloud for o in offers} == {"aws", "gcp", "azure"}
    assert len({o.region for o in offers}) >= 6
    assert len({(o.name, o.region) for o in offers}) == len(offers)


@pytest.mark.parametrize(
    ("name", "chip", "accelerators"),
    [
        ("aws/m9g.48xlarge", "AWS Graviton5", None),
        ("aws/c9g.2xlarge", "AWS Graviton5", None),
        ("aws/p5.48xlarge", "NVIDIA H100 SXM5 80GB", 8),
        ("aws/trn1.32xlarge", "AWS Trainium1", 16),
        ("aws/inf2.xlarge", "AWS Inferentia2", 1),
        ("gcp/tpu-v6e-16", "Google TPU v6e (Trillium)", 16),
        ("azure/Standard_ND96isr_MI300X_v5", "AMD Instinct MI300X", 8),
        ("aws/g6f.xlarge", "NVIDIA L4", None),
    ],
)
def test_offers_name_their_processors(name, chip, accelerators):
    offer = catalog.load().offer(name)
    assert offer.processor is not None
    assert offer.processor.name == chip
    assert offer.accelerators == accelerators


def test_no_price_is_a_feeds_unknown():
    for offer in catalog.load().offers:
        prices = [offer.price(p) for p in ("on-demand", "spot", "1y", "3y")]
        assert 700.0 not in prices
        assert any(p is not None for p in prices)


def test_the_sentinel_becomes_blank(tmp_path):
    (offer,) = read(tmp_path, "gcp/x,r,,,4,16,700.0,1.5,,,2026,o1,\n")
    assert offer.on_demand_usd_per_hour is None
    assert offer.usd_per_hour("spot") == 1.5
    assert offer.memory_bytes == 16 * 2**30
    assert offer.source == "a price list"
    with pytest.raises(InputError, match="no on-demand price is known; known: spot"):
        offer.usd_per_hour()


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ("a/x,r,Graviton,,4,16,1,,,,2026,o1,\n", ["row 2", "unknown processor 'Graviton'"]),
        ("a/x,r,,,4,16,1,,,,2026,o9,\n", ["row 2, source", "unknown source"]),
        ("a/x,r,,,4,16,0,,,,2026,o1,\n", ["row 2, on_demand_usd_per_hour"]),
        ("a/x,r,,,4.5,16,1,,,,2026,o1,\n", ["row 2, vcpus"]),
        ("a/x,r,,,4,16,1,,,,2026,o1,\na/x,r,,,4,16,2,,,,2026,o1,\n", ["row 3", "told twice"]),
    ],
)
def test_wrong_offers_are_named(tmp_path, rows, words):
    with pytest.raises(InputError) as caught:
        read(tmp_path, rows)
    assert all(word in str(caught.value) for word in words)


def test_lookup():
    known = catalog.load()
    assert known.offer("AWS/M9G.large", "us-east-1").name == "aws/m9g.large"
    cheapest = known.offer("gcp/c4a-standard-8")
    assert cheapest.on_demand_usd_per_hour == min(
        o.on_demand_usd_per_hour for o in known.offers_named("gcp/c4a-standard-8")
    )
    with pytest.raises(InputError, match="did you mean aws/m9g"):
        known.offer("aws/m9g.lrge")
    with pytest.raises(InputError, match="no price in region 'mars'"):
        known.offer("aws/m9g.large", "mars")


def test_select_and_order():
    offers = catalog.load().offers
    found = in_order(select(offers, kind="cpu", vendor="aws", region="us-east-1", chip="graviton5"))
    prices = [o.on_demand_usd_per_hour for o in found if o.on_demand_usd_per_hour is not None]
    assert prices == sorted(prices)
    assert len(found) >= 40
    assert all(o.processor.name == "AWS Graviton5" for o in found)
    names = [o.name for o in in_order(select(offers, vendor="NVIDIA"), "name")]
    assert names == sorted(names)
    assert {o.cloud for o in select(offers, vendor="nvidia")} == {"aws", "gcp", "azure"}


def test_commitments_and_carbon():
    known = catalog.load()
    assert len(known.commitments) == 31
    for program in known.commitments:
        if program.discount_min is not None and program.discount_max is not None:
            assert 0 <= program.discount_min <= program.discount_max <= 1
    assert known.grid_carbon["gcp", "europe-north2"].g_co2e_per_kwh == pytest.approx(2.73)


def test_a_discount_beyond_one_is_refused(tmp_path):
    file = tmp_path / "c.csv"
    head = "vendor,program,term,discount_min,discount_max,terms,source,date\n"
    file.write_text(head + "AWS,x,1y,,72,,s,2026\n", "utf-8")
    with pytest.raises(InputError, match=r"row 2, discount_max.*fraction"):
        read_commitments(file)


def test_the_comparison_covers_the_kinds_of_silicon():
    known = catalog.load()
    chips = set()
    for row in known.comparisons:
        offer = known.offer(row.offer, row.region)
        assert offer.on_demand_usd_per_hour is not None
        chips.add(offer.processor.name)
        if offer.kind != "cpu":
            beside = known.offer(row.companion, row.companion_region)
            assert beside.kind == "cpu"
            assert beside.cloud == offer.cloud
    assert len(chips) >= 8
    for part in ("Graviton5", "Intel", "EPYC", "Axion", "NVIDIA L4", "H100", "Trainium1", "v6e"):
        assert any(part in chip for chip in chips), part

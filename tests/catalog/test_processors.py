from __future__ import annotations

import pytest

from polysilicon import catalog
from polysilicon.catalog.processors import FACTS, read_processors
from polysilicon.errors import InputError

HEAD = "processor,fact,value,unit,source,date\n"
NAMED = """
AWS Graviton2 | AWS Graviton3 | AWS Graviton4 | AWS Graviton5 | NVIDIA Grace | NVIDIA Vera
Google Axion (C4A) | Google Axion (N4A) | Azure Cobalt 100 | Azure Cobalt 200
NVIDIA A10G | NVIDIA L4 | NVIDIA L40S | NVIDIA A100 SXM4 80GB | NVIDIA H100 SXM5 80GB
NVIDIA H200 SXM 141GB | NVIDIA B200 | NVIDIA GB200 (per GPU) | AMD Instinct MI300X
AMD Instinct MI355X | AWS Trainium1 | AWS Trainium2 | AWS Trainium3 | AWS Inferentia2
Google TPU v5e | Google TPU v5p | Google TPU v6e (Trillium) | Google TPU v7 (Ironwood)
Microsoft Maia 100 | Microsoft Maia 200 | Meta MTIA v1 | Meta MTIA v2 | Meta MTIA 300
Meta MTIA 400 | Meta MTIA 450 | Meta MTIA 500 | Intel Gaudi 3
"""


@pytest.mark.parametrize(
    "name", [n.strip() for n in NAMED.replace("\n", "|").split("|") if n.strip()]
)
def test_every_chip_of_the_large_deals_is_there(name):
    assert catalog.load().processor(name).name == name


def test_every_fact_has_value_unit_source_and_date():
    for processor in catalog.load().processors.values():
        assert processor.facts
        for fact in processor.facts:
            assert fact.value
            assert fact.unit == FACTS[fact.fact]
            assert fact.source
            assert fact.date


def test_an_unknown_name_has_near_ones():
    with pytest.raises(InputError, match="did you mean AWS Graviton5"):
        catalog.load().processor("Graviton5")


def test_a_blank_stays_blank():
    known = catalog.load()
    assert known.processor("AWS Graviton5").tdp_w is None
    assert known.processor("NVIDIA A10G").peak_flops("bf16") is None
    assert known.processor("Meta MTIA v1").bandwidth_bytes_per_s() is None


def test_core_speed_is_relative_to_graviton3():
    known = catalog.load()
    assert known.processor("AWS Graviton3").core_speed == 1.0
    speed = {n: p.core_speed for n, p in known.processors.items() if p.core_speed is not None}
    assert len(speed) >= 18
    assert speed["AWS Graviton2"] < 1 < speed["AWS Graviton4"] < speed["AWS Graviton5"]


def test_peak_rates_by_precision():
    l4 = catalog.load().processor("nvidia l4")
    assert l4.peak_flops("bf16") == 121e12
    assert l4.peak_flops("int8") == 242e12
    assert l4.peak_flops("q4_k_m") == 121e12
    assert l4.peak_flops("fp8") == 121e12  # no 8-bit float rate is told, so weights are widened


def test_measured_bandwidth_comes_first():
    assert catalog.load().processor("AWS Graviton5").bandwidth_bytes_per_s() == 744.9e9
    assert catalog.load().processor("NVIDIA L4").bandwidth_bytes_per_s() == 300.1e9


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ("A,speed,1,count,s,2026\n", ["unknown fact 'speed'"]),
        ("A,cores,1,W,s,2026\n", ["cores is in count, not W", "row 2, unit"]),
        ("A,cores,1,count,s,2026\nA,cores,2,count,s,2026\n", ["told twice", "row 3"]),
        ("A,cores,many,count,s,2026\n", ["processor 'A'", "cores"]),
        ("A,cores,4,count,s,2026\n", ["processor 'A'", "vendor"]),
        ("A,kind,npu,text,s,2026\nA,vendor,v,text,s,2026\n", ["processor 'A'", "kind"]),
        ("A,cores,4,count,s,today\n", ["row 2, date"]),
    ],
)
def test_wrong_facts_are_named(tmp_path, rows, words):
    file = tmp_path / "p.csv"
    file.write_text(HEAD + rows, "utf-8")
    with pytest.raises(InputError) as caught:
        read_processors([file])
    assert all(word in str(caught.value) for word in words), str(caught.value)

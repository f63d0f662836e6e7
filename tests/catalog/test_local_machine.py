from __future__ import annotations

import os

import pytest

from polysilicon import catalog
from polysilicon.catalog.machine import PRICE_VARIABLE, Machine, detect, isa_class_of, local_offer
from polysilicon.errors import InputError

NOTHING: dict[str, str] = {}


def machine(arch="x86_64", cores=2, flags="avx512f amx_tile"):
    return Machine(
        cpu="a chip", arch=arch, cores=cores, memory_bytes=2**34, isa_flags=frozenset(flags.split())
    )


def test_this_machine_is_described():
    here = detect()
    assert here.cores >= 1
    assert here.memory_bytes > 2**28
    assert here.arch == os.uname().machine


def test_cpuinfo_is_read(tmp_path):
    file = tmp_path / "cpuinfo"
    file.write_text("processor : 0\nmodel name : X 9000\nflags : sse AVX512F amx_tile\n", "utf-8")
    here = detect(file)
    assert here.cpu == "X 9000"
    assert {"avx512f", "amx_tile"} <= here.isa_flags
    assert detect(tmp_path / "none").isa_flags == frozenset()


@pytest.mark.parametrize(
    ("implementer", "part", "name"),
    [
        ("0x41", "0xd40", "Neoverse V1"),
        ("0xc0", "0xac3", "AmpereOne"),
        ("0x41", "0xfff", "0x41:0xfff"),
    ],
)
def test_cores_of_arm_are_named_by_their_ids(tmp_path, implementer, part, name):
    """`/proc/cpuinfo` has no model names there; what was measured on one is not another's."""
    file = tmp_path / "cpuinfo"
    each = f"Features\t: fp asimd\nCPU implementer\t: {implementer}\nCPU part\t: {part}\n"
    file.write_text(f"processor\t: 0\n{each}\nprocessor\t: 1\n{each}", "utf-8")
    here = detect(file)
    assert here.cpu == name
    assert here.isa_flags == {"fp", "asimd"}


@pytest.mark.parametrize(
    ("arch", "flags", "expected"),
    [
        ("aarch64", "asimd", "arm"),
        ("arm64", "", "arm"),
        ("x86_64", "avx512f amx_tile", "x86-amx"),
        ("AMD64", "avx512f", "x86-avx512"),
        ("x86_64", "avx2", "x86"),
        ("riscv64", "", "other"),
    ],
)
def test_classes_of_machines(arch, flags, expected):
    assert machine(arch, flags=flags).isa_class == expected


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("avx512f avx512_bf16 amx_tile amx_bf16", "amx"),
        ("avx512f avx512_bf16", "avx512_bf16"),
        ("asimd sve bf16 i8mm", "bfmmla"),
        ("avx512f amx_tile amx_int8", "none"),
        ("avx2", "none"),
    ],
)
def test_units_for_bfloat16_are_told_by_flags(flags, expected):
    assert machine(flags=flags).bf16_unit == expected


@pytest.mark.parametrize(
    ("isa", "expected"),
    [
        ("Armv9.2-a SVE2", "arm"),
        ("x86-64 AVX-512 AMX", "x86-amx"),
        ("x86-64 AVX-512", "x86-avx512"),
        ("x86-64", "x86"),
        ("CUDA sm_90", "other"),
        (None, "other"),
    ],
)
def test_classes_of_processors(isa, expected):
    assert isa_class_of(isa) == expected


@pytest.mark.parametrize(
    ("arch", "flags"), [("aarch64", ""), ("x86_64", "avx512f amx_tile"), ("x86_64", "avx512f")]
)
@pytest.mark.parametrize("cores", [2, 3, 8, 64])
def test_local_is_priced_as_the_cheapest_offer_like_it(arch, flags, cores):
    known, here = catalog.load(), machine(arch, cores, flags)
    offer = local_offer(known, here, NOTHING)
    assert (offer.name, offer.region, offer.kind) == ("local", "local", "cpu")
    assert offer.vcpus == cores
    like = [
        o
        for o in known.offers
        if o.kind == "cpu"
        and o.processor is not None
        and o.vcpus is not None
        and o.vcpus >= cores
        and o.on_demand_usd_per_hour is not None
        and isa_class_of(o.processor.isa) == here.isa_class
    ]
    vcpus = min(o.vcpus for o in like)
    price = min(o.on_demand_usd_per_hour for o in like if o.vcpus == vcpus)
    assert offer.on_demand_usd_per_hour == price
    assert offer.note.startswith("priced as ")
    assert (f"here are {cores}" in offer.note) == (vcpus != cores)
    assert isa_class_of(offer.processor.isa) == here.isa_class


def test_plain_x86_is_priced_as_the_next_class():
    offer = local_offer(catalog.load(), machine(flags="avx2"), NOTHING)
    assert isa_class_of(offer.processor.isa) == "x86-avx512"


def test_own_price_comes_first():
    offer = local_offer(catalog.load(), machine(), {PRICE_VARIABLE: "0.25"})
    assert offer.on_demand_usd_per_hour == 0.25
    assert PRICE_VARIABLE in offer.note
    strange = local_offer(catalog.load(), machine("riscv64"), {PRICE_VARIABLE: "0.25"})
    assert strange.processor is None


@pytest.mark.parametrize("price", ["cheap", "-1", "inf", "nan"])
def test_own_price_must_be_one(price):
    with pytest.raises(InputError, match=PRICE_VARIABLE):
        local_offer(catalog.load(), machine(), {PRICE_VARIABLE: price})


def test_a_machine_like_no_offer_needs_a_price():
    with pytest.raises(InputError, match=f"set {PRICE_VARIABLE}"):
        local_offer(catalog.load(), machine("riscv64"), NOTHING)
    with pytest.raises(InputError, match="5000 cores"):
        local_offer(catalog.load(), machine(cores=5000), NOTHING)

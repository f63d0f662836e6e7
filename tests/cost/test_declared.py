"""In what a machine may differ from the offer that it is said to be of."""

from __future__ import annotations

import msgspec
import pytest

from polysilicon import catalog
from polysilicon.catalog.chips.found import Chip
from polysilicon.catalog.chips.hardware import Hardware
from polysilicon.cost.declared import mismatches
from polysilicon.cost.profile import CoreSpeed, spread

GIB = 2**30
CPU = catalog.shipped().offer("aws/m9g.2xlarge", "us-east-1")
GPU = catalog.shipped().offer("aws/g6.12xlarge", "us-east-1")
GRAVITON = Chip(kind="cpu", chip="Neoverse V3", processor="AWS Graviton5")
HERE = Hardware(cpu=GRAVITON, arch="aarch64", isa_class="arm", cores=8, memory_bytes=31 * GIB)
XEON = Chip(
    kind="cpu", chip="Sapphire Rapids", may_be=("Intel Xeon Platinum 8490H (Sapphire Rapids)",)
)


def speed(relative: float) -> CoreSpeed:
    """A speed with its band of a factor 1.2."""
    return CoreSpeed(one_mbs=spread([1.0]), all_mbs=spread([1.0]), relative=relative,
                     relative_low=relative / 1.2, relative_high=relative * 1.2)  # fmt: skip


def what(offer, hardware, found=None):
    return [one.what for one in mismatches(offer, hardware, found)]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, []),
        ({"cores": 96, "memory_bytes": 400 * GIB}, []),  # more does no harm
        ({"cores": 7}, ["cores"]),
        ({"memory_bytes": 24 * GIB}, ["memory"]),
        ({"cpu": msgspec.structs.replace(GRAVITON, processor="AWS Graviton4")}, ["chip"]),
        ({"cpu": XEON, "isa_class": "x86-amx"}, ["chip"]),
        # Nothing tells the chip: another instruction set does, a hidden extension does not.
        ({"cpu": Chip(kind="cpu")}, []),
        ({"cpu": Chip(kind="cpu"), "isa_class": "x86"}, ["chip"]),
        ({"cpu": Chip(kind="cpu", may_be=("AWS Graviton5", "Azure Cobalt 200"))}, []),
    ],
)
def test_of_a_cpu(changes, expected):
    assert what(CPU, msgspec.structs.replace(HERE, **changes)) == expected


def test_speed_counts_where_all_of_its_band_is_slower():
    declared = CPU.processor.core_speed
    assert what(CPU, HERE, speed(declared / 1.1)) == []
    assert what(CPU, HERE, speed(declared / 1.3)) == ["core speed"]
    for part in ("relative", "relative_low", "relative_high"):
        assert what(CPU, HERE, msgspec.structs.replace(speed(0.1), **{part: None})) == []


def test_of_accelerators():
    l4 = Chip(kind="gpu", chip="NVIDIA L4", processor="NVIDIA L4", count=4, family="nvidia")
    host = msgspec.structs.replace(HERE, cores=48, memory_bytes=192 * GIB, isa_class="x86-avx512")
    assert GPU.processor.name == "NVIDIA L4"
    for chips, expected in (
        ((l4,), []),
        ((msgspec.structs.replace(l4, count=3),), ["accelerators"]),
        ((msgspec.structs.replace(l4, chip="NVIDIA T4", processor="NVIDIA T4"),), ["chip"]),
        ((msgspec.structs.replace(l4, chip="NVIDIA X", processor=""),), []),  # not known
        ((), ["chip"]),
    ):
        assert what(GPU, msgspec.structs.replace(host, accelerators=chips)) == expected


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("memory_bytes", b"-1" + b"0" * 400),
        ("memory_bytes", b"1" + b"0" * 400),
        ("cores", b"-1"),
        ("cpu", b'{"kind":"cpu","count":1%s}' % (b"0" * 400)),
        ("arch", b'"%s"' % (b"a" * 1025)),
    ],
)
def test_hardware_that_no_machine_has_is_refused(field, value):
    fields = {"cpu": b'{"kind":"cpu"}', "arch": b'"x"', "isa_class": b'"x86"', "cores": b"1",
              "memory_bytes": b"1"}  # fmt: skip
    body = b",".join(b'"%s":%s' % (k.encode(), v) for k, v in (fields | {field: value}).items())
    with pytest.raises(msgspec.ValidationError, match=field):
        msgspec.json.decode(b"{" + body + b"}", type=Hardware)

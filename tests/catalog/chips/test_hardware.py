"""Chips told apart by what kernels of real machines show."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from polysilicon import catalog
from polysilicon.catalog.chips.devices import FAMILIES
from polysilicon.catalog.chips.hardware import Hardware, hardware_of, offer_of
from polysilicon.catalog.chips.table import chip_ids
from polysilicon.catalog.chips.tree import names_in, text_at
from system_trees import AZURE, MACHINE, Tree

AMX = "avx2 avx512f amx_tile"
AVX512 = "avx2 avx512f"


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def found(tree: Tree, **options) -> Hardware:
    return hardware_of(catalog.shipped(), tree.root, MACHINE, **options)


@pytest.mark.parametrize(
    ("implementer", "part", "dmi", "processor"),
    [
        ("0x41", "0xd0c", ("Amazon EC2", "m6g.large"), "AWS Graviton2"),
        ("0x41", "0xd40", ("Amazon EC2", "c7g.4xlarge"), "AWS Graviton3"),
        ("0x41", "0xd4f", ("Amazon EC2", "r8g.metal-24xl"), "AWS Graviton4"),
        ("0x41", "0xd84", ("Amazon EC2", "m9g.48xlarge"), "AWS Graviton5"),
        ("0x41", "0xd0c", ("Microsoft Corporation", "Virtual Machine", AZURE), "Ampere Altra"),
        ("0x41", "0xd0c", ("GIGABYTE", "R272-P30"), "Ampere Altra"),
        ("0x6d", "0xd49", ("Microsoft Corporation", "Virtual Machine", AZURE), "Azure Cobalt 100"),
        ("0x41", "0xd4f", ("Google", "Google Compute Engine"), "Google Axion (C4A)"),
        ("0x41", "0xd8e", ("Google", "Google Compute Engine"), "Google Axion (N4A)"),
        ("0x41", "0xd4f", ("NVIDIA", "Grace CPU Superchip"), "NVIDIA Grace"),
    ],
)
def test_arm_servers(tree: Tree, implementer, part, dmi, processor):
    hardware = found(tree.arm(implementer, part).dmi(*dmi))
    assert hardware.cpu.processor == processor
    assert hardware.processor.name == processor
    assert part in hardware.cpu.how


def test_an_arm_core_that_several_sell_is_no_processor_without_a_place(tree: Tree):
    cpu = found(tree.arm("0x41", "0xd4f")).cpu
    assert (cpu.chip, cpu.processor) == ("Neoverse V2", "")
    assert set(cpu.may_be) == {"AWS Graviton4", "Google Axion (C4A)", "NVIDIA Grace"}
    assert found(tree.arm("0xc0", "0xac3")).cpu.name == "AmpereOne"
    assert found(tree.arm("0x41", "0xfff")).cpu.name == "unknown"


def test_the_register_itself_tells_where_cpuinfo_does_not(tree: Tree):
    folder = "sys/devices/system/cpu/cpu0/regs/identification"
    tree.put(f"{folder}/midr_el1", "0x00000000410fd401\n").dmi("Amazon EC2", "c7g.large")
    assert found(tree).cpu.processor == "AWS Graviton3"


@pytest.mark.parametrize(
    ("vendor", "numbers", "flags", "chip"),
    [
        ("GenuineIntel", "6:85:4", AVX512, "Skylake"),
        ("GenuineIntel", "6:85:7", AVX512, "Cascade Lake"),
        ("GenuineIntel", "6:106:6", AVX512, "Ice Lake"),
        ("GenuineIntel", "6:143:8", AMX, "Sapphire Rapids"),
        ("GenuineIntel", "6:143:8", "avx2", "Sapphire Rapids"),  # wide instructions hidden
        ("GenuineIntel", "6:207:2", AMX, "Emerald Rapids"),
        ("GenuineIntel", "6:173:1", AMX, "Granite Rapids"),
        ("GenuineIntel", "6:175:3", "avx2", "Sierra Forest"),
        ("AuthenticAMD", "23:1:2", "avx2", "Naples"),
        ("AuthenticAMD", "23:49:0", "avx2", "Rome"),
        ("AuthenticAMD", "25:1:1", "avx2", "Milan"),
        ("AuthenticAMD", "25:17:1", AVX512, "Genoa"),
        ("AuthenticAMD", "25:160:2", AVX512, "Bergamo"),
        ("AuthenticAMD", "26:2:1", AVX512, "Turin"),
        ("AuthenticAMD", "26:17:0", AVX512, "Turin Dense"),
    ],
)
def test_generations_of_x86(tree: Tree, vendor, numbers, flags, chip):
    assert found(tree.x86(vendor, numbers, "a name", flags)).cpu.chip == chip


def test_x86_by_name_and_by_cloud(tree: Tree):
    tree.x86("AuthenticAMD", "25:17:1", "AMD EPYC 9R14 96-Core Processor", AVX512)
    assert found(tree).cpu.processor == "AMD EPYC 9R14 (Genoa, AWS)"
    tree.x86("GenuineIntel", "6:143:8", "Intel(R) Xeon(R) Processor", AMX)
    assert found(tree).cpu.processor == ""
    assert "Intel Xeon Platinum 8490H (Sapphire Rapids)" in found(tree).cpu.may_be
    tree.dmi("Google", "Google Compute Engine")
    assert found(tree).cpu.processor == "Intel Xeon Platinum 8481C (Sapphire Rapids, GCP)"


def test_a_model_that_lacks_what_the_chip_has_is_a_mask(tree: Tree):
    masked = found(tree.x86("GenuineIntel", "6:85:4", "Skylake, IBRS", AMX)).cpu
    assert masked.chip == "Sapphire Rapids or Emerald Rapids or Granite Rapids"
    assert "is a mask" in masked.how
    assert found(tree.x86("GenuineIntel", "6:167:1", "X", AVX512)).cpu.chip == "X"


def test_nvidia_by_its_driver_by_nvml_and_on_the_bus(tree: Tree):
    tree.nvidia("NVIDIA A10G", "NVIDIA A10G").pci("10de:2237:030200", "10de:22a3:068000")
    (gpu,) = found(tree).accelerators
    assert (gpu.processor, gpu.count) == ("NVIDIA A10G", 2)
    assert gpu.devices == ("/dev/nvidia0", "/dev/nvidia1")

    class FailedError(Exception):
        pass

    nvml = SimpleNamespace(
        NVMLError=FailedError, nvmlInit=lambda: None, nvmlShutdown=lambda: None,
        nvmlDeviceGetCount=lambda: 1, nvmlDeviceGetHandleByIndex=lambda n: n,
        nvmlDeviceGetName=lambda _: b"NVIDIA H100 80GB HBM3",
    )  # fmt: skip
    assert found(tree, nvml=nvml).processor.processor == "NVIDIA H100 SXM5 80GB"

    def broken() -> None:
        raise FailedError

    nvml.nvmlInit = broken
    assert found(tree, nvml=nvml).accelerators == (gpu,)


def test_accelerators_on_the_bus(tree: Tree):
    tree.pci(
        "10de:2335:030200",
        "10de:ffff:030200",
        "1002:1478:060400",
        "8086:0000:030000",
        "1ae0:006f:ff0000",
        "1ae0:006f:ff0000",
        "1ae0:0042:020000",
        "1da3:1060:120000",
    )
    told = {c.name: (c.count, c.kind, c.family) for c in found(tree).accelerators}
    assert told == {
        "NVIDIA H200 SXM 141GB": (1, "gpu", "nvidia"),
        "unknown": (1, "gpu", "nvidia"),
        "Google TPU v6e (Trillium)": (2, "asic", "tpu"),
        "Intel Gaudi 3": (1, "asic", "gaudi"),
    }
    tree.put("dev/vfio/0").put("dev/vfio/1").put("dev/vfio/vfio").put("dev/accel/accel0")
    devices = {c.family: c.devices for c in found(tree).accelerators}
    assert devices["tpu"] == ("/dev/vfio/0", "/dev/vfio/1")
    assert devices["gaudi"] == ("/dev/accel/accel0",)


def test_amd_by_rocm_counts_partitions_once(tree: Tree):
    mi300x, mi250 = 0x74A1, 0x740C
    tree.kfd((0, 0, 0), (304, mi300x, 256), (304, mi300x, 256), (304, mi300x, 512))
    (gpu,) = found(tree.put("dev/kfd")).accelerators
    assert (gpu.processor, gpu.count, gpu.devices) == ("AMD Instinct MI300X", 2, ("/dev/kfd",))
    other = Tree(tree.root / "other").kfd(*((440, mi250, place) for place in range(1, 9)))
    assert found(other).accelerators[0].count == 4  # two dies each


@pytest.mark.parametrize(
    ("device", "chip"),
    [("7164", "AWS Trainium1"), ("7264", "AWS Inferentia2"), ("7364", "AWS Trainium2"),
     ("7564", "AWS Trainium3"), ("7064", "AWS Inferentia1")],
)  # fmt: skip
def test_neuron_on_the_bus(tree: Tree, device, chip):
    tree.pci(f"1d0f:{device}:088000", "1d0f:ec20:020000").put("dev/neuron0")
    (asic,) = found(tree).accelerators
    assert (asic.chip, asic.devices) == (chip, ("/dev/neuron0",))


def test_neuron_in_a_container_by_the_machines_type(tree: Tree):
    tree.dmi("Amazon EC2", "inf2.48xlarge")
    for number in range(12):
        tree.put(f"dev/neuron{number}")
    (asic,) = found(tree).accelerators
    assert (asic.processor, asic.count) == ("AWS Inferentia2", 12)


def test_the_offer_that_a_machine_says_it_is_of(tree: Tree):
    facts = catalog.shipped()
    assert offer_of(found(tree.dmi("Amazon EC2", "m9g.2xlarge")), facts) == "aws/m9g.2xlarge"
    assert offer_of(found(tree.dmi("Amazon EC2", "z99.nano")), facts) == ""
    assert offer_of(found(tree.dmi("QEMU", "Standard PC")), facts) == ""
    superchip = tree.arm("0x41", "0xd4f").nvidia("NVIDIA GH200 480GB")
    assert found(superchip).cpu.processor == "NVIDIA Grace"


def test_nothing_is_there(tree: Tree):
    hardware = found(tree)
    assert (hardware.place, hardware.cpu.name, hardware.accelerators) == ("", "unknown", ())


def test_hostile_files_are_read_in_bounds(tree: Tree):
    tree.put("proc/cpuinfo", b"\xff\x00\x1b[31m" * 100_000 + b"\nmodel name : X\n")
    tree.put("sys/class/dmi/id/sys_vendor", b"A" * 2**20)
    tree.put("sys/bus/pci/devices/0/vendor", b"\x00" * 999).put("dev/neuron0")
    (tree.root / "sys/class/kfd/kfd/topology/nodes/1/properties").mkdir(parents=True)
    os.mkfifo(tree.root / "sys/bus/pci/devices/0/class")
    (tree.root / "sys/bus/pci/devices/0/device").symlink_to("device")
    properties = f"simd_count 1\nvendor_id {'9' * 5000}\ndevice_id x\n"
    tree.put("sys/class/kfd/kfd/topology/nodes/2/properties", properties)
    tree.put("proc/driver/nvidia/gpus/0/information", "Model:" + "\n" * 70_000)
    hardware = found(tree)
    assert hardware.place == "own"
    assert {chip.name for chip in hardware.accelerators} == {"unknown", "AWS Neuron device"}
    assert len(text_at(tree.root / "sys/class/dmi/id/sys_vendor")) == 2**16
    assert "\x1b" not in text_at(tree.root / "proc/cpuinfo")
    assert text_at(tree.root / "sys/bus/pci/devices/0/class") == ""
    tree.x86("GenuineIntel", f"6:{'9' * 5000}:1_0", "x")
    assert found(tree).cpu.chip == "x"
    assert names_in(tree.root / "proc/cpuinfo") == []


def test_ids_name_processors_of_the_catalog():
    known, seen = catalog.shipped().processors, set()
    for row in chip_ids():
        assert not row.processor or row.processor in known, row
        assert (row.bus, row.id, row.place) not in seen, row
        seen.add((row.bus, row.id, row.place))
    vendors = {row.id.partition(":")[0] for row in chip_ids() if row.bus == "pci"}
    assert vendors == {family.vendor for family in FAMILIES}

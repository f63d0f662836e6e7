"""Which instructions a build uses, from what the systems of known CPUs tell of them."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from polysilicon.catalog.machine import Machine, detect
from polysilicon.runtime.engines.native import compiler
from polysilicon.runtime.engines.native.features import ZIG, Target, extensions, formats, targets

_AVX2 = "fpu sse sse2 ssse3 sse4_1 sse4_2 popcnt avx f16c fma bmi1 avx2 bmi2"
_AVX512 = f"{_AVX2} avx512f avx512dq avx512cd avx512bw avx512vl"
_SAPPHIRE = (
    f"{_AVX512} avx512vbmi avx512_vnni avx_vnni avx512_bf16 avx512_fp16 amx_tile amx_int8 amx_bf16"
)
_NEON = "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc"
DOT = f"{_NEON} dcpop asimddp ssbs"
V1 = f"{DOT} sve svei8mm svebf16 i8mm bf16 dgh rng"
V2 = f"{V1} sve2 sveaes svebitperm"


def machine(folder: Path, flags: str, arch: str = "x86_64") -> Machine:
    """A machine as its `/proc/cpuinfo` tells, with the line that its kernel writes them in."""
    name = "Features" if arch == "aarch64" else "flags"
    file = folder / "cpuinfo"
    file.write_text(
        f"processor\t: 0\nBogoMIPS\t: 2100.00\n{name}\t\t: {flags}\nCPU part\t: 0xd40\n"
    )
    return msgspec.structs.replace(detect(file), arch=arch)


@pytest.mark.parametrize(
    ("flags", "last", "march"),
    [
        ("fpu sse sse2", "", "-march=x86-64"),
        (_AVX2, "AVX2", "-mbmi2"),
        (f"{_AVX2} avx_vnni", "AVX-VNNI", "-mavxvnni"),  # Alder Lake
        (f"{_AVX512} avx512_vnni", "AVX-512 VNNI", "-mavx512vnni"),  # Cascade Lake
        (f"{_AVX512} avx512vbmi avx512_vnni avx512_bf16", "AVX-512 BF16", "-mavx512bf16"),  # Zen 4
        (_SAPPHIRE, "AMX bf16", "-mprefer-vector-width=512"),
    ],
)
def test_builds_on_x86(tmp_path, flags, last, march):
    here = machine(tmp_path, flags)
    assert (extensions(here) or ("",))[-1] == last
    assert next(targets(here)).flags[-1] == march
    assert formats(here) == (("Q4_0", "Q8_0") if "avx2" in flags else ())


@pytest.mark.parametrize(
    ("flags", "march"),
    [
        ("fp asimd evtstrm crc32 cpuid", "armv8-a"),  # Cortex-A72, Graviton1
        (DOT, "armv8.2-a+fp16+dotprod"),  # Neoverse N1: Graviton2, Ampere Altra
        (V1, "armv8.2-a+fp16+dotprod+i8mm+bf16+sve"),  # Neoverse V1: Graviton3
        (V2, "armv8.2-a+fp16+dotprod+i8mm+bf16+sve+sve2"),  # V2: Graviton4, Axion, Grace
        (f"{DOT} i8mm bf16", "armv8.2-a+fp16+dotprod+i8mm+bf16"),  # Apple M2, Ampere One
        (f"{_NEON} sve", "armv8.2-a+fp16+sve"),  # A64FX
        # A hypervisor that holds back SVE's matrix multiplication holds back all of SVE.
        (f"{DOT} sve sve2 i8mm", "armv8.2-a+fp16+dotprod+i8mm"),
    ],
)
def test_builds_on_arm(tmp_path, flags, march):
    here = machine(tmp_path, flags, "aarch64")
    assert next(targets(here)).flags == (f"-march={march}",)
    assert bool(formats(here)) == ("asimddp" in flags)


def test_zig_is_told_in_its_own_words(tmp_path):
    arm, x86 = machine(tmp_path, DOT, "aarch64"), machine(tmp_path, _AVX2)
    assert next(targets(arm, ZIG)).flags == ("-mcpu=generic+v8_2a+fullfp16+dotprod",)
    assert next(targets(x86, ZIG)).flags[0] == "-march=x86_64"


def test_what_the_system_holds_back_is_not_used(tmp_path):
    """AMX without the tiles that its registers are, AVX-512 in part, VNNI without AVX-512."""
    assert extensions(machine(tmp_path, f"{_AVX2} amx_int8 avx512_vnni avx512f")) == ("AVX", "AVX2")


def test_each_target_leaves_the_newest_out(tmp_path):
    here = machine(tmp_path, V1, "aarch64")
    told = [target.flags[0].removeprefix("-march=") for target in targets(here)]
    assert told[0].startswith(told[1] + "+")
    assert told[-1] == "armv8-a"
    assert [len(t.extensions) for t in targets(here)] == [5, 4, 3, 2, 1, 0]


def test_an_old_compiler_builds_with_what_it_knows(tmp_path, monkeypatch):
    tried: list[Target] = []

    def works(found: compiler.Compiler) -> bool:
        tried.append(found.target)
        return not any("amx" in flag or "fp16" in flag for flag in found.target.flags)

    monkeypatch.setattr(compiler, "works", works)
    monkeypatch.setattr(compiler.shutil, "which", lambda name: f"/usr/bin/{name}")
    found = compiler.find_compiler(tmp_path, machine(tmp_path, _SAPPHIRE))
    assert found.target.extensions[-1] == "AVX-512 BF16"
    assert found.threads
    assert len(tried) == 4


def test_the_flags_for_this_cpu_compile(tmp_path):
    """All of them, or with an older compiler all but the newest."""
    found, all_of = compiler.find_compiler(tmp_path, detect()).target, extensions(detect())
    assert found.extensions == all_of[: len(found.extensions)]
    assert found.extensions or not all_of

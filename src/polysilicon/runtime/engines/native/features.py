"""Which instructions a CPU has, as its system tells, and the compiler's flags that use them.

The system is asked and not the compiler: what a hypervisor or the kernel holds back is missing
from `/proc/cpuinfo`, while a compiler that asks for `native` looks at the CPU itself, takes a
model number that it does not know for an older CPU, and knows nothing of what may not be used.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from polysilicon.catalog.machine import Machine

X86 = (
    ("AVX", "", "ssse3 sse4_1 sse4_2 popcnt avx", "-mssse3 -msse4.2 -mpopcnt -mavx"),
    ("AVX2", "AVX", "avx2 fma f16c bmi1 bmi2", "-mavx2 -mfma -mf16c -mbmi -mbmi2"),
    ("AVX-VNNI", "AVX2", "avx_vnni", "-mavxvnni"),
    (
        "AVX-512",
        "AVX2",
        "avx512f avx512bw avx512cd avx512dq avx512vl",
        "-mavx512f -mavx512bw -mavx512cd -mavx512dq -mavx512vl",
    ),
    ("AVX-512 VBMI", "AVX-512", "avx512vbmi", "-mavx512vbmi"),
    ("AVX-512 VNNI", "AVX-512", "avx512_vnni", "-mavx512vnni"),
    ("AVX-512 BF16", "AVX-512", "avx512_bf16", "-mavx512bf16"),
    ("AVX-512 FP16", "AVX-512", "avx512_fp16", "-mavx512fp16"),
    ("AMX int8", "AVX-512 VNNI", "amx_tile amx_int8", "-mamx-tile -mamx-int8"),
    ("AMX bf16", "AMX int8", "amx_bf16", "-mamx-bf16"),
)
"""Name, what it needs besides, flags of `/proc/cpuinfo`, flags of the compiler; oldest first."""

_WIDE = "avx512_fp16"
"""CPUs that have this hold their clock in 512-bit code, so the compiler may use it freely."""

ARM = (
    ("fp16", "fphp asimdhp", "fp16"),
    ("dotprod", "asimddp", "dotprod"),
    ("i8mm", "i8mm", "i8mm"),
    ("bf16", "bf16", "bf16"),
    ("SVE", "sve", "sve"),
    ("SVE2", "sve2", "sve2"),
)
"""Name, features of `/proc/cpuinfo`, extension of `-march`. All need Armv8.2."""

ARM_MACHINES = ("aarch64", "arm64")


def extensions(machine: Machine) -> tuple[str, ...]:
    """Return the names of the instruction set extensions that a build uses, oldest first."""
    if machine.arch.casefold() in ARM_MACHINES:
        return tuple(name for name, wanted, _ in ARM if _has_on_arm(machine, name, wanted))
    found: list[str] = []
    for name, below, wanted, _ in X86:
        if machine.isa_flags.issuperset(wanted.split()) and (not below or below in found):
            found.append(name)
    return tuple(found)


def _has_on_arm(machine: Machine, name: str, wanted: str) -> bool:
    """Tell whether a CPU has an extension, and what compilers take to come along with it."""
    flags = machine.isa_flags
    if not flags.issuperset(wanted.split()):
        return False
    if name in ("SVE", "SVE2") and ("i8mm" in flags) != ("svei8mm" in flags):
        return False  # compilers multiply matrices in SVE where there are both
    return name != "SVE2" or "sve" in flags


class Spelling(msgspec.Struct, frozen=True, kw_only=True):
    """How a compiler calls what all have: flags for plain x86-64, Armv8, Armv8.2, and fp16."""

    x86: str = "-march=x86-64"
    arm: str = "-march=armv8-a"
    arm_2: str = "-march=armv8.2-a"
    fp16: str = "fp16"


GNU = Spelling()
"""Of gcc and clang."""

ZIG = Spelling(
    x86="-march=x86_64", arm="-mcpu=generic", arm_2="-mcpu=generic+v8_2a", fp16="fullfp16"
)


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """What a build is for: the flags of a compiler, and the extensions that they let it use."""

    flags: tuple[str, ...] = ()
    extensions: tuple[str, ...] = ()


def targets(machine: Machine, spelling: Spelling = GNU) -> Iterator[Target]:
    """Yield the target with all extensions of a CPU, then each time one with the newest left out.

    A compiler that does not know the newest of them takes a later one.
    """
    names = extensions(machine)
    for count in range(len(names), -1, -1):
        some = names[:count]
        if machine.arch.casefold() in ARM_MACHINES:
            told = [flag for name, _, flag in ARM if name in some]
            told = [spelling.fp16 if flag == "fp16" else flag for flag in told]
            flags = ["+".join((spelling.arm_2, *told)) if told else spelling.arm]
        else:
            flags = [spelling.x86]
            flags += [flag for name, *_, told in X86 if name in some for flag in told.split()]
            if "AVX-512" in some and _WIDE in machine.isa_flags:
                flags.append("-mprefer-vector-width=512")
        yield Target(flags=tuple(flags), extensions=some)


def formats(machine: Machine) -> tuple[str, ...]:
    """Return the weight formats that ggml has faster kernels for on a CPU, to be tried.

    On x86 from AVX2 on and on Arm from dotprod on. Without, all formats are multiplied alike.
    """
    fast = {"AVX2", "dotprod"} & set(extensions(machine))
    return ("Q4_0", "Q8_0") if fast else ()

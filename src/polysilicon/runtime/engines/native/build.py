"""Kernels for this CPU, compiled from ggml's sources; kept by CPU and version."""

from __future__ import annotations

import hashlib
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib.resources import files
from pathlib import Path

import msgspec

from polysilicon.catalog.machine import Machine
from polysilicon.cost.engine_choice import cpu_key
from polysilicon.errors import EngineError, PolysiliconError
from polysilicon.runtime import assets
from polysilicon.runtime.engines.native import child, quality
from polysilicon.runtime.engines.native.choice import sha256_or_blank
from polysilicon.runtime.engines.native.compiler import (
    Compiler,
    compile_with,
    find_compiler,
)
from polysilicon.runtime.engines.native.features import ARM, X86
from polysilicon.runtime.engines.native.library import ggml_version
from polysilicon.runtime.engines.native.source import SOURCES, Source, fetch

Progress = Callable[[str, int, int], None]
"""`progress(what, done, of)`."""

LIBRARY = "libggml-cpu.so"

_BASE = (
    "ggml.c", "ggml.cpp", "ggml-alloc.c", "ggml-backend.cpp", "ggml-backend-meta.cpp",
    "ggml-opt.cpp", "ggml-threading.cpp", "ggml-quants.c", "gguf.cpp",
)  # fmt: skip
_FOLDERS = {"x86_64": "x86", "amd64": "x86", "aarch64": "arm", "arm64": "arm"}
"""Machine → folder of its kernels in ggml."""

# GCC up to 12 does not know that loading the tile configuration reads all of it, leaves parts of
# it unwritten, and the first tile instruction is illegal. This tells it. No effect elsewhere.
_SHIM = """\
#if defined(__AMX_TILE__)
#include <immintrin.h>
#define _tile_loadconfig(p) (__extension__({ const void * c_ = (p); \\
    __asm__ volatile("" :: "r"(c_) : "memory"); (_tile_loadconfig)(c_); }))
#endif
"""
_VERSION = '#pragma once\n#define GGML_VERSION "{}"\n#define GGML_COMMIT "unknown"\n'

_FLAGS = (
    "-O3", "-DNDEBUG", "-fPIC", "-fvisibility=hidden", "-pthread", "-w", "-ffp-contract=fast",
    "-D_GNU_SOURCE", "-DGGML_SCHED_MAX_COPIES=4",
    "-DGGML_BACKEND_DL", "-DGGML_BACKEND_BUILD", "-DGGML_BACKEND_SHARED", "-DGGML_SHARED",
    "-DGGML_BUILD", "-DGGML_USE_LLAMAFILE", "-DGGML_USE_CPU_REPACK",
)  # fmt: skip


_OWN = (
    "peak.c", "attention.c", "attention.h", "attention_op.c",
    "multiply.c", "multiply.h", "multiply_op.cpp", "graph.c", "graph.h",
)  # fmt: skip
"""Files of this package that are compiled with ggml's."""

_NOT_ALONE = ("cpu-feats.cpp", "ggml-cpu.c")
"""Files of ggml that are not compiled by themselves: the first asks which CPU this is, and this one
is known; the second is part of `graph.c`."""

_ATTENTION = "ggml_compute_forward_flash_attn_ext"
_BUFFERS = "RISCV64_SPACEMIT"
_RENAMED = {
    "ops.cpp": (f"-D{_ATTENTION}=ggml_plain_flash_attn_ext",),
    "ggml-cpu.cpp": (
        f"-DGGML_USE_CPU_{_BUFFERS}",
        f"-Dggml_backend_cpu_{_BUFFERS.casefold()}_buffer_type=polysilicon_buffer_type",
    ),
}
"""Files of ggml in which a name is changed, as something of ours takes the place: its attention,
and one of the buffer types that weights may lie in, of a CPU that is none of these."""


class Built(msgspec.Struct, frozen=True, kw_only=True):
    """Kernels that were compiled here.

    Attributes:
        path: library.
        sha256: of it.
        compiler: that made it.
        extensions: of the instruction set that they use; blank where they were there already.
        seconds: that it took; 0 where it was there already.
    """

    path: str
    sha256: str
    compiler: str = ""
    extensions: tuple[str, ...] = ()
    seconds: float = 0.0


def library_path(machine: Machine) -> Path:
    """Return where the kernels for a machine lie, whether they are there or not."""
    folder = f"{ggml_version()}-{cpu_key(machine)}-{recipe()}"
    return assets.cache_folder() / "engine" / folder / LIBRARY


@cache
def recipe() -> str:
    """Return a short hash of what is compiled besides ggml, and how."""
    whole = hashlib.sha256(repr((_FLAGS, _RENAMED, _SHIM, X86, ARM)).encode())
    for name in _OWN:
        whole.update(_own(name))
    return whole.hexdigest()[:8]


def _own(name: str) -> bytes:
    return files(__package__).joinpath("data", name).read_bytes()


def find(machine: Machine) -> Built | None:
    """Return the kernels that were built for this machine and wheel; None where there are none."""
    path = library_path(machine)
    sha256 = sha256_or_blank(path)
    return Built(path=str(path), sha256=sha256) if sha256 else None


def cannot(machine: Machine) -> str:
    """Say why kernels cannot be built here; nothing where they might."""
    if not sys.platform.startswith("linux"):
        return "kernels are built on Linux only"
    if machine.arch.casefold() not in _FOLDERS:
        return f"ggml has no kernels of its own for {machine.arch}"
    if ggml_version() not in SOURCES:
        return f"no sources are known of ggml {ggml_version()}, which the wheel is made of"
    return ""


def build(machine: Machine, model: Path, progress: Progress) -> Built:
    """Compile the kernels for this machine, check them, and keep them.

    Args:
        machine: this one.
        model: GGUF file that they are checked with, in child processes.
        progress: takes what is being done.

    Raises:
        PolysiliconError: they cannot be had, or compute something else than the wheel's; what was
            there before is left.
    """
    reason = cannot(machine)
    if reason:
        raise PolysiliconError(f"no kernels can be built: {reason}")
    begin_s = time.monotonic()
    target = library_path(machine)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="build-", dir=target.parent) as temporary:
        work = Path(temporary)
        source = SOURCES[ggml_version()]
        progress(f"downloading {source.package}", 0, 1)
        sources = fetch(source, work / "ggml")
        progress("looking for a compiler", 0, 1)
        compiler = find_compiler(assets.cache_folder() / "engine", machine)
        made = compile_kernels(sources, source, compiler, work, progress)
        progress("comparing with the wheel", 0, 1)
        check(made, model, machine.cores)
        made.replace(target)
    return Built(
        path=str(target),
        sha256=sha256_or_blank(target),
        compiler=compiler.name,
        extensions=compiler.target.extensions,
        seconds=time.monotonic() - begin_s,
    )


def check(kernels: Path, model: Path, cores: int) -> quality.Difference:
    """Compare kernels with the wheel's on the fixed text, each in a child process.

    Raises:
        EngineError: they crash, or compute something else.
    """
    jobs = [
        child.Read(weights=str(model), kernels=path, threads=cores) for path in (None, str(kernels))
    ]
    own, new = (child.run(job, quality.Reading) for job in jobs)
    difference = quality.compare(new, own)
    reason = quality.refuse_kernels(difference)
    if reason:
        raise EngineError(f"the kernels compute something else than the wheel's: {reason}")
    return difference


def source_files(sources: Path, arch: str) -> list[Path]:
    """Return the files of ggml to compile for an architecture."""
    below = sources / "src" / "ggml-cpu"
    folders = ("", "amx", "tiled", "llamafile", f"arch/{_FOLDERS[arch.casefold()]}")
    kernels = [
        path
        for folder in folders
        for suffix in ("*.c", "*.cpp")
        for path in sorted((below / folder).glob(suffix))
        if path.name not in _NOT_ALONE
    ]
    return [sources / "src" / name for name in _BASE] + kernels


def compile_kernels(
    sources: Path, source: Source, compiler: Compiler, work: Path, progress: Progress
) -> Path:
    """Compile and link the library.

    Raises:
        PolysiliconError: a file does not compile; the first error of the compiler is told.
    """
    (work / "ggml-version.h").write_text(_VERSION.format(source.ggml))
    shim = work / "shim.h"
    shim.write_text(_SHIM)
    flags = [*_FLAGS, *compiler.target.flags, *compiler.threads, "-include", str(shim), f"-I{work}"]
    flags += [f"-I{sources / part}" for part in ("include", "src", "src/ggml-cpu")]
    for name in _OWN:
        (work / name).write_bytes(_own(name))
    own = [work / name for name in _OWN if not name.endswith(".h")]
    wanted = [*source_files(sources, platform.machine()), *own]
    done = 0

    def one(numbered: tuple[int, Path]) -> str:
        nonlocal done
        number, file = numbered
        is_c = file.suffix == ".c"
        command = [*(compiler.c if is_c else compiler.cpp), "-std=c11" if is_c else "-std=c++17"]
        target = work / f"{number}.o"
        renamed = _RENAMED.get(file.name, ())
        whole = [*command, *flags, *renamed, "-c", str(file), "-o", str(target)]
        told = compile_with(compiler, whole)
        if told:
            raise PolysiliconError(f"{file.name} does not compile with {compiler.name}: {told}")
        done += 1
        progress(f"compiling with {compiler.name}", done, len(wanted))
        return str(target)

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        objects = list(pool.map(one, enumerate(wanted)))
    library = work / LIBRARY
    # Its own names first: another library of the process may have the same ones.
    link = [*compiler.cpp, "-shared", "-Wl,-Bsymbolic", "-o", str(library), *objects]
    told = compile_with(compiler, [*link, *compiler.threads, "-pthread", "-lm"])
    if told:
        raise PolysiliconError(f"the kernels do not link with {compiler.name}: {told}")
    return library

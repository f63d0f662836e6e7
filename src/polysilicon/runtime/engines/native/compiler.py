"""A C and C++ compiler: the one that is installed, or one from the Python package index."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from polysilicon.errors import PolysiliconError

ZIG = "ziglang==0.17.1"
"""A package that holds clang, and needs nothing else of the system."""

_INSTALLED = (("gcc", "g++"), ("clang", "clang++"), ("cc", "c++"))
_TIMEOUT_S = 600
_TRIAL = "#include <omp.h>\nint main(void) { return omp_get_max_threads() < 1; }\n"
_PLAIN_TRIAL = "#include <math.h>\nint main(void) { return 0; }\n"


class Compiler(msgspec.Struct, frozen=True, kw_only=True):
    """What compiles.

    Attributes:
        name: for a person.
        c: command of the C compiler.
        cpp: command of the C++ compiler.
        threads: flags for OpenMP; ggml has threads of its own without.
        environment: variables that it needs.
    """

    name: str
    c: tuple[str, ...]
    cpp: tuple[str, ...]
    threads: tuple[str, ...] = ()
    environment: dict[str, str] = {}


def native_flags() -> tuple[str, ...]:
    """Return the flags that let a compiler use all instructions of this CPU."""
    is_arm = platform.machine().casefold() in ("aarch64", "arm64")
    return ("-mcpu=native",) if is_arm else ("-march=native",)


def find_compiler(packages: Path) -> Compiler:
    """Return a compiler that works here.

    Args:
        packages: folder that takes a compiler from the package index where none is installed.

    Raises:
        PolysiliconError: none is installed, and none could be had.
    """
    for c, cpp in _INSTALLED:
        where = shutil.which(c), shutil.which(cpp)
        if where[0] is None or where[1] is None:
            continue
        plain = Compiler(name=c, c=(where[0],), cpp=(where[1],))
        # With OpenMP threads that wait give the core to whoever computes.
        with_openmp = msgspec.structs.replace(plain, threads=("-fopenmp", "-DGGML_USE_OPENMP"))
        for compiler in (with_openmp, plain):
            if works(compiler):
                return compiler
    return _packaged(packages)


def works(compiler: Compiler) -> bool:
    """Tell whether a compiler makes a program for this CPU, in C and in C++."""
    with tempfile.TemporaryDirectory(prefix="polysilicon-") as temporary:
        for command, suffix in ((compiler.c, ".c"), (compiler.cpp, ".cpp")):
            source = Path(temporary) / f"trial{suffix}"
            source.write_text(_TRIAL if compiler.threads else _PLAIN_TRIAL)
            flags = (*native_flags(), *compiler.threads, "-o", str(source.with_suffix("")))
            if compile_with(compiler, [*command, str(source), *flags]):
                return False
    return True


def compile_with(compiler: Compiler, command: list[str]) -> str:
    """Run a compiler; return what is wrong, or nothing."""
    try:
        done = subprocess.run(
            command,
            capture_output=True, text=True, errors="replace", timeout=_TIMEOUT_S, check=False,
            env={**os.environ, **compiler.environment},
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if not done.returncode:
        return ""
    return next(_errors(done.stderr), f"{command[0]} ended with code {done.returncode}")


def _errors(text: str) -> Iterator[str]:
    return (line.strip() for line in text.splitlines() if "error" in line.casefold())


def _packaged(packages: Path, environ: Mapping[str, str] = os.environ) -> Compiler:
    """Return clang from the package index, installed into `packages`."""
    folder = packages / ZIG.replace("==", "-")
    if not (folder / "ziglang").is_dir():
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-input"]
        command += ["--disable-pip-version-check", "--only-binary", ":all:"]
        try:
            done = subprocess.run(
                [*command, "--target", str(folder), ZIG],
                capture_output=True, text=True, timeout=_TIMEOUT_S, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise PolysiliconError(f"installing {ZIG} took over {_TIMEOUT_S} s") from error
        if done.returncode:
            told = next(_errors(done.stderr), "pip failed")
            raise PolysiliconError(f"no C++ compiler is installed, and {ZIG} cannot be: {told}")
    paths = os.pathsep.join(filter(None, (str(folder), environ.get("PYTHONPATH"))))
    zig = (sys.executable, "-m", "ziglang")
    found = Compiler(name=ZIG, c=(*zig, "cc"), cpp=(*zig, "c++"), environment={"PYTHONPATH": paths})
    if not works(found):
        raise PolysiliconError(f"no C++ compiler is installed, and {ZIG} does not work here")
    return found

"""A C and C++ compiler: the one that is installed, or one from the Python package index."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from polysilicon.catalog.machine import Machine
from polysilicon.errors import PolysiliconError
from polysilicon.runtime.engines.native import features
from polysilicon.runtime.engines.native.features import GNU, Spelling, Target, targets

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
        target: instructions that it lets code use.
        threads: flags for OpenMP, where it has that.
        environment: variables that it needs.
    """

    name: str
    c: tuple[str, ...]
    cpp: tuple[str, ...]
    target: Target = Target()
    threads: tuple[str, ...] = ()
    environment: dict[str, str] = {}


def find_compiler(packages: Path, machine: Machine) -> Compiler:
    """Return a compiler that works here, with the flags for a machine that it knows.

    Args:
        packages: folder that takes a compiler from the package index where none is installed.
        machine: this one.

    Raises:
        PolysiliconError: none is installed, and none could be had.
    """
    for c, cpp in _INSTALLED:
        where = shutil.which(c), shutil.which(cpp)
        if where[0] is None or where[1] is None:
            continue
        plain = Compiler(name=c, c=(where[0],), cpp=(where[1],))
        found = _fitted(plain, machine)
        if found is not None:
            return found
    return _packaged(packages, machine)


def _fitted(compiler: Compiler, machine: Machine, spelling: Spelling = GNU) -> Compiler | None:
    """Return a compiler with the best flags that it takes; None where it takes none."""
    # With OpenMP all threads pack weights for AMX; graphs are computed by threads of their own.
    for threads in (("-fopenmp", "-DGGML_USE_OPENMP"), ()):
        for target in targets(machine, spelling):
            found = msgspec.structs.replace(compiler, target=target, threads=threads)
            if works(found):
                return found
    return None


def works(compiler: Compiler) -> bool:
    """Tell whether a compiler makes a program for this CPU, in C and in C++."""
    with tempfile.TemporaryDirectory(prefix="polysilicon-") as temporary:
        for command, suffix in ((compiler.c, ".c"), (compiler.cpp, ".cpp")):
            source = Path(temporary) / f"trial{suffix}"
            source.write_text(_TRIAL if compiler.threads else _PLAIN_TRIAL)
            flags = (*compiler.target.flags, *compiler.threads, "-o", str(source.with_suffix("")))
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


def _packaged(
    packages: Path, machine: Machine, environ: Mapping[str, str] = os.environ
) -> Compiler:
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
    plain = Compiler(name=ZIG, c=(*zig, "cc"), cpp=(*zig, "c++"), environment={"PYTHONPATH": paths})
    found = _fitted(plain, machine, features.ZIG)
    if found is None:
        raise PolysiliconError(f"no C++ compiler is installed, and {ZIG} does not work here")
    return found

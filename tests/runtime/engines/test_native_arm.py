"""Our kernels on Arm: a cross compiler makes them with a build's flags, an emulator runs them.

What is emulated says that instructions are there and what they compute, never how fast.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
from importlib.resources import files
from pathlib import Path

import pytest
from test_native_features import DOT, V1, V2, machine
from test_native_graph import HEADERS, STAND_IN

from polysilicon.runtime.engines import native
from polysilicon.runtime.engines.native import compiler

GCC, GPP = (shutil.which(f"aarch64-linux-gnu-{name}") for name in ("gcc", "g++"))
QEMU = shutil.which("qemu-aarch64-static") or shutil.which("qemu-aarch64")
OLDEST = "fp asimd evtstrm crc32 cpuid"
CPUS = [  # the emulator's name, features, and whether there is a peak of 8-bit integers
    pytest.param("cortex-a72", OLDEST, False, id="Cortex-A72"),
    pytest.param("neoverse-n1", DOT, True, id="Neoverse N1"),
    pytest.param("max,sve-max-vq=2", V1, True, id="Neoverse V1"),
    pytest.param("max,sve-max-vq=1", V2, True, id="Neoverse V2"),
]
MAIN = r"""
#include "attention.h"
#include "multiply.h"
#include <stdio.h>
double polysilicon_int8_rate(double seconds);
int main(void) {
    printf("%d %d ", polysilicon_lanes(), polysilicon_multiplies(POLYSILICON_Q4_1, 576));
    printf("%d %d\n", polysilicon_attends(64), polysilicon_int8_rate(0.001) > 0);
}
"""
needs_compiler = pytest.mark.skipif(
    GCC is None or GPP is None, reason="no cross compiler for Arm (g++-aarch64-linux-gnu)"
)
needs_emulator = pytest.mark.skipif(QEMU is None, reason="no emulator of Arm (qemu-user-static)")


@pytest.fixture
def folder(tmp_path) -> Path:
    data = files(native).joinpath("data")
    for file in data.iterdir():
        if Path(file.name).suffix in (".c", ".cpp", ".h"):
            (tmp_path / file.name).write_bytes(file.read_bytes())
    for header in HEADERS:
        (tmp_path / header).write_text('#include "ggml.h"\n')
    (tmp_path / "main.c").write_text(MAIN)
    return tmp_path


def cross(folder: Path, features: str) -> compiler.Compiler:
    """Return the cross compiler with the flags that a build takes where a CPU has features."""
    assert GCC is not None
    assert GPP is not None
    plain = compiler.Compiler(name="cross", c=(GCC,), cpp=(GPP,))
    found = compiler._fitted(plain, machine(folder, features, "aarch64"))
    assert found is not None
    return found


def program(folder: Path, features: str) -> Path:
    """Compile what needs nothing of ggml, for a CPU with features."""
    found, made = cross(folder, features), folder / "main"
    sources = [str(folder / name) for name in ("main.c", "peak.c", "multiply.c", "attention.c")]
    flags = ["-std=c11", "-O2", "-D_GNU_SOURCE", "-static", *found.target.flags, "-o", str(made)]
    assert compiler.compile_with(found, [*found.c, *sources, *flags, "-lm"]) == ""
    return made


def emulate(made: Path, cpu: str) -> subprocess.CompletedProcess[str]:
    assert QEMU is not None
    return subprocess.run(
        [QEMU, "-cpu", cpu, str(made)], capture_output=True, text=True, cwd=made.parent, check=False
    )


@needs_compiler
@needs_emulator
@pytest.mark.parametrize(("cpu", "features", "has_peak"), CPUS)
def test_the_peak_runs_and_the_rest_is_left_to_ggml(folder, cpu, features, has_peak):
    done = emulate(program(folder, features), cpu)
    assert (done.returncode, done.stdout) == (0, f"1 0 0 {int(has_peak)}\n")


@needs_compiler
@needs_emulator
def test_an_instruction_that_the_cpu_lacks_ends_the_process(folder):
    """As it would end the child process that a build is tried in."""
    assert emulate(program(folder, V1), "cortex-a72").returncode == -signal.SIGILL


@needs_compiler
@pytest.mark.parametrize("features", [OLDEST, DOT, V1, V2])
def test_the_loop_over_a_graph_compiles(folder, features):
    found = cross(folder, features)
    for name in ("graph.c", "multiply_op.cpp"):
        is_c = name.endswith(".c")
        command = [*(found.c if is_c else found.cpp), "-std=c11" if is_c else "-std=c++17", "-O1"]
        flags = ["-fPIC", "-D_GNU_SOURCE", *found.target.flags, f"-I{folder}", f"-I{STAND_IN}"]
        made = folder / f"{name}.o"
        whole = [*command, *flags, "-c", str(folder / name), "-o", str(made)]
        assert compiler.compile_with(found, whole) == ""
        assert made.stat().st_size > 0

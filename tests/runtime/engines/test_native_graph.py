"""How graphs of ggml are computed here: several threads, operations moved, against one by one.

A stand-in takes ggml's place (`ggml/`), as its sources are downloaded only where kernels are built.
"""

from __future__ import annotations

import ctypes
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from pathlib import Path

import msgspec
import numpy as np
import pytest
from test_native_multiply import BLOCK, Q4_1, rounded, weights_of

from polysilicon.catalog.machine import detect
from polysilicon.runtime.engines import native
from polysilicon.runtime.engines.native.compiler import Compiler, compile_with, find_compiler
from polysilicon.runtime.engines.native.features import targets

STAND_IN = Path(__file__).parent / "ggml"
HEADERS = (
    "ggml-backend-impl.h", "ggml-backend.h", "ggml-cpu-impl.h", "ggml-cpu.h", "ggml-impl.h",
    "traits.h",
)  # fmt: skip
VIEW, ADD, SCALE, MUL_MAT, SUM = 1, 2, 4, 10, 11
COMPUTE, F32 = 16, 0
ABORTED = 1
K = 96


class Tensor(ctypes.Structure):
    """The stand-in's `ggml_tensor`."""


Place = ctypes.POINTER(Tensor)
Tensor._fields_ = (
    ("type", ctypes.c_int32),
    ("op", ctypes.c_int32),
    ("flags", ctypes.c_int32),
    ("buffer", ctypes.c_void_p),
    ("src", Place * 2),
    ("view_src", Place),
    ("ne", ctypes.c_int64 * 4),
    ("nb", ctypes.c_size_t * 4),
    ("data", ctypes.c_void_p),
)
Callback = ctypes.CFUNCTYPE(ctypes.c_bool, ctypes.c_void_p)


class Graph(ctypes.Structure):
    _fields_ = (("n_nodes", ctypes.c_int), ("nodes", ctypes.POINTER(Place)))


class Plan(ctypes.Structure):
    _fields_ = (
        ("work_size", ctypes.c_size_t),
        ("work_data", ctypes.c_void_p),
        ("threads", ctypes.c_int),
        ("abort_callback", Callback),
        ("abort_callback_data", ctypes.c_void_p),
        ("use_ref", ctypes.c_bool),
    )


@pytest.fixture(scope="module", params=["this CPU", "any CPU"])
def library(request, tmp_path_factory) -> ctypes.CDLL:
    """Graphs as they are computed here; and where no weights are packed, as on all of Arm."""
    machine = detect()
    folder = tmp_path_factory.mktemp("graph")
    compiler = find_compiler(folder, machine)
    if request.param == "any CPU":
        compiler = msgspec.structs.replace(compiler, target=list(targets(machine))[-1])
    data = files(native).joinpath("data")
    for name in ("graph.c", "graph.h", "multiply.c", "multiply.h", "multiply_op.cpp"):
        (folder / name).write_bytes(data.joinpath(name).read_bytes())
    for header in HEADERS:
        (folder / header).write_text('#include "ggml.h"\n')
    found = compiled(compiler, folder)
    packs = request.param == "this CPU" and {"avx2", "fma", "f16c"} <= machine.isa_flags
    assert (found.polysilicon_lanes() > 1) == packs
    return found


def compiled(compiler: Compiler, folder: Path) -> ctypes.CDLL:
    objects = []
    for name in ("graph.c", "multiply.c", "multiply_op.cpp"):
        objects.append(str(folder / f"{name}.o"))
        command = compiler.c if name.endswith(".c") else compiler.cpp
        flags = ["-std=c11" if name.endswith(".c") else "-std=c++17", "-O1", "-fPIC", "-pthread"]
        flags += ["-D_GNU_SOURCE", *compiler.target.flags, f"-I{folder}", f"-I{STAND_IN}"]
        told = compile_with(
            compiler, [*command, *flags, "-c", str(folder / name), "-o", objects[-1]]
        )
        assert told == ""
    made = folder / "graph.so"
    link = [*compiler.cpp, "-shared", "-pthread", "-o", str(made), *objects, "-lm"]
    assert compile_with(compiler, link) == ""
    return ctypes.CDLL(str(made))


class Work:
    """A memory, and the nodes of a graph that read and write it."""

    def __init__(self, library: ctypes.CDLL, size: int, rng: np.random.Generator) -> None:
        self.library, self.rng = library, rng
        self.packs = library.polysilicon_lanes() > 1
        self.memory = rng.normal(size=size).astype(np.float32)
        self.nodes: list[Tensor] = []
        self._kept: list[object] = []

    def tensor(self, at: int, columns: int, rows: int, op: int = 0, *sources: Tensor) -> Tensor:
        made = Tensor(type=F32, op=op, flags=COMPUTE, data=self.memory.ctypes.data + 4 * at)
        made.ne[:] = columns, rows, 1, 1
        made.nb[:] = 4, 4 * columns, 4 * columns * rows, 4 * columns * rows
        for number, source in enumerate(sources):
            made.src[number] = ctypes.pointer(source)
        if op:
            self.nodes.append(made)
        return made

    def weights(self, rows: int, kind: int = Q4_1, k: int = K) -> tuple[Tensor, np.ndarray]:
        blocks, values = weights_of(kind, rows, k, self.rng)
        made = Tensor(type=kind)
        made.ne[:] = k, rows, 1, 1
        assert self.library.stand_in_pack(
            ctypes.byref(made), blocks.ctypes.data_as(ctypes.c_void_p)
        )
        return made, values

    def large(self, at: int, rows: int, x: Tensor) -> Tensor:
        """Add an operation that threads share, as tests of all CPUs need one."""
        if not self.packs:
            return self.tensor(at, K, rows, SUM, x)
        return self.tensor(at, K, rows, MUL_MAT, self.weights(K)[0], x)

    def compute(self, threads: int, nodes: list[Tensor] | None = None, stop: int = -1) -> int:
        nodes = self.nodes if nodes is None else nodes
        asked = 0

        def ends(_data) -> bool:
            nonlocal asked
            asked += 1
            return asked == stop

        places = (Place * len(nodes))(*(ctypes.pointer(node) for node in nodes))
        room = np.zeros(1 << 16, np.uint8)
        callback = Callback(ends) if stop >= 0 else Callback()
        plan = Plan(room.nbytes, room.ctypes.data, threads, callback, None, False)
        return self.library.ggml_graph_compute(
            ctypes.byref(Graph(len(nodes), places)), ctypes.byref(plan)
        )

    def one_by_one(self) -> np.ndarray:
        """Return what is in memory after each node was computed alone; memory stays as it was."""
        before = self.memory.copy()
        for node in self.nodes:
            self.compute(1, [node])
        after = self.memory.copy()
        self.memory[:] = before
        return after


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("tokens", [1, 2, 9, 40])
def test_products_of_the_same_numbers(library, threads, tokens):
    rng = np.random.default_rng(tokens)
    rows = (200, 33, 70)
    work = Work(library, tokens * (K + sum(rows)), rng)
    if not work.packs:
        pytest.skip("weights are not packed with these instructions")
    x = work.tensor(0, K, tokens)
    at, made = tokens * K, []
    for count in rows:
        of, values = work.weights(count)
        work.tensor(at, count, tokens, MUL_MAT, of, x)
        made.append((at, values))
        at += tokens * count
    numbers = work.memory[: tokens * K].reshape(tokens, K)
    work.compute(threads)
    for at, values in made:
        found = work.memory[at : at + tokens * len(values)].reshape(tokens, -1)
        most = np.abs(rounded(numbers)) @ np.abs(values).T
        assert (np.abs(found - rounded(numbers) @ values.T) <= 2e-5 * most).all()
        steps = np.abs(numbers).reshape(tokens, -1, BLOCK).max(axis=-1).repeat(BLOCK, axis=-1) / 127
        assert (np.abs(found - numbers @ values.T) <= 0.51 * steps @ np.abs(values).T + 1e-3).all()


@pytest.mark.parametrize("seed", range(40))
def test_any_graph_gives_what_its_nodes_give_one_by_one(library, seed):
    """In memory that is used again and again, so that few operations can be moved."""
    rng = np.random.default_rng(seed)
    tokens = int(rng.choice([1, 2, 30]))
    places = int(rng.integers(4, 10))
    work = Work(library, places * tokens * K, rng)
    of = [work.weights(K)[0] for _ in range(3)] if work.packs else []
    ops = [VIEW, ADD, SCALE, *[MUL_MAT] * len(of), SUM]
    held = [work.tensor(i * tokens * K, K, tokens) for i in range(places)]
    for _ in range(60):
        op = int(rng.choice(ops))
        a, b, to = (int(i) for i in rng.integers(0, places, 3))
        if op == MUL_MAT and a == to:
            continue
        sources = (of[b % 3], held[a]) if op == MUL_MAT else (held[a], held[b])
        made = work.tensor(to * tokens * K, K, tokens, op, *sources)
        if op != VIEW:
            held[to] = made
    wanted = work.one_by_one()
    assert not np.array_equal(wanted, work.memory)
    for threads in (2, 1, 3, 2):
        before = work.memory.copy()
        work.compute(threads)
        np.testing.assert_array_equal(work.memory, wanted)
        work.memory[:] = before


def test_what_is_not_asked_for_is_not_computed(library):
    work = Work(library, 3 * K, np.random.default_rng(1))
    x = work.tensor(0, K, 1)
    for at in (K, 2 * K):
        work.large(at, 1, x)
    work.nodes[1].flags = 0
    before = work.memory.copy()
    work.compute(2)
    assert (work.memory[K : 2 * K] != before[K : 2 * K]).any()
    np.testing.assert_array_equal(work.memory[2 * K :], before[2 * K :])


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("tokens", [1, 30])
@pytest.mark.parametrize("stop", [1, 5, 12])
def test_a_graph_that_is_stopped_ends(library, threads, tokens, stop):
    work = Work(library, 2 * tokens * K, np.random.default_rng(2))
    x, y = (work.tensor(i * tokens * K, K, tokens) for i in range(2))
    for _ in range(10):
        y = work.large(tokens * K, tokens, x)
        x = work.tensor(0, K, tokens, ADD, x, y)
    assert work.compute(threads, stop=stop) == ABORTED
    assert work.compute(threads, stop=1000) == 0


def test_threads_that_compute_at_once_have_threads_of_their_own(library):
    def many(seed: int) -> bool:
        work = Work(library, 4 * K, np.random.default_rng(seed))
        x = work.tensor(0, K, 1)
        for _ in range(10):
            y = work.large(K, 1, x)
            x = work.tensor(0, K, 1, SCALE, y)
        wanted, before = work.one_by_one(), work.memory.copy()
        for _ in range(20):
            work.memory[:] = before
            work.compute(2)
            if not np.array_equal(work.memory, wanted):
                return False
        return True

    with ThreadPoolExecutor(3) as pool:
        assert all(pool.map(many, range(3)))

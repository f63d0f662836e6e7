"""The multiplication of 4 and 8 bit weights, compiled alone, against the same in 64-bit floats."""

from __future__ import annotations

import ctypes
from importlib.resources import files

import numpy as np
import pytest

from polysilicon.catalog.machine import detect
from polysilicon.runtime.engines import native
from polysilicon.runtime.engines.native.compiler import compile_with, find_compiler

BLOCK = 32
Q4_0, Q4_1, Q8_0 = 2, 3, 8
NUMBERS = np.dtype([("rounded", "i1", BLOCK), ("scale", "f4"), ("rest", "i4")])
AVX2 = ("-march=x86-64", "-mssse3", "-msse4.2", "-mavx2", "-mfma", "-mf16c")


@pytest.fixture(scope="module", params=["all instructions", "AVX2"])
def kernel(request, tmp_path_factory) -> ctypes.CDLL:
    machine = detect()
    folder = tmp_path_factory.mktemp("multiply")
    compiler = find_compiler(folder, machine)
    if request.param == "AVX2" and not {"avx2", "fma", "f16c"} <= machine.isa_flags:
        pytest.skip("this CPU has no AVX2")
    data = files(native).joinpath("data")
    for name in ("multiply.c", "multiply.h"):
        (folder / name).write_bytes(data.joinpath(name).read_bytes())
    library = folder / "multiply.so"
    chosen = AVX2 if request.param == "AVX2" else compiler.target.flags
    flags = ["-O3", "-std=c11", "-fPIC", "-shared", *chosen, "-o", str(library), "-lm"]
    assert compile_with(compiler, [*compiler.c, str(folder / "multiply.c"), *flags]) == ""
    found = ctypes.CDLL(str(library))
    if found.polysilicon_lanes() == 1:
        assert not {"avx2", "fma", "f16c"} <= machine.isa_flags
        pytest.skip("this CPU has no instructions for it")
    found.polysilicon_panel_bytes.restype = ctypes.c_size_t
    return found


def takes(kernel, kind: int, k: int) -> bool:
    return bool(kernel.polysilicon_multiplies(kind, ctypes.c_int64(k)))


def weights_of(kind: int, rows: int, k: int, rng) -> tuple[np.ndarray, np.ndarray]:
    """Return random blocks as ggml lays them out, and the weights that they stand for."""
    shape = (rows, k // BLOCK)
    scale = rng.uniform(-1, 1, shape).astype(np.float16)
    least = rng.uniform(-4, 4, shape).astype(np.float16)
    if kind == Q8_0:
        bits = rng.integers(-128, 128, (*shape, BLOCK)).astype(np.int8)
        blocks = np.dtype([("scale", "f2"), ("bits", "i1", BLOCK)])
        whole, shift = bits, 0.0
    else:
        bits = rng.integers(0, 256, (*shape, BLOCK // 2)).astype(np.uint8)
        fields = [("scale", "f2"), ("least", "f2"), ("bits", "u1", BLOCK // 2)]
        blocks = np.dtype(fields if kind == Q4_1 else [fields[0], fields[2]])
        whole = np.concatenate([bits & 15, bits >> 4], axis=-1)
        shift = least[..., None].astype(float) if kind == Q4_1 else -8.0 * scale[..., None]
    made = np.zeros(shape, blocks)
    made["scale"], made["bits"] = scale, bits
    if kind == Q4_1:
        made["least"] = least
    return made, (scale[..., None].astype(float) * whole + shift).reshape(rows, k)


def rounded(x: np.ndarray) -> np.ndarray:
    """Return numbers as 8 bits and a scale for each 32 hold them."""
    blocks = x.reshape(len(x), -1, BLOCK)
    most = np.abs(blocks).max(axis=-1, keepdims=True)
    by = np.divide(np.float32(127), most, out=np.zeros_like(most), where=most > 0)
    return (np.rint(blocks * by) * (most / np.float32(127)).astype(float)).reshape(x.shape)


def multiply(kernel, kind: int, blocks: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Return x times the weights' rows, a panel and a group after the other."""
    rows, k, tokens = len(blocks), x.shape[1], len(x)
    lanes, most = kernel.polysilicon_lanes(), kernel.polysilicon_tokens()
    k_ = ctypes.c_int64(k)
    out = np.full((tokens, rows), np.nan, np.float32)
    panel = np.zeros(kernel.polysilicon_panel_bytes(kind, k_), np.uint8)
    for token in range(0, tokens, most):
        count = min(most, tokens - token)
        group = np.zeros((k // BLOCK, count), NUMBERS)
        half = ctypes.c_int64(k // BLOCK // 2)
        for t in range(count):  # in two goes, as threads share them
            place = ctypes.c_void_p(group.ctypes.data + t * NUMBERS.itemsize)
            of = ctypes.c_void_p(x[token + t].ctypes.data)
            kernel.polysilicon_round(kind, half, ctypes.c_int64(k // BLOCK), count, of, place)
            kernel.polysilicon_round(kind, ctypes.c_int64(0), half, count, of, place)
        for row in range(0, rows, lanes):
            here = min(lanes, rows - row)
            kernel.polysilicon_pack(
                kind, k_, here, ctypes.c_void_p(blocks[row].ctypes.data),
                ctypes.c_size_t(blocks.strides[0]), ctypes.c_void_p(panel.ctypes.data),
            )  # fmt: skip
            kernel.polysilicon_multiply(
                kind, k_, here, ctypes.c_void_p(panel.ctypes.data), count,
                ctypes.c_void_p(group.ctypes.data),
                ctypes.c_void_p(out[token:, row:].ctypes.data), ctypes.c_size_t(rows),
            )  # fmt: skip
    return out


@pytest.mark.parametrize("kind", [Q4_0, Q4_1, Q8_0])
@pytest.mark.parametrize(("rows", "k"), [(1, 32), (15, 96), (16, 576), (33, 576), (47, 1536)])
def test_it_is_multiplication(kernel, kind, rows, k):
    if not takes(kernel, kind, k):
        assert kind == Q8_0  # whose sums do not fit into the 16 bits of AVX2
        pytest.skip("not with these instructions")
    rng = np.random.default_rng(rows + k)
    blocks, weights = weights_of(kind, rows, k, rng)
    for tokens in range(1, 41, 1 if k < 1000 else 13):
        x = rng.normal(size=(tokens, k)).astype(np.float32)
        wanted = rounded(x) @ weights.T
        found = multiply(kernel, kind, blocks, x)
        most = np.abs(rounded(x)) @ np.abs(weights).T  # what errors of f32 are a share of
        # With Q4_1 what is added and taken away is larger than the weights.
        share = 2e-5 if kind == Q4_1 else 2e-6
        assert (np.abs(found - wanted) <= share * most + 1e-30).all()
        # Rounding moves a number by half a step of its block at most.
        steps = np.abs(x).reshape(tokens, -1, BLOCK).max(axis=-1).repeat(BLOCK, axis=-1) / 127
        assert (np.abs(found - x @ weights.T) <= 0.51 * steps @ np.abs(weights).T + 1e-3).all()


@pytest.mark.parametrize("kind", [Q4_0, Q4_1, Q8_0])
def test_zeros_and_the_largest_numbers(kernel, kind):
    if not takes(kernel, kind, 64):
        pytest.skip("not with these instructions")
    rng = np.random.default_rng(3)
    blocks, _ = weights_of(kind, 16, 64, rng)
    blocks["bits"] = np.array(-128).astype(np.int8) if kind == Q8_0 else 255
    blocks["scale"] = 1.0
    if kind == Q4_1:
        blocks["least"] = -3.0
    weight = {Q4_0: 7.0, Q4_1: 12.0, Q8_0: -128.0}[kind]
    x = np.zeros((5, 64), np.float32)
    x[1], x[2], x[3, 7], x[4, 32:] = 127.0, -127.0, 1.0, 1e-20
    found = multiply(kernel, kind, blocks, x)
    np.testing.assert_allclose(
        found, np.tile(x.sum(axis=1, dtype=float)[:, None] * weight, 16), 1e-6
    )


@pytest.mark.parametrize("kind", [Q4_0, Q4_1, Q8_0])
@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_gives_none(kernel, kind, number):
    if not takes(kernel, kind, 96):
        pytest.skip("not with these instructions")
    rng = np.random.default_rng(4)
    blocks, _ = weights_of(kind, 20, 96, rng)
    x = rng.normal(size=(6, 96)).astype(np.float32)
    for place in (0, 31, 32, 95):
        broken = x.copy()
        broken[2, place] = number
        found = multiply(kernel, kind, blocks, broken)
        assert np.isnan(found[2]).all()
        assert np.isfinite(found[[0, 1, 3, 4, 5]]).all()


def test_other_formats_and_rows_are_left_to_ggml(kernel):
    assert takes(kernel, Q4_1, 576)
    assert not takes(kernel, Q4_1, 48)  # not whole blocks
    assert not takes(kernel, Q4_1, 0)
    for kind in (0, 1, 6, 7, 12, 14, 30):  # F32, F16, Q5_0, Q5_1, Q4_K, Q6_K, BF16
        assert not takes(kernel, kind, 1536)

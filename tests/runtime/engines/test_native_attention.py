"""The kernel of attention, compiled alone, against the same computed in 64-bit floats."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from importlib.resources import files

import numpy as np
import pytest

from polysilicon.catalog.machine import detect
from polysilicon.runtime.engines import native
from polysilicon.runtime.engines.native.compiler import (
    compile_with,
    find_compiler,
)

ROWS = 4
BLOCK = 64
PLACES = ctypes.c_void_p * ROWS
FLOATS = ctypes.c_float * ROWS


class Attention(ctypes.Structure):
    """attention.h's `polysilicon_attention`."""

    _fields_ = (
        ("size", ctypes.c_int32),
        ("rows", ctypes.c_int32),
        ("begin", ctypes.c_int64),
        ("end", ctypes.c_int64),
        ("scale", ctypes.c_float),
        ("query", PLACES),
        ("mask", PLACES),
        ("keys", ctypes.c_void_p),
        ("values", ctypes.c_void_p),
        ("key_step", ctypes.c_size_t),
        ("value_step", ctypes.c_size_t),
        ("out", PLACES),
        ("sum", FLOATS),
        ("highest", FLOATS),
    )


@pytest.fixture(scope="module")
def kernel(tmp_path_factory) -> ctypes.CDLL:
    folder = tmp_path_factory.mktemp("attention")
    compiler = find_compiler(folder, detect())
    data = files(native).joinpath("data")
    for name in ("attention.c", "attention.h"):
        (folder / name).write_bytes(data.joinpath(name).read_bytes())
    library = folder / "attention.so"
    flags = ["-O3", "-fPIC", "-shared", *compiler.target.flags, "-o", str(library), "-lm"]
    assert compile_with(compiler, [*compiler.c, str(folder / "attention.c"), *flags]) == ""
    found = ctypes.CDLL(str(library))
    if not found.polysilicon_attends(64):
        assert "avx512f" not in detect().isa_flags
        pytest.skip("this CPU has no instructions for it")
    return found


def attend(kernel, query, keys, values, mask, begin, end):
    """Return sums of values, sums of weights and highest scores, as the kernel makes them."""
    rows, size = query.shape
    out = np.full((rows, size), np.nan, np.float32)
    job = Attention(size=size, rows=rows, begin=begin, end=end, scale=size**-0.5)
    job.keys, job.values = keys.ctypes.data, values.ctypes.data
    job.key_step, job.value_step = keys.strides[0], values.strides[0]
    for row in range(rows):
        job.query[row], job.out[row] = query[row].ctypes.data, out[row].ctypes.data
        job.mask[row] = mask[row].ctypes.data if mask is not None else None
    kernel.polysilicon_attend(ctypes.byref(job))
    return out, np.array(job.sum[:rows]), np.array(job.highest[:rows])


def exact(query, keys, values, mask) -> np.ndarray:
    """Return attention; a key adds nothing where it is hidden or its weight is 0 in 32 bits."""
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        scores = query.astype(float) @ keys.astype(float).T * query.shape[1] ** -0.5
        if mask is not None:
            scores = np.where(mask == -np.inf, -np.inf, scores + mask.astype(float))
        top = np.fmax.reduce(scores, axis=1, keepdims=True)
        weights = np.exp(np.where(scores == top, 0.0, scores - top)).astype(np.float32)
        each = weights[:, :, None] * values.astype(float)
        sums = np.where(weights[:, :, None] == 0, 0.0, each).sum(axis=1)
        return sums / weights.sum(axis=1, keepdims=True)


def join(parts) -> np.ndarray:
    """Return attention to all keys from what is made of parts of them, as attention_op.c does."""
    top = np.max([highest for _, _, highest in parts], axis=0)
    with np.errstate(invalid="ignore"):
        shares = [np.where(each == top, 1.0, np.exp(each - top)) for _, _, each in parts]
        total = sum(share[:, None] * out for share, (out, _, _) in zip(shares, parts, strict=True))
        weight = sum(share * each for share, (_, each, _) in zip(shares, parts, strict=True))
        return total / weight[:, None]


def inputs(size: int, rows: int, count: int, spread: float = 1.0):
    """Queries, and keys and values of the middle one of three heads, which lie side by side."""
    rng = np.random.default_rng(size + rows)
    query = (rng.normal(size=(rows, size)) * spread).astype(np.float32)
    keys, values = (rng.normal(size=(count, 3, size)).astype(np.float16)[:, 1] for _ in range(2))
    return query, keys, values


def hide(rows: int, count: int, *where: Callable[[int], slice]) -> np.ndarray:
    mask = np.zeros((rows, count), np.float16)
    for row in range(rows):
        for part in where:
            mask[row, part(row)] = -np.inf
    return mask


@pytest.mark.parametrize("size", [64, 96, 128])
@pytest.mark.parametrize("rows", [1, 2, 3, 4])
def test_it_is_attention(kernel, size, rows):
    query, keys, values = inputs(size, rows, 5 * BLOCK)
    masks = (
        None,
        hide(rows, 5 * BLOCK, lambda row: slice(BLOCK + 7 * row + 1, None)),  # as a prompt's
        hide(rows, 5 * BLOCK, lambda _: slice(0, 2 * BLOCK + 3), lambda row: slice(-9 - row, None)),
    )
    for mask in masks:
        out, weight, _ = attend(kernel, query, keys, values, mask, 0, 5 * BLOCK)
        wanted = exact(query, keys, values, mask)
        np.testing.assert_allclose(out / weight[:, None], wanted, rtol=0, atol=3e-6)


def test_scores_far_apart_neither_overflow_nor_vanish(kernel):
    query, keys, values = inputs(64, 4, 2 * BLOCK, spread=200.0)
    out, weight, _ = attend(kernel, query, keys, values, None, 0, 2 * BLOCK)
    wanted = exact(query, keys, values, None)
    np.testing.assert_allclose(out / weight[:, None], wanted, rtol=0, atol=2e-3)


def test_parts_of_the_keys_join_to_the_whole(kernel):
    query, keys, values = inputs(64, 3, 4 * BLOCK)
    mask = hide(3, 4 * BLOCK, lambda row: slice(3 * BLOCK + row, None))
    cuts = ((0, BLOCK), (BLOCK, 3 * BLOCK), (3 * BLOCK, 4 * BLOCK))
    parts = [attend(kernel, query, keys, values, mask, *cut) for cut in cuts]
    assert parts[2][2][0] == -np.inf  # the first query sees none of the last keys
    assert parts[2][1][0] == 0
    wanted = exact(query, keys, values, mask)
    np.testing.assert_allclose(join(parts), wanted, rtol=0, atol=3e-6)


def is_exact(kernel, query, keys, values, mask) -> np.ndarray:
    """Check the kernel, at once and in parts, against numpy; return numpy's answer."""
    wanted = exact(query, keys, values, mask)
    count = len(keys)
    for cuts in (((0, count),), ((0, BLOCK), (BLOCK, count)), ((0, 2 * BLOCK), (2 * BLOCK, count))):
        found = join([attend(kernel, query, keys, values, mask, *cut) for cut in cuts])
        np.testing.assert_allclose(found, wanted, rtol=0, atol=3e-6)
    return wanted


@pytest.mark.parametrize("size", [64, 96, 128])
@pytest.mark.parametrize("rows", [1, 4])
def test_a_score_that_is_no_number_gives_none(kernel, size, rows):
    query, keys, values = inputs(size, rows, 3 * BLOCK)
    query[0, 5] = np.nan  # all scores of one query
    wanted = is_exact(kernel, query, keys, values, None)
    assert np.isnan(wanted[0]).all()
    assert np.isfinite(wanted[1:]).all()
    query, keys, values = inputs(size, rows, 3 * BLOCK)
    for where in (0, BLOCK + 3, 3 * BLOCK - 1):  # one score of each query that sees the key
        broken = keys.copy()
        broken[where, 1] = np.nan
        assert np.isnan(is_exact(kernel, query, broken, values, None)).all()
        mask = hide(rows, 3 * BLOCK, lambda row, at=where: slice(at, at + min(row, 1)))
        wanted = is_exact(kernel, query, broken, values, mask)
        assert np.isnan(wanted[0]).all()
        assert np.isfinite(wanted[1:]).all()


@pytest.mark.parametrize("size", [64, 96, 128])
@pytest.mark.parametrize("rows", [1, 4])
def test_infinite_scores_take_all_weight(kernel, size, rows):
    query, keys, values = inputs(size, rows, 3 * BLOCK)
    query[:, 1] = np.abs(query[:, 1])
    keys[BLOCK + 3, 1] = np.inf
    values[BLOCK + 2, 1] = np.inf  # of a weight of 0
    wanted = is_exact(kernel, query, keys, values, None)
    np.testing.assert_array_equal(wanted, np.tile(values[BLOCK + 3].astype(float), (rows, 1)))
    keys[2 * BLOCK + 1, 1] = np.inf
    wanted = is_exact(kernel, query, keys, values, None)
    assert np.isfinite(wanted).all()
    query[:, 1] *= -1  # minus infinity: no weight
    assert np.isinf(is_exact(kernel, query, keys, values, None)[:, 1]).all()


@pytest.mark.parametrize("size", [64, 96, 128])
@pytest.mark.parametrize("rows", [1, 2, 3, 4])
@pytest.mark.parametrize("number", [np.inf, np.nan])
def test_a_hidden_key_that_overflowed_changes_nothing(kernel, size, rows, number):
    query, keys, values = inputs(size, rows, 3 * BLOCK)
    mask = hide(
        rows, 3 * BLOCK, lambda _: slice(0, 2 * BLOCK, 3), lambda row: slice(2 * BLOCK + row, None)
    )
    wanted = exact(query, keys, values, mask)
    assert np.isfinite(wanted).all()
    keys[0 : 2 * BLOCK : 3] = values[0 : 2 * BLOCK : 3] = number  # of another sequence
    keys[3 * BLOCK - 1] = values[3 * BLOCK - 1] = number
    np.testing.assert_array_equal(is_exact(kernel, query, keys, values, mask), wanted)
    values[2 * BLOCK + rows - 2] = number  # of a token that only the last query sees
    found = is_exact(kernel, query, keys, values, mask)
    np.testing.assert_array_equal(found[: rows - 1], wanted[: rows - 1])
    assert rows == 1 or not np.isfinite(found[rows - 1]).any()

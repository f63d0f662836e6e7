"""Core speed and memory bandwidth of this machine.

Core speed is how fast text is compressed, as in the catalog's `core_speed`: the same programs and
levels, on text that compresses as well. Memory bandwidth follows STREAM (J. McCalpin, "Memory
Bandwidth and Machine Balance", 1995): copy and triad, with all cores, far beyond the caches.
"""

from __future__ import annotations

import bz2
import lzma
import random
import time
import zlib
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from importlib.resources import files
from itertools import pairwise
from statistics import geometric_mean, median

import numpy as np
import numpy.typing as npt

from polysilicon.catalog.tables import day, number, read_rows, text
from polysilicon.cost.profile import CoreSpeed, MemoryBandwidth, spread
from polysilicon.runtime.calibration.text import sample_text

REPEATS = 3
_READ_REPEATS = 10

PROGRAMS: Mapping[tuple[str, int], Callable[[bytes], bytes]] = {
    ("gzip", 1): partial(zlib.compress, level=1),
    ("gzip", 5): partial(zlib.compress, level=5),
    ("gzip", 9): partial(zlib.compress, level=9),
    ("bzip2", 1): partial(bz2.compress, compresslevel=1),
    ("bzip2", 9): partial(bz2.compress, compresslevel=9),
    ("lzma", 1): partial(lzma.compress, preset=1),
}
"""Program and level → what does it here, without the interpreter's lock."""

# The reference compressed another text with another build of the same programs. Of the rates of
# this machine over the reference's, one program's is off the mean of all by about a tenth.
_OTHER_TEXT = 1.2

_COLUMNS = {
    "program": text,
    "level": number,
    "mbs": number,
    "ratio": number,
    "machines": number,
    "source": text,
    "date": day,
}


@lru_cache(maxsize=1)
def reference() -> Mapping[tuple[str, int], float]:
    """Return what one vCPU of AWS Graviton3 does, MB/s by program and level."""
    path = files(__package__) / "data" / "cc_by_sa" / "compression.csv"
    return {(row["program"], int(row["level"])): row["mbs"] for _, row in read_rows(path, _COLUMNS)}


def core_speed(cores: int, size: int) -> CoreSpeed:
    """Measure one core alone, then all at once.

    The clock is that of the thread, so what others use of the machine does not count.

    Args:
        cores: how many there are.
        size: bytes of text.
    """
    content = sample_text(size, random.Random(1)).encode()  # noqa: S311 - no secret
    alone = [_rates(content) for _ in range(REPEATS)]
    with ThreadPoolExecutor(cores) as pool:
        each = list(pool.map(_rates, [content] * (cores * REPEATS)))
    one = spread([geometric_mean(rates.values()) for rates in alone])
    known = reference()
    ratios = [float(np.median([r[key] for r in alone])) / known[key] for key in PROGRAMS]
    relative = geometric_mean(ratios)
    return CoreSpeed(
        one_mbs=one,
        all_mbs=spread([geometric_mean(rates.values()) for rates in each]),
        relative=relative,
        relative_low=relative / _OTHER_TEXT,
        relative_high=relative * _OTHER_TEXT,
    )


def _rates(content: bytes) -> dict[tuple[str, int], float]:
    """Return MB/s of each program, by the time that this thread was on a core."""
    found = {}
    for key, compress in PROGRAMS.items():
        begin_s = time.thread_time()
        compress(content)
        found[key] = len(content) / 1e6 / max(time.thread_time() - begin_s, 1e-9)
    return found


def memory_bandwidth(cores: int, array_bytes: int) -> MemoryBandwidth:
    """Measure copy and triad with a thread a core, each on its own part of the arrays.

    Args:
        cores: how many there are.
        array_bytes: of each of the three arrays.
    """
    length = array_bytes // 8
    a, b, c = np.zeros(length), np.ones(length), np.full(length, 2.0)
    # Parts that a core's own cache holds, so that numpy's two passes of the triad read memory once.
    bounds = np.linspace(0, length, cores + 1).astype(int)
    parts = [slice(int(x), int(y)) for x, y in pairwise(bounds)]
    copies, triads = [], []
    with ThreadPoolExecutor(cores) as pool:
        for _ in range(REPEATS + 1):
            copies.append(_rate(pool, partial(_copy, a, b), parts, 2 * array_bytes))
            triads.append(_rate(pool, partial(_triad, a, b, c), parts, 3 * array_bytes))
    # The first pass touches the pages for the first time.
    return MemoryBandwidth(
        copy_gbs=spread(copies[1:]),
        triad_gbs=spread(triads[1:]),
        array_bytes=array_bytes,
        threads=cores,
    )


def read_bandwidth(cores: int, array_bytes: int) -> float:
    """Return GB/s of reading an array again and again with a thread a core, each its own part.

    Memory gives that of an array beyond the caches, and a cache that holds it gives its own. The
    median of several passes, as what it is compared with are medians too.
    """
    array = np.ones(max(array_bytes // 4, cores), dtype=np.float32)
    bounds = np.linspace(0, len(array), cores + 1).astype(int)
    parts = [slice(int(x), int(y)) for x, y in pairwise(bounds)]
    with ThreadPoolExecutor(cores) as pool:
        passes = [
            _rate(pool, lambda part: array[part].max(), parts, array.nbytes)
            for _ in range(_READ_REPEATS + 1)
        ]
    return median(passes[1:])  # the first one warms up


_Array = npt.NDArray[np.float64]
_BLOCK = 4096


def _copy(a: _Array, b: _Array, part: slice) -> None:
    np.copyto(a[part], b[part])


def _triad(a: _Array, b: _Array, c: _Array, part: slice) -> None:
    """Set a = b + 3·c, block by block, so that the second pass finds the block in the cache."""
    for begin in range(part.start, part.stop, _BLOCK):
        block = slice(begin, min(begin + _BLOCK, part.stop))
        np.multiply(c[block], 3.0, out=a[block])
        np.add(a[block], b[block], out=a[block])


def _rate(
    pool: ThreadPoolExecutor, work: Callable[[slice], object], parts: list[slice], moved: int
) -> float:
    """Return GB/s of doing all parts at once."""
    begin_s = time.perf_counter()
    list(pool.map(work, parts))
    return moved / 1e9 / (time.perf_counter() - begin_s)

"""Arrays that the decisions are made over, and how the functions over them are compiled."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
import numpy as np
import numpy.typing as npt
from numba.core.caching import IndexDataCacheFile

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Codes = npt.NDArray[np.int64]

_HERE = Path(__file__).parent

F = TypeVar("F", bound=Callable[..., Any])

_INNER = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True, "error_model": "numpy"}


def part(function: F) -> F:
    """Compile a function that only compiled functions call, and that needs no new memory.

    It has no entry for Python, which would take longer to compile than the function; and it counts
    no references to the arrays that it is given, which whoever calls it holds: counting those of a
    whole simulation at each call took nine tenths of its time.
    """
    return cast("F", numba.njit(_nrt=False, **_INNER)(function))


def counted_part(function: F) -> F:
    """Compile a function that only compiled functions call, and that makes arrays or draws."""
    return cast("F", numba.njit(_nrt=True, **_INNER)(function))


def compiled(function: F) -> F:
    """Compile a function over arrays at its first call; the machine code is kept beside the module.

    Machine code holds that of the functions it calls, so it is kept under a name that tells the
    content of all modules of the function's folder and of this one; numba alone would look at the
    time of the function's own file. Where no folder can be written it is compiled anew in each
    process.
    """
    dispatcher = numba.njit(cache=True, error_model="numpy", _nrt=True)(function)
    # numba has no other way to name what it keeps.
    cache = dispatcher._cache  # noqa: SLF001
    base, folder = cache._impl.filename_base, cache._cache_path  # noqa: SLF001
    content = _content(Path(function.__code__.co_filename).parent)
    cache._cache_file = IndexDataCacheFile(folder, f"{base}-{content}", content)  # noqa: SLF001
    return cast("F", dispatcher)


def plain(function: F) -> F:
    """Return the Python of a compiled function: of single numbers as quick, and at once there."""
    return cast("F", function.py_func)  # type: ignore[attr-defined]  # numba's, of the same types


@lru_cache(maxsize=8)
def _content(folder: Path) -> str:
    """Return what tells the content of the modules of a folder and of this one."""
    found = sha256()
    for place in sorted({folder, _HERE}):
        for module in sorted(place.glob("*.py")):
            found.update(module.read_bytes())
    return found.hexdigest()[:16]

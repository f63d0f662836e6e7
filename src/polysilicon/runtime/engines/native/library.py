"""The C interfaces of ggml and llama.cpp inside the wheel, and CPU kernels of another library."""

from __future__ import annotations

import ctypes
import threading
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from polysilicon.errors import EngineError

POINTER = ctypes.c_void_p
_LOCK = threading.Lock()
_KEPT: list[object] = []
"""Libraries that C code points into until the process ends."""


@cache
def wheel() -> ctypes.CDLL:
    """Return the wheel's library, which holds all of ggml and llama.cpp.

    Raises:
        EngineError: the wheel is laid out in another way.
    """
    import xllamacpp  # noqa: F401, PLC0415 - loads the libraries that it needs; heavy

    spec = find_spec("xllamacpp")
    folders = list(spec.submodule_search_locations or ()) if spec is not None else []
    found = [path for folder in folders for path in Path(folder).glob("xllamacpp*.so")]
    if len(found) != 1:
        raise EngineError("xllamacpp: its library is not where it was")
    return ctypes.CDLL(str(found[0]))


def function(name: str, result: Any, *arguments: Any, of: ctypes.CDLL | None = None) -> Any:
    """Return a C function with its types.

    Raises:
        EngineError: the library has none of that name.
    """
    found = getattr(of if of is not None else wheel(), name, None)
    if found is None:
        raise EngineError(f"xllamacpp: no function {name}")
    found.restype, found.argtypes = result, list(arguments)
    return found


def ggml_version() -> str:
    """Return the version of ggml in the wheel."""
    told: bytes = function("ggml_version", ctypes.c_char_p)()
    return told.decode()


@cache
def _own_kernels() -> int:
    """Return the wheel's own registration of CPU kernels; asked before any other takes its place.

    Raises:
        EngineError: it has none.
    """
    found = function("ggml_backend_reg_by_name", POINTER, ctypes.c_char_p)(b"CPU")
    if not found:
        raise EngineError("xllamacpp: it has no CPU kernels")
    return int(found)


@cache
def _kernels_of(path: str) -> int:
    """Load a library of CPU kernels and return its registration.

    Raises:
        EngineError: it cannot be loaded, or is made for another interface of ggml.
    """
    try:
        library = ctypes.CDLL(path)
    except OSError as error:
        raise EngineError(f"{path}: {error}") from error
    silence("ggml_log_set", of=library)
    found = function("ggml_backend_init", POINTER, of=library)()
    own = _own_kernels()
    # A registration begins with the version of the interface.
    versions = [ctypes.c_int.from_address(at).value if at else None for at in (found, own)]
    if versions[0] != versions[1]:
        raise EngineError(f"{path}: made for another interface of ggml")
    _KEPT.append(library)
    return int(found)


def use(kernels: Path | None) -> None:
    """Let models that are loaded from now on compute with the kernels of a library.

    Models that are loaded already keep theirs.

    Args:
        kernels: the library; None for the wheel's own.

    Raises:
        EngineError: the library cannot be used; nothing has changed.
    """
    with _LOCK:
        own = _own_kernels()
        wanted = own if kernels is None else _kernels_of(str(kernels))
        now = function("ggml_backend_reg_by_name", POINTER, ctypes.c_char_p)(b"CPU")
        if now != wanted:
            if now:
                function("ggml_backend_unload", None, POINTER)(now)
            function("ggml_backend_register", None, POINTER)(wanted)


def silence(name: str, of: ctypes.CDLL | None = None) -> None:
    """Let a library log nothing; `name` is its function that takes where to.

    A function of Python would need the interpreter's lock, which whoever loads a model holds while
    other threads log. C's `abs` looks at its first argument and does nothing.
    """
    nothing = ctypes.cast(ctypes.CDLL(None).abs, POINTER)
    function(name, None, POINTER, POINTER, of=of)(nothing, None)

"""Files that are there whole or not at all, and files of settings."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from polysilicon.errors import InputError, PolysiliconError, nearest
from polysilicon.fields import known_there

MOST_TOML_BYTES = 64 * 2**20
_MOST_BESIDE = 1000

T = TypeVar("T")


def read_toml(path: Path, kind: type[T], *, mend: str = "") -> T:
    """Read a TOML file into a type; what the type does not know is refused.

    Args:
        path: the file.
        kind: the type.
        mend: what helps whoever wrote it wrong.

    Raises:
        InputError: no such file, too large, not TOML, or other fields than the type's.
    """
    where = str(path)
    try:
        if path.stat().st_size > MOST_TOML_BYTES:
            raise InputError(f"larger than {MOST_TOML_BYTES:,} bytes", where=where)
        data = path.read_bytes()
        return msgspec.toml.decode(data, type=kind)
    except OSError as error:
        raise unread(path, error) from error
    except msgspec.ValidationError as error:
        known = known_there(kind, msgspec.toml.decode(data), str(error))
        raise InputError(str(error), where=where, mend=known or mend) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputError(str(error), where=where, mend=mend) from error
    except RecursionError as error:
        raise InputError("nested too deeply", where=where) from error


def unread(path: Path, error: OSError, mend: str = "", what: str = "") -> InputError:
    """Return what is told of a file that cannot be read, with files that it may stand for.

    Args:
        path: the file.
        error: that came of reading it.
        mend: what helps where no file of the folder has nearly its name.
        what: it holds, such as `the key`.
    """
    near, folder = "", path.parent
    if isinstance(error, FileNotFoundError):
        if not folder.is_dir():
            near = f"there is no folder {folder}"
        else:
            with suppress(OSError):
                near = nearest(path.name, _beside(folder, path.suffix))
    elif isinstance(error, IsADirectoryError):
        near = "give a file of it"
    elif isinstance(error, PermissionError):
        near = "let this user read it"
    text = " ".join(filter(None, ("cannot read", what)))
    reason = error.strerror or type(error).__name__
    return InputError(f"{text}: {reason}", where=str(path), mend=near or mend or "check its path")


def _beside(folder: Path, suffix: str) -> Iterator[str]:
    """Yield names of the first files of a folder that end alike."""
    with os.scandir(folder) as entries:
        for entry in islice(entries, _MOST_BESIDE):
            if entry.name.endswith(suffix) and not entry.name.startswith(".") and entry.is_file():
                yield entry.name


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Give a temporary file beside `path`; when the block ends well it takes the name `path`.

    The bytes are on the disk before the name is: a crash leaves the old file or the new one.

    Raises:
        PolysiliconError: the disk is full, or the folder cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        reason = error.strerror or error
        if not path.parent.is_dir():
            reason = f"there is no folder {path.parent}; make it first"
        raise PolysiliconError(f"{path}: cannot be written: {reason}") from error
    finally:
        # A name that cannot be, such as one too long, is no file to take away.
        with suppress(OSError):
            temporary.unlink()


def write_whole(path: Path, content: bytes) -> None:
    """Write a file, and the folders above it; on any failure the old file, or none, is left.

    Raises:
        PolysiliconError: the disk is full, or the folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror or error
        raise PolysiliconError(f"{path.parent}: cannot be written: {reason}") from error
    with atomic(path) as temporary:
        temporary.write_bytes(content)


def toml_bytes(record: msgspec.Struct) -> bytes:
    """Return a record as TOML: values first, then tables within, two levels deep."""
    return "\n".join([*_lines(msgspec.to_builtins(record)), ""]).lstrip("\n").encode()


def _lines(tree: Mapping[str, Any], path: tuple[str, ...] = ()) -> list[str]:
    """Return the lines of a TOML table: values first, then tables within, two levels deep."""
    nested = [name for name, value in tree.items() if _tables(value) and len(path) < 2]
    lines = [f"{k} = {_value(v)}" for k, v in tree.items() if k not in nested and not _nothing(v)]
    for name in nested:
        own = (*path, name)
        for table in tree[name]:
            lines += ["", f"[[{'.'.join(own)}]]", *_lines(table, own)]
    return lines


def _tables(value: Any) -> bool:
    """Tell whether a value is a list of tables."""
    return isinstance(value, list | tuple) and bool(value) and isinstance(value[0], dict)


def _nothing(value: Any) -> bool:
    """Tell whether a value need not be written: TOML has no null."""
    return value is None or (isinstance(value, list | tuple | dict) and not value)


def _value(value: Any) -> str:
    """Return a value in TOML, on one line."""
    if isinstance(value, Mapping):
        inner = (f"{_text(k)} = {_value(v)}" for k, v in value.items() if not _nothing(v))
        return "{ " + ", ".join(inner) + " }"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ", ".join(_value(v) for v in value) + "]"
    return _text(value) if isinstance(value, str) else msgspec.json.encode(value).decode()


def _text(value: str) -> str:
    """Return a text in TOML; JSON writes the same but for one character."""
    return msgspec.json.encode(value).decode().replace("\x7f", "\\u007f")

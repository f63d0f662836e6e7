"""Shape files: those that come with the project, and a user's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import msgspec

from polysilicon.disk import read_toml, write_whole
from polysilicon.errors import InputError, nearest
from polysilicon.workload.generate.shape import ShapeFile
from polysilicon.workload.generate.shape_checks import check

SUFFIX = ".toml"


def names() -> list[str]:
    """Return the names of the shapes that come with the project."""
    folder = files("polysilicon.workload.generate") / "data"
    return sorted(item.name.removesuffix(SUFFIX) for item in folder.iterdir())


def load(name: str) -> ShapeFile:
    """Return a shape file by the name of one that comes along, or by its path.

    Raises:
        InputError: there is none, or it is not a shape file.
    """
    if name in names():
        folder = files("polysilicon.workload.generate") / "data"
        with as_file(folder / f"{name}{SUFFIX}") as path:
            return _checked(path, name)
    path = Path(name)
    if path.suffix != SUFFIX:
        mend = nearest(name, names()) or f"known: {', '.join(names())}, or a {SUFFIX} file"
        raise InputError(f"unknown shape {name!r}", mend=mend)
    return _checked(path, name)


def _checked(path: Path, where: str) -> ShapeFile:
    """Return what a shape file holds.

    Raises:
        InputError: it cannot be read, or is not a shape file.
    """
    file = read_toml(path, ShapeFile, mend="see docs/generate.md")
    check(file, where)
    return file


def save(file: ShapeFile, path: Path) -> None:
    """Write a shape file.

    Raises:
        InputError: the path does not end in `.toml`.
        PolysiliconError: it cannot be written.
    """
    if path.suffix != SUFFIX:
        raise InputError(f"a shape file ends in {SUFFIX}", where=str(path))
    write_whole(path, "\n".join([*_lines(msgspec.to_builtins(file)), ""]).encode())


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

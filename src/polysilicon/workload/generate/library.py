"""Shape files: those that come with the project, and a user's own."""

from __future__ import annotations

from importlib.resources import as_file, files
from pathlib import Path

from polysilicon.disk import read_toml, toml_bytes, write_whole
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
    write_whole(path, toml_bytes(file))

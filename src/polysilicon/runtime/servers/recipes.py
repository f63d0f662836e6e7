"""Recipes: how an engine is started as a server, and what it needs of a machine."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec

from polysilicon.catalog.chips.found import Chip
from polysilicon.catalog.chips.hardware import Hardware
from polysilicon.catalog.tables import data_folder
from polysilicon.errors import InputError, nearest

CONTEXT_TOKENS = 4096
"""Prompt and answer of one sequence, where a server must be told and nobody says."""

_WORD = re.compile(r"\{(\w+)\}")
_FAMILIES = {
    "nvidia": "an NVIDIA GPU",
    "amd": "an AMD GPU",
    "neuron": "an AWS Trainium or Inferentia",
    "tpu": "a Google TPU",
}
_DRIVERS = {
    "nvidia": "load NVIDIA's driver, or start the container with --gpus all",
    "amd": "load amdgpu, or start the container with --device /dev/kfd --device /dev/dri",
    "neuron": "install aws-neuronx-dkms, or start the container with --device /dev/neuron0",
    "tpu": "start the container with --privileged, as Google's images are",
}


class Recipe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How an engine is started.

    Attributes:
        name: of the recipe.
        title: in words.
        family: of the accelerators that it needs; blank for CPUs.
        processors: of that family; none for all.
        architectures: as the kernel names them; none for any.
        isa_classes: of CPUs that it computes on; none for any.
        program: to start.
        module: that the Python beside the program runs in its place; blank where it starts itself.
        arguments: of the program. `{model}` as given, `{file}` its file here, `{name}` the name by
            which it is asked for, `{host}`, `{port}`, `{count}` parts that the model is split over,
            `{concurrency}`, `{context}` and `{context_of_all}` tokens, `{cores}`, `{folder}`,
            `{cpus}` the numbers of these cores, `{cache_gib}` a quarter of the memory.
        context: further arguments, where a context is asked for.
        environment: variables of the program, with the same words; those that are set stay.
        parts: accelerator → parts of it over which a model is split; 1 where it is not told.
        startup_s: until it must answer.
        install: how to come by the program.
        packages: from which pip installs it; none where that needs more.
        sources: pages that say so.
        date: when they were read.
    """

    name: str
    title: str
    family: str = ""
    processors: tuple[str, ...] = ()
    architectures: tuple[str, ...] = ()
    isa_classes: tuple[str, ...] = ()
    program: str
    module: str = ""
    arguments: tuple[str, ...]
    context: tuple[str, ...] = ()
    environment: dict[str, str] = {}
    parts: dict[str, int] = {}
    startup_s: float
    install: str = ""
    packages: tuple[str, ...] = ()
    sources: tuple[str, ...]
    date: str

    def takes(self, word: str) -> bool:
        """Tell whether arguments have a place for a word."""
        return f"{{{word}}}" in (*self.arguments, *self.context)


class _File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    recipe: tuple[Recipe, ...]


@lru_cache(maxsize=1)
def recipes() -> Mapping[str, Recipe]:
    """Return the recipes by name."""
    text = (data_folder("polysilicon.runtime.servers") / "recipes.toml").read_bytes()
    return {one.name: one for one in msgspec.toml.decode(text, type=_File).recipe}


def recipe_named(name: str) -> Recipe:
    """Return a recipe.

    Raises:
        InputError: there is none of that name.
    """
    known = recipes()
    if name not in known:
        mend = nearest(name, known) or f"there are {', '.join(known)}"
        raise InputError(f"there is no recipe {name!r}", mend=mend)
    return known[name]


def recipe_for(family: str) -> Recipe:
    """Return the recipe for a family of accelerators; for CPUs the one that comes with this.

    Raises:
        InputError: there is none.
    """
    for one in recipes().values():
        if one.family == family:
            return one
    raise InputError(f"there is no recipe for {family} accelerators")


def chip_for(recipe: Recipe, hardware: Hardware) -> Chip:
    """Return the chip of a machine that a recipe uses.

    Raises:
        InputError: the machine has none, or nothing through which programs could use it.
    """
    where = f"recipe {recipe.name}"
    if recipe.architectures and hardware.arch not in recipe.architectures:
        what = f"needs a CPU of {' or '.join(recipe.architectures)}, this is {hardware.arch}"
        raise InputError(what, where=where)
    if recipe.isa_classes and hardware.isa_class not in recipe.isa_classes:
        what = f"needs a CPU of {' or '.join(recipe.isa_classes)}, this is {hardware.isa_class}"
        raise InputError(what, where=where, mend="start llama.cpp, which serves on any")
    if not recipe.family:
        return hardware.cpu
    chips = [chip for chip in hardware.accelerators if chip.family == recipe.family]
    if not chips:
        have = ", ".join(chip.name for chip in (*hardware.accelerators, hardware.cpu))
        mend = f"run it on a machine that has one; this has {have}"
        raise InputError(f"needs {_FAMILIES[recipe.family]}", where=where, mend=mend)
    chip = chips[0]
    if recipe.processors and chip.processor not in recipe.processors:
        what = f"serves {', '.join(recipe.processors)}; this machine has {chip.name}"
        raise InputError(what, where=where)
    if not chip.devices:
        what = f"{chip.name} is on the bus, and has no device file: its driver is not there"
        raise InputError(what, where=where, mend=_DRIVERS[recipe.family])
    return chip


def program_of(recipe: Recipe, path: str | None = None) -> tuple[str, ...]:
    """Return the program of a recipe, and what comes before its arguments.

    Args:
        recipe: of it.
        path: folders to look in; those of PATH where None.

    Raises:
        InputError: it is not installed.
    """
    if recipe.program == "{python}":
        return (sys.executable,)
    found = shutil.which(recipe.program, path=path)
    if found is None:
        what = f"{recipe.program} is not installed"
        raise InputError(what, where=f"recipe {recipe.name}", mend=recipe.install)
    if not recipe.module:
        return (found,)
    program = Path(found).resolve()  # tools in environments of their own are links to these
    for python in (program.with_name(name) for name in ("python3", "python")):
        if python.is_file():
            return str(python), "-m", recipe.module
    what = f"there is no Python beside {found}"
    raise InputError(what, where=f"recipe {recipe.name}", mend=recipe.install)


def parts_of(recipe: Recipe, chip: Chip, count: int | None) -> int:
    """Return over how many parts a model is split: all that there are, unless told.

    Raises:
        InputError: it is not known how many there are, or there are fewer.
    """
    if not recipe.family:
        return 1
    per = recipe.parts.get(chip.processor, None if recipe.parts else 1)
    where = f"recipe {recipe.name}, {chip.name}"
    if per is None:
        if count is None:
            raise InputError("nobody tells its parts", where=where, mend="give --count")
        return count
    if count is not None and count > per * chip.count:
        raise InputError(f"--count {count} is more than the {per * chip.count} there are",
                         where=where)  # fmt: skip
    return count or per * chip.count


def arguments_of(recipe: Recipe, given: Mapping[str, Any], *, context: bool) -> list[str]:
    """Return the arguments of the program, each word in braces filled in.

    Args:
        recipe: of them.
        given: word → value.
        context: a context was asked for.
    """
    pieces: Sequence[str] = recipe.arguments
    if context and not recipe.takes("context_of_all") and "{context}" not in recipe.arguments:
        pieces = (*pieces, *recipe.context)
    return [_filled(piece, given) for piece in pieces]


def environment_of(recipe: Recipe, given: Mapping[str, Any]) -> dict[str, str]:
    """Return the variables of the program, each word in braces filled in."""
    return {name: _filled(value, given) for name, value in recipe.environment.items()}


def _filled(piece: str, given: Mapping[str, Any]) -> str:
    """Return an argument; one that is no word in braces stays as it is, whatever it holds."""
    word = _WORD.fullmatch(piece)
    return str(given[word[1]]) if word else piece


def file_of(model: str) -> Path:
    """Return the file of a model, downloaded where it must be.

    Raises:
        InputError: there is no such model.
    """
    from polysilicon.runtime import models  # noqa: PLC0415 - heavy, and not for every recipe

    return models.pull(model)

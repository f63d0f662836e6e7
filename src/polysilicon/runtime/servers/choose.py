"""What to start: a recipe with a model, or the pools of a fleet file that are on this machine."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from polysilicon.catalog.catalog import Catalog
from polysilicon.catalog.chips.devices import FAMILIES
from polysilicon.catalog.chips.hardware import Hardware
from polysilicon.catalog.fleet import LOCAL, LOOPBACK, Fleet, Pool
from polysilicon.catalog.processors import Processor
from polysilicon.errors import InputError
from polysilicon.runtime.models import DEFAULT_MODEL, model_name
from polysilicon.runtime.servers.launch import HOST, Launch, free_port
from polysilicon.runtime.servers.recipes import (
    CONTEXT_TOKENS,
    Recipe,
    arguments_of,
    chip_for,
    environment_of,
    file_of,
    parts_of,
    program_of,
    recipe_for,
    recipe_named,
)

_CACHE_SHARE = 4
"""One in so many bytes of memory is for keys and values, where a server must be told."""


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """How a recipe is to be started; None where nobody says.

    Attributes:
        model: for the program: a published name, a folder, a file; None for the default one.
        name: by which it is asked for; None for the model's.
        port: to listen on; 0 for any free one.
        count: parts that a model is split over.
        concurrency: steps at once.
        context: tokens of prompt and answer together.
        log: file for all that it prints.
    """

    model: str | None = None
    name: str | None = None
    port: int = 0
    count: int | None = None
    concurrency: int | None = None
    context: int | None = None
    log: Path | None = None


def launch_of(recipe: Recipe, asked: Asked, hardware: Hardware, path: str | None = None) -> Launch:
    """Return what a recipe starts on a machine.

    Args:
        recipe: which.
        asked: how.
        hardware: of this machine.
        path: folders to look for its program in; those of PATH where None.

    Raises:
        InputError: the machine has not what it needs, or something is asked that it cannot do.
    """
    chip = chip_for(recipe, hardware)
    program = program_of(recipe, path)
    _check_asked(recipe, asked)
    model = asked.model or DEFAULT_MODEL
    file = file_of(model) if recipe.takes("file") else None
    name = asked.name or (model_name(file) if file is not None else model)
    port = asked.port or free_port()
    context = asked.context or CONTEXT_TOKENS
    concurrency = asked.concurrency or 8
    given = {
        "model": model,
        "file": file,
        "name": name,
        "host": HOST,
        "port": port,
        "count": parts_of(recipe, chip, asked.count),
        "concurrency": concurrency,
        "context": context,
        "context_of_all": context * concurrency,
        "cores": hardware.cores,
        "cpus": _cpus(hardware.cores),
        "cache_gib": max(hardware.memory_bytes // _CACHE_SHARE // 2**30, 1),
        "folder": Path("runs") / f"engine-{port}",
    }
    arguments = arguments_of(recipe, given, context=asked.context is not None)
    return Launch(
        title=recipe.title,
        command=(*program, *arguments),
        environment=environment_of(recipe, given),
        port=port,
        model=name,
        log=asked.log or Path("runs") / f"engine-{port}.log",
        startup_s=recipe.startup_s,
    )


def _cpus(cores: int) -> str:
    """Return the numbers of the CPUs that this process may use, with commas."""
    affinity = getattr(os, "sched_getaffinity", None)
    return ",".join(str(n) for n in (sorted(affinity(0)) if affinity else range(cores)))


def _check_asked(recipe: Recipe, asked: Asked) -> None:
    """Raise `InputError` where something is asked for that a recipe has no place for."""
    where = f"recipe {recipe.name}"
    wanted = {"name": asked.name, "count": asked.count, "concurrency": asked.concurrency,
              "context": asked.context}  # fmt: skip
    for word, value in wanted.items():
        takes = recipe.takes(word) or (word == "context" and recipe.takes("context_of_all"))
        if value is not None and not takes:
            raise InputError(f"it has no --{word}", where=where, mend="leave it out")
    if asked.model is None and not recipe.takes("file"):
        raise InputError("which model?", where=where, mend="give --model")


def launches_of(
    fleet: Fleet, hardware: Hardware, catalog: Catalog, path: str | None = None
) -> tuple[list[Launch], list[str]]:
    """Return what the pools of a fleet start on this machine, and why the others start nothing.

    Args:
        fleet: of a fleet file.
        hardware: of this machine.
        catalog: that knows its offers and models.
        path: folders to look for programs in; those of PATH where None.

    Raises:
        InputError: the machine has not what a pool needs, or no pool is on it.
    """
    launches, others = [], []
    for pool in fleet.pool:
        place = urlsplit(pool.endpoint or "")
        if pool.engine != "openai":
            others.append(f"{pool.name}: its engine runs in the process that serves")
        elif place.hostname not in LOOPBACK or place.port is None:
            others.append(f"{pool.name}: {pool.endpoint} is no port of this machine's loopback")
        else:
            named = pool.recipe
            recipe = recipe_named(named) if named else recipe_for(_family(pool, catalog))
            launches.append(launch_of(recipe, _asked(pool, recipe, place.port, catalog),
                                      hardware, path))  # fmt: skip
    if not launches:
        raise InputError("no pool is started here", where="; ".join(others) or "the fleet")
    return launches, others


def _family(pool: Pool, catalog: Catalog) -> str:
    """Return the family of the accelerators of a pool's offer; blank for CPUs.

    Raises:
        InputError: nobody tells what the offer has, or nothing is started on it.
    """
    if pool.offer == LOCAL:
        return ""
    chip = catalog.offer(pool.offer, pool.region or None).processor
    return family_of(chip, pool.offer, f"pool {pool.name!r}")


def family_of(chip: Processor | None, offer: str, where: str = "") -> str:
    """Return the family of an offer's accelerators; blank for CPUs.

    Args:
        chip: of the offer; None where nobody tells it.
        offer: its name.
        where: for errors.

    Raises:
        InputError: nobody tells what the offer has, or nothing is started on it.
    """
    if chip is None:
        raise InputError(f"nobody tells the processor of {offer}", where=where)
    if chip.kind == "cpu":
        return ""
    words = {"nvidia": "NVIDIA", "amd": "AMD", "neuron": "AWS", "tpu": "Google", "gaudi": "Intel"}
    for family in FAMILIES:
        if chip.kind == family.kind and chip.name.startswith(words[family.name]):
            return family.name
    raise InputError(f"there is no recipe for {chip.name}", where=where)


def _asked(pool: Pool, recipe: Recipe, port: int, catalog: Catalog) -> Asked:
    """Return how a pool asks for its recipe.

    Raises:
        InputError: it names no model.
    """
    if pool.model is None:
        raise InputError("an engine needs a model", where=f"pool {pool.name!r}")
    name = catalog.aliases.model_name(pool.model, catalog.models)
    published = catalog.models[name].published_as if name is not None else pool.model
    model = pool.model if recipe.takes("file") else published
    return Asked(
        model=model,
        name=pool.model if recipe.takes("name") else None,
        port=port,
        count=pool.count if recipe.takes("count") else None,
        concurrency=pool.concurrency if recipe.takes("concurrency") else None,
    )

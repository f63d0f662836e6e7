"""What a rented machine runs so that it does for a gateway what was placed on it.

Bash for the tools that start machines: the gateway's address, its key and the machine's number are
variables there, all else is quoted.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from polysilicon.catalog.processors import Processor
from polysilicon.errors import InputError
from polysilicon.planning.deploy.machines import Machines, Served
from polysilicon.planning.deploy.skypilot import MODEL, Script
from polysilicon.runtime.assets import ASSETS
from polysilicon.runtime.servers.choose import family_of
from polysilicon.runtime.servers.recipes import Recipe, recipe_for

PORT = 8000
"""At which the gateway finds a machine, so that a person can open it to the gateway alone."""

_FIRST_PORT = 8100
_VISIBLE = {"nvidia": "CUDA_VISIBLE_DEVICES", "amd": "HIP_VISIBLE_DEVICES"}
"""Environment variable that says which accelerators a program sees, by their family."""

_EVERYWHERE = "0.0.0.0"  # noqa: S104 - a machine that joins asks for its key always
_NAME = 'name="sky-$(hostname | tr A-Z a-z)-$SKYPILOT_NODE_RANK"\n'
_VARIABLES = ("$name", "$POLYSILICON_GATEWAY", f"${MODEL}")
_NO_TOOLS = "functions of tools run where the gateway is"


def script_of(one: Machines, served: Served | None, price: str) -> Script:
    """Return what machines of an offer run.

    Args:
        one: the machines.
        served: what they are to do; None for a model that a variable names.
        price: which of the offer's prices holds.

    Raises:
        InputError: no command does that there.
    """
    role = "llm" if served is None else served.role
    join = _join(one, price)
    if role == "tool":
        run = _joined([*join, "--serves", "code"])
        return Script(setup="pip install polysilicon", run=f"# {_NO_TOOLS}\n{run}")
    if role != "llm":
        what = f"machines that join do no steps of kind {role} alone"
        raise InputError(what, mend="serve them from the gateway's fleet file")
    chip = one.known.processor if one.known is not None else None
    family = family_of(chip, one.offer)
    if not family:
        return _on_cpus(served, join)
    recipe = recipe_for(family)
    assert chip is not None
    if recipe.processors and chip.name not in recipe.processors:
        raise InputError(f"recipe {recipe.name} does not serve {chip.name}")
    return _by_recipe(one, served, chip, recipe, join)


def _join(one: Machines, price: str) -> list[str]:
    """Return the command that joins, as far as all machines have it."""
    return ["polysilicon", "pool", "join", "$POLYSILICON_GATEWAY", "--key-file", "polysilicon.key",
            "--listen", _EVERYWHERE, "--port", str(PORT), "--name", "$name", "--offer", one.offer,
            "--region", one.region, "--price", price]  # fmt: skip


def _joined(join: Sequence[str]) -> str:
    """Return the lines by which a machine joins for as long as it lives."""
    return f"{_NAME}exec {_line(join)}\n"


def _line(words: Sequence[str]) -> str:
    """Return a command on a line, all of it quoted but the variables of this script."""
    return " ".join(f'"{w}"' if w in _VARIABLES else shlex.quote(w) for w in words)


def _on_cpus(served: Served | None, join: list[str]) -> Script:
    """Return what machines without accelerators run: the engine that comes with this."""
    model = f"${MODEL}" if served is None else served.name
    if served is not None and not (model in ASSETS or model.endswith(".gguf") or "://" in model):
        what = f"no file of {model} for llama.cpp is known, which is what machines of CPUs serve"
        mend = (
            f"known: {', '.join(name for name, a in ASSETS.items() if a.member.endswith('.gguf'))}"
        )
        raise InputError(what, mend=f"{mend}, a .gguf file or its URL")
    own = ["--serves", "models", "--model", model]
    if served is not None:
        own += ["--concurrency", str(served.concurrency)]
    return Script(setup="pip install polysilicon", run=_joined([*join, *own]))


def _by_recipe(
    one: Machines, served: Served | None, chip: Processor, recipe: Recipe, join: list[str]
) -> Script:
    """Return what machines with accelerators run: a server for each copy, and one that joins."""
    there = (one.known.accelerators if one.known is not None else None) or 1
    count = there if served is None or served.count is None else served.count
    if served is not None and not 1 <= count <= there:
        where, mend = f"count of {served.pool}", f"give 1 to {there}"
        raise InputError(f"{count}, where {one.offer} has {there}", where=where, mend=mend)
    copies = max(there // count, 1)
    if copies > 1 and recipe.family not in _VISIBLE:
        what = f"{copies} copies of a model on a machine with {chip.name}: `pool start` starts one"
        raise InputError(what, mend="place it with a count of all accelerators")
    start = ["polysilicon", "pool", "start", recipe.name]
    if served is None:
        model = [f"${MODEL}"] * 2
    else:
        model = [served.published_as, served.name]
        start += ["--concurrency", str(max(served.concurrency // copies, 1))]
        start += ["--count", str(count * _parts(recipe, chip))]
    start += ["--model", model[0], "--served-as", model[1]]
    lines = []
    for copy in range(copies):
        seen = ",".join(str(copy * count + n) for n in range(count))
        own = f"{_VISIBLE[recipe.family]}={seen} " if copies > 1 else ""
        port = _FIRST_PORT + copy
        lines.append(f"{own}{_line([*start, '--port', str(port)])} > start-{port}.log 2>&1 &")
        lines.append(f"engine_{port}=$!")
    ports = [_FIRST_PORT + copy for copy in range(copies)]
    for port in ports:
        asked = f"curl -fsS -o /dev/null http://127.0.0.1:{port}/v1/models"
        ended = f"kill -0 $engine_{port} || exit 1"
        lines.append(f"until {asked}; do {ended}; sleep 5; done")
    join = [*join, "--serves", "models", "--model", model[1]]
    for port in ports:
        join += ["--endpoint", f"http://127.0.0.1:{port}/v1"]
    if served is not None:
        join += ["--concurrency", str(served.concurrency)]
    setup = " ".join(["pip install polysilicon", *recipe.packages])
    if not recipe.packages:
        setup = f"{setup}\n# the machine's image must have vLLM: {recipe.install}"
    return Script(setup=setup, run="\n".join([*lines, _joined(join)]))


def _parts(recipe: Recipe, chip: Processor) -> int:
    """Return into how many parts an accelerator is split by a recipe.

    Raises:
        InputError: nobody tells.
    """
    if recipe.parts and chip.name not in recipe.parts:
        raise InputError(f"recipe {recipe.name} does not tell the parts of {chip.name}")
    return recipe.parts.get(chip.name, 1)

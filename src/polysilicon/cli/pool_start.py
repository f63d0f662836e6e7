"""`polysilicon pool start`: engines as servers on this machine's loopback."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from polysilicon.cli.output import emit_json, json_option, out, progress
from polysilicon.errors import InputError

if TYPE_CHECKING:
    from polysilicon.runtime.servers.launch import Launch, Server


@click.command(name="start", epilog="Example:  polysilicon pool start llama.cpp --port 8100")
@click.argument("recipe", required=False)
@click.option("--fleet", type=click.Path(path_type=Path), help="Start the pools of a fleet file "
              "whose endpoint is a port of this machine's loopback.")  # fmt: skip
@click.option("--model", help="For the engine: a published name, a folder or a file.")
@click.option("--served-as", "name", help="Name by which the model is asked for.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="0, the default, is any.")
@click.option("--count", type=click.IntRange(1, 1024), help="Accelerators (of Neuron: cores) that "
              "the model is split over; by default all.")  # fmt: skip
@click.option("--concurrency", type=click.IntRange(1, 4096), help="Steps at once.")
@click.option("--context", type=click.IntRange(1), help="Tokens of prompt and answer together.")
@click.option("--log", type=click.Path(path_type=Path, dir_okay=False), help="File for what it "
              "prints; default runs/engine-PORT.log.")  # fmt: skip
@json_option
def command(recipe: str | None, fleet: Path | None, as_json: bool, **options: Any) -> None:
    """Start the engine of RECIPE (see `pool recipes`), or those of a fleet file, until Ctrl-C.

    It listens on loopback and is ready once it gave a token.
    """
    from polysilicon.runtime.servers.launch import await_end, running  # noqa: PLC0415 - heavy

    if (recipe is None) == (fleet is None):
        raise InputError("give a RECIPE or --fleet", mend="`polysilicon pool recipes` lists them")
    said = progress()

    def tell(text: str) -> None:
        said.print(text, markup=False, soft_wrap=True, style="dim")

    if recipe is not None:
        launches = [_of_recipe(recipe, options)]
    else:
        assert fleet is not None
        if any(value for value in options.values()):
            raise InputError("a fleet file tells all of it", mend="leave out the other options")
        launches = _of_fleet(fleet, tell)
    with ExitStack() as stack:
        servers = [stack.enter_context(running(launch, tell)) for launch in launches]
        _show(servers, as_json=as_json)
        await_end(servers)


def _of_recipe(name: str, options: dict[str, Any]) -> Launch:
    """Return what a recipe starts."""
    from polysilicon import catalog  # noqa: PLC0415 - heavy, and not for --help
    from polysilicon.catalog.chips.devices import bindings  # noqa: PLC0415
    from polysilicon.catalog.chips.hardware import hardware_of  # noqa: PLC0415
    from polysilicon.runtime.servers.choose import Asked, launch_of  # noqa: PLC0415
    from polysilicon.runtime.servers.recipes import recipe_named  # noqa: PLC0415

    known = recipe_named(name)
    return launch_of(known, Asked(**options), hardware_of(catalog.load(), nvml=bindings()))


def _of_fleet(path: Path, tell: Any) -> list[Launch]:
    """Return what the pools of a fleet file start."""
    from polysilicon import catalog  # noqa: PLC0415 - heavy, and not for --help
    from polysilicon.catalog.chips.devices import bindings  # noqa: PLC0415
    from polysilicon.catalog.chips.hardware import hardware_of  # noqa: PLC0415
    from polysilicon.catalog.fleet import read_fleet  # noqa: PLC0415
    from polysilicon.runtime.servers.choose import launches_of  # noqa: PLC0415

    facts = catalog.load()
    found, others = launches_of(read_fleet(path), hardware_of(facts, nvml=bindings()), facts)
    for text in others:
        tell(f"not started: {text}")
    return found


def _show(servers: list[Server], *, as_json: bool) -> None:
    """Tell where the servers are."""
    rows = [
        {"recipe": one.launch.title, "endpoint": one.launch.endpoint, "model": one.launch.model,
         "log": str(one.launch.log), "pid": one.process.pid,
         "first_token_s": round(one.first_token_s, 3)}
        for one in servers
    ]  # fmt: skip
    if as_json:
        emit_json({"servers": rows})
        return
    for row in rows:
        text = f"{row['endpoint']} serves {row['model']} ({row['recipe']}), first token after "
        out().print(f"{text}{row['first_token_s']:.1f} s", markup=False, soft_wrap=True)
    out().print("Ctrl-C ends", markup=False)

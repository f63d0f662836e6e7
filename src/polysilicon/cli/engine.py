"""`polysilicon engine`: the local engine, fitted to this CPU."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from polysilicon.cli.output import emit_json, json_option, out, progress
from polysilicon.cli.parts import Verbs

if TYPE_CHECKING:
    from polysilicon.catalog.machine import Machine
    from polysilicon.cost.engine_choice import EngineChoice
    from polysilicon.runtime.engines.native.build import Built


@click.group(cls=Verbs, epilog="Example:  polysilicon engine build")
def command() -> None:
    """Fit the local engine to this CPU."""


@command.command("build", epilog="Example:  polysilicon engine build --json > build.json")
@click.option("--model", help="Model name, .gguf path or URL. Default: smollm2-135m-instruct.")
@json_option
def build(model: str | None, as_json: bool) -> None:
    """Compile llama.cpp's kernels for this CPU, and use what is faster.

    Takes some minutes, and the sources of the version that the wheel is made of from the
    package index, and gcc or clang where they are installed. The kernels must read a fixed text
    as the wheel's do; then kernels, weight formats, batches, threads and sequences at once
    are timed. Where
    anything fails the wheel goes on serving.
    """
    from polysilicon.catalog.machine import detect  # noqa: PLC0415 - heavy, and not for --help
    from polysilicon.cli.running import fetch_model  # noqa: PLC0415
    from polysilicon.cost.engine_choice import choices_path, write_choice  # noqa: PLC0415
    from polysilicon.runtime import models  # noqa: PLC0415
    from polysilicon.runtime.engines.native.search import Search  # noqa: PLC0415

    begin_s = time.monotonic()
    machine, name = detect(), model or models.DEFAULT_MODEL
    fetch_model(model, None)
    path = models.pull(name)
    built = _built(machine, path)
    console = progress()
    search = Search(
        path,
        machine,
        lambda what: console.print(what, markup=False, style="dim"),
        checked=built.seconds > 0,
    )
    choice = search.run()
    where = choices_path()
    write_choice(models.model_name(path), choice, where)
    if as_json:
        seconds = time.monotonic() - begin_s
        emit_json(_as_keys(machine, models.model_name(path), built, choice, seconds))
        return
    _print(choice, where)


def _built(machine: Machine, model: Path) -> Built:
    """Return the kernels for this machine: those that are there, or new ones, with progress."""
    from polysilicon.runtime.engines.native import build as builder  # noqa: PLC0415

    there = builder.find(machine)
    if there is not None:
        return there
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=progress(), transient=True) as bar:
        task = bar.add_task("", total=None)
        return builder.build(
            machine,
            model,
            lambda what, done, of: bar.update(task, description=what, completed=done, total=of),
        )


def _as_keys(
    machine: Machine, model: str, built: Built, choice: EngineChoice, seconds: float
) -> dict[str, Any]:
    """Return what was done under the names that scripts rely on."""
    return {
        "processor": machine.cpu,
        "model": model,
        "built": msgspec.to_builtins(built),
        "kernels": choice.kernels,
        "weights": choice.weight_format,
        "threads": choice.threads,
        "batch": choice.batch,
        "micro_batch": choice.micro_batch,
        "slots": choice.slots,
        "gains": choice.gains,
        "refused": choice.refused,
        "seconds": seconds,
    }


def _print(choice: EngineChoice, where: Path) -> None:
    """Print what serves from now on, and what it gains."""
    console = out()
    kernels = choice.kernels or "the wheel's"
    console.print(f"kernels: {kernels}", markup=False, soft_wrap=True)
    console.print(
        f"weights: {choice.weight_format}, threads: {choice.threads}, "
        f"batch: {choice.batch}, micro-batch: {choice.micro_batch}",
        markup=False,
    )
    if choice.slots:
        console.print(
            f"sequences at once: beyond {choice.slots} hardly more tokens a second "
            "(`concurrency` of a pool in the fleet file)",
            markup=False,
            soft_wrap=True,
        )
    for what, gain in choice.gains.items():
        console.print(f"  {what}: {gain:.2f} times the wheel's rate", markup=False)
    for what, reason in choice.refused.items():
        console.print(f"not taken: {what}: {reason}", markup=False, soft_wrap=True)
    console.print(f"choice: {where}", markup=False, soft_wrap=True)
    console.print("`polysilicon calibrate` measures this machine anew with it", markup=False)

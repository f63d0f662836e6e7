"""`polysilicon bench`: how near something comes to what the machine can do."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec
from rich.table import Table

from polysilicon import units
from polysilicon.cli.output import emit_json, json_option, out, progress
from polysilicon.cli.parts import Verbs
from polysilicon.errors import InputError

if TYPE_CHECKING:
    from polysilicon.catalog.machine import Machine
    from polysilicon.runtime.engines.native.bench import Bench, Row


@click.group(cls=Verbs, epilog="Example:  polysilicon bench engine")
def command() -> None:
    """Measure beside what the machine can do."""


@command.command("engine", epilog="Example:  polysilicon bench engine --html engine.html")
@click.option("--model", help="Model name, .gguf path or URL. Default: smollm2-135m-instruct.")
@click.option("-o", "--output", type=Path, help="Write the rows as a measurement file.")
@click.option("--html", type=Path, help="Write a page with a plot.")
@click.option("--shape", help="Time random weights in the shape of a larger model instead: 1b.")
@json_option
def engine(
    model: str | None, output: Path | None, html: Path | None, shape: str | None, as_json: bool
) -> None:
    """Time prompts and decoding over lengths and batches, as shares of two measured ceilings.

    Decoding one sequence: how fast these cores read as many bytes as the weights have. Prompts:
    the peak rate of 8-bit integers, for which `polysilicon engine build` makes the kernel. The
    wheel's kernels and those built here in turn, under seven minutes; what takes too long is left
    out and told. A file of -o grows row by row; given again unfinished, it is gone on with.
    Nothing else should run meanwhile. With --shape weights that no cache holds, which are made
    and removed again (700 MB of disk), a prompt and one sequence alone.
    """
    from polysilicon.catalog.machine import detect  # noqa: PLC0415 - heavy, and not for --help
    from polysilicon.catalog.measurements import write_measurements  # noqa: PLC0415
    from polysilicon.cli.running import fetch_model  # noqa: PLC0415
    from polysilicon.report.engine import write_page  # noqa: PLC0415
    from polysilicon.runtime import models  # noqa: PLC0415
    from polysilicon.runtime.engines.native import bench  # noqa: PLC0415
    from polysilicon.runtime.engines.native.shapes import SHAPES  # noqa: PLC0415

    fetch_model(model, None)
    path, machine = models.pull(model or models.DEFAULT_MODEL), detect()
    console = progress()

    def tell(what: str) -> None:
        console.print(what, markup=False, style="dim")

    def keep(found: Bench) -> None:
        if output is not None:
            write_measurements(bench.measurements(found), output)

    if shape is None:
        known = _known(output, path, machine)
        if known:
            tell(f"{len(known)} rows of {output} are kept")
        found = bench.bench(path, machine, tell, keep, known)
    elif shape in SHAPES:
        found = bench.bench_shape(shape, path, machine, tell)
        keep(found)
    else:
        raise InputError(f"there is no shape {shape!r}", mend=f"give one of {', '.join(SHAPES)}")
    if html is not None:
        write_page(found, html)
    if as_json:
        emit_json(msgspec.to_builtins(found))
    else:
        _print(found)


def _known(output: Path | None, model: Path, machine: Machine) -> dict[tuple[str, str], Row]:
    """Return what an unfinished file of rows holds already.

    Raises:
        InputError: there is such a file, and it holds no measurements.
    """
    from polysilicon.catalog.measurements import read_measurements  # noqa: PLC0415
    from polysilicon.runtime.engines.native import bench  # noqa: PLC0415

    if output is None or not output.is_file():
        return {}
    return bench.rows_of(read_measurements(output), model, machine)


def _print(found: Bench) -> None:
    """Print the ceilings and every row."""
    table = Table(box=None, pad_edge=False)
    for head in ("kernels", "what"):
        table.add_column(head)
    for head in ("tokens", "at once", "tokens/s", "of the ceiling"):
        table.add_column(head, justify="right")
    for row in found.rows:
        share = "-" if row.of_ceiling is None else units.share(row.of_ceiling)
        rate = f"{row.tokens_per_s:.0f}"
        table.add_row(row.kernels, row.what, f"{row.tokens:.0f}", str(row.sequences), rate, share)
    console, own = out(), found.ceilings
    console.print(table)
    peak = "" if own.int8_tops is None else f", {own.int8_tops:.2f} TOP/s of 8-bit integers"
    console.print(
        f"\nceilings: {own.read_gbs:.1f} GB/s of reading as many bytes as the weights have{peak}; "
        f"memory beyond the caches: {own.bandwidth_gbs:.1f} GB/s",
        markup=False,
        soft_wrap=True,
    )
    for name, reason in found.refused.items():
        console.print(f"{name} could not be timed: {reason}", markup=False, soft_wrap=True)

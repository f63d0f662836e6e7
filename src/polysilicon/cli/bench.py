"""`polysilicon bench`: how near something comes to what the machine can do."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec
from rich.table import Table

from polysilicon import units
from polysilicon.cli.output import emit_json, json_option, out, progress

if TYPE_CHECKING:
    from polysilicon.runtime.engines.native.bench import Bench


@click.group(epilog="Example:  polysilicon bench engine")
def command() -> None:
    """Measure beside what the machine can do."""


@command.command("engine", epilog="Example:  polysilicon bench engine --html engine.html")
@click.option("--model", help="Model name, .gguf path or URL. Default: smollm2-135m-instruct.")
@click.option("-o", "--output", type=Path, help="Write the rows as a measurement file.")
@click.option("--html", type=Path, help="Write a page with a plot.")
@json_option
def engine(model: str | None, output: Path | None, html: Path | None, as_json: bool) -> None:
    """Time prompts and decoding over lengths and batches, as shares of two measured ceilings.

    Decoding one sequence: memory bandwidth over the bytes of the weights. Prompts: the peak rate
    of 8-bit integers, for which `polysilicon engine build` makes the kernel. The wheel's kernels
    and those built here, a minute each. Nothing else should run meanwhile.
    """
    from polysilicon.catalog.machine import detect  # noqa: PLC0415 - heavy, and not for --help
    from polysilicon.catalog.measurements import write_measurements  # noqa: PLC0415
    from polysilicon.cli.running import fetch_model  # noqa: PLC0415
    from polysilicon.report.engine import write_page  # noqa: PLC0415
    from polysilicon.runtime import models  # noqa: PLC0415
    from polysilicon.runtime.engines.native import bench  # noqa: PLC0415

    fetch_model(model, None)
    path = models.pull(model or models.DEFAULT_MODEL)
    console = progress()
    found = bench.bench(path, detect(), lambda what: console.print(what, markup=False, style="dim"))
    if output is not None:
        write_measurements(bench.measurements(found), output)
    if html is not None:
        write_page(found, html)
    if as_json:
        emit_json(msgspec.to_builtins(found))
    else:
        _print(found)


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
    console.print(f"\nceilings: {own.bandwidth_gbs:.1f} GB/s of memory{peak}", markup=False)
    for name, reason in found.refused.items():
        console.print(f"{name} could not be timed: {reason}", markup=False)

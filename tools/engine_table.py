"""Write the table of `bench engine` into docs/engines.md.

    polysilicon bench engine --json > engine.json
    python tools/engine_table.py engine.json

The rows of `bench engine -o rows.csv` have no ceilings, so that the table is made from the JSON.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import msgspec

from polysilicon.runtime.engines.native.bench import CELLS, WHEEL, Bench, Cell, Row
from polysilicon.runtime.engines.native.search import KERNELS

PAGE = Path(__file__).parents[1] / "docs" / "engines.md"
BEGIN, END = "<!-- tools/engine_table.py -->", "<!-- end -->"
HEAD = "| tokens a second | wheel | built here | ratio | share of the ceiling |"
RULE = "|---|---|---|---|---|"


def table(found: Bench) -> str:
    """Return what was measured, in Markdown: a line about the machine, and a row for each cell."""
    own = found.ceilings
    peak = "" if own.int8_tops is None else f", {own.int8_tops:.2f} TOP/s of 8-bit integers"
    read = f"{own.weight_bytes / 1e6:.1f} MB"
    if own.kv_bytes_per_token:
        read += f"; and {own.kv_bytes_per_token / 1e3:.0f} kB of keys and values a token of context"
    about = (
        f"{found.model} as shipped on {found.cores} cores of `{found.processor}`, {found.date}.\n"
        f"Ceilings, measured in between: {own.read_gbs:.1f} GB/s of reading as many bytes as the "
        f"weights have ({read}){peak}.\n"
        f"Memory beyond the caches: {own.bandwidth_gbs:.1f} GB/s (triad)."
    )
    rows = {(row.cell, row.kernels): row for row in found.rows}
    lines = [
        _line(cell, rows.get((cell.name, WHEEL)), rows.get((cell.name, KERNELS))) for cell in CELLS
    ]
    return "\n".join((about, "", HEAD, RULE, *lines))


def _line(cell: Cell, wheel: Row | None, built: Row | None) -> str:
    """Return the row of a cell; a dash where it was not measured."""
    tokens = next((f"{row.tokens:.0f}" for row in (built, wheel) if row is not None), "?")
    what = f"decoding {cell.sequences} at once, context {tokens}"
    if not cell.sequences:
        what = f"prompt of {tokens} tokens"
    rates = [f"{row.tokens_per_s:,.0f}" if row is not None else "-" for row in (wheel, built)]
    ratio = "-"
    if wheel is not None and built is not None:
        ratio = f"{built.tokens_per_s / wheel.tokens_per_s:.2f}"
    share = built.of_ceiling if built is not None else None
    told = f"{100 * share:.1f} %" if share is not None else "-"
    return "| " + " | ".join((what, *rates, ratio, told)) + " |"


def written(page: str, found: Bench) -> str:
    """Return the page with the table in the place of the one that it has."""
    new = f"{BEGIN}\n{table(found)}\n{END}"
    return re.sub(f"{re.escape(BEGIN)}.*?{re.escape(END)}", lambda _: new, page, flags=re.DOTALL)


def main() -> None:
    """Write it."""
    found = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Bench)
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(written(page, found), encoding="utf-8")


if __name__ == "__main__":
    main()

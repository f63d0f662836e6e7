"""Prints the curves of a run of `posttrain`, and writes them as a page into its folder.

python -m polysilicon.agents.posttrain runs/20260101-120000-posttrain
"""

from __future__ import annotations

import sys
from pathlib import Path

from rich.console import Console

from polysilicon.agents.posttrain import curves
from polysilicon.disk import write_whole
from polysilicon.errors import PolysiliconError
from polysilicon.workload.run_folder import RunFolder


def main(arguments: list[str]) -> int:
    """Print and write; return the exit code."""
    console = Console(width=None if sys.stdout.isatty() else 120)
    try:
        if len(arguments) != 1:
            sys.stderr.write("usage: python -m polysilicon.agents.posttrain RUN\n")
            return 2
        folder = RunFolder(Path(arguments[0]))
        found = curves.curves_of(folder)
        path = folder.path / "posttrain.html"
        write_whole(path, curves.html(found).encode())
    except PolysiliconError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    console.print(curves.page(found))
    console.print(f"page: {path}", markup=False)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

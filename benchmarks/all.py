"""Run every benchmark of this folder, one after the other: `make bench`."""

from __future__ import annotations

import runpy
from pathlib import Path


def main() -> None:
    """Run them by name."""
    here = Path(__file__).resolve()
    for path in sorted(here.parent.glob("*.py")):
        if path != here:
            print(f"\n== {path.name}", flush=True)
            try:
                runpy.run_path(str(path), run_name="__main__")
            except SystemExit as ended:
                # One that lacks what it needs, such as a profile, does not stop the others.
                if ended.code:
                    print(f"{path.name}: {ended}")


if __name__ == "__main__":
    main()

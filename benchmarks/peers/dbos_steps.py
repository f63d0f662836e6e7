"""No-op steps of a DBOS workflow on SQLite: prints seconds in all and of each step, as JSON."""

from __future__ import annotations

import json
import sys
import tempfile
import time

from dbos import DBOS


@DBOS.step()
def nothing(_number: int) -> int:
    """Do nothing."""
    return 1


@DBOS.workflow()
def workflow(steps: int) -> list[float]:
    """Take steps one after the other; return the seconds of each."""
    each = []
    for number in range(steps):
        begin_s = time.perf_counter()
        nothing(number)
        each.append(time.perf_counter() - begin_s)
    return each


def main() -> None:
    """Measure and print."""
    steps = int(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/dbos.sqlite"
        DBOS(
            config={
                "name": "bench",
                "system_database_url": url,
                "run_admin_server": False,
                "log_level": "ERROR",
            }
        )
        DBOS.launch()
        workflow(10)
        begin_s = time.perf_counter()
        each = workflow(steps)
        wall_s = time.perf_counter() - begin_s
        DBOS.destroy()
    print(json.dumps({"wall_s": wall_s, "each_s": each}))


if __name__ == "__main__":
    main()

"""How many tools beside the engine's threads: throughput and latency by the share that is theirs.

While the engine computes it has its threads' cores of the one budget (`runtime/cores.py`). Tools
that nobody waits for may fill the rest, or a share of all cores where that is more. Turns with
different shares are mixed, over tasks that are all there at t = 0: `search`, of `search_agent.py`,
and `bundled`, of the four bundled agents. With the share 1 the engine's threads are not counted.

    python benchmarks/core_budget.py [--tasks 48] [--turns 5] [--shares 1,0.5,0]
"""

from __future__ import annotations

import argparse
import statistics
import sys

import numpy as np
from rich.console import Console
from rich.table import Table

from agents import BUNDLED, SEARCH
from contenders import ours, tasks_of
from polysilicon.runtime import cores

LOADS = {"search": SEARCH, "bundled": BUNDLED}
Figures = tuple[float, float, float]
"""Median and 90th percentile of seconds, and tasks a minute."""


def turn(load: str, count: int, share: float) -> Figures:
    """Run the tasks of a load once."""
    cores.LEAST = share
    each_s = ours(tasks_of(LOADS[load], count)).each_s
    p50_s, p90_s = np.percentile(each_s, [50, 90])
    return float(p50_s), float(p90_s), 60 * count / max(each_s)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--tasks", type=int, default=48, help="of a turn")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument(
        "--shares", default="1,0.5,0", help="of the cores; the first is compared to"
    )
    parser.add_argument("--loads", default="search,bundled")
    asked = parser.parse_args()
    shares = [float(word) for word in asked.shares.split(",")]
    title = f"medians of {asked.turns} turns of {asked.tasks} tasks"
    headings = ("load", "tools may fill", "P50 s", "P90 s", "tasks/min", "P50 is", "tasks/min are")
    table = Table(*headings, title=title)
    for load in asked.loads.split(","):
        found: dict[float, list[Figures]] = {share: [] for share in shares}
        for number in range(asked.turns):
            for share, turns in found.items():
                print(f"{load}, turn {number + 1}: {share:g}", file=sys.stderr, flush=True)
                turns.append(turn(load, asked.tasks, share))
        middle = {share: [statistics.median(column) for column in zip(*turns, strict=True)]
                  for share, turns in found.items()}  # fmt: skip
        base = middle[shares[0]]
        for share, (p50_s, p90_s, rate) in middle.items():
            table.add_row(
                load, f"{share:.0%} of the cores", f"{p50_s:.2f}", f"{p90_s:.2f}", f"{rate:.0f}",
                f"{p50_s / base[0]:.2f} x", f"{rate / base[2]:.2f} x",
            )  # fmt: skip
    Console(width=110).print(table)


if __name__ == "__main__":
    main()

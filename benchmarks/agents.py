"""Agents, many at once: this runtime beside multiprocessing pools that ask the same engine.

Loads: `search`, B tasks at t = 0 of an agent as in arXiv 2511.00739 (`search_agent.py`); `bundled`,
B tasks at t = 0 of the four bundled agents, mixed; `poisson`, tasks of the first agent that arrive
by a Poisson process at 90 % of the rate at which the pool of 8 ends them at best. The pools run the
same functions, a task a process at a time, and ask the same engine, with the same slots, threads
and kernels, over its endpoint on loopback: one pool has a process for each task, as that paper's
baseline has (not where tasks arrive, which would be hundreds), the other as many as the engine has
slots. Pools are warm before t = 0. Turns of all are mixed; the machine should do nothing else.

How long tasks of each agent take, this runtime keeps from run to run. It knows it of some tasks
that ran before, but in `first run`: of the mix, where it orders the tasks. (What was kept on this
machine is removed.)

`P50 at best` is what no order of the tasks can beat, by the core-seconds that this runtime used for
them (`bound.py`): the P50 of a pool over it is the most that any order could gain.

Each turn's figures are added to a file, so that a benchmark that was cut off, or whose minutes are
over, goes on where it was when it is started again:

    python benchmarks/agents.py                      build/agents.jsonl; 20 minutes of what is left
    python benchmarks/agents.py FILE --minutes 120   of another file, and for longer
    python benchmarks/agents.py FILE --minutes 0 --docs docs     measures nothing, writes the page

What another version or machine measured does not belong into the same file: remove it first.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from agents_page import FIRST, OF_SLOTS, OF_TASKS, OURS, Turn, page, plot, show
from bound import least_s
from contenders import SLOTS, Pool, Ran, Task, ours, tasks_of
from polysilicon.runtime.machine import cores
from rounds import keep, kept

SEARCH = ("search_agent:ANSWER",)
BUNDLED = ("support", "coder", "researcher", "pipeline")
AGENTS = {"search": SEARCH, "bundled": BUNDLED, "poisson": SEARCH}
NEAR, BEST_OF = 0.9, 2
Cell = tuple[str, int, str, int]
"""Load, tasks, who, and the number of the turn."""


def cells(loads: list[str], sizes: list[int], arriving: int, turns: int) -> Iterator[Cell]:
    """Yield what is to be measured: the first two sizes first, in turns that go through all."""
    for first, group in ((True, sizes[:2]), (False, sizes[2:])):
        for load in loads:
            counts = group if load != "poisson" else [arriving] * first
            for turn in range(turns):
                for count in counts:
                    # As many processes as slots are more than enough for fewer tasks.
                    who = (OURS, OF_SLOTS, OF_TASKS) if count > SLOTS else (OURS, OF_SLOTS)
                    who = (FIRST, *who) if load == "bundled" and count > SLOTS else who
                    who = (OURS, OF_SLOTS) if load == "poisson" else who
                    yield from ((load, count, name, turn) for name in who)


def rate_per_s(known: list[Turn], tasks: list[Task]) -> float:
    """Return at what rate tasks arrive: that of before, or near what the pool of 8 can do.

    It is asked for these very tasks: the more of them are alike, the more it finds in its cache.
    """
    before = [turn.rate_per_s for turn in known if turn.rate_per_s]
    if before:
        return before[0]
    rates = []
    for _ in range(BEST_OF):
        print("how many a pool of 8 ends in a second", file=sys.stderr, flush=True)
        rates.append(len(tasks) / max(Pool(SEARCH, SLOTS).run(tasks)))
    return NEAR * max(rates)


def measured(cell: Cell, known: list[Turn]) -> Turn:
    """Run the tasks of a cell once."""
    load, count, who, number = cell
    tasks: list[Task] = tasks_of(AGENTS[load], count)
    gaps_s, rate = None, None
    if load == "poisson":
        rate, rng = rate_per_s(known, tasks), random.Random(7)
        gaps_s = [rng.expovariate(rate) for _ in tasks]
    if who in (OURS, FIRST):
        ran = ours(tasks, gaps_s, known=who == OURS)
    else:
        processes = SLOTS if who == OF_SLOTS else count
        ran = Ran(Pool(AGENTS[load], processes).run(tasks, gaps_s), [])
    p50_s, p90_s = np.percentile(ran.each_s, [50, 90])
    return Turn(
        load=load, tasks=count, who=who, turn=number, p50_s=float(p50_s), p90_s=float(p90_s),
        last_s=max(ran.each_s), rate_per_s=rate,
        least_s=least_s(ran.core_s, cores(), 50) if ran.core_s else None,
    )  # fmt: skip


def measure(path: Path, todo: list[Cell], minutes: float) -> None:
    """Measure what the file does not have yet, until the minutes are over."""
    known = kept(path, Turn)
    done = {(turn.load, turn.tasks, turn.who, turn.turn) for turn in known}
    left = [cell for cell in todo if cell not in done]
    until_s = time.monotonic() + 60 * minutes
    path.parent.mkdir(parents=True, exist_ok=True)
    for at, cell in enumerate(left):
        if time.monotonic() >= until_s:
            print(f"{len(left) - at} of {len(todo)} turns are left: start it again to go on")
            return
        load, count, who, number = cell
        what = f"{load}, {count} tasks, turn {number + 1}: {who}"
        print(f"{len(todo) - len(left) + at + 1} of {len(todo)}: {what}",
              file=sys.stderr, flush=True)  # fmt: skip
        known.append(measured(cell, known))
        keep(path, known[-1])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("file", nargs="?", type=Path, default=Path("build/agents.jsonl"))
    parser.add_argument("--loads", default="search,poisson,bundled")
    parser.add_argument("--sizes", default="64,128,32,16,8,4,2,1", help="tasks at t = 0")
    parser.add_argument("--arriving", type=int, default=200, help="tasks of `poisson`")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--minutes", type=float, default=20.0, help="begin no turn after so many")
    parser.add_argument("--docs", type=Path, help="write running_agents.md and its plots there")
    asked = parser.parse_args()
    sizes = [int(size) for size in asked.sizes.split(",")]
    todo = list(cells(asked.loads.split(","), sizes, asked.arriving, asked.turns))
    measure(asked.file, todo, asked.minutes)
    known = kept(asked.file, Turn)
    show(known)
    if asked.docs:
        (asked.docs / "running_agents.md").write_text(page(known))
        folder = asked.docs / "running_agents"
        folder.mkdir(exist_ok=True)
        for load in ("search", "bundled"):
            if any(turn.load == load for turn in known):
                (folder / f"{load}.svg").write_text(plot(known, load))


if __name__ == "__main__":
    main()

"""Agents, many at once: this runtime beside multiprocessing pools that ask the same engine.

Three loads: `search`, B tasks at t = 0 of an agent as in arXiv 2511.00739 (`search_agent.py`);
`bundled`, B tasks at t = 0 of the four bundled agents, mixed; `poisson`, tasks of the first agent
that arrive by a Poisson process at 90 % of the rate at which the pool of 8 ends them at best. The
pools run the same functions, a task a process at a time, and ask the same engine, with the same
slots, threads and kernels, over its endpoint on loopback: one pool has a process for each task, as
that paper's baseline has, the other as many as the engine has slots. Pools are warm before t = 0.
Turns are mixed and medians shown; the machine should do nothing else.

    python benchmarks/agents.py [--loads search,poisson] [--tasks 8,64] [--repeats 5]
                                [-o FILE.json] [--plot FILE.svg]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

import plain
from open_load import Load
from polysilicon.catalog.policy import Policy
from polysilicon.report.loglog import Axis, Plot, axis_around
from polysilicon.runtime import assets
from polysilicon.runtime.engines.llamacpp import LlamaCpp
from polysilicon.runtime.engines.native.choice import chosen
from polysilicon.runtime.executor import Workers
from polysilicon.runtime.loader import load_agent, sample_inputs
from polysilicon.runtime.machine import cores
from polysilicon.runtime.models import DEFAULT_MODEL
from polysilicon.runtime.run import Job, Run, RunOptions
from polysilicon.runtime.setup import AgentSetup

SLOTS = 8
SEARCH = "search_agent:ANSWER"
BUNDLED = ("support", "coder", "researcher", "pipeline")
OURS, OF_SLOTS, OF_TASKS = "Polysilicon", f"pool of {SLOTS}", "pool of B"
NEAR = 0.9
Task = tuple[str, dict[str, Any]]
"""How an agent is named, and an input of it."""


def tasks_of(agents: Sequence[str], count: int) -> list[Task]:
    """Return tasks, the agents taking turns, each over its own inputs again and again."""
    inputs = {given: list(sample_inputs(load_agent(given))) for given in agents}
    return [
        (given, inputs[given][n // len(agents) % len(inputs[given])])
        for n, given in zip(range(count), list(agents) * count, strict=False)
    ]


def ours(tasks: Sequence[Task]) -> list[float]:
    """Run tasks that are all there at t = 0; seconds from then to the end of each."""
    by_agent: dict[str, list[dict[str, Any]]] = {}
    for given, value in tasks:
        by_agent.setdefault(given, []).append(value)
    jobs = [
        Job(agent=load_agent(given), given_as=given, inputs=values)
        for given, values in by_agent.items()
    ]
    with tempfile.TemporaryDirectory() as folder:
        done = asyncio.run(Run(Path(folder), jobs, RunOptions()).execute()).tasks()
    assert all(task.ok for task in done), next(task.error for task in done if not task.ok)
    return [task.end_s - task.arrival_s for task in done]


def ours_arriving(tasks: Sequence[Task], gaps_s: Sequence[float]) -> list[float]:
    """Run tasks that arrive one by one; seconds that each was there."""

    async def main() -> list[float]:
        agent = load_agent(tasks[0][0])
        with tempfile.TemporaryDirectory() as folder:
            async with Load(Path(folder), [agent], Policy()) as load:
                return await load.arriving(agent, [value for _, value in tasks], gaps_s)

    return asyncio.run(main())


class Pool:
    """Processes that each run one task after the other.

    Args:
        agents: that tasks may be of.
        processes: how many.
    """

    def __init__(self, agents: Sequence[str], processes: int) -> None:
        path = assets.fetch(DEFAULT_MODEL)
        self._llama = LlamaCpp(path, concurrency=SLOTS, setup=chosen(path, cores()).setup)
        self._engine = plain.Engine(self._llama.address, self._llama.key, DEFAULT_MODEL)
        self._scratch = tempfile.TemporaryDirectory()
        self._folder = Path(self._scratch.name)
        asyncio.run(self._prepared(agents))
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["plain", "search_agent", "polysilicon.runtime.context"])
        self._workers = context.Pool(processes, plain.warm, (list(agents),))
        self._workers.map(time.sleep, [0.2] * processes, chunksize=1)  # not before all are there

    async def _prepared(self, agents: Sequence[str]) -> None:
        workers = Workers(cores())
        for given in agents:
            agent = load_agent(given)
            folder = self._folder / "agents" / agent.name
            folder.mkdir(parents=True)
            if agent.prepare is not None:
                await agent.prepare(AgentSetup(folder, workers))
        await workers.close()

    def run(self, tasks: Sequence[Task], gaps_s: Sequence[float] | None = None) -> list[float]:
        """Run tasks; seconds from the arrival of each to its end. Then end the pool."""
        begin_s, asked = time.monotonic(), []
        at_s = begin_s
        for number, (given, value) in enumerate(tasks):
            if gaps_s is not None:
                at_s += gaps_s[number]
                time.sleep(max(0.0, at_s - time.monotonic()))
            arguments = (given, self._engine, self._folder, f"t{number}", value)
            asked.append((at_s, self._workers.apply_async(plain.task, arguments)))
        try:
            return [result.get() - arrival_s for arrival_s, result in asked]
        finally:
            self._workers.terminate()
            self._workers.join()
            asyncio.run(self._llama.close())
            self._scratch.cleanup()


Way = Callable[[], list[float]]


def ways(tasks: Sequence[Task], gaps_s: Sequence[float] | None = None) -> dict[str, Way]:
    """Return who runs the tasks, and how."""
    agents = list(dict.fromkeys(given for given, _ in tasks))
    run = (lambda: ours(tasks)) if gaps_s is None else (lambda: ours_arriving(tasks, gaps_s))
    return {
        OURS: run,
        OF_SLOTS: lambda: Pool(agents, SLOTS).run(tasks, gaps_s),
        OF_TASKS: lambda: Pool(agents, len(tasks)).run(tasks, gaps_s),
    }


Figures = dict[str, dict[str, float]]


def measured(what: str, who: dict[str, Way], repeats: int) -> Figures:
    """Measure: who → median figures."""
    turns: dict[str, list[list[float]]] = {name: [] for name in who}
    for number in range(repeats):
        for name, run in who.items():
            print(f"{what}, turn {number + 1} of {repeats}: {name}", file=sys.stderr, flush=True)
            each_s = run()
            p50, p90 = np.percentile(each_s, [50, 90])
            turns[name].append([float(p50), float(p90), 60 * len(each_s) / max(each_s)])
    names = ("p50_s", "p90_s", "tasks_per_min")
    return {
        name: dict(zip(names, map(statistics.median, zip(*rows, strict=True)), strict=True))
        for name, rows in turns.items()
    }


def show(found: dict[str, Figures]) -> None:
    """Print the table."""
    table = Table(title="medians; `is less` tells how many times less ours is")
    for heading in ("load", "who", "P50 s", "P90 s", "tasks/min", "P50 is less", "P90 is less"):
        table.add_column(heading)
    for what, by_name in found.items():
        mine = by_name[OURS]
        for name, row in by_name.items():
            figures = [f"{row[key]:.2f}" for key in ("p50_s", "p90_s")]
            ratios = [f"{row[key] / mine[key]:.2f} x" for key in ("p50_s", "p90_s")]
            rate = "" if what.startswith("poisson") else f"{row['tasks_per_min']:.0f}"
            table.add_row(what, name, *figures, rate, *(["", ""] if row is mine else ratios))
    Console(width=100).print(table)


_COLOURS = {OURS: "#009e73", OF_SLOTS: "#0072b2", OF_TASKS: "#c77700"}


def plot(found: dict[str, Figures]) -> str:
    """Return the medians of the tasks at t = 0 over their number, as SVG."""
    rows = {int(what.split()[-1]): by for what, by in found.items() if what.startswith("search")}
    times_s = [by[name]["p50_s"] for by in rows.values() for name in by]
    x = Axis(low=min(rows) / 1.2, high=max(rows) * 1.6, title="tasks at t = 0", words="{:g}".format)
    y = axis_around(times_s, "seconds until half of them had ended", "{:g}".format)
    chart, shapes = Plot(x=x, y=y), []
    style = "svg{background:#fff;font:11px system-ui,sans-serif}.tick{fill:#5b6470}"
    style += ".grid{stroke:#e3e7ec;fill:none}.key{font-weight:600}"
    for place, (name, colour) in enumerate(_COLOURS.items()):
        style += f".l{place}{{stroke:{colour};stroke-width:2;fill:none}}.f{place}{{fill:{colour}}}"
        points = [(float(count), by[name]["p50_s"]) for count, by in sorted(rows.items())]
        shapes += [chart.line(points, f"l{place}"), *(chart.dot(p, f"f{place}") for p in points)]
        at = (x.low * 1.1, y.high * (y.low / y.high) ** (0.06 + 0.06 * place))
        shapes.append(chart.words(at, name, f"key f{place}"))
    label = "median of tasks at t = 0 over their number, for this runtime and two process pools"
    return str(chart.svg(label, shapes, style))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--loads", default="search,bundled,poisson")
    parser.add_argument("--tasks", default="8,64,128", help="of `search` at once, comma between")
    parser.add_argument("--bundled", type=int, default=32, help="tasks of `bundled` at once")
    parser.add_argument("--arriving", type=int, default=100, help="tasks of `poisson`")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("-o", "--output", type=Path, help="the figures as JSON")
    parser.add_argument("--plot", type=Path, help="medians of `search` as SVG")
    asked = parser.parse_args()
    loads, found = asked.loads.split(","), {}
    for count in [int(n) for n in asked.tasks.split(",")] if "search" in loads else []:
        who = ways(tasks_of([SEARCH], count))
        found[f"search {count}"] = measured(f"search {count}", who, asked.repeats)
    if "bundled" in loads:
        who = ways(tasks_of(BUNDLED, asked.bundled))
        found[f"bundled {asked.bundled}"] = measured("bundled", who, asked.repeats)
    if "poisson" in loads:
        best = max(
            (by[OF_SLOTS]["tasks_per_min"] for what, by in found.items() if "search" in what),
            default=None,
        )
        if best is None:
            probe = Pool([SEARCH], SLOTS).run(tasks_of([SEARCH], 4 * SLOTS))
            best = 60 * len(probe) / max(probe)
        rng, rate_per_s = random.Random(7), NEAR * best / 60
        gaps_s = [rng.expovariate(rate_per_s) for _ in range(asked.arriving)]
        what = f"poisson {rate_per_s:.2g}/s"
        found[what] = measured(
            what, ways(tasks_of([SEARCH], asked.arriving), gaps_s), asked.repeats
        )
    show(found)
    if asked.output:
        asked.output.write_text(json.dumps(found, indent=1))
    if asked.plot:
        asked.plot.write_text(plot(found))


if __name__ == "__main__":
    main()

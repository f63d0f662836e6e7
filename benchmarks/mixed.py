"""Somebody waits beside batch work: what that does to the tail, and how busy the cores are.

Interactive tasks arrive by a Poisson process: each searches an index and calls a function of 30 ms;
with `--chat` it also asks the model for eight tokens. First alone, then beside a backlog of batch
tasks that could take every core. Turns are mixed. Busy is the share of the cores' seconds that the
run's processes used while the interactive tasks arrived, and of that what batch work had.

    python benchmarks/mixed.py [--tasks 300] [--rate 4] [--repeats 3] [--chat] [-o FILE.json]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from rich.console import Console
from rich.table import Table

from open_load import Load
from polysilicon import Agent, Context
from polysilicon.agents.researcher.corpus import read_library, read_questions
from polysilicon.catalog.policy import Policy, Slo
from polysilicon.runtime.types import Document, Setup

POLICY = Policy(slo=(Slo(agent="person", p99_s=1.0, interactive=True),))
BATCH_S = 0.2
AT_ONCE = 16


def work(seconds: float, text: str) -> dict[str, int]:
    """Use a core for so many core-seconds: count words over and over."""
    counted: Counter[str] = Counter()
    until_s = time.process_time() + seconds
    while time.process_time() < until_s:
        counted.update(text.split())
    return dict(counted.most_common(3))


async def prepare(setup: Setup) -> None:
    """Build the index."""
    await setup.index("stdlib", (Document(**row) for row in read_library()))


async def person(ctx: Context, value: dict[str, Any]) -> list[str]:
    """What somebody waits for."""
    hits = await ctx.search("stdlib", value["question"], k=3)
    await ctx.call(work, 0.03, hits[0].text)
    if value["chat"]:
        asked = f"{hits[0].text[:200]}\n{value['question']}"
        await ctx.chat([{"role": "user", "content": asked}], max_tokens=8)
    return [hit.id for hit in hits]


async def batch(ctx: Context, value: dict[str, Any]) -> None:
    """What nobody waits for."""
    for step in range(5):
        await ctx.call(work, BATCH_S, f"{value['question']} {step}")


PERSON = Agent(name="person", run=person, prepare=prepare)
BATCH = Agent(name="batch", run=batch)


def core_s() -> float:
    """Return the core-seconds that this process and those below it have used so far."""
    this = psutil.Process()
    times = [process.cpu_times() for process in (this, *this.children(recursive=True))]
    return sum(one.user + one.system for one in times)


async def turn(
    folder: Path, asked: argparse.Namespace, *, loaded: bool
) -> tuple[list[float], float]:
    """Return how long each interactive task took, and the share of the cores that was busy."""
    rng = random.Random(asked.tasks)
    questions = [row["question"] for row in read_questions()]
    async with Load(folder, [PERSON, BATCH], POLICY) as load:
        done = asyncio.Event()

        async def line(number: int) -> None:
            while not done.is_set():
                await load.task(BATCH, {"question": questions[number % len(questions)]})

        for warm in range(3):
            await load.task(PERSON, {"question": questions[warm], "chat": asked.chat})
        lines = [asyncio.create_task(line(n)) for n in range(AT_ONCE if loaded else 0)]
        await asyncio.sleep(2.0 if loaded else 0.0)
        begin_s, begin_cpu_s = time.monotonic(), core_s()
        values = [{"question": questions[n % len(questions)], "chat": asked.chat}
                  for n in range(asked.tasks)]  # fmt: skip
        gaps_s = [rng.expovariate(asked.rate) for _ in values]
        each_s = await load.arriving(PERSON, values, gaps_s)
        busy = (core_s() - begin_cpu_s) / (time.monotonic() - begin_s) / load.cores
        done.set()
        await asyncio.gather(*lines)
    return each_s, busy


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--tasks", type=int, default=300, help="interactive tasks of a turn")
    parser.add_argument("--rate", type=float, default=4.0, help="of them a second")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--chat", action="store_true", help="they ask the model, too")
    parser.add_argument("-o", "--output", type=Path, help="the figures as JSON")
    asked = parser.parse_args()
    rows: dict[bool, list[tuple[float, float, float]]] = {False: [], True: []}
    for number in range(asked.repeats):
        for loaded, found in rows.items():
            what = "beside batch work" if loaded else "alone"
            print(f"turn {number + 1} of {asked.repeats}: {what}", flush=True)
            with tempfile.TemporaryDirectory() as folder:
                each_s, busy = asyncio.run(turn(Path(folder), asked, loaded=loaded))
            p50, p99 = np.percentile(each_s, [50, 99])
            found.append((float(p50), float(p99), busy))
    middle = {loaded: [statistics.median(column) for column in zip(*found, strict=True)]
              for loaded, found in rows.items()}  # fmt: skip
    table = Table(title=f"{asked.tasks} interactive tasks, {asked.rate:g} a second")
    for heading in ("they run", "P50 ms", "P99 ms", "P99 is", "cores busy"):
        table.add_column(heading)
    for loaded, (p50, p99, busy) in middle.items():
        ratio = f"{p99 / middle[False][1]:.2f} x" if loaded else ""
        name = "beside batch work" if loaded else "alone"
        table.add_row(name, f"{1e3 * p50:.0f}", f"{1e3 * p99:.0f}", ratio, f"{busy:.0%}")
    Console(width=100).print(table)
    if asked.output:
        names = ("p50_s", "p99_s", "busy")
        told = {("loaded" if k else "alone"): dict(zip(names, v, strict=True))
                for k, v in middle.items()}  # fmt: skip
        asked.output.write_text(json.dumps(told, indent=1))


if __name__ == "__main__":
    main()

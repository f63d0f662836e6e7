"""Search-and-summarise agents, B at once: this runtime beside a multiprocessing pool.

Each task searches an index, ranks the sentences of what it finds (LexRank, which is CPU work), and
lets the model answer from them: the shape of the LangChain workload of arXiv 2511.00739. All arrive
at t = 0. The pools run the same functions, a task a process at a time, and ask the same engine,
with the same slots and threads, over its endpoint on loopback: one pool has a process for each
task, as that paper's baseline has, the other as many as the engine has slots. Pools are warm before
t = 0. Turns are mixed and medians shown; the machine should do nothing else.

    python benchmarks/agents.py [--tasks 8,32] [--repeats 5] [-o FILE.json]
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import json
import math
import multiprocessing
import re
import statistics
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from rich.console import Console
from rich.table import Table

from polysilicon import Agent, Context
from polysilicon.agents.researcher.corpus import read_library, read_questions
from polysilicon.runtime import assets, search
from polysilicon.runtime.engines.llamacpp import LlamaCpp
from polysilicon.runtime.run import Job, Run, RunOptions
from polysilicon.runtime.types import Document

MODEL = "smollm2-135m-instruct"
SLOTS = 8
FOUND, KEPT = 320, 3
ANSWER_TOKENS = 48
_INDEXES: dict[str, search.Index] = {}


def summarise(folder: str, question: str) -> str:
    """Return the sentences that say most of what a search finds: LexRank.

    Sentences are ranked by the stationary distribution of a walk over their similarities, cosines
    of TF-IDF (Erkan & Radev, J. Artificial Intelligence Research 22 (2004), section 3).
    """
    if folder not in _INDEXES:
        _INDEXES[folder] = search.open_index(Path(folder))
    hits = _INDEXES[folder].search(question, FOUND)
    sentences = [
        s.strip() for hit in hits for s in re.split(r"(?<=[.!?])\s+", hit.text) if s.strip()
    ]
    bags = [Counter(re.findall(r"\w+", sentence.lower())) for sentence in sentences]
    seen = Counter(word for bag in bags for word in bag)
    weights = {word: math.log(len(bags) / n) for word, n in seen.items()}
    norms = [math.sqrt(sum((n * weights[w]) ** 2 for w, n in bag.items())) for bag in bags]
    alike = np.eye(len(bags))
    for i, one in enumerate(bags):
        for j in range(i):
            common = one.keys() & bags[j].keys()
            dot = sum(one[w] * bags[j][w] * weights[w] ** 2 for w in common)
            alike[i, j] = alike[j, i] = dot / (norms[i] * norms[j] or 1.0)
    walk = 0.85 * alike / alike.sum(axis=0) + 0.15 / len(bags)
    rank = np.full(len(bags), 1.0 / len(bags))
    for _ in range(50):
        rank = walk @ rank
    return " ".join(sentences[i] for i in sorted(np.argsort(-rank)[:KEPT]))[:1500]


def messages(question: str, summary: str) -> list[dict[str, str]]:
    """Return what the model is asked."""
    return [
        {"role": "system", "content": "Answer from the notes, in one sentence."},
        {"role": "user", "content": f"Notes: {summary}\n\nQuestion: {question}"},
    ]


async def answer(ctx: Context, value: dict[str, Any]) -> str:
    """The agent."""
    summary = await ctx.call(summarise, value["index"], value["question"])
    asked = messages(value["question"], summary)
    return (await ctx.chat(asked, max_tokens=ANSWER_TOKENS)).text


def ours(inputs: list[dict[str, Any]]) -> list[float]:
    """Run the tasks here; seconds from t = 0 to the end of each."""
    agent = Agent(name="answer", run=answer)
    with tempfile.TemporaryDirectory() as folder:
        job = Job(agent=agent, given_as="answer", inputs=inputs)
        done = asyncio.run(Run(Path(folder), [job], RunOptions()).execute()).tasks()
        assert all(task.ok for task in done), next(task.error for task in done if not task.ok)
        return [task.end_s - task.arrival_s for task in done]


def in_process(address: str, key: str, value: dict[str, Any]) -> float:
    """One task as a process of a pool does it; when it ended."""
    summary = summarise(value["index"], value["question"])
    body = {
        "model": MODEL, "messages": messages(value["question"], summary),
        "max_tokens": ANSWER_TOKENS, "temperature": 0.0,
    }  # fmt: skip
    headers = {"Authorization": f"Bearer {key}"}
    reply = httpx.post(f"{address}/chat/completions", json=body, headers=headers, timeout=900.0)
    reply.raise_for_status()
    return time.monotonic()


def _warm(index: str) -> None:
    _INDEXES[index] = search.open_index(Path(index))


def pool(inputs: list[dict[str, Any]], processes: int) -> list[float]:
    """Run the tasks in a pool; seconds from t = 0 to the end of each."""
    engine = LlamaCpp(assets.fetch(MODEL), concurrency=SLOTS)
    work = functools.partial(in_process, engine.address, engine.key)
    context = multiprocessing.get_context("spawn")
    try:
        with context.Pool(processes, _warm, (inputs[0]["index"],)) as workers:
            # Not before all processes are there.
            workers.map(time.sleep, [0.5] * processes, chunksize=1)
            begin_s = time.monotonic()
            ends = list(workers.imap_unordered(work, inputs, chunksize=1))
    finally:
        asyncio.run(engine.close())
    return [end_s - begin_s for end_s in ends]


Found = dict[int, dict[str, dict[str, float]]]


def measured(index: str, counts: list[int], repeats: int) -> Found:
    """Measure: tasks at once → who → median figures."""
    questions = [row["question"] for row in read_questions()]
    found: Found = {}
    for count in counts:
        inputs = [{"index": index, "question": questions[n % len(questions)]} for n in range(count)]
        who = {
            "Polysilicon": ours,
            f"pool of {SLOTS}": functools.partial(pool, processes=SLOTS),
            "pool of B": functools.partial(pool, processes=count),
        }
        turns: dict[str, list[tuple[float, float, float]]] = {name: [] for name in who}
        for number in range(repeats):
            for name, run in who.items():
                print(f"B = {count}, turn {number + 1} of {repeats}: {name}", flush=True)
                each = run(inputs)
                p50, p90 = np.percentile(each, [50, 90])
                turns[name].append((float(p50), float(p90), 60 * count / max(each)))
        found[count] = {
            name: dict(
                zip(
                    ("p50_s", "p90_s", "tasks_per_min"),
                    (statistics.median(column) for column in zip(*rows, strict=True)),
                    strict=True,
                )
            )
            for name, rows in turns.items()
        }
    return found


def show(found: Found) -> None:
    """Print the table."""
    table = Table(title="search and summarise, all tasks at t = 0")
    for heading in ("B", "who", "P50 s", "P90 s", "tasks/min", "our P50 is", "our P90 is"):
        table.add_column(heading)
    for count, by_name in found.items():
        mine = by_name["Polysilicon"]
        for name, row in by_name.items():
            ratios = ["", ""]
            if row is not mine:
                ratios = [f"{row[key] / mine[key]:.2f} x less" for key in ("p50_s", "p90_s")]
            figures = [f"{row[key]:.2f}" for key in ("p50_s", "p90_s")]
            table.add_row(str(count), name, *figures, f"{row['tasks_per_min']:.0f}", *ratios)
    Console(width=100).print(table)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--tasks", default="8,32", help="tasks at once, comma between")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("-o", "--output", type=Path, help="the figures as JSON")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        index = Path(folder) / "index"
        search.build(index, (Document(**row) for row in read_library()))
        found = measured(str(index), [int(n) for n in asked.tasks.split(",")], asked.repeats)
    show(found)
    if asked.output:
        asked.output.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()

"""Fleets and workloads that tests of the simulator and of placement share."""

from __future__ import annotations

import numpy as np

from polysilicon.catalog.fleet import Fleet, Pool
from polysilicon.workload.record import StepRecord
from polysilicon.workload.workload import Workload

MODEL = "llama-3.1-8b-instruct"
TOOLS = Pool(name="tools", offer="aws/m9g.2xlarge", region="us-east-1", serves=("tool:*",))
LLM = Pool(
    name="llm",
    offer="aws/g6.xlarge",
    region="us-east-1",
    serves=(f"llm:{MODEL}",),
    engine="openai",
    concurrency=8,
)
FLEET = Fleet(pool=(TOOLS, LLM))


def chat(task: str, step: str, arrival_s: float, **more: object) -> StepRecord:
    """Return an LLM step."""
    given = {"prompt_tokens": 500, "output_tokens": 50, "agent": "a", "parent_ids": ()} | more
    return StepRecord(
        task_id=task,
        step_id=step,
        name="chat",
        kind="llm",
        model=MODEL,
        arrival_s=arrival_s,
        **given,
    )


def tool(task: str, step: str, arrival_s: float, **more: object) -> StepRecord:
    """Return a tool step, whose core-seconds were spent where core speed is 1."""
    given = {"cpu_s": 1.0, "offer": "aws/m7g.large", "agent": "a", "parent_ids": ()} | more
    return StepRecord(
        task_id=task, step_id=step, name="search", kind="tool", arrival_s=arrival_s, **given
    )


def tasks(count: int, rate_per_s: float, seed: int = 0) -> Workload:
    """Return tasks of a prompt, two tools at once and an answer, arriving at random."""
    rng = np.random.default_rng(seed)
    arrivals = np.cumsum(rng.exponential(1.0 / rate_per_s, count))
    steps = []
    for number, at in enumerate(arrivals.tolist()):
        task = f"t{number:05d}"
        prompt = int(rng.integers(50, 2000))
        steps += [
            chat(task, "1", at, prompt_tokens=prompt, output_tokens=int(rng.integers(2, 200))),
            tool(task, "2", at, parent_ids=("1",), cpu_s=float(rng.exponential(0.5))),
            tool(task, "3", at, parent_ids=("1",), cpu_s=float(rng.exponential(0.5)), wait_s=0.2),
            chat(task, "4", at, parent_ids=("2", "3"), prompt_tokens=prompt + 300,
                 cached_tokens=prompt, output_tokens=20),
        ]  # fmt: skip
    return Workload.from_records(steps)

"""Small workloads to place: tasks that ask a model, run a tool, and ask again."""

from __future__ import annotations

import numpy as np

from polysilicon.workload.record import StepRecord
from polysilicon.workload.workload import Workload

MODEL = "qwen3-4b"
SMALL = ("aws/m9g.2xlarge", "azure/Standard_D8ps_v6", "gcp/g2-standard-4", "aws/inf2.xlarge")
"""Two CPU offers, a GPU and an ASIC, of three vendors."""


def steps(
    tasks: int = 60,
    rate: float = 1.0,
    agent: str = "helper",
    data_class: str | None = None,
    seed: int = 0,
) -> list[StepRecord]:
    """Return the steps of tasks that arrive evenly: model, tool, a person's pause, model."""
    rng = np.random.default_rng(seed)
    found = []
    for task in range(tasks):
        new, out = int(rng.integers(200, 1800)), int(rng.integers(20, 250))
        common = {
            "task_id": f"{agent}{task}",
            "agent": agent,
            "arrival_s": task / rate,
            "data_class": data_class,
        }
        ask = {"name": "chat", "kind": "llm", "model": MODEL, "output_tokens": out}
        found += [
            StepRecord(step_id="0", prompt_tokens=new, **ask, **common),
            StepRecord(
                step_id="1",
                parent_ids=("0",),
                name="shell",
                kind="tool",
                cpu_s=float(rng.lognormal(-1.0, 0.5)),
                offer="aws/m7g.xlarge",
                wait_s=0.05,
                **common,
            ),
            StepRecord(
                step_id="2", parent_ids=("1",), name="person", kind="tool", wait_s=600.0, **common
            ),
            StepRecord(
                step_id="3",
                parent_ids=("2",),
                prompt_tokens=new + out + 100,
                cached_tokens=new,
                **ask,
                **common,
            ),
        ]
    return found


def workload(**asked: object) -> Workload:
    """Return `steps` as a workload."""
    return Workload.from_records(steps(**asked))  # type: ignore[arg-type]

"""A seeded run of four agents, for reports to show: queueing, failures, hostile text."""

from __future__ import annotations

import random
from pathlib import Path

import msgspec

from polysilicon.workload.record import RunInfo, StepRecord, TaskRecord
from polysilicon.workload.run_folder import RunFolder

HOSTILE = (
    '</pre><script>alert("x")</script><img src=x onerror=alert(1)> \u202egnp.exe \x00 & "quoted"'
)
MODEL = "smollm2-135m-instruct"

# agent → (steps of one round, rounds, share of tasks that fail)
AGENTS = {
    "support": (("llm:classify", "tool:order", "tool:search", "llm:reply"), (1, 1), 0.05),
    "coder": (("llm:chat", "tool:code"), (1, 4), 0.3),
    "researcher": (("llm:plan", "tool:search", "tool:read", "llm:answer"), (1, 2), 0.1),
    "pipeline": (
        ("tool:read", "tool:clean", "tool:chunk", "embed:embed", "tool:index"),
        (1, 3),
        0.0,
    ),
}
SECONDS = {"llm": 1.6, "embed": 0.02, "tool": 0.25, "train": 9.0}


class OfferRow(msgspec.Struct, frozen=True, kw_only=True):
    """An estimate, as the cost layer hands it over."""

    offer: str
    region: str | None = None
    usd_per_1000_tasks: float | None
    p50_s: float | None
    basis: str
    low_s: float | None = None
    high_s: float | None = None
    note: str | None = None


ELSEWHERE = [
    OfferRow(offer="aws/m9g.4xlarge", region="us-east-1", usd_per_1000_tasks=0.21, p50_s=6.1,
             basis="roofline", low_s=3.0, high_s=12.2, note="Graviton5"),
    OfferRow(offer="aws/c8i.4xlarge", region="us-east-1", usd_per_1000_tasks=0.28, p50_s=7.9,
             basis="calibrated", low_s=6.4, high_s=9.9),
    OfferRow(offer="gcp/c4a-standard-16", region="us-central1", usd_per_1000_tasks=0.31, p50_s=8.0,
             basis="roofline", low_s=4.0, high_s=16.0),
    OfferRow(offer="aws/g5.xlarge", region="us-east-1", usd_per_1000_tasks=0.92, p50_s=1.9,
             basis="calibrated", low_s=1.5, high_s=2.4),
    OfferRow(offer="aws/trn1.2xlarge", region="us-east-1", usd_per_1000_tasks=1.4, p50_s=2.2,
             basis="roofline", low_s=1.1, high_s=4.4),
    OfferRow(offer="gcp/ct5lp-hightpu-1t", region="us-west4", usd_per_1000_tasks=1.1, p50_s=1.7,
             basis="roofline", low_s=0.8, high_s=3.5),
    OfferRow(offer="aws/p5.48xlarge", region="us-east-1", usd_per_1000_tasks=6.3, p50_s=0.9,
             basis="roofline", low_s=0.4, high_s=2.0, note="one of eight GPUs is used"),
    OfferRow(offer="local", region="local", usd_per_1000_tasks=0.0823, p50_s=5.2,
             basis="measured", low_s=5.2, high_s=5.2),
    OfferRow(offer="azure/unpriced", usd_per_1000_tasks=None, p50_s=None, basis="measured"),
]  # fmt: skip


def make_steps(agent: str, task_id: str, start_s: float, rng: random.Random) -> list[StepRecord]:
    """Return the steps of one task: a chain, with the middle tools of a round side by side."""
    names, (fewest, most), _ = AGENTS[agent]
    steps: list[StepRecord] = []
    clock, parents = start_s, ()
    for _round in range(rng.randint(fewest, most)):
        for operation in names:
            kind, name = operation.split(":")
            took = rng.lognormvariate(0, 0.6) * SECONDS[kind]
            queue = rng.expovariate(2.0) if kind == "llm" else 0.0
            llm = kind == "llm"
            prompt = rng.randint(150, 900)
            steps.append(
                StepRecord(
                    task_id=task_id, step_id=str(len(steps)), parent_ids=parents, agent=agent,
                    name=name, kind=kind, model=MODEL if kind != "tool" else None, pool="local",
                    offer="local", arrival_s=0.0, ready_s=clock, start_s=clock + queue,
                    first_token_s=clock + queue + took / 3 if llm else None,
                    end_s=clock + queue + took, prompt_tokens=prompt if llm else None,
                    cached_tokens=rng.randint(0, prompt) if llm else None,
                    output_tokens=rng.randint(5, 200) if llm else None, cpu_s=took, cores=1.0,
                    outcome="ok" if rng.random() > 0.04 else "timeout",
                    cost_usd=took * 2e-5, energy_j=None,
                )
            )  # fmt: skip
            clock += queue + took
            parents = (steps[-1].step_id,)
    return steps


def make_run(
    folder: Path, seed: int = 1, tasks_per_agent: int = 12, at_once: int = 8
) -> tuple[RunFolder, list[TaskRecord], list[StepRecord]]:
    """Write a run folder and return it with its records."""
    rng = random.Random(seed)
    tasks: list[TaskRecord] = []
    steps: list[StepRecord] = []
    free = [0.0] * at_once
    for number in range(tasks_per_agent * len(AGENTS)):
        agent = list(AGENTS)[number % len(AGENTS)]
        task_id = f"{agent}-{number // len(AGENTS):03d}"
        slot = min(range(at_once), key=free.__getitem__)
        made = make_steps(agent, task_id, free[slot], rng)
        ok = rng.random() >= AGENTS[agent][2]
        tasks.append(
            TaskRecord(
                task_id=task_id,
                agent=agent,
                input={"text": f"request {number}: {HOSTILE}", "number": number},
                output={"answer": HOSTILE * (30 if number == 3 else 1)} if ok else None,
                ok=ok,
                quality=None if agent == "pipeline" else float(ok and rng.random() < 0.7),
                error=None if ok else f"ToolError: no such order <b>{number}</b>",
                arrival_s=0.0,
                start_s=free[slot],
                end_s=made[-1].end_s or 0.0,
            )
        )
        steps += made
        free[slot] = made[-1].end_s or 0.0
    run = RunFolder(folder)
    run.write_info(
        RunInfo(
            run=folder.name, version="0.1.0", started_at="2026-11-21T09:00:00Z",
            agents={name: name for name in AGENTS}, model=MODEL,
            offer="priced as aws/m8g.medium in us-east-1", wall_s=max(free), tasks=len(tasks),
            finished=True,
        )
    )  # fmt: skip
    run.write_tasks(tasks)
    run.write_steps(steps)
    return run, tasks, steps

"""How fast estimates are in bulk: a workload on many offers.

Run: .venv/bin/python benchmarks/estimates.py [steps]
"""

from __future__ import annotations

import sys
import time

import numpy as np
from rich.console import Console
from rich.table import Table

from polysilicon import catalog, cost
from polysilicon.cost.bulk import estimate_all
from polysilicon.workload.record import StepRecord

OFFERS = (
    "aws/m9g.4xlarge",
    "aws/m8g.4xlarge",
    "aws/c7i.8xlarge",
    "aws/m7a.4xlarge",
    "gcp/c4a-standard-16",
    "azure/Standard_D16ps_v6",
    "aws/g6.xlarge",
    "aws/g5.xlarge",
    "aws/p5.48xlarge",
    "aws/inf2.48xlarge",
)
SEED = 7


def steps(count: int) -> list[StepRecord]:
    """Return LLM and tool steps of many sizes, two thirds and one third."""
    rng = np.random.default_rng(SEED)
    made = []
    for i in range(count):
        common = {"task_id": str(i // 10), "step_id": str(i)}
        if i % 3:
            model = ("smollm2-135m-instruct", "llama-3.1-8b-instruct")[i % 2]
            prompt = int(rng.integers(50, 4000))
            output = int(rng.integers(1, 600))
            made.append(
                StepRecord(
                    name="chat",
                    kind="llm",
                    model=model,
                    prompt_tokens=prompt,
                    cached_tokens=prompt // 3,
                    output_tokens=output,
                    **common,
                )
            )
        else:
            cpu_s = float(rng.lognormal())
            offer = {"offer": "aws/m8g.4xlarge", "region": "us-east-1"}
            made.append(StepRecord(name="code", kind="tool", cpu_s=cpu_s, **offer, **common))
    return made


def main() -> None:
    """Estimate all steps on all offers and print the table."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    known = catalog.load()
    batch = cost.batch_of(steps(count))
    load = cost.Load(concurrency=4)
    table = Table("offer", box=None)
    for head in ("estimates", "refused", "first s", "again s", "us each"):
        table.add_column(head, justify="right")
    total, whole_s = 0, 0.0
    for name in OFFERS:
        offer = known.offer(name)
        start = time.perf_counter()
        estimate_all(batch.take(np.arange(30)), offer, load, known)
        first_s = time.perf_counter() - start
        start = time.perf_counter()
        found = estimate_all(batch, offer, load, known)
        seconds = time.perf_counter() - start
        refused = int(np.sum(found.basis == cost.REFUSED))
        total, whole_s = total + count, whole_s + seconds + first_s
        each = f"{seconds / count * 1e6:.2f}"
        table.add_row(
            name, str(count - refused), str(refused), f"{first_s:.2f}", f"{seconds:.2f}", each
        )
    Console().print(table)
    print(f"{total:,} estimates in {whole_s:.2f} s, making the laws included")


if __name__ == "__main__":
    main()

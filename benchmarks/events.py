"""How many steps the simulator plays a second on one core: tools, engines, and tasks of both.

    python benchmarks/events.py [STEPS]

Playing alone is counted, by the CPU's clock of this process; reading and counting take about as
long again, and are in `simulate`'s own wall seconds.
"""

from __future__ import annotations

import sys
import time
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa
from rich.console import Console
from rich.table import Table

from polysilicon.catalog.fleet import Fleet, Pool
from polysilicon.simulate import kernel, simulate
from polysilicon.workload.workload import Workload

STEPS = 1_000_000
REPEATS = 5
MODEL = "llama-3.1-8b-instruct"
TOOLS = Pool(
    name="tools", offer="aws/m9g.48xlarge", region="us-east-1", units=8, serves=("tool:*",)
)
LLM = Pool(
    name="llm",
    offer="aws/p5.48xlarge",
    region="us-east-1",
    units=4,
    serves=("llm:*",),
    engine="openai",
    concurrency=512,
    count=1,
)


def tools(count: int, load: float = 0.8) -> Workload:
    """Return single tool steps that keep that share of the pool's cores busy."""
    rng = np.random.default_rng(0)
    rate = load * TOOLS.units * 192
    return _workload(count, rate, kind="tool", cpu_s=rng.exponential(1.0, count))


def chats(count: int, rate: float = 120.0) -> Workload:
    """Return single LLM steps."""
    rng = np.random.default_rng(0)
    prompt = rng.lognormal(6.5, 1.0, count).clip(16, 8000).astype(np.int64)
    output = rng.lognormal(4.8, 0.8, count).clip(1, 2000).astype(np.int64)
    return _workload(count, rate, kind="llm", prompt_tokens=prompt, output_tokens=output)


def _workload(count: int, rate: float, kind: str, **columns: object) -> Workload:
    """Return single steps that arrive at random."""
    arrival_s = np.cumsum(np.random.default_rng(1).exponential(1.0 / rate, count))
    texts = {"step_id": "1", "agent": "a", "name": kind, "kind": kind}
    texts |= {"model": MODEL} if kind == "llm" else {"offer": "aws/m7g.large"}
    table = {name: pa.array([text]).take(pa.array(np.zeros(count, np.int64)))
             for name, text in texts.items()}  # fmt: skip
    ids = np.char.zfill(np.arange(count).astype(str), 9)
    return Workload(pa.table({"task_id": ids, "arrival_s": arrival_s, **table, **columns}))


_plain = kernel.run


class Played:
    """CPU seconds and events of playing."""

    def __init__(self) -> None:
        self.seconds, self.events = 0.0, 0

    def run(self, *args: Any) -> tuple[int, int, float]:
        """Play, and count."""
        begun = time.process_time()
        done = _plain(*args)
        self.seconds += time.process_time() - begun
        self.events += done[1]
        return done


def main() -> None:
    """Print the table."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else STEPS
    table = Table(title=f"The simulator, {count:,} steps, medians of {REPEATS}", box=None)
    for heading in ("workload", "steps/s", "of wall time in all", "busy", "events a step"):
        table.add_column(heading, justify="left" if heading == "workload" else "right")
    for name, workload, fleet in (
        ("tools on 1,536 cores", tools(count), Fleet(pool=(TOOLS,))),
        ("LLM steps on 32 engines", chats(count // 2), Fleet(pool=(LLM,))),
    ):
        rates, whole = [], []
        for _ in range(REPEATS):
            played = Played()
            kernel.run = played.run
            result = simulate(workload, fleet)
            kernel.run = _plain
            rates.append(result.steps / played.seconds)
            whole.append(result.steps / result.wall_s)
        busy = max(pool.busy for pool in result.pools.values())
        table.add_row(name, f"{median(rates):,.0f}", f"{median(whole):,.0f}", f"{busy:.0%}",
                      f"{played.events / result.steps:.2f}")  # fmt: skip
    Console(width=100).print(table)


if __name__ == "__main__":
    main()

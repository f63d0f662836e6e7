"""One model, three situations: the share of tools in task time follows from explicit inputs.

Published shares: 39 % for agents in a terminal, 90.6 % for retrieval over a big corpus, 2 to 29 %
for data analysis with slow models (arXiv 2511.00739 and others). Nothing is fitted to them here:
hardware, tool and model are stated, the tool's seconds come from the cost model.
"""

from __future__ import annotations

import numpy as np
import pytest

from polysilicon import catalog
from polysilicon.cost.durations import tool_durations
from polysilicon.cost.tools import SAME, host, slowdown, tool_seconds
from polysilicon.workload.record import StepRecord

CATALOG = catalog.load()


def share(tool_s: float, llm_s: float) -> float:
    """Return the part of a task's time that its tools take, one after the other with the model."""
    return tool_s / (tool_s + llm_s)


def test_agents_in_a_terminal():
    """Tools by their measured distribution: p50 0.04 s, p90 21 s, p99 30 s.

    The model is an 8B on a GPU under load: 0.6 s to the first token, 300 tokens at 22 ms.
    """
    rng = np.random.default_rng(11)
    short = rng.lognormal(np.log(0.032), 1.0, 8200)
    long = rng.uniform(12.0, 31.0, 1800)
    steps = [
        StepRecord(
            task_id="t", step_id=str(i), name="shell", kind="tool", start_s=0.0, end_s=float(t)
        )
        for i, t in enumerate(np.concatenate([short, long]))
    ]
    tools = tool_durations(steps)["shell"]
    assert tools.quantile(0.5) == pytest.approx(0.04, rel=0.25)
    assert tools.quantile(0.9) == pytest.approx(21.0, rel=0.1)
    assert tools.quantile(0.99) == pytest.approx(30.0, rel=0.05)
    assert 0.34 < share(tools.mean_s, 0.6 + 300 * 0.022) < 0.44


def test_retrieval_over_a_big_corpus():
    """Exact search: every query reads 40 million vectors of 768 fp32 numbers.

    A core multiplies 4.5 GB of vectors a second, all cores of a 64-vCPU server work on a query, and
    16 queries are under way at once. The model is an 8B on a GPU of its own: 1.15 s.
    """
    server = host(CATALOG.offer("aws/m7i.16xlarge", "us-east-1"))
    cpu_s = 40e6 * 768 * 4 / 4.5e9
    others = 15.0
    busy = tool_seconds(cpu_s, cores=64, speed=SAME, machine=server, utilisation=others)
    assert 0.87 < share(float(busy.service_s), 1.15) < 0.94
    # The same search alone on that server would be a third of the task.
    alone = tool_seconds(cpu_s, cores=64, speed=SAME, machine=server)
    assert 0.3 < share(float(alone.service_s), 1.15) < 0.5


@pytest.mark.parametrize(
    ("startup_s", "cpu_s", "low", "high"),
    [(0.05, 0.3, 0.015, 0.035), (0.3, 2.0, 0.08, 0.16), (0.4, 6.4, 0.22, 0.32)],
)
def test_data_analysis_with_a_slow_model(startup_s, cpu_s, low, high):
    """An 8B on a CPU: 150 tokens at 110 ms, 0.5 s before. Tables of 10 MB to 2 GB, one core each.

    Core-seconds are those of a Graviton3; the work runs on one.
    """
    offer = CATALOG.offer("aws/m7g.2xlarge", "us-east-1")
    found = tool_seconds(cpu_s, startup_s=startup_s, speed=SAME, machine=host(offer))
    assert low < share(float(found.service_s), 0.5 + 150 * 0.11) < high


def test_a_faster_processor_moves_the_share_as_far_as_its_cores_are_faster():
    old = CATALOG.offer("aws/m6g.2xlarge", "us-east-1")
    new = CATALOG.offer("aws/m8a.2xlarge", "us-east-1")
    speed = slowdown(old.processor, new.processor, old.name, new.name)
    here = tool_seconds(6.4, speed=SAME, machine=host(old))
    there = tool_seconds(6.4, speed=speed, machine=host(new))
    before, after = share(float(here.service_s), 17.0), share(float(there.service_s), 17.0)
    assert after / (1 - after) == pytest.approx(before / (1 - before) * speed.ratio)
    assert before > 1.7 * after

"""A plan's dispatch against the simulator: the same week, the same machines."""

from __future__ import annotations

import numpy as np
import pytest

from plan_problems import composed, solved
from polysilicon.catalog.fleet import Fleet, OwnPrice, Pool
from polysilicon.simulate import simulate
from polysilicon.workload.files import write as write_workload
from polysilicon.workload.record import StepRecord
from polysilicon.workload.workload import Workload

DAY_S, DAYS = 86400.0, 7
PROBLEM = """
[horizon]
months = 1
hours = "day"

[[demand]]
name = "week"
workload = "week.parquet"
measured_on = "aws/m9g.2xlarge"
data_class = "x"

[[offer]]
name = "aws/m9g.2xlarge"
regions = ["us-east-1"]
rented = false

[[contract]]
shape = "units"
name = "month"
offers = ["*"]
term_months = 1
usd_per_hour = 0.25
whole = true
"""


def week(seed: int = 5) -> Workload:
    """Return tool tasks of a week, five times as many at noon as at midnight."""
    rng = np.random.default_rng(seed)
    hours = np.arange(24 * DAYS)
    mean = 60.0 * (1.0 - 2.0 / 3.0 * np.cos(2 * np.pi * (hours % 24) / 24))
    found = []
    for hour, count in enumerate(rng.poisson(mean)):
        for at in np.sort(rng.random(count)):
            arrival_s = (hour + at) * 3600.0
            cpu_s = float(rng.exponential(1800.0))
            found.append(
                StepRecord(task_id=f"{len(found)}", step_id="1", agent="a", kind="tool", name="job",
                           arrival_s=arrival_s, cpu_s=cpu_s, offer="aws/m9g.2xlarge")
            )  # fmt: skip
    return Workload.from_records(found)


def test_a_week_costs_and_uses_what_the_plan_says(tmp_path):
    played = week()
    write_workload(played, tmp_path / "week.parquet")
    text = PROBLEM.replace('data_class = "x"\n', "")
    way = composed(tmp_path, text).needs[0].ways["aws/m9g.2xlarge"]
    plan = solved(tmp_path, text).plan
    (bought,) = plan.commitments
    assert plan.left_usd == 0
    pool = Pool(
        name="p",
        offer="aws/m9g.2xlarge",
        region="us-east-1",
        units=round(bought.units),
        serves=("tool:*",),
        price=OwnPrice(usd_per_hour=0.25),
    )
    result = simulate(played, Fleet(pool=(pool,)))
    assert result.cost_usd / result.sim_s * 3600 == pytest.approx(plan.cost_usd / 730, rel=0.05)
    # A plan counts a machine as used when it is as busy as queues allow.
    assert result.utilisation["p"] == pytest.approx(bought.utilisation * way.busy, rel=0.05)
    # The machines are enough, and not far more: the busiest hour of the mean day fills them.
    busiest = max(plan.needs[0].busiest)
    assert bought.units - 1 < busiest / way.per_unit <= bought.units + 1e-6


MODEL, ENGINE = "llama-3.1-8b-instruct", "aws/g6.xlarge"
CHATS = PROBLEM.replace('measured_on = "aws/m9g.2xlarge"\ndata_class = "x"\n', "").replace(
    "aws/m9g.2xlarge", ENGINE
)


def chats(arrival_s: np.ndarray, seed: int = 7) -> Workload:
    """Return tasks of one LLM call each."""
    rng = np.random.default_rng(seed)
    return Workload.from_records(
        [
            StepRecord(task_id=f"{at}", step_id="1", agent="a", kind="llm", name="chat",
                       model=MODEL, arrival_s=float(one), cached_tokens=0,
                       prompt_tokens=int(rng.integers(500, 1500)),
                       output_tokens=int(rng.integers(100, 300)))
            for at, one in enumerate(arrival_s)
        ]
    )  # fmt: skip


def test_engines_cost_and_do_in_a_week_what_the_plan_says(tmp_path):
    rng = np.random.default_rng(5)
    hours = np.arange(24 * DAYS)
    each = rng.poisson(120.0 * (1.0 - 2.0 / 3.0 * np.cos(2 * np.pi * (hours % 24) / 24)))
    played = chats(np.sort(np.repeat(hours, each) + rng.random(each.sum())) * 3600.0)
    write_workload(played, tmp_path / "week.parquet")
    way = composed(tmp_path, CHATS).needs[0].ways[ENGINE]
    plan = solved(tmp_path, CHATS).plan
    (bought,) = plan.commitments
    pool = Pool(name="p", offer=ENGINE, region="us-east-1", units=round(bought.units),
                serves=("llm:*",), engine="openai", model=MODEL, concurrency=way.concurrency,
                price=OwnPrice(usd_per_hour=0.25))  # fmt: skip
    fleet = Fleet(pool=(pool,))
    week, flood = simulate(played, fleet), simulate(chats(np.zeros(2500)), fleet)
    # An engine that is never idle does what the plan takes a machine to do at most.
    most = 2500 / flood.sim_s / pool.units
    assert most == pytest.approx(way.per_unit / way.busy, rel=0.05)
    assert week.cost_usd / week.sim_s * 3600 == pytest.approx(plan.cost_usd / 730, rel=0.05)
    # Slots are no measure: with fewer at work each is faster. Of what it could do it did so much.
    done = week.tasks / week.sim_s / (pool.units * most)
    assert done == pytest.approx(bought.utilisation * way.busy, rel=0.05)

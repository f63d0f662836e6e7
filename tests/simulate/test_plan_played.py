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

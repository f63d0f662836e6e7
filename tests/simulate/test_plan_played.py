"""A plan's dispatch against the simulator: the same week, the same machines."""

from __future__ import annotations

import numpy as np
import pytest

from plan_problems import composed, solved
from polysilicon import catalog
from polysilicon.catalog.fleet import Fleet, OwnPrice, Pool
from polysilicon.cost.batch import batch_of
from polysilicon.cost.bulk import estimate_all
from polysilicon.cost.types import Load, Serving
from polysilicon.simulate import simulate
from polysilicon.workload.files import write as write_workload
from polysilicon.workload.record import StepRecord
from polysilicon.workload.workload import Workload

CATALOG = catalog.load()
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


def chats(
    arrival_s: np.ndarray,
    model: str = MODEL,
    prompt: tuple[int, int] = (500, 1500),
    output: tuple[int, int] = (100, 300),
) -> Workload:
    """Return tasks of one LLM call each, with so many tokens."""
    rng = np.random.default_rng(7)
    return Workload.from_records(
        [
            StepRecord(task_id=f"{at}", step_id="1", agent="a", kind="llm", name="chat",
                       model=model, arrival_s=float(one), cached_tokens=0,
                       prompt_tokens=int(rng.integers(*prompt)),
                       output_tokens=int(rng.integers(*output)))
            for at, one in enumerate(arrival_s)
        ]
    )  # fmt: skip


def flooded(
    played: Workload, offer: str, model: str, at_once: int, count: int | None = None
) -> float:
    """Return the seconds in which a machine that is never idle has done all of it."""
    pool = Pool(name="p", offer=offer, units=1, serves=("llm:*",), engine="openai", model=model,
                concurrency=at_once, count=count, price=OwnPrice(usd_per_hour=0.25))  # fmt: skip
    return simulate(played, Fleet(pool=(pool,))).sim_s


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


CHAT, ANSWERS, READING, LABEL = (
    ((500, 1500), (100, 300)),
    ((50, 200), (200, 600)),
    ((2000, 6000), (20, 99)),
    ((200, 800), (2, 8)),
)


@pytest.mark.parametrize(
    ("offer", "model", "tokens", "at_once"),
    [
        ("aws/m9g.2xlarge", "qwen3-4b", CHAT, 1),
        ("aws/m9g.2xlarge", "qwen3-4b", CHAT, 4),
        ("aws/m9g.2xlarge", "qwen3-4b", CHAT, 32),
        ("aws/m9g.2xlarge", "qwen3-4b", ANSWERS, 32),
        ("aws/m9g.4xlarge", "llama-3.1-8b-instruct", CHAT, 8),
        ("aws/m9g.4xlarge", "llama-3.1-8b-instruct", READING, 8),
        ("aws/m8g.24xlarge", "llama-3.1-8b-instruct", CHAT, 2),
        ("aws/m8g.24xlarge", "gemma-2-2b-it", READING, 32),
        ("gcp/c4-standard-16", "gemma-2-2b-it", ANSWERS, 16),
        ("gcp/c4-standard-16", "llama-3.1-8b-instruct", READING, 2),
        ("azure/Standard_D16as_v6", "qwen2.5-0.5b-instruct", CHAT, 16),
    ],
)
def test_an_engine_on_a_cpu_does_what_is_reckoned_with(offer, model, tokens, at_once):
    played = chats(np.zeros(20 * at_once), model, *tokens)
    # At 3,600 dollars an hour dollars are seconds of the machine.
    said = estimate_all(
        batch_of(played), CATALOG.offer(offer), Load(concurrency=at_once), CATALOG,
        OwnPrice(usd_per_hour=3600.0),
    )  # fmt: skip
    done_s = flooded(played, offer, model, at_once)
    assert done_s == pytest.approx(said["cost_usd"].sum(), rel=0.05)


@pytest.mark.parametrize(
    ("offer", "count", "model", "tokens", "at_once"),
    [
        ("aws/g6.xlarge", 1, "llama-3.1-8b-instruct", LABEL, 1),
        ("aws/g6.xlarge", 1, "llama-3.1-8b-instruct", CHAT, 32),
        ("aws/g6.xlarge", 1, "llama-3.1-8b-instruct", READING, 8),
        ("gcp/g2-standard-4", 1, "qwen3-4b", LABEL, 64),
        ("gcp/g2-standard-4", 1, "qwen3-4b", READING, 16),
        ("aws/p5.4xlarge", 1, "qwen3-4b", LABEL, 4),
        ("aws/p5.4xlarge", 1, "llama-3.1-8b-instruct", CHAT, 64),
        ("aws/p5.4xlarge", 1, "llama-3.1-8b-instruct", READING, 64),
        ("aws/p5.4xlarge", 1, "qwen3-4b", ANSWERS, 64),
        ("aws/p5.48xlarge", 4, "llama-3.3-70b-instruct", CHAT, 16),
        ("aws/trn1.32xlarge", 16, "llama-3.1-8b-instruct", CHAT, 8),
    ],
)
def test_an_engine_on_accelerators_does_what_is_reckoned_with(offer, count, model, tokens, at_once):
    facts = CATALOG.offer(offer)
    copies = facts.accelerators // count
    played = chats(np.zeros(30 * at_once * copies), model, *tokens)
    load = Load(concurrency=at_once, serving=Serving(count=count))
    said = estimate_all(batch_of(played), facts, load, CATALOG, OwnPrice(usd_per_hour=3600.0))
    done_s = flooded(played, offer, model, at_once * copies, count)
    assert done_s == pytest.approx(said["cost_usd"].sum(), rel=0.05)


@pytest.mark.parametrize(
    ("offer", "model", "tokens"),
    [
        ("aws/m9g.2xlarge", "qwen3-4b", CHAT),
        ("gcp/c4-standard-16", "gemma-2-2b-it", CHAT),
        ("aws/g6.xlarge", "llama-3.1-8b-instruct", READING),
        ("aws/p5.4xlarge", "qwen3-4b", LABEL),
    ],
)
def test_what_a_plan_takes_a_machine_to_do_is_what_it_does(tmp_path, offer, model, tokens):
    write_workload(chats(np.arange(400.0), model, *tokens), tmp_path / "week.parquet")
    way = composed(tmp_path, CHATS.replace(ENGINE, offer)).needs[0].ways[offer]
    assert way.concurrency > 2
    tasks = 20 * way.concurrency
    played = chats(np.zeros(tasks), model, *tokens)
    done_s = flooded(played, offer, model, way.concurrency, way.count)
    assert tasks / done_s == pytest.approx(way.per_unit / way.busy, rel=0.05)

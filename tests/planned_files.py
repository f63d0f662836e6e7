"""A small placement and a small plan, as the files that the dashboard shows."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import msgspec

from polysilicon.placement.types import Baseline, Dual, Placement, PoolPlan, SloResult
from polysilicon.planning.file import Demand, Horizon, OfferAsked, ProblemFile
from polysilicon.planning.plan import (
    Commitment,
    Money,
    NeedServed,
    Plan,
    ScenarioCost,
    Supplied,
    Worth,
)
from polysilicon.planning.plan_file import PlanFile, write_plan

PLACEMENT = Placement(
    cost_usd_per_hour=8.5, low_usd_per_hour=7.0, high_usd_per_hour=11.0,
    pools=[
        PoolPlan(name="tools", offer="aws/m9g.2xlarge", region="us-east-1", kind="cpu", role="tool",
                 model="", units=12, utilisation=0.71, cap=0.8, wait_s=0.01, concurrency=8,
                 count=None, price="on-demand", usd_per_hour=4.5, usd_per_s=1e-5,
                 basis="calibrated", note=""),
        PoolPlan(name="llm", offer="own/box", region="us-east-1", kind="gpu", role="llm",
                 model="scripted", units=2, utilisation=0.4, cap=0.9, wait_s=0.01, concurrency=16,
                 count=1, price="1y", usd_per_hour=4.0, usd_per_s=1e-4, basis="measured", note=""),
    ],
    routing=[], baseline={"one vendor": 17.0}, seconds=1.0, status="optimal, simulated", gap=0.001,
    duals=[Dual(constraint="SLO of <support>", kind="slo", subject="support", value=1.0,
                unit="usd_per_hour", per="second", words="a second more saves $1 an hour")],
    checked=True, objective="cost", sized_for="the busiest hour",
    slo={"support": SloResult(p99_s=8.0, foreseen_s=6.0, checked_s=7.0, tasks_per_s=3.0,
                              usd_per_1000_tasks=0.8)},
    baselines=[
        Baseline(name="one vendor", offers=["aws/p5.4xlarge"], usd_per_hour=17.0, meets_slo=True),
        Baseline(name="CPUs alone", offers=[], usd_per_hour=None, meets_slo=False, note="cannot"),
    ],
    alternatives=[], classes=[], changes=[], refused=[], untold={"waits for a person": 3},
)  # fmt: skip


def a_commitment(program: str, first: str, last: str) -> Commitment:
    return Commitment(
        contract=program, shape="units", offer="own/box", region="us-east-1", vendor="own",
        program=program, order_month=first, start_month=first, end_month=last, term_months=12,
        units=4.0, unit="units", machines=4.0, usd_per_month=2920.0, usd=35_040.0,
        utilisation=0.9, whole=True, held=False, basis="given",
    )  # fmt: skip


def a_plan() -> Plan:
    """Return a plan of a year from this month on."""
    now = datetime.now(UTC)
    first, next_year = now.strftime("%Y-%m"), f"{now.year + 1}-{now.month:02d}"
    zeros, ones = [0.0] * 12, [1.0] * 12
    return Plan(
        title="A year", status="optimal", cost_usd=40_000.0, low_usd=35_000.0, high_usd=50_000.0,
        lower_bound_usd=39_900.0, gap=0.0025, mean_usd=40_000.0, cvar_usd=41_000.0,
        cvar_alpha=0.9, risk_weight=0.0, seconds=1.0, start_month=first, months=12,
        scenarios=[ScenarioCost(scenario="as expected", probability=1.0, cost_usd=40_000.0)],
        commitments=[a_commitment("three years", first, "2099-01"),
                     a_commitment("to come", next_year, "2099-12")],
        money=[Money(scenario="as expected", committed=[2920.0] * 12, spend=zeros,
                     on_demand=[400.0] * 12, spot=zeros, running=zeros, unmet=zeros)],
        needs=[NeedServed(need="agents", unit="cores", demand=ones, low=ones, high=ones,
                          busiest=ones,
                          supplied=[Supplied(by="three years", kind="committed", vendor="own",
                                             share=1.0, work=ones)])],
        worth_of_month=ones, left_usd=4800.0, left_share=0.12, drawdown=[], rights=[],
        vendors={"own": 1.0}, regions={"us-east-1": 1.0}, alternatives=[], duals=[],
        break_even=[], worth=Worth(), facts=[], notes=[],
    )  # fmt: skip


def write_placement(path: Path) -> Path:
    """Write the placement as `place --json` prints it."""
    path.write_bytes(msgspec.json.encode(PLACEMENT))
    return path


def write_a_plan(path: Path) -> Path:
    """Write the plan as `plan -o` does."""
    problem = ProblemFile(
        horizon=Horizon(months=12),
        demand=(Demand(name="agents", unit="cores", amount=1.0),),
        offer=(OfferAsked(name="own/box"),),
    )
    made = datetime.now(UTC).date()
    write_plan(PlanFile(made=made, folder=".", problem=problem, plan=a_plan()), path)
    return path

from __future__ import annotations

import csv
from datetime import UTC, datetime

import pytest

from plan_problems import CORES, HEAD, RENTED, TODAY, YEAR, solved
from polysilicon import catalog
from polysilicon.errors import InputError
from polysilicon.planning.answered import Effort, planned, recomposed
from polysilicon.planning.compose import Source
from polysilicon.planning.dates import Calendar
from polysilicon.planning.drift import drifts, seen_of_bill, seen_of_workload
from polysilicon.planning.focus import read_bill
from polysilicon.planning.roll import check_left, rolled
from polysilicon.workload.record import StepRecord
from polysilicon.workload.workload import Workload

COLUMNS = [
    "ChargePeriodStart",
    "ChargePeriodEnd",
    "ChargeCategory",
    "BillingCurrency",
    "EffectiveCost",
    "ConsumedQuantity",
    "ConsumedUnit",
    "PricingCategory",
    "CommitmentDiscountStatus",
    "RegionId",
    "SkuPriceDetails",
    "ProviderName",
]
CALENDAR = Calendar(year=2026, month=12, months=12)
PROBLEM = (
    HEAD + CORES + RENTED + YEAR.replace("last_order = 1", "every_months = 1\nwhole = true")
).replace("discount = 0.4", 'discount = 0.4\nbeyond = "prorated"')
HOURS = 744.0


def bill(folder, rows, name="bill.csv"):
    """Write a bill of December; rows are category, unit-hours, dollars, type, status, charge."""
    path = folder / name
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for how, hours, usd, kind, status, charge in rows:
            details = f'{{"InstanceType": "{kind}"}}' if kind else ""
            writer.writerow(
                ["2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z", charge, "USD", usd, hours, "Hours",
                 how, status, "us-east-1", details, "Amazon Web Services"]
            )  # fmt: skip
    return path


def december(committed, unused, hourly):
    """Rows of machines on average over December."""
    kind = "m9g.48xlarge"
    return [
        ("Committed", committed * HOURS, 1, kind, "Used", "Usage"),
        ("Committed", unused * HOURS, 1, kind, "Unused", "Usage"),
        ("Standard", hourly * HOURS, 1, kind, "", "Usage"),
        ("Standard", 0, 35, "", "", "Tax"),
    ]


def updated(folder, kept, path):
    """Return the drifts, and the plan from January on."""
    facts = catalog.shipped()
    composed = recomposed(kept, "plan", facts)
    seen = seen_of_bill(read_bill(path), kept.plan, composed.calendar)
    found = drifts(kept.plan, seen)
    file = rolled(composed, kept.plan, seen.last + 1, {one.need: one.factor for one in found})
    source = Source(folder=folder, where="plan", today=TODAY)
    return found, planned(file, kept.changes, source, facts, Effort(gap=1e-6))


def test_a_bill_tells_what_ran_and_how_it_was_paid(tmp_path):
    found = read_bill(bill(tmp_path, december(4, 1, 2)))
    ran = found.ran["aws/m9g.48xlarge", "us-east-1"]
    assert (ran.committed_h, ran.unused_h, ran.on_demand_h) == (4 * HOURS, HOURS, 2 * HOURS)
    assert found.left_out_usd == {"tax": 35.0}
    assert found.hours == HOURS


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("EffectiveCost", "Cost", "columns are missing: EffectiveCost"),
        (",USD,", ",EUR,", "BillingCurrency is 'EUR'"),
        ("2026-12-01T00:00:00Z", "soon", "'soon' is no moment"),
        (f"{4 * HOURS}", "many", "row 2, ConsumedQuantity: 'many' is no number"),
        ("InstanceType", "Colour", "no row is a machine's use"),
        ("2026-12-01T00:00:00Z", "0001-01-01T00:00:00+14:00", "is no moment"),
        (f"{4 * HOURS}", f"-{4 * HOURS}", "m9g.48xlarge us-east-1 ran less than no hours"),
    ],
)
def test_a_bill_that_cannot_be_read_is_named(tmp_path, old, new, said):
    path = bill(tmp_path, december(4, 1, 2))
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(InputError, match=said):
        read_bill(path)


def test_use_within_the_plan_changes_nothing(tmp_path):
    kept = solved(tmp_path, PROBLEM)
    (one,) = [c for c in kept.plan.commitments if c.order_month == "2026-12"]
    # Ten per cent more than expected is within what a plan reckons with.
    expected = kept.plan.needs[0].demand[0] / kept.plan.facts[0].per_unit
    found, after = updated(tmp_path, kept, bill(tmp_path, december(expected * 1.05, 0, 0)))
    assert found[0].within
    assert found[0].factor == 1.0
    held = [c for c in after.plan.commitments if c.held]
    assert [(c.units, c.order_month) for c in held] == [(one.units, "2026-12")]
    # What was planned for later is planned as before: no purchase comes, and none goes.
    assert all(c.held for c in after.plan.commitments)


def test_growth_is_bought_once_and_the_same_bill_asks_for_nothing_more(tmp_path):
    kept = solved(tmp_path, PROBLEM)
    expected = kept.plan.needs[0].demand[0] / kept.plan.facts[0].per_unit
    path = bill(tmp_path, december(expected, 0, expected))
    found, after = updated(tmp_path, kept, path)
    assert found[0].ratio == pytest.approx(2.0)
    bought = [c for c in after.plan.commitments if not c.held]
    assert bought[0].order_month == "2027-01"
    assert sum(c.units for c in after.plan.commitments) >= 10
    # January as the new plan expects it: nothing is rescaled, nothing more is bought.
    text = path.read_text().replace("2027-01-01", "2027-02-01").replace("2026-12-01", "2027-01-01")
    (tmp_path / "january.csv").write_text(text)
    again, last = updated(tmp_path, after, tmp_path / "january.csv")
    assert again[0].ratio == pytest.approx(1.0)
    assert all(c.held for c in last.plan.commitments)
    units = sum(c.units for c in last.plan.commitments)
    assert units == pytest.approx(sum(c.units for c in after.plan.commitments))


def test_cover_names_what_is_signed_too_much_and_too_little(tmp_path):
    plan = solved(tmp_path, PROBLEM).plan
    over = seen_of_bill(read_bill(bill(tmp_path, december(3, 3, 0))), plan, CALENDAR)
    assert over.coverage[0].words.startswith("over-committed: 3.0 units")
    under = seen_of_bill(read_bill(bill(tmp_path, december(6, 0, 4))), plan, CALENDAR)
    assert under.coverage[0].words.startswith("under-committed: 4.0 units")
    assert over.notes == ["tax: $35.00"]


def test_cover_names_what_is_signed_and_not_in_the_bill(tmp_path):
    text = PROBLEM + RENTED.replace("m9g.48xlarge", "m8g.24xlarge")
    plan = solved(tmp_path, text.replace("2000", "1000")).plan
    machines = sum(one.machines for one in plan.commitments if one.offer == "aws/m9g.48xlarge")
    assert machines > 0
    rows = [("Committed", HOURS, 1, "m8g.24xlarge", "Used", "Usage")]
    seen = seen_of_bill(read_bill(bill(tmp_path, rows)), plan, CALENDAR)
    (told,) = [one for one in seen.coverage if one.offer == "aws/m9g.48xlarge"]
    assert told.planned == pytest.approx(machines)
    assert "of the plan are not signed" in told.words


def test_a_purchase_for_years_does_not_make_the_bill_longer(tmp_path):
    path = bill(tmp_path, [*december(4, 1, 2), ("Standard", 0, 9000, "", "", "Purchase")])
    lines = path.read_text().splitlines()
    lines[-1] = lines[-1].replace("2027-01-01", "2029-12-01")
    path.write_text("\n".join(lines))
    found = read_bill(path)
    assert found.hours == HOURS
    assert found.left_out_usd["purchase"] == 9000.0


def test_steps_of_a_run_are_usage_too(tmp_path):
    kept = solved(tmp_path, PROBLEM)
    facts = catalog.shipped()
    composed = recomposed(kept, "plan", facts)
    steps = [
        StepRecord(task_id=f"{i}", step_id="1", agent="tools", kind="tool", name="x",
                   arrival_s=float(i), cpu_s=1500.0, offer="aws/m9g.48xlarge")
        for i in range(101)
    ]  # fmt: skip
    workload, begin = Workload.from_records(steps), datetime(2026, 12, 3, tzinfo=UTC)
    seen = seen_of_workload(workload, begin, kept.plan, CALENDAR, composed.needs, facts)
    assert seen.used["tools"] == pytest.approx(1500.0 * 101 / 100)
    assert drifts(kept.plan, seen)[0].factor == pytest.approx(1.515)
    early = datetime(2026, 1, 3, tzinfo=UTC)
    with pytest.raises(InputError, match="the plan is of 2026-12 to 2027-11"):
        seen_of_workload(workload, early, kept.plan, CALENDAR, composed.needs, facts)


def test_a_plan_that_is_over_is_not_updated(tmp_path):
    composed = recomposed(solved(tmp_path, PROBLEM), "plan", catalog.shipped())
    with pytest.raises(InputError, match="the plan ended in 2027-11"):
        check_left(composed, 12)

from __future__ import annotations

import re

import pytest

from plan_problems import BOX, SMALL, composed, solved, source, write
from polysilicon import catalog
from polysilicon.errors import InfeasibleError, InputError
from polysilicon.planning.answered import Effort, planned, source_of
from polysilicon.planning.change import change_of, in_numbers
from polysilicon.planning.difference import difference
from polysilicon.planning.file import read_problem
from polysilicon.planning.plan_file import read_plan, write_plan
from polysilicon.planning.words import money, sentences

OTHER = BOX.replace("own/box", "gcp/box").replace("= 1.0\n", "= 1.1\n")


def test_a_plan_says_what_closed_forms_say(tmp_path):
    plan = solved(tmp_path, SMALL).plan
    # Ten units all year at 40 % off, and nothing by the hour: break-even is one less the discount.
    assert plan.cost_usd == pytest.approx(10 * 0.6 * 8760, rel=1e-6)
    (one,) = plan.commitments
    assert (one.units, one.start_month, one.end_month) == (pytest.approx(10), "2026-12", "2027-11")
    assert one.usd_per_month == pytest.approx(10 * 0.6 * 730)
    assert one.utilisation == pytest.approx(1.0)
    assert plan.break_even[0].utilisation == pytest.approx(0.6)
    assert plan.left_usd == 0
    assert sum(plan.money[0].months) == pytest.approx(plan.cost_usd, rel=1e-6)
    assert plan.needs[0].supplied[0].share == pytest.approx(1.0)


def test_changes_do_what_they_say(tmp_path):
    problem = composed(tmp_path, SMALL + OTHER)

    def changed(*told):
        return in_numbers(problem, [change_of(one) for one in told]).problem

    assert changed("demand=1.5").demand == pytest.approx(problem.problem.demand * 1.5)
    dearer = changed("price:own/*=2")
    assert dearer.options[0].on_demand_usd_per_h == pytest.approx(2.0)
    assert dearer.contracts[0].monthly_usd == pytest.approx(2 * 0.6 * 730)
    assert dearer.options[1] is problem.problem.options[1]
    assert changed("supply:gcp/box=3").options[1].supply == 3
    gone = changed("without=gcp")
    assert (gone.options[1].supply, gone.contracts[1].most, gone.contracts[0].most > 0) == (
        0,
        0,
        True,
    )


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ("demand", "it has no value"),
        ("demnad=2", "did you mean demand?"),
        ("price=2", "such as price:aws/*=2"),
        ("demand=x", "'x' is no number"),
        ("risk_weight=2", "2 cannot be; 0 to 1"),
        ("without:x=gcp", "without=gcp"),
    ],
)
def test_changes_that_cannot_be(told, said):
    with pytest.raises(InputError, match=re.escape(said)):
        change_of(told)


def test_what_if_goes_on_from_a_file_and_shows_what_is_other(tmp_path):
    before = solved(tmp_path, SMALL + OTHER)
    write_plan(before, tmp_path / "plan.json")
    kept = read_plan(tmp_path / "plan.json")
    assert kept == before
    facts, effort = catalog.shipped(), Effort(gap=1e-6)
    after = planned(
        kept.problem, ["demand=2", "without=own"], source_of(kept, "x"), facts, effort, kept.warm
    )
    found = difference(kept.plan, after.plan, after.changes)
    assert found.cost_usd[1] == pytest.approx(2 * 1.1 * found.cost_usd[0], rel=1e-6)
    assert found.vendors == {"own": (1.0, 0.0), "gcp": (0.0, 1.0)}
    moved = {one.offer: (one.units_before, one.units_after) for one in found.commitments}
    assert moved == {
        "own/box": (pytest.approx(10), 0),
        "gcp/box": (0, pytest.approx(20)),
    }
    # Changes stay in the file: the next what-if builds on them.
    assert after.changes == ["demand=2", "without=own"]


def test_a_broken_plan_file_is_refused(tmp_path):
    path = tmp_path / "plan.json"
    path.write_text('{"made": 3}')
    with pytest.raises(InputError, match="it is no plan file"):
        read_plan(path)
    with pytest.raises(InputError, match="cannot read"):
        read_plan(tmp_path / "none.json")


def test_a_conflict_is_told_in_words_of_the_file(tmp_path):
    tight = SMALL.replace("[[contract]]", "[[contract]]\nmost = 4").replace(
        "on_demand_usd_per_hour = 1.0", "on_demand_usd_per_hour = 1.0\nrented_max = 3"
    )
    with pytest.raises(InfeasibleError) as refused:
        solved(tmp_path, tight)
    told = str(refused.value)
    assert "all of work must be served in 2026-12" in told
    assert "unmet_usd" in told
    assert refused.value.exit_code == 3
    assert source(tmp_path / "x").where == "x"


def test_words_name_what_to_sign_and_what_figures_rest_on(tmp_path):
    told = dict(sentences(solved(tmp_path, SMALL).plan))
    assert told["What to sign"] == [
        "2026-12: 10 year, own/box here, to 2027-11: $4,380 a month, 100 % used."
    ]
    assert any("Work of own/box: given." in line for line in told["What it rests on"])
    assert [money(v) for v in (0.5, 999, 12345, 4.8111e6, 5.5247e10)] == [
        "$0.5",
        "$999.00",
        "$12,345",
        "$4.811M",
        "$55.25B",
    ]


def test_idle_commitments_do_no_work_that_nobody_asked_for(tmp_path):
    # Ten are signed for five that are asked for.
    signed = SMALL.replace("last_order = 1", "buy = false").replace("amount = 10", "amount = 5")
    plan = solved(tmp_path, signed + "\n[[contract.signed]]\norder = 0\nunits = 10\n").plan
    (need,) = plan.needs
    assert sum(one.work[0] for one in need.supplied) == pytest.approx(5)
    assert plan.commitments[0].utilisation == pytest.approx(0.5)


def test_alternatives_and_worth_are_worked_out_beside_the_plan(tmp_path):
    path = write(tmp_path, SMALL + OTHER)
    effort = Effort(gap=1e-6, explore_s=20.0)
    plan = planned(read_problem(path), [], source(path), catalog.shipped(), effort).plan
    # Half of the dollars with the cheaper vendor: 0.6 u = 0.5 (0.6 u + 0.66 (10 - u)); a quarter
    # would cost over five per cent more.
    units = 0.5 * 6.6 / (0.6 + 0.5 * 0.06)
    usd = (0.6 * units + 0.66 * (10 - units)) * 8760
    (other,) = plan.alternatives
    assert other.cost_usd == pytest.approx(usd, rel=2e-3)
    assert other.share["own"] == pytest.approx(0.5, abs=2e-3)
    assert plan.worth.nothing_usd == pytest.approx(87600, rel=2e-3)


def test_regret_is_against_the_plan_for_each_scenario(tmp_path):
    scenarios = """
[[scenario]]
name = "half"
probability = 0.3
demand = 0.5
[[scenario]]
name = "whole"
probability = 0.7
"""
    path = write(tmp_path, SMALL + scenarios)
    effort = Effort(gap=1e-6, explore_s=20.0)
    plan = planned(read_problem(path), [], source(path), catalog.shipped(), effort).plan
    # 0.7 is more than the break-even of 0.6: ten are signed, and five are too many in one case.
    regret = {one.scenario: one.regret_usd for one in plan.scenarios}
    assert regret["half"] == pytest.approx(5 * 0.6 * 8760, rel=5e-3)
    assert regret["whole"] == pytest.approx(0, abs=300)
    assert plan.worth.perfect_usd == pytest.approx(0.3 * 5 * 0.6 * 8760, rel=2e-2)


@pytest.mark.parametrize(
    ("old", "new"),
    [('"start_month":"2026-12"', '"start_month":"x"'), ('"months":12', '"months":900000000')],
)
def test_a_plan_file_that_somebody_changed_is_refused(tmp_path, old, new):
    path = tmp_path / "plan.json"
    write_plan(solved(tmp_path, SMALL), path)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(InputError, match="a broken plan file"):
        read_plan(path)


def test_orders_are_signed_in_whole_machines_where_that_is_as_good(tmp_path):
    # 1,500.3 of each month: what lies above whole machines is bought by the hour, and counts.
    many = SMALL.replace("amount = 10", "amount = 1500.3")
    (one,) = solved(tmp_path, many, gap=0.01).plan.commitments
    assert one.units in {1500, 1501}
    assert not one.held
    few = solved(tmp_path, SMALL.replace("amount = 10", "amount = 1.3"), gap=1e-6).plan
    assert few.commitments[0].units == pytest.approx(1.3)
    exact = solved(tmp_path, many, gap=1e-6).plan.cost_usd
    rounded = solved(tmp_path, many, gap=0.01).plan
    assert exact <= rounded.cost_usd <= exact * 1.01
    assert rounded.lower_bound_usd <= exact
    assert sum(rounded.money[0].months) == pytest.approx(rounded.cost_usd, rel=1e-6)

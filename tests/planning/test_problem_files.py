from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from plan_problems import BOX, CORES, HEAD, RENTED, SMALL, TODAY, UNITS, YEAR, composed, source
from polysilicon import catalog
from polysilicon.catalog.owned import Owned
from polysilicon.errors import InputError
from polysilicon.planning.compose import compose
from polysilicon.planning.dates import calendar_of
from polysilicon.planning.file import read_problem
from polysilicon.planning.problem import DollarContract, SpendContract, UnitContract

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def contract(shape: str, more: str, name: str = "deal") -> str:
    return f'\n[[contract]]\nshape = "{shape}"\nname = "{name}"\noffers = ["*"]\n{more}\n'


def test_cores_become_work_of_machines_by_the_cost_model(tmp_path):
    found = composed(tmp_path, HEAD + CORES + RENTED)
    way = found.needs[0].ways["aws/m9g.48xlarge"]
    # Measured on the same machine: its cores do a core-second a second, as busy as queues allow.
    assert found.problem.options[0].work[0] == pytest.approx(way.per_unit)
    assert 0.9 * 192 < way.per_unit <= 192
    assert found.needs[0].mix is not None
    assert found.places[0].price_basis.endswith(")")  # source and date


def test_requests_and_tokens_of_a_model_are_the_same_work(tmp_path):
    model = 'model = "qwen3-4b"\nprompt_tokens = 800\noutput_tokens = 200\n'
    asked = '[[demand]]\nname = "r"\nunit = "requests/s"\namount = 2\n' + model
    told = '[[demand]]\nname = "t"\nunit = "tokens/s"\namount = 400\n' + model
    gpu = '[[offer]]\nname = "aws/g6.xlarge"\n'
    found = composed(tmp_path, HEAD + asked + told + gpu)
    requests, tokens = found.problem.options[0].work
    assert tokens == pytest.approx(200 * requests)
    assert {need.ways["aws/g6.xlarge"].basis for need in found.needs} <= {
        "measured",
        "calibrated",
        "roofline",
    }


def test_growth_rhythm_and_scenarios_make_demand(tmp_path):
    rhythm = "rhythm = [" + ", ".join(["1"] * 12 + ["3"] * 12) + "]\n"
    demand = UNITS + "growth_per_year = 1.0\n" + rhythm
    scenarios = """
[[scenario]]
name = "plain"
probability = 0.5
[[scenario]]
name = "double"
probability = 0.5
demand = { work = 2.0 }
growth_per_year = 0.0
price = { "own/*" = 0.5 }
price_from_month = 7
"""
    text = HEAD.replace('"mean"', '"day"').replace("= 12", "= 13") + demand + BOX + scenarios
    problem = composed(tmp_path, text).problem
    assert problem.demand.shape == (2, 13, 24, 1)
    assert problem.demand[0].mean(axis=1)[[0, 12], 0] == pytest.approx([10, 20])
    assert problem.demand[0, 0, [0, 23], 0] == pytest.approx([5, 15])
    assert problem.demand[1].mean(axis=1)[:, 0] == pytest.approx(20)
    price = problem.path(problem.options[0].on_demand_usd_per_h)
    assert price[1, [5, 6]] == pytest.approx([1.0, 0.5])
    assert price[0] == pytest.approx(1.0)


def test_drawn_scenarios_keep_the_mean_and_share_what_is_left(tmp_path):
    drawn = "[generated]\ncount = 150\nseed = 3\ndemand_sd = 0.3\ngrowth_sd = 0.2\n"
    named = '[[scenario]]\nname = "plain"\nprobability = 0.25\n'
    one, two = (composed(tmp_path, HEAD + UNITS + BOX + named + drawn) for _ in range(2))
    assert one.problem.probability[0] == 0.25
    assert one.problem.probability.sum() == pytest.approx(1.0)
    assert np.array_equal(one.problem.demand, two.problem.demand)
    assert one.problem.demand[1:, 0, 0, 0].mean() == pytest.approx(10, rel=0.1)


def test_months_of_supply_and_of_what_is_to_come(tmp_path):
    box = BOX + 'supply = { "1" = 5, "2027-03" = 8 }\nreserved_by_others = 6\nfrom_month = 3\n'
    late = """
[[scenario]]
name = "soon"
probability = 0.5
[[scenario]]
name = "late"
probability = 0.5
next_generation = { "own/box" = { from_month = 5, performance = 0.5 } }
"""
    option = composed(tmp_path, HEAD + UNITS + BOX.replace("own/box", "own/other") + box + late)
    found = option.problem.options[1]
    assert found.supply[:5].tolist() == [0, 0, 0, 2, 2]  # it begins in 2026-12
    assert found.output[:, :6].tolist() == [[0, 0, 1, 1, 1, 1], [0, 0, 0, 0, 0.5, 0.5]]


def test_contracts_of_every_shape_become_numbers(tmp_path):
    text = SMALL.replace("= 12", "= 24", 1) + "".join(
        [
            contract("capacity", "term_months = 6", "seats"),
            contract("hourly-dollars", "term_months = 12\ndiscount = 0.3", "plan"),
            contract("drawdown", "term_months = 24\ncommitment_usd = [5e4, 6e4]", "draw"),
            contract("take-or-pay", "term_months = 12\nunits = 4\nusd_per_hour = 0.6\n"
                     "minimum_share = 0.5", "pay"),
            contract("owned", "machine = { capex_usd = 9000, life_years = 2, busy_w = 1000, "
                     "idle_w = 200, usd_per_kwh = 0.1 }", "racks"),
        ]
    )  # fmt: skip
    found = composed(tmp_path, text).problem
    year, seats, plan, draw, pay, racks = found.contracts
    assert isinstance(year, UnitContract)
    assert year.monthly_usd == pytest.approx(0.6 * 730)
    assert seats.at_on_demand
    assert isinstance(plan, DollarContract)
    assert np.asarray(plan.rate_usd_per_h[0]) == pytest.approx(0.7)
    assert isinstance(draw, SpendContract)
    assert draw.term_months == 24
    assert pay.commitment_usd[0] == pytest.approx(4 * 0.6 * 730 * 0.5)
    assert pay.commitment_usd[0] * (1 + pay.headroom) == pytest.approx(4 * 0.6 * 730)
    assert racks.term_months == 24
    assert racks.upfront_usd == pytest.approx(9000)
    # Power of idling every month, of work on top by the hour: as the owned machine itself says.
    whole = Owned(capex_usd=0, life_years=2, busy_w=1000, idle_w=200, usd_per_kwh=0.1)
    idle = racks.monthly_usd / 730
    assert idle + found.options[0].running_usd_per_h == pytest.approx(whole.usd_per_hour())


def test_what_is_signed_is_held_and_bought_no_more(tmp_path):
    signed = YEAR + 'buy = false\n[[contract.signed]]\norder = "2026-06"\nunits = 4\n'
    found = composed(tmp_path, HEAD + UNITS + BOX + signed).problem
    assert found.contracts[0].orders == ()
    assert (found.held[0].order, found.held[0].units) == (-6, 4)


def test_residency_takes_regions_away(tmp_path):
    offer = RENTED + '[[offer]]\nname = "aws/m8g.24xlarge"\nregions = ["eu-west-1"]\n'
    policy = '[[policy.residency]]\ndata_class = "personal"\nregions = ["eu-*"]\n'
    found = composed(tmp_path, HEAD + CORES + 'data_class = "personal"\n' + offer + policy)
    assert [option.work[0] > 0 for option in found.problem.options] == [False, True]


def test_needs_that_shun_spot_give_it_an_option_of_its_own(tmp_path):
    spot = BOX + "spot = true\nspot_usd_per_hour = 0.2\n"
    shy = '[[demand]]\nname = "shy"\nunit = "units"\namount = 1\nspot = false\n'
    spot = spot.replace("work = 1.0", "work = 1.0, shy = 1.0")
    found = composed(tmp_path, HEAD + UNITS + shy + spot).problem
    rented, market = found.options
    assert np.isinf(rented.spot_usd_per_h)
    assert market.work.tolist() == [1.0, 0.0]


EXCHANGE = """
[contract.exchange]
into = "own/box"
from_month = 2
usd_per_hour = {usd}
ratio = {ratio}
"""
CASES = [
    (HEAD + UNITS, "missing required field `offer`"),
    (SMALL.replace("amount = 10", "amonut = 10"), "unknown field `amonut`"),
    (SMALL.replace('"units"\namount', '"kilos"\namount'), "kilos"),
    (SMALL.replace("months = 12", 'months = 12\nstart = "2025-01"', 1), "2025-01 is in the past"),
    (SMALL.replace("discount = 0.4", "discount = 40"), "discount is 40; 0.4 is 40 per cent"),
    (SMALL.replace("discount = 0.4", "discount = 0.4\nusd_per_hour = 1"), "it has two prices"),
    (SMALL.replace("term_months = 12", "term_months = 36"),
     "its term of 36 months is longer than the horizon of 12; say what counts of the rest"),
    (SMALL.replace("last_order = 1", "last_order = 20"), "month 20 is after the horizon"),
    (SMALL.replace("last_order = 1", "lead_months = 12"), "no month is left to sign it"),
    (SMALL.replace('offers = ["*"]', 'offers = ["gcp/*"]'), "it is of no offer: gcp/* in *"),
    (SMALL.replace('"own/box"', '"box"'), "an offer's name has two parts"),
    (SMALL.replace("work = { work = 1.0 }", "work = { wrok = 1.0 }"), "work: no demand 'wrok'"),
    (SMALL.replace("work = { work = 1.0 }\n", ""), "the catalog does not know it"),
    (SMALL.replace("amount = 10", "amount = [1, 2]"), "amount has 2 numbers"),
    (SMALL.replace("amount = 10", "amount = 10\nrhythm = [1, 2]"), "rhythm has 2 numbers"),
    (SMALL.replace("amount = 10", 'amount = 10\nmodel = "qwen3-4b"'), "a model, but no requests"),
    (HEAD + CORES.replace("1000", '1000\ndata_class = "p"') + RENTED
     + '[[policy.residency]]\ndata_class = "p"\nregions = ["us-east-1"]\n'
     + '[policy.supply_max]\n"gcp/x" = 1\n', "supply_max: no offer 'gcp/x'"),
    # A host of whose cores no speed is known.
    (HEAD + CORES + '[[offer]]\nname = "azure/Standard_ND96is_H100_v5"\n',
     "nobody can serve it: azure/Standard_ND96is_H100_v5"),
    (SMALL + '[policy]\nredundancy = "vendor"\n', "only own is there to be lost"),
    (SMALL + '[policy.vendor_share_max]\nown = 0.4\n', "all vendors together may have 40%"),
    (HEAD + CORES.replace('unit = "cores"\nmeasured_on = "aws/m9g.48xlarge"',
                          'unit = "tokens/s"\nmodel = "qwen3-4bb"') + RENTED,
     "unknown model 'qwen3-4bb'; did you mean qwen3-4b"),
    (SMALL + '[[scenario]]\nname = "a"\nprobability = 0.7\n', "probabilities sum to 0.7"),
    (SMALL.replace("discount = 0.4", 'usd_per_hour = 9\nunit = "MW"'),
     "own/box here does not tell its power; add mw = …"),
    (SMALL + contract("units", "term_months = 1\ndiscount = 0.1", "year"), "it is there twice"),
    (SMALL + '[[contract.signed]]\norder = 3\nunits = 1\n', "signed in month 3"),
    (SMALL + '[[contract.signed]]\norder = "2020-01"\nunits = 1\n', "ended in 2020-12"),
    (SMALL + contract("drawdown", "term_months = 12\ncommitment_usd = [1, 2]"),
     "commitment_usd has 2 numbers; one for each of the 1 periods"),
    (SMALL + contract("take-or-pay", "term_months = 12\nunits = 1\nusd_per_hour = 1\n"
                      "minimum_share = 0"), "minimum_share is 0"),
    (SMALL + "least = 5\nmost = 2\n", "least is 5 and most is 2; most is the larger one"),
    (SMALL + "[contract.extend]\nterm_months = 6\nusd_per_hour = -1\n",
     "extend: usd_per_hour is -1; a number from 0"),
    (SMALL + "[contract.extend]\nterm_months = 0\nusd_per_hour = 1\n", "term_months is 0"),
    (SMALL + EXCHANGE.format(usd=-2, ratio=1), "exchange: usd_per_hour is -2; a number from 0"),
    (SMALL + EXCHANGE.format(usd=2, ratio=0), "ratio is 0; new units for an old one, above 0"),
    (SMALL + "[contract.sell]\nfrom_month = 2\nusd_per_unit = nan\n", "usd_per_unit is nan"),
    (SMALL.replace("[[contract]]", 'policy = "nowhere.toml"\n[[contract]]'), "unknown field"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "said"), CASES, ids=range(len(CASES)))
def test_what_cannot_be_is_named_in_one_line(tmp_path, text, said):
    with pytest.raises(InputError, match=re.escape(said)) as refused:
        composed(tmp_path, text)
    assert "problem.toml" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_amounts_from_a_csv(tmp_path):
    asked = HEAD + UNITS.replace("amount = 10", 'file = "work.csv"') + BOX
    rows = [f"{2026 + (11 + m) // 12}-{(11 + m) % 12 + 1:02d},work,{m}" for m in range(12)]
    (tmp_path / "work.csv").write_text("month,demand,amount\n" + "\n".join(rows))
    found = composed(tmp_path, asked)
    assert found.needs[0].amount.tolist() == list(range(12))
    (tmp_path / "work.csv").write_text("month,demand,amount\n" + "\n".join(rows[:-1]))
    with pytest.raises(InputError, match="1 months of demand 'work' are missing, 2027-11 first"):
        composed(tmp_path, asked)
    (tmp_path / "work.csv").write_text("month,demand,amount\n2026-12,work,lots")
    with pytest.raises(InputError, match=r"work.csv, row 2, amount: 'lots' is no amount"):
        composed(tmp_path, asked)


def test_a_horizon_begins_next_month_unless_it_says():
    assert calendar_of(None, 3, TODAY, "x").names() == ["2026-12", "2027-01", "2027-02"]
    assert calendar_of("2026-11", 2, TODAY, "x").place("2027-01", "x") == 2


@pytest.mark.parametrize("name", ["startup", "bank", "lab"])
def test_examples_compose(name):
    path = EXAMPLES / f"plan_{name}.toml"
    found = compose(read_problem(path), source(path), catalog.shipped())
    served = np.stack([option.work for option in found.problem.options]).max(axis=0)
    assert (served > 0).all()


def test_an_slo_takes_away_what_cannot_meet_it(tmp_path):
    asked = '[[demand]]\nname = "r"\nunit = "requests/s"\nmodel = "qwen3-4b"\namount = 2\n'
    offers = '[[offer]]\nname = "aws/g6.xlarge"\n' + RENTED
    slo = '[[policy.slo]]\nagent = "r"\np99_s = {}\n'
    free = composed(tmp_path, HEAD + asked + offers).needs[0].ways
    assert free.keys() == {"aws/g6.xlarge", "aws/m9g.48xlarge"}
    # Below the cheapest ways of both: what is left serves fewer steps at once, and is dearer.
    limit_s = 0.8 * min(way.seconds for way in free.values())
    kept = composed(tmp_path, HEAD + asked + offers + slo.format(limit_s)).needs[0].ways
    assert kept
    for name, way in kept.items():
        assert way.seconds <= limit_s
        assert way.per_unit < free[name].per_unit
    with pytest.raises(InputError, match=r"ways of serving miss the SLO of 0.001 s"):
        composed(tmp_path, HEAD + asked + offers + slo.format(0.001))

from __future__ import annotations

import json
import time

import pytest

from placement_workloads import SMALL, workload
from polysilicon.catalog.fleet import read_fleet
from polysilicon.cli import main
from polysilicon.workload.files import write
from polysilicon.workload.record import StepRecord
from polysilicon.workload.workload import Workload

KEYS = {
    "cost_usd_per_hour",
    "pools",
    "routing",
    "baseline",
    "duals",
    "seconds",
    "status",
    "gap",
    "alternatives",
    "refused",
    "checked",
}
POLICY = """
objective = "cost"

[[slo]]
agent = "helper"
p99_s = 20.0
"""


@pytest.fixture
def day(tmp_path):
    write(workload(), tmp_path / "day.parquet")
    (tmp_path / "policy.toml").write_text(POLICY)
    (tmp_path / "offers.txt").write_text("# those that are enough\n" + "\n".join(SMALL) + "\n")
    return tmp_path


def run(capsys, folder, *args):
    with pytest.raises(SystemExit) as ended:
        main(["place", str(folder / "day.parquet"), *map(str, args)])
    shown = capsys.readouterr()
    return ended.value.code, shown.out, shown.err


def test_json_has_the_keys_of_the_design(capsys, day):
    begun = time.perf_counter()
    code, out, err = run(
        capsys, day, "--policy", day / "policy.toml", "--offers", day / "offers.txt", "--json"
    )
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert found.keys() >= KEYS
    assert all(p.keys() >= {"offer", "region", "units", "utilisation"} for p in found["pools"])
    assert all(r.keys() == {"class", "pool", "share"} for r in found["routing"])
    assert found["status"] == "optimal, simulated"
    assert found["checked"] is True
    assert found["slo"]["helper"]["checked_s"] <= found["slo"]["helper"]["p99_s"]
    assert 0 < found["seconds"] <= time.perf_counter() - begun
    assert set(found["baseline"]) == {one["name"] for one in found["baselines"]}


def test_the_table_says_what_it_costs_and_why(capsys, day):
    code, out, err = run(
        capsys, day, "--policy", day / "policy.toml", *offers(), "-o", day / "placed.toml"
    )
    assert (code, err) == (0, "")
    for words in ("an hour", "cheapest per token", "SLO p99", "Sized for", "take no machine"):
        assert words in out
    assert str(day / "placed.toml") in out.replace("\n", "")
    assert read_fleet(day / "placed.toml").pool


def test_no_policy_is_no_rule(capsys, day):
    code, out, _ = run(capsys, day, *offers(), "--size-for", "mean", "--json")
    assert code == 0
    assert "mean" in json.loads(out)["sized_for"]


def test_one_pool_cannot_carry_its_own_loss(capsys, day):
    (day / "p.toml").write_text('redundancy = "pool"\n')
    code, out, err = run(capsys, day, "--policy", day / "p.toml", "--offers", "aws/m9g.2xlarge")
    assert (code, out) == (3, "")
    assert "redundancy" in err


def test_steps_that_take_no_time_are_placed(capsys, tmp_path):
    steps = [
        StepRecord(
            task_id=str(n), step_id="1", name="x", kind="tool", cpu_s=0.0, arrival_s=float(n)
        )
        for n in range(20)
    ]
    write(Workload.from_records(steps), tmp_path / "day.parquet")
    code, out, _ = run(capsys, tmp_path, "--offers", "aws/m9g.2xlarge", "--json")
    assert code == 0
    assert [pool["units"] for pool in json.loads(out)["pools"]] == [1]


def test_what_is_not_placed_does_not_stop_the_check(capsys, tmp_path):
    common = {"name": "x", "arrival_s": 0.0, "agent": "a"}
    steps = [
        *(
            StepRecord(task_id=f"e{n}", step_id="1", kind="embed", model="bge-m3", cpu_s=0.5,
                       **(common | {"arrival_s": float(n)}))
            for n in range(10)
        ),
        StepRecord(
            task_id="n", step_id="1", kind="llm", prompt_tokens=9, output_tokens=5, **common
        ),
    ]  # fmt: skip
    write(Workload.from_records(steps), tmp_path / "day.parquet")
    code, out, err = run(capsys, tmp_path, "--offers", "aws/m9g.2xlarge", "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["checked"] is True


def offers():
    return [part for name in SMALL for part in ("--offers", name)]


@pytest.mark.parametrize(
    ("policy", "code", "words"),
    [
        (POLICY.replace("20.0", "0.1"), 3, "least possible for helper"),
        ("[supply_max]\n" + "".join(f'"{name}" = 0\n' for name in SMALL), 3, "no offer can"),
        ('[supply_max]\n"aws/mars" = 1', 2, "unknown offer"),
        ("prices = []", 2, "no price may be paid"),
        ('redundancy = "planet"', 2, "redundancy"),
        ("[vendor_share_max]\naws = 0.3\nazure = 0.3\ngcp = 0.2", 3, "in conflict"),
        ('[[residency]]\ndata_class = "x"\nregions = ["mars"]', 2, "no region"),
    ],
)
def test_mistakes_are_one_line(capsys, day, policy, code, words):
    (day / "policy.toml").write_text(policy)
    ended, out, err = run(capsys, day, "--policy", day / "policy.toml", *offers())
    assert (ended, out) == (code, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert words in err


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--offers", "aws/nothing"], "no offer is named"),
        (["--offers", "missing.txt"], "cannot read"),
        (["--measured-on", "aws/nothing"], "unknown offer"),
        (["--size-for", "luck"], "luck"),
        (["-o", "fleet.json"], "toml"),
    ],
)
def test_wrong_options_are_one_line(capsys, day, args, words):
    ended, _, err = run(capsys, day, *args)
    assert ended == 2
    assert words in err


def test_an_empty_workload_is_told(capsys, day):
    write(Workload.from_records([]), day / "day.parquet")
    ended, _, err = run(capsys, day)
    assert ended == 2
    assert "no steps" in err

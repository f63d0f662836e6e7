from __future__ import annotations

import json
import os
import signal

import pytest

from plan_problems import BOX, HEAD, SMALL, UNITS, YEAR, write
from polysilicon import catalog
from polysilicon.cli import main

KEYS = {
    "cost_usd", "lower_bound_usd", "gap", "cvar_usd", "seconds", "commitments", "alternatives",
    "duals", "status", "scenarios", "money", "needs", "drawdown", "worth", "break_even", "facts",
    "left_usd", "notes",
}  # fmt: skip
COMMITMENT = {
    "offer", "region", "vendor", "program", "term_months", "start_month", "units", "usd_per_month",
}  # fmt: skip


def run(capsys, *args):
    with pytest.raises(SystemExit) as ended:
        main(list(map(str, args)))
    shown = capsys.readouterr()
    return ended.value.code, shown.out, shown.err


@pytest.fixture
def made(tmp_path, capsys):
    """A problem, and the plan file that was made of it."""
    problem = write(tmp_path, SMALL)
    code, out, err = run(
        capsys, "plan", problem, "-o", tmp_path / "plan.json", "--html", tmp_path / "plan.html"
    )
    assert (code, err) == (0, "")
    assert "small: $52,560 over 12 months from" in out
    assert f"plan: {tmp_path / 'plan.json'}" in "".join(out.split("\n"))
    return tmp_path


def test_json_has_the_keys_of_the_design(capsys, tmp_path):
    code, out, err = run(capsys, "plan", write(tmp_path, SMALL), "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert found.keys() >= KEYS
    assert found["commitments"][0].keys() >= COMMITMENT
    assert found["status"] == "optimal"
    assert found["worth"]["nothing_usd"] == pytest.approx(87600, rel=1e-3)
    assert found["lower_bound_usd"] <= found["cost_usd"] * (1 + 1e-9)


def test_options_may_stand_before_the_problem(capsys, tmp_path):
    code, out, _ = run(capsys, "plan", "--json", "--gap", "0.1", write(tmp_path, SMALL))
    assert code == 0
    assert json.loads(out)["gap"] <= 0.1


def test_help_shows_how_to_solve_and_the_other_verbs(capsys):
    code, out, _ = run(capsys, "plan", "--help")
    assert code == 0
    for word in ("PROBLEM", "--gap", "--time", "--html", "explain", "what-if", "update"):
        assert word in out
    assert "solve" not in out.split("Commands:")[1].split("Example")[0]


def test_explain_says_a_plan_in_words(capsys, made):
    code, out, _ = run(capsys, "plan", "explain", made / "plan.json")
    assert code == 0
    assert "What to sign" in out
    assert "pays above 60 % use" in out
    code, out, _ = run(capsys, "plan", "explain", made / "plan.json", "--json")
    assert json.loads(out)["What to sign"][0].endswith("100 % used.")


def test_what_if_prints_the_difference(capsys, made):
    plan = made / "plan.json"
    code, out, _ = run(capsys, "plan", "what-if", plan, "--set", "demand=2", "--json")
    assert code == 0
    found = json.loads(out)["difference"]
    assert found["cost_usd"][1] == pytest.approx(2 * found["cost_usd"][0], rel=1e-3)
    code, out, _ = run(capsys, "plan", "what-if", plan, "--set", "without=own")
    assert code == 3


def test_update_says_the_next_purchase(capsys, made):
    steps = made / "used.jsonl"
    month = json.loads((made / "plan.json").read_text())["plan"]["start_month"]
    rows = [
        {"task_id": str(i), "step_id": "1", "agent": "work", "kind": "tool", "name": "x",
         "arrival_s": float(i), "cpu_s": 1.0}
        for i in range(20)
    ]  # fmt: skip
    steps.write_text("\n".join(map(json.dumps, rows)))
    code, out, err = run(
        capsys, "plan", "update", made / "plan.json", "--usage", steps, "--from", f"{month}-01",
        "--json",
    )  # fmt: skip
    # Steps say nothing of units that only the problem file knows.
    assert (code, out) == (2, "")
    assert "counted in units of offers" in err


def test_report_of_a_plan_is_its_page(capsys, made):
    code, out, _ = run(capsys, "report", made / "plan.json", "--out", made / "page.html", "--json")
    assert code == 0
    assert json.loads(out)["report"] == str(made / "page.html")
    assert (made / "page.html").read_text() == (made / "plan.html").read_text()


@pytest.mark.parametrize(
    ("args", "said", "code"),
    [
        (["none.toml"], "none.toml: cannot read", 2),
        (["explain", "none.json"], "none.json: cannot read", 2),
        (["PROBLEM", "-o", "plan.txt"], "a plan file ends in .json", 2),
        (["PROBLEM", "--html", "plan.txt"], "a page ends in .html", 2),
        (["PROBLEM", "--gap", "nan"], "nan is not between", 2),
    ],
)
def test_mistakes_are_one_line(capsys, tmp_path, args, said, code):
    problem = write(tmp_path, SMALL)
    found = run(capsys, "plan", *[str(problem) if arg == "PROBLEM" else arg for arg in args])
    assert (found[0], found[1]) == (code, "")
    assert said in found[2]
    assert found[2].count("\n") == 1


def test_ctrl_c_gives_the_best_so_far(capsys, tmp_path, monkeypatch):
    def load():
        os.kill(os.getpid(), signal.SIGINT)  # while the plan is being made
        return catalog.shipped()

    monkeypatch.setattr("polysilicon.cli.plan.catalog.load", load)
    drawn = "\n[generated]\ncount = 8\ndemand_sd = 0.5\nmonth_sd = 0.6\nprice_sd = 0.3\n"
    head = HEAD.replace("months = 12", "months = 36").replace('"mean"', '"day"')
    year = YEAR.replace("last_order = 1", "every_months = 1")
    problem = write(tmp_path, head + UNITS + BOX + BOX.replace("own/", "v/") + year + drawn)
    output = tmp_path / "plan.json"
    code, out, err = run(capsys, "plan", problem, "--json", "--gap", "0", "-o", output)
    assert (code, err.count("stopping with the best so far")) == (130, 1)
    found = json.loads(out)
    assert found["status"] == "stopped"
    assert 0 <= found["gap"] < 1
    assert output.exists()

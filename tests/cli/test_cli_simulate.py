from __future__ import annotations

import json
from pathlib import Path

import pytest

from fleets import MODEL, tasks
from polysilicon.cli import main
from polysilicon.workload.files import read, write
from polysilicon.workload.workload import Workload

KEYS = {
    "tasks", "steps", "sim_s", "wall_s", "steps_per_s", "task_s", "ttft_s", "tpot_s", "wait_s",
    "utilisation", "cost_usd", "energy_j", "slo",
}  # fmt: skip

FLEET = f"""
[[pool]]
name = "tools"
offer = "aws/m9g.2xlarge"
region = "us-east-1"
serves = ["tool:*"]

[[pool]]
name = "llm"
offer = "aws/g6.xlarge"
region = "us-east-1"
serves = ["llm:{MODEL}"]
engine = "openai"
"""


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    """A workload and a fleet."""
    write(tasks(20, 1.0), tmp_path / "w.parquet")
    (tmp_path / "fleet.toml").write_text(FLEET)
    return str(tmp_path / "w.parquet"), str(tmp_path / "fleet.toml")


def simulate(*args: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(["simulate", *args])
    return int(stop.value.code or 0)


def test_json_has_the_keys_of_the_design(
    files: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "policy.toml").write_text('[[slo]]\nagent = "a"\np99_s = 3600\n')
    policy = ["--policy", str(tmp_path / "policy.toml")]
    assert simulate(files[0], "--fleet", files[1], *policy, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found.keys() >= KEYS
    assert found["task_s"].keys() >= {"p50", "p90", "p99"}
    assert (found["tasks"], found["steps"], found["slo"]) == (20, 80, {"a": 1.0})
    assert set(found["utilisation"]) == {"tools", "llm"}


def test_the_fluid_mode_says_so(files: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert simulate(files[0], "--fleet", files[1], "--mode", "fluid", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found.keys() >= KEYS
    assert (found["mode"], found["tasks"]) == ("fluid", 20)
    assert simulate(files[0], "--fleet", files[1], "--mode", "fluid") == 0
    assert "queues as flows" in capsys.readouterr().out


def test_two_fleets_side_by_side(
    files: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "two.toml"
    other.write_text(FLEET.replace('engine = "openai"', 'engine = "openai"\nunits = 2'))
    page, out = tmp_path / "page.html", tmp_path / "out.jsonl"
    more = ["--compare", str(other), "--replications", "2", "--html", str(page), "-o", str(out)]
    assert simulate(files[0], "--fleet", files[1], *more) == 0
    text = capsys.readouterr().out
    assert "Compared" in text
    assert "Over 2 replications" in text
    assert "<svg" in page.read_text("utf-8")
    assert len(read(out)) == 80
    assert simulate(files[0], "--fleet", files[1], "--compare", str(other), "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["compared"]["cost_usd"] > found["cost_usd"]


@pytest.mark.parametrize(
    ("args", "error"),
    [
        (["--fleet", "none.toml"], "No such file"),
        (["--policy", "none.toml"], "No such file"),
        (["--compare", "local"], "compared with itself"),
        (["--fleet", "llm.toml"], "no pool takes tool:search: llm: it does not serve such steps"),
        (["-o", "out.csv"], "unknown kind of workload file"),
        (["--replications", "0"], "not in the range"),
        (["--html", "none/page.html"], "no such folder"),
        (["--mode", "guess"], "is not one of"),
    ],
)
def test_mistakes_are_one_line(
    files: tuple[str, str],
    args: list[str],
    error: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(Path(files[1]).parent)
    Path("llm.toml").write_text("[[pool]]" + FLEET.split("[[pool]]")[2])
    assert simulate(files[0], *args) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert error in told
    assert "Traceback" not in told


def test_nothing_that_is_read_is_written_over(files: tuple[str, str], tmp_path: Path) -> None:
    kept = Path(files[0]).read_bytes()
    assert simulate(files[0], "--fleet", files[1], "--html", files[0]) == 2
    assert simulate(files[0], "--fleet", files[1], "--html", files[1]) == 2
    both = str(tmp_path / "x.parquet")
    assert simulate(files[0], "--fleet", files[1], "-o", both, "--html", both) == 2
    assert Path(files[0]).read_bytes() == kept
    assert Path(files[1]).read_text() == FLEET


def test_an_empty_workload(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(Workload.from_records([]), tmp_path / "w.parquet")
    assert simulate(str(tmp_path / "w.parquet")) == 2
    assert "it has no steps" in capsys.readouterr().err


def test_nothing_is_left_where_it_fails(files: tuple[str, str], tmp_path: Path) -> None:
    out, fleet = tmp_path / "out.parquet", tmp_path / "llm.toml"
    fleet.write_text("[[pool]]" + FLEET.split("[[pool]]")[2])
    assert simulate(files[0], "--fleet", str(fleet), "-o", str(out)) == 2
    assert not list(tmp_path.glob("out*"))

"""Runs through the command line, each a process: ends, failures, interruptions, resumption."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import quote

import psutil
import pytest

from forked_cli import Command
from polysilicon.ledger.ledger import ledger
from polysilicon.workload.record import StepRecord
from polysilicon.workload.run_folder import RunFolder
from postgres_server import PASSWORD, Server
from served_gateway import TOOLS_HERE

SCRIPT = str(Path(sys.executable).parent / "polysilicon")
SAMPLES = Path(__file__).resolve().parent.parent / "agent_samples.py"


def words(folder: Path, agent: str, inputs: list[dict]) -> list[str]:
    path = folder / "inputs.jsonl"
    path.write_text("".join(json.dumps(value) + "\n" for value in inputs))
    given = ["run", f"{SAMPLES}:{agent}", "--input", str(path)]
    return [*given, "--runs", str(folder / "runs"), "--json"]


def start(folder: Path, agent: str, inputs: list[dict], *options: str) -> Command:
    """Start a run of an agent; without a fleet of its own no model is loaded."""
    if "--fleet" not in options:
        (folder / "tools.toml").write_text(TOOLS_HERE)
        options = (*options, "--fleet", str(folder / "tools.toml"))
    return Command([*words(folder, agent, inputs), *options], folder)


def resumed(folder: Path, run: Path, *options: str) -> Command:
    return Command(["run", "--resume", str(run), *options], folder)


def ended(process: Command) -> tuple[int, str, str]:
    return process.ended(120)


def run_folder(folder: Path) -> RunFolder:
    (path,) = (folder / "runs").iterdir()
    return RunFolder(path)


def killed_by(path: Path, process: Command) -> None:
    """Tell the agent that waits for it which process it is to kill."""
    number = path.with_suffix(".number")
    number.write_text(str(process.pid))
    number.replace(path.with_suffix(".pid"))


def identity(step: StepRecord) -> tuple:
    return (step.task_id, step.step_id, step.parent_ids, step.name, step.kind, step.outcome)


def test_a_run_has_the_keys_of_the_design(tmp_path: Path) -> None:
    path = str(tmp_path / "notes.txt")
    command = [SCRIPT, *words(tmp_path, "count", [{"path": path}] * 3)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    keys = {"tasks", "ok", "wall_s", "tasks_per_min", "steps", "agents", "kinds", "elsewhere"}
    assert keys | {"run", "report"} <= set(summary)
    assert (summary["tasks"], summary["ok"], summary["steps"]) == (3, 3, 12)
    agent = summary["agents"]["count"]
    assert {"tasks", "ok", "quality", "p50_s", "p99_s", "cost_usd"} <= set(agent)
    assert summary["kinds"]["tool"] == {"steps": 12, "share_of_time": 1.0}
    assert Path(summary["report"]).read_text().startswith("<!doctype html>")
    assert run_folder(tmp_path).info().finished
    assert len(Path(path).read_text().split()) == 12


def test_killed_at_any_moment_it_goes_on_with_the_same_ledger(tmp_path: Path) -> None:
    unbroken, broken = tmp_path / "unbroken", tmp_path / "broken"
    found = []
    for folder, at in ((unbroken, 0), (broken, 5)):
        folder.mkdir()
        path = folder / "notes.txt"
        path.touch()
        if at:
            path.with_suffix(".pid").touch()
        process = start(folder, "count", [{"path": str(path), "die_at": at}] * 4)
        if at:
            killed_by(path, process)
        code, _, err = ended(process)
        assert code == (-signal.SIGKILL if at else 0), err
        if at:
            path.with_suffix(".pid").unlink()
            done = json.loads((run_folder(folder).path / "run.json").read_text())
            assert not done["finished"]
            lines = len(path.read_text().split())
            assert 0 < lines < 16
            code, out, err = ended(resumed(folder, run_folder(folder).path, "--json"))
            assert code == 0, err
            assert json.loads(out)["ok"] == 4
        workload = run_folder(folder).workload()
        notes = [s for s in workload.steps() if s.name == "note"]
        found.append({(s.task_id, s.name, s.kind, s.outcome) for s in notes})
        assert len(notes) == 16
        assert ledger(workload).total.unpriced == 0
        # a line more than steps only where a step was cut down before it could be journaled: of
        # four tasks at once one kills the run, and its step before is journaled
        assert 16 <= len(path.read_text().split()) <= 16 + (3 if at else 0)
    assert found[0] == found[1]


@pytest.mark.usefixtures("local_model")
def test_steps_go_on_at_home_where_an_endpoint_is_gone(tmp_path: Path) -> None:
    (tmp_path / "fleet.toml").write_text(
        '[[pool]]\nname = "here"\nserves = ["llm:*"]\nmodel = "smollm2-135m-instruct"\n'
        '[[pool]]\nname = "gone"\noffer = "aws/g6.xlarge"\nregion = "us-east-1"\n'
        'serves = ["llm:*"]\nengine = "openai"\nendpoint = "http://127.0.0.1:9/v1"\n'
        'model = "smollm2-135m-instruct"\nprice = { usd_per_hour = 1e-9 }\n'
    )
    (tmp_path / "policy.toml").write_text('[[slo]]\nagent = "chatty"\np99_s = 60.0\n')
    options = ("--fleet", str(tmp_path / "fleet.toml"), "--policy", str(tmp_path / "policy.toml"))
    code, out, err = ended(start(tmp_path, "chatty", [{"text": "Hello!"}] * 5, *options))
    assert code == 0, err
    assert json.loads(out)["ok"] == 5
    folder = run_folder(tmp_path)
    assert folder.info().policy == options[3]
    assert [step.pool for step in folder.workload().steps()] == ["here"] * 10
    lines = [json.loads(x) for x in (folder.path / "decisions.jsonl").read_text().splitlines()]
    gone = [line for line in lines if line["pool"] == "gone"]
    assert [line["attempt"] for line in gone] == [0] * len(gone)
    assert len(gone) < 10  # after three failures it is left alone, but for probes
    after = {line["step_id"]: line for line in lines if line["attempt"] == 1}
    assert after[gone[0]["step_id"]]["pool"] == "here"
    assert "it failed" in after[gone[0]["step_id"]]["why"][1]["refused"]


def test_its_tools_end_when_it_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.touch()
    process = start(tmp_path, "lingers", [{"path": str(path)}])
    while not path.read_text().endswith("\n"):
        assert process.poll() is None
        time.sleep(0.05)
    tool = psutil.Process(int(path.read_text()))
    process.kill()
    tool.wait(timeout=60)
    ended(process)  # nobody else holds its output open
    assert not tool.is_running()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_keeps_what_ended_and_says_how_to_go_on(
    tmp_path: Path, number: signal.Signals
) -> None:
    ends = tmp_path / "notes.txt.ended"
    ends.touch()
    process = start(tmp_path, "slow", [{"path": str(tmp_path / "notes.txt")}] * 2)
    while len(ends.read_text().split()) < 2:
        assert process.poll() is None
        time.sleep(0.05)
    os.kill(process.pid, number)
    code, out, err = ended(process)
    assert code == 130, err
    assert "Traceback" not in err
    assert f"polysilicon run --resume {run_folder(tmp_path).path}" in "".join(err.splitlines())
    assert out == ""
    assert len(run_folder(tmp_path).workload()) == 2
    assert not run_folder(tmp_path).info().finished


def test_a_full_disk_is_one_line_and_the_run_goes_on_later(tmp_path: Path) -> None:
    begin = tmp_path / "begin"
    process = start(tmp_path, "large", [{"begin": str(begin)}])
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (600_000, 600_000))
    begin.touch()
    code, out, err = ended(process)
    assert (code, out) == (1, "")
    (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
    assert "nothing that ended is lost" in line
    assert "Traceback" not in err
    done = len(run_folder(tmp_path).workload())
    assert 0 < done < 40
    code, out, err = ended(resumed(tmp_path, run_folder(tmp_path).path, "--json"))
    assert code == 0, err
    assert json.loads(out)["steps"] == 40
    assert f"{done} steps from the journal" in " ".join(err.split())


@pytest.mark.parametrize(
    ("agent", "options", "text"),
    [
        ("raises", (), "KeyError: 'no such thing'"),
        ("never", ("--task-timeout", "0.5"), "ran past 0.5 s"),
        ("odd", (), "its output is not JSON"),
        ("huge", (), "its output is not JSON"),
        ("surrogate", (), "ValueError: file ?"),
        ("cancels_itself", (), "CancelledError: the agent cancelled itself"),
        ("exits", (), "the agent called sys.exit(7)"),
        ("swallows", ("--task-timeout", "0.5"), "ran past 0.5 s"),
    ],
)
def test_a_task_that_fails_is_one_line_and_the_rest_is_kept(
    tmp_path: Path, agent: str, options: tuple[str, ...], text: str
) -> None:
    path = str(tmp_path / "notes.txt")
    code, out, err = ended(start(tmp_path, agent, [{"path": path}], *options))
    assert code == 1
    assert json.loads(out)["ok"] == 0
    (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
    assert "1 of 1 tasks failed" in line
    assert text in line
    assert "Traceback" not in err
    (task,) = run_folder(tmp_path).tasks()
    assert text in task.error
    assert len(run_folder(tmp_path).workload()) == (agent == "raises")


def test_a_run_with_its_journal_in_postgresql(tmp_path: Path, postgres: Server) -> None:
    path = tmp_path / "notes.txt"
    path.touch()
    path.with_suffix(".pid").touch()
    inputs = [{"path": str(path), "die_at": 5}] * 4
    process = start(tmp_path, "count", inputs, "--journal", postgres.address())
    killed_by(path, process)
    code, _, first = ended(process)
    assert code == -signal.SIGKILL
    path.with_suffix(".pid").unlink()
    folder = run_folder(tmp_path).path
    assert not (folder / "journal.sqlite").exists()
    code, out, err = ended(resumed(tmp_path, folder, "--json"))
    assert (code, out) == (2, "")
    assert "no password supplied" in err
    code, out, err = ended(resumed(tmp_path, folder, "--json", "--journal", postgres.address()))
    assert code == 0, err
    assert json.loads(out)["ok"] == 4
    assert "steps from the journal" in " ".join(err.split())
    files = [file.read_bytes() for file in folder.rglob("*") if file.is_file()]
    for said in (first, out, err, *(file.decode(errors="replace") for file in files)):
        assert PASSWORD not in said
        assert quote(PASSWORD, safe="") not in said


def test_what_agents_print_is_kept_off_stdout(tmp_path: Path) -> None:
    code, out, err = ended(start(tmp_path, "prints", [{}]))
    assert code == 0, err
    assert json.loads(out)["ok"] == 1
    assert "said by the agent" in err
    assert "said by a tool" in err


def test_a_prepare_that_raises_is_one_line(tmp_path: Path) -> None:
    code, out, err = ended(start(tmp_path, "UNPREPARED", [{}]))
    assert (code, out) == (2, "")
    assert "error: unprepared: cannot prepare: LookupError: no data" in err
    assert "Traceback" not in err


def test_a_grade_that_raises_is_no_grade(tmp_path: Path) -> None:
    code, out, err = ended(start(tmp_path, "UNGRADED", [{}]))
    assert code == 0, err
    assert json.loads(out)["agents"]["ungraded"]["quality"] is None


def test_one_process_a_run_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.touch()
    process = start(tmp_path, "slow", [{"path": str(path)}])
    while not path.read_text():
        assert process.poll() is None
        time.sleep(0.05)
    code, _, err = ended(resumed(tmp_path, run_folder(tmp_path).path))
    assert code == 2
    assert "this run is under way in another process" in err
    process.send_signal(signal.SIGINT)
    assert ended(process)[0] == 130


def test_a_resumed_run_that_had_ended_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    assert ended(start(tmp_path, "count", [{"path": str(path)}]))[0] == 0
    before = [identity(step) for step in run_folder(tmp_path).workload().steps()]
    code, out, err = ended(resumed(tmp_path, run_folder(tmp_path).path, "--json"))
    assert code == 0, err
    assert json.loads(out)["steps"] == 4
    assert [identity(step) for step in run_folder(tmp_path).workload().steps()] == before


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["run"], "no agent given"),
        (["run", "suport"], "did you mean support"),
        (["run", "support", "--input", "missing.jsonl"], "missing.jsonl: cannot read the inputs"),
        (["run", "support", "--input", "bad.jsonl"], "bad.jsonl, line 2: not JSON"),
        (["run", "support", "--input", "empty.jsonl"], "empty.jsonl: there is no input"),
        (["run", "support", "--model", "missing.gguf"], "missing.gguf: cannot read the model"),
        (["run", "support", "--model", "bad.gguf"], "bad.gguf: this is not a GGUF file"),
        (["run", "support", "--model", "cut.gguf"], "cut.gguf: llama.cpp cannot load the model"),
        (["run", "support", "--model", "nosuch"], "there is no model 'nosuch'"),
        (["run", "support", "--fleet", "none.toml"], "none.toml: cannot read"),
        (["run", "support", "--policy", "none.toml"], "none.toml: cannot read"),
        (["run", "support", "--journal", "mysql://u:p@h/d"], "expected postgresql://user@host"),
        (["run", "--resume", "nowhere"], "nowhere: this is not a run folder"),
        (["run", "support", "--resume", "nowhere"], "--resume takes no agent"),
        (["run", "support", "--limit", "0"], "0 is not in the range"),
        (["run", "support", "--wrong"], "No such option"),
        (["wrong"], "No such command"),
    ],
)
def test_mistakes_are_one_line_with_exit_code_2(
    tmp_path: Path, arguments: list[str], text: str, local_model: Path
) -> None:
    (tmp_path / "bad.jsonl").write_text('{"from": "a@b.example", "text": "hello"}\n{"from": \n')
    (tmp_path / "empty.jsonl").write_text("\n")
    (tmp_path / "bad.gguf").write_text("hello")
    with local_model.open("rb") as source:
        (tmp_path / "cut.gguf").write_bytes(source.read(100_000))
    code, out, err = ended(Command(arguments, tmp_path))
    assert (code, out) == (2, ""), err
    (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
    assert text in line
    assert "Traceback" not in err

from __future__ import annotations

import json
from pathlib import Path

import pytest

from polysilicon.cli import main
from polysilicon.workload.files import write
from polysilicon.workload.record import RunInfo, StepRecord, TaskRecord
from polysilicon.workload.run_folder import RunFolder

KEYS = {
    "tasks", "ok", "wall_s", "tasks_per_min", "steps", "prefix_reuse", "agents", "kinds",
    "elsewhere", "run", "report",
}  # fmt: skip


def make_run(folder: Path) -> RunFolder:
    """Write the smallest run that has everything: one task with one LLM and one tool step."""
    run = RunFolder(folder)
    run.write_info(
        RunInfo(
            run=folder.name, version="0", started_at="2026-01-01T00:00:00Z", agents={"a": "a"},
            model="smollm2-135m-instruct", wall_s=3.0, tasks=1, finished=True,
        )
    )  # fmt: skip
    run.write_tasks(
        [
            TaskRecord(
                task_id="t", agent="a", input={}, ok=True, arrival_s=0.0, start_s=0.0, end_s=3.0
            )
        ]
    )
    shared = {"task_id": "t", "agent": "a", "arrival_s": 0.0, "outcome": "ok", "cores": 1.0}
    shared |= {"offer": "aws/m7i.2xlarge", "region": "us-east-1"}
    run.write_steps(
        [
            StepRecord(
                **shared, step_id="0", name="chat", kind="llm", model="smollm2-135m-instruct",
                ready_s=0.0, start_s=0.0, end_s=2.0, prompt_tokens=200, cached_tokens=0,
                output_tokens=50, cpu_s=2.0,
            ),
            StepRecord(
                **shared, step_id="1", parent_ids=("0",), name="code", kind="tool", ready_s=2.0,
                start_s=2.0, end_s=3.0, cpu_s=1.0,
            ),
        ]
    )  # fmt: skip
    return run


def exit_code(*args: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(["report", *args])
    return int(stop.value.code or 0)


def test_a_run_gets_its_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(tmp_path / "demo")
    assert exit_code(str(run.path)) == 0
    assert capsys.readouterr().out == f"{run.report_path}\n"
    page = run.report_path.read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>")
    assert "The same work elsewhere" in page


def test_json_has_the_keys_of_the_design(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(tmp_path / "demo")
    assert exit_code(str(run.path), "--json", "--out", str(tmp_path / "r.html")) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found) == KEYS
    assert found["report"] == str(tmp_path / "r.html")
    assert len({row["offer"] for row in found["elsewhere"]}) >= 8
    assert {row["basis"] for row in found["elsewhere"]} <= {"measured", "calibrated", "roofline"}
    assert not run.report_path.exists()


def test_a_workload_file_gets_one_beside_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(make_run(tmp_path / "demo").workload(), tmp_path / "w.parquet")
    assert exit_code(str(tmp_path / "w.parquet")) == 0
    assert (tmp_path / "w.html").is_file()


def test_mistakes_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(tmp_path / "demo")
    assert exit_code(str(tmp_path / "gone")) == 2
    assert exit_code(str(run.path), "--out", str(tmp_path / "no" / "r.html")) == 1
    first, second = capsys.readouterr().err.splitlines()
    assert "expected a workload file" in first
    assert "cannot be written" in second

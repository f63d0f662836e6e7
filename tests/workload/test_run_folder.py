from __future__ import annotations

from pathlib import Path

import pytest

from polysilicon.errors import InputError, PolysiliconError
from polysilicon.workload.files import write
from polysilicon.workload.record import RunInfo, StepRecord, TaskRecord
from polysilicon.workload.run_folder import RunFolder, open_workload
from polysilicon.workload.workload import Workload

INFO = RunInfo(
    run="demo", version="0.1.0", started_at="2026-11-21T09:00:00Z", agents={"a": "a"}, model="m"
)
TASK = TaskRecord(
    task_id="t", agent="a", input={"q": "¿?\n"}, output=["x"], ok=True, quality=1.0,
    arrival_s=0.0, start_s=0.5, end_s=2.0,
)  # fmt: skip
STEP = StepRecord(task_id="t", step_id="0", name="chat", kind="llm")


def full(folder: Path) -> RunFolder:
    run = RunFolder(folder)
    run.write_info(INFO)
    run.write_tasks([TASK, TASK])
    run.write_steps([STEP])
    return run


def test_what_is_written_is_read(tmp_path: Path) -> None:
    run = full(tmp_path / "deep" / "demo")
    assert run.info() == INFO
    assert run.tasks() == [TASK, TASK]
    assert list(run.workload().steps()) == [STEP]
    names = sorted(path.name for path in run.path.iterdir())
    assert names == ["run.json", "steps.parquet", "tasks.jsonl"]


def test_a_run_folder_is_a_workload_too(tmp_path: Path) -> None:
    run = full(tmp_path / "demo")
    write(run.workload(), tmp_path / "w.jsonl")
    run.write_steps(run.workload())
    assert open_workload(run.path) == open_workload(tmp_path / "w.jsonl")


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"no such file or folder; expected a workload file \(.par"
    ):
        open_workload(tmp_path / "gone")
    with pytest.raises(InputError, match=r"not a run folder; expected run\.json"):
        open_workload(tmp_path)
    run = RunFolder(tmp_path)
    with pytest.raises(InputError, match=r"run\.json: no such file"):
        run.info()
    with pytest.raises(InputError, match=r"tasks\.jsonl: no such file"):
        run.tasks()
    run.write_info(INFO)
    with pytest.raises(InputError, match=r"steps\.parquet: no such file; .*--resume"):
        open_workload(tmp_path)


def test_broken_files_are_named(tmp_path: Path) -> None:
    run = full(tmp_path)
    run.info_path.write_text('{"run": 3}')
    with pytest.raises(InputError, match=r"run\.json, run: Expected `str`"):
        run.info()
    run.tasks_path.write_text('\n{"task_id": "t", "agnt": 1}\n')
    with pytest.raises(InputError, match=r"tasks\.jsonl, line 2, agnt: .*did you mean agent"):
        run.tasks()
    run.tasks_path.unlink()
    run.tasks_path.mkdir()
    with pytest.raises(InputError, match="cannot be read: Is a directory"):
        run.tasks()


def test_a_file_in_the_way_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    run = RunFolder(tmp_path / "file")
    for attempt in (
        lambda: run.write_info(INFO),
        lambda: run.write_steps(Workload.from_records([STEP])),
    ):
        with pytest.raises(PolysiliconError, match="cannot be written"):
            attempt()

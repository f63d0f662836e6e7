from __future__ import annotations

from pathlib import Path

import pytest

from polysilicon.errors import InputError
from polysilicon.runtime.journal import Journal, JournalError, PendingTask
from polysilicon.workload.record import StepRecord, TaskRecord


def _step(task: str, step: str, end_s: float = 1.0) -> StepRecord:
    return StepRecord(task_id=task, step_id=step, name="x", kind="tool", end_s=end_s, outcome="ok")


def _task(task: str) -> TaskRecord:
    return TaskRecord(task_id=task, agent="a", input={}, ok=True, arrival_s=0, start_s=0, end_s=9)


def test_steps_and_results_come_back(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.end_step(_step("t1", "s1"), b"small")
    journal.end_step(_step("t1", "s2"), b"x" * 100_000)
    journal.end_step(_step("t2", "s1"), b"other")
    journal.close()
    again = Journal(tmp_path)
    history = again.history("t1")
    assert history["s1"] == (_step("t1", "s1"), b"small")
    assert history["s2"][1] == b"x" * 100_000
    assert [s.step_id for s in again.steps()] == ["s1", "s2", "s1"]
    again.close()


def test_large_results_lie_beside_the_database_once(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    for step in ("s1", "s2"):
        journal.end_step(_step("t", step), b"y" * 70_000)
    assert len(list((tmp_path / "blobs").iterdir())) == 1
    (blob,) = (tmp_path / "blobs").iterdir()
    blob.write_bytes(b"y" * 1000)  # cut
    assert journal.history("t") == {}
    blob.unlink()
    assert journal.history("t") == {}  # a lost result means that the step runs again
    journal.end_step(_step("t", "s1"), b"z")
    assert journal.history("t")["s1"][1] == b"z"
    journal.close()


def test_tasks_are_pending_until_they_end(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    tasks = [PendingTask(task_id=f"t{n}", agent="a", input={"n": n}) for n in range(3)]
    assert journal.accept(tasks) == 3
    journal.accept(tasks)  # again changes nothing
    journal.end_task(_task("t1"))
    assert [(t.task_id, t.input) for t in journal.pending()] == [("t0", {"n": 0}), ("t2", {"n": 2})]
    assert [t.task_id for t in journal.tasks()] == ["t1"]
    assert journal.last_end_s() == 9
    journal.close()


def test_accepting_is_all_or_nothing(tmp_path: Path) -> None:
    journal = Journal(tmp_path)

    def tasks():
        yield PendingTask(task_id="t0", agent="a", input={})
        raise ValueError("broken input")

    with pytest.raises(ValueError, match="broken"):
        journal.accept(tasks())
    assert journal.pending() == []
    journal.close()


def test_a_file_that_is_no_journal(tmp_path: Path) -> None:
    (tmp_path / "journal.sqlite").write_bytes(b"not a database at all" * 100)
    with pytest.raises(InputError, match="not a journal"):
        Journal(tmp_path)


def test_a_damaged_journal_is_one_line(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    for n in range(500):
        journal.end_step(_step("t", f"s{n}"), b"r" * 500)
    journal.close()
    path = tmp_path / "journal.sqlite"
    data = bytearray(path.read_bytes())
    data[4096 * 3 :] = b"\xff" * (len(data) - 4096 * 3)
    path.write_bytes(data)
    journal = Journal(tmp_path)
    with pytest.raises(InputError, match="the journal is damaged"):
        journal.last_end_s()
    journal.close()


def test_accepting_on_a_full_disk_is_one_line(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    pages = journal._db.execute("PRAGMA page_count").fetchone()[0]
    journal._db.execute(f"PRAGMA max_page_count = {pages}")
    tasks = [PendingTask(task_id=f"t{n}", agent="a", input={"x": "y" * 900}) for n in range(100)]
    with pytest.raises(JournalError, match="full"):
        journal.accept(tasks)
    journal.close()


def test_a_full_disk_is_one_line_that_says_how_to_go_on(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.end_step(_step("t", "s0"), b"kept")
    pages = journal._db.execute("PRAGMA page_count").fetchone()[0]
    journal._db.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(JournalError, match="full.*--resume") as caught:
        for n in range(1000):
            journal.end_step(_step("t", f"n{n}"), b"r" * 4000)
    assert "\n" not in str(caught.value)
    assert journal.history("t")["s0"][1] == b"kept"
    journal.close()


def test_an_unwritable_blob_folder(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    (tmp_path / "blobs").write_text("a file in the way")
    with pytest.raises(JournalError, match="nothing that ended is lost"):
        journal.end_step(_step("t", "s"), b"y" * 70_000)
    journal.close()

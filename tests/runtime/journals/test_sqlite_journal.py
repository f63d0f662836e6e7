from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from polysilicon.errors import InputError
from polysilicon.runtime.journal import JournalError, PendingTask, last_end_s
from polysilicon.runtime.journals import open_journal, sqlite
from polysilicon.runtime.journals.sqlite import SqliteJournal
from polysilicon.workload.record import StepRecord


def a_step(step: str, task: str = "t") -> StepRecord:
    return StepRecord(task_id=task, step_id=step, name="x", kind="tool", end_s=1.0, outcome="ok")


def end(journal: SqliteJournal, *steps: str, result: bytes = b"r") -> None:
    async def main() -> None:
        await asyncio.gather(*(journal.end_step(a_step(step), result) for step in steps))

    asyncio.run(main())


def history(journal: SqliteJournal) -> dict[str, tuple[StepRecord, bytes]]:
    return asyncio.run(journal.history("t"))


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[SqliteJournal]:
    journal = SqliteJournal(tmp_path)
    yield journal
    journal.close()


def test_large_results_lie_beside_the_database_once(journal: SqliteJournal, tmp_path: Path) -> None:
    end(journal, "s1", "s2", result=b"y" * 70_000)
    (blob,) = (tmp_path / "blobs").iterdir()
    blob.write_bytes(b"y" * 1000)  # cut
    assert history(journal) == {}
    blob.unlink()
    assert history(journal) == {}  # a lost result means that the step runs again
    end(journal, "s1", result=b"y" * 70_000)
    assert {data for _, data in history(journal).values()} == {b"y" * 70_000}


def test_parts_of_results_that_a_crash_left_are_removed(tmp_path: Path) -> None:
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs" / "x.part").write_text("half")
    SqliteJournal(tmp_path).close()
    assert list((tmp_path / "blobs").iterdir()) == []


def test_results_that_no_step_names_any_more_are_removed(tmp_path: Path) -> None:
    journal = SqliteJournal(tmp_path)
    end(journal, "s1", result=b"y" * 70_000)
    end(journal, "s2", result=b"z" * 70_000)
    journal._db.execute("DELETE FROM step WHERE step_id = 's2'")  # as a crash in `forget` leaves it
    journal.close()
    for blob in (tmp_path / "blobs").iterdir():
        os.utime(blob, (0, 0))
    journal = SqliteJournal(tmp_path)
    plan = journal._db.execute(f"EXPLAIN QUERY PLAN {sqlite._NAMED}", (b"",)).fetchall()
    assert "USING COVERING INDEX large" in str(plan) or "USING INDEX large" in str(plan)
    assert {data for _, data in history(journal).values()} == {b"y" * 70_000}
    assert len(list((tmp_path / "blobs").iterdir())) == 1
    journal.close()


def test_a_file_that_is_no_journal(tmp_path: Path) -> None:
    (tmp_path / "journal.sqlite").write_bytes(b"not a database at all" * 100)
    with pytest.raises(InputError, match="not a journal"):
        SqliteJournal(tmp_path)


def test_a_journal_of_the_first_version_goes_on(tmp_path: Path) -> None:
    db = sqlite3.connect(tmp_path / "journal.sqlite")
    db.execute("CREATE TABLE task (task_id TEXT PRIMARY KEY, agent TEXT, input BLOB, record BLOB)")
    db.execute(
        "CREATE TABLE step (task_id TEXT, step_id TEXT, record BLOB NOT NULL, result BLOB NOT NULL,"
        " PRIMARY KEY (task_id, step_id)) WITHOUT ROWID"
    )
    db.execute("INSERT INTO task VALUES ('t', 'a', ?, NULL)", (msgspec.msgpack.encode({}),))
    record = msgspec.msgpack.encode(a_step("s"))
    db.execute("INSERT INTO step VALUES ('t', 's', ?, ?)", (record, b"\0result"))
    db.commit()
    db.close()
    for _ in range(2):
        journal = open_journal(tmp_path)
        assert asyncio.run(journal.history("t")) == {"s": (a_step("s"), b"result")}
        assert [t.task_id for t in journal.pending()] == ["t"]
        journal.close()


def test_a_damaged_journal_is_one_line(tmp_path: Path) -> None:
    journal = SqliteJournal(tmp_path)
    end(journal, *(f"s{n}" for n in range(500)), result=b"r" * 500)
    journal.close()
    path = tmp_path / "journal.sqlite"
    data = bytearray(path.read_bytes())
    data[4096 * 5 :] = b"\xff" * (len(data) - 4096 * 5)
    path.write_bytes(data)
    journal = SqliteJournal(tmp_path)
    with pytest.raises(InputError, match="the journal is damaged"):
        last_end_s(journal)
    journal.close()


def _fill(journal: SqliteJournal) -> None:
    pages = journal._db.execute("PRAGMA page_count").fetchone()[0]
    journal._db.execute(f"PRAGMA max_page_count = {pages}")


def test_accepting_on_a_full_disk_is_one_line(journal: SqliteJournal) -> None:
    _fill(journal)
    tasks = [PendingTask(task_id=f"t{n}", agent="a", input={"x": "y" * 900}) for n in range(100)]
    with pytest.raises(JournalError, match="full"):
        journal.accept(tasks)
    assert journal.pending() == []


def test_a_full_disk_fails_all_of_a_commit_and_says_how_to_go_on(journal: SqliteJournal) -> None:
    end(journal, "s0", result=b"kept")
    _fill(journal)

    async def main() -> list[object]:
        works = (journal.end_step(a_step(f"n{n}"), b"r" * 4000) for n in range(40))
        return await asyncio.gather(*works, return_exceptions=True)

    errors = [error for error in asyncio.run(main()) if error is not None]
    assert len(errors) >= 39
    assert {type(error) for error in errors} == {JournalError}
    assert "full" in str(errors[-1])
    assert "--resume" in str(errors[-1])
    assert "\n" not in str(errors[-1])
    assert history(journal)["s0"][1] == b"kept"
    assert len(history(journal)) == 1 + 40 - len(errors)


def test_an_unwritable_blob_folder(journal: SqliteJournal, tmp_path: Path) -> None:
    (tmp_path / "blobs").write_text("a file in the way")
    with pytest.raises(JournalError, match="nothing that ended is lost"):
        end(journal, "s", result=b"y" * 70_000)


@contextmanager
def _held(path: Path) -> Iterator[threading.Event]:
    """Hold a database meanwhile, as another process would, until the event is set at the latest."""
    held, enough = threading.Event(), threading.Event()

    def hold() -> None:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        held.set()
        enough.wait(60)
        other.execute("COMMIT")
        other.close()

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait()
    try:
        yield enough
    finally:
        enough.set()
        holder.join()


def test_a_database_that_another_holds_is_waited_for_without_holding_the_loop(
    journal: SqliteJournal, tmp_path: Path
) -> None:
    async def main(enough: threading.Event) -> bool:
        work = asyncio.gather(*(journal.end_step(a_step(f"s{n}"), b"r") for n in range(5)))
        for _ in range(30):  # where it held the loop, it would be let go by time alone
            await asyncio.sleep(0.01)
        went_on = not work.done()
        enough.set()
        await work
        return went_on

    with _held(tmp_path / "journal.sqlite") as enough:
        assert asyncio.run(main(enough))
    assert len(history(journal)) == 5


def test_a_database_that_is_held_for_ever_stops_the_run(
    journal: SqliteJournal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        _held(tmp_path / "journal.sqlite"),
        pytest.raises(JournalError, match="locked"),
        monkeypatch.context() as patch,
    ):
        patch.setattr(sqlite, "_BUSY_S", 0.1)
        end(journal, "s")
    end(journal, "s")
    assert len(history(journal)) == 1


def test_a_lone_step_is_committed_before_the_loop_turns(journal: SqliteJournal) -> None:
    async def main() -> None:
        for n in range(3):
            turned = asyncio.get_running_loop().create_future()
            asyncio.get_running_loop().call_soon(turned.set_result, None)
            await journal.end_step(a_step(f"s{n}"), b"r")
            assert not turned.done()
            await turned

    asyncio.run(main())


def test_steps_of_one_turn_share_a_commit(journal: SqliteJournal) -> None:
    commits = 0

    def count(statement: str) -> None:
        nonlocal commits
        commits += statement == "COMMIT"

    journal._db.set_trace_callback(count)
    end(journal, *(f"s{n}" for n in range(100)))
    assert commits == 1
    assert len(history(journal)) == 100


def test_closing_commits_what_waits(tmp_path: Path) -> None:
    journal = SqliteJournal(tmp_path)

    async def main() -> None:
        works = [asyncio.create_task(journal.end_step(a_step(f"s{n}"), b"r")) for n in range(3)]
        await asyncio.sleep(0)
        journal.close()
        await asyncio.gather(*works)

    asyncio.run(main())
    journal = SqliteJournal(tmp_path)
    assert len(history(journal)) == 3
    journal.close()


def test_a_run_with_its_journal_in_its_folder_takes_no_other(tmp_path: Path) -> None:
    open_journal(tmp_path).close()
    with pytest.raises(InputError, match="has its journal in its folder"):
        open_journal(tmp_path, "postgresql://user@host/database")

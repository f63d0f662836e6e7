"""The register of tasks: what comes together is taken in together, and no question reads it all."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from polysilicon.gateway.tasks.register import Asked, End, Entry, SqliteRegister
from polysilicon.runtime.journal import JournalError, PendingTask
from polysilicon.runtime.journals.sqlite import SqliteJournal
from polysilicon.workload.record import TaskRecord


class Journal(SqliteJournal):
    """A journal that tells how many tasks it took in at a time, and may refuse them."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.took: list[int] = []
        self.refuses = False

    def accept(self, tasks: Iterable[PendingTask]) -> int:
        """Take tasks."""
        if self.refuses:
            raise JournalError("full")
        self.took.append(super().accept(tasks))
        return self.took[-1]


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with closing(Journal(tmp_path)) as found:
        yield found


@pytest.fixture
def register(journal: Journal, tmp_path: Path) -> Iterator[SqliteRegister]:
    with closing(SqliteRegister(tmp_path, journal)) as found:
        yield found


def entry(task_id: str, caller: str = "c") -> Entry:
    return Entry(
        seq=0, task_id=task_id, caller=caller, agent="a", created_at=1.0, status="queued",
        input=msgspec.msgpack.encode({"n": task_id}),
    )  # fmt: skip


async def add(register: SqliteRegister, *added: tuple[Entry, str | None]) -> list[Entry]:
    return list(await asyncio.gather(*(register.add(*one) for one in added)))


def listed(register: SqliteRegister, **asked: str) -> list[str]:
    found = asyncio.run(register.page(Asked(limit=10_000, **asked)))  # type: ignore[arg-type]
    return [task.task_id for task in reversed(found)]


def test_tasks_that_come_together_share_a_commit_in_both(
    register: SqliteRegister, journal: Journal
) -> None:
    commits = 0

    def count(statement: str) -> None:
        nonlocal commits
        commits += statement == "COMMIT"

    register._db.set_trace_callback(count)
    names = [f"t{n:03d}" for n in range(200)]
    asyncio.run(add(register, *((entry(name), None) for name in names)))
    assert journal.took == [1, 199]
    assert commits == 1  # the first one's statement was a transaction of its own
    assert listed(register) == names
    assert [(t.task_id, t.input) for t in journal.pending()] == [(n, {"n": n}) for n in names]


def test_a_key_that_comes_twice_at_once_names_one_task(
    register: SqliteRegister, journal: Journal
) -> None:
    given = [("alone", None), ("a", "k"), ("b", "k"), ("c", "l"), ("d", "k")]
    found = asyncio.run(add(register, *((entry(name), key) for name, key in given)))
    assert [one.task_id for one in found] == ["alone", "a", "a", "c", "a"]
    (other,) = asyncio.run(add(register, (entry("e", caller="another"), "k")))
    assert other.task_id == "e"
    assert listed(register) == ["alone", "a", "c", "e"]
    assert {task.task_id for task in journal.pending()} == {"alone", "a", "c", "e"}


def test_tasks_that_the_journal_does_not_take_are_in_neither(
    register: SqliteRegister, journal: Journal
) -> None:
    journal.refuses = True
    asked = [(entry(name), f"key {name}") for name in "abc"]

    async def refused() -> list[object]:
        works = (register.add(*one) for one in asked)
        return list(await asyncio.gather(*works, return_exceptions=True))

    assert [type(error) for error in asyncio.run(refused())] == [JournalError] * 3
    assert listed(register) == []
    journal.refuses = False
    # Whoever asks again gets a task that will run, not one that only the register knows.
    assert [one.task_id for one in asyncio.run(add(register, *asked))] == [*"abc"]
    assert [task.task_id for task in journal.pending()] == [*"abc"]


def test_what_a_task_was_told_keeps_its_order(register: SqliteRegister) -> None:
    async def main() -> None:
        await add(register, *((entry(name), None) for name in "abcd"))
        for names in ("abcd", "bcd"):  # the second time they have ended
            await asyncio.gather(*(register.begun(name) for name in names))
            await asyncio.gather(
                *(register.ended(name, "completed", End(output=names), 2.0) for name in "abc")
            )
        found = {name: await register.get(name) for name in "abcd"}
        assert {n: one.status for n, one in found.items() if one} == {
            "a": "completed", "b": "completed", "c": "completed", "d": "in_progress",
        }  # fmt: skip
        ends = [one.end for one in found.values() if one and one.end]
        assert [end.output for end in ends] == ["abcd"] * 3

    asyncio.run(main())


def test_what_has_not_ended_is_taken_up_and_what_the_journal_lacks_it_gets(
    register: SqliteRegister, journal: Journal
) -> None:
    names = [f"t{n}" for n in (3, 1, 4, 5, 2)]

    async def main() -> None:
        for name in names:
            await register.add(entry(name), None)
        record = TaskRecord(task_id="t4", agent="a", input={}, ok=True, arrival_s=0, start_s=0,
                            end_s=9)  # fmt: skip
        await journal.end_task(record)
        journal.forget(0, (), ["t4"])
        await journal.end_task(msgspec.structs.replace(record, task_id="t1"))
        await register.ended("t5", "completed", End(), 2.0)
        assert register.left() == ["t3", "t1", "t4", "t2"]
        found = await register.unfinished(["t1", "t2", "t3", "t5", "none"])
        assert [(one.entry.task_id, one.record is not None) for one in found] == [
            ("t3", False), ("t1", True), ("t2", False),
        ]  # fmt: skip
        assert "t4" not in journal.known(names)
        assert [one.entry.task_id for one in await register.unfinished(["t4"])] == ["t4"]
        assert journal.known(["t4", "t1"])["t4"] is None
        assert await register.unfinished([]) == []

    asyncio.run(main())


def test_no_question_reads_all_tasks(register: SqliteRegister, tmp_path: Path) -> None:
    asked: list[str] = []
    register._db.set_trace_callback(asked.append)

    async def main() -> None:
        await register.add(entry("t"), "key")
        await register.with_key("c", "key")
        await register.get("t")
        await register.begun("t")
        await register.unfinished(["t"])
        await register.ended("t", "completed", End(), 2.0)
        asked_for = (Asked(), Asked(caller="c"), Asked(status="failed"), Asked(agent="b"),
                     Asked(before=3), Asked(caller="c", status="failed", before=9))  # fmt: skip
        for wanted in asked_for:
            await register.page(wanted)
        await register.forget(3.0, 10)

    asyncio.run(main())
    register._db.set_trace_callback(None)
    plans = {}
    with closing(sqlite3.connect(tmp_path / "tasks.sqlite")) as db:
        for statement in asked:
            if statement.split()[0] in {"SELECT", "UPDATE", "DELETE"}:
                plan = db.execute(f"EXPLAIN QUERY PLAN {statement}").fetchall()
                plans[statement] = [line for *_, line in plan]
    scans = {text: plan for text, plan in plans.items() if "SCAN task" in str(plan)}
    newest = [text for text in scans if "WHERE" not in text]
    assert len(plans) >= 13
    assert len(newest) == 1  # from the newest on, as many as are asked for
    assert [text for text in scans if text not in newest] == []
    sorts = {text for text, plan in plans.items() if "TEMP B-TREE" in str(plan)}
    assert all("json_each" in text for text in sorts)


def test_a_register_of_a_version_before_gets_what_it_lacks(
    tmp_path: Path, journal: Journal
) -> None:
    with closing(sqlite3.connect(tmp_path / "tasks.sqlite")) as before:
        before.execute(
            "CREATE TABLE task (seq INTEGER PRIMARY KEY AUTOINCREMENT, task_id TEXT UNIQUE, "
            "caller TEXT NOT NULL, idempotency TEXT, agent TEXT NOT NULL, input BLOB NOT NULL, "
            "created_at REAL, status TEXT, end BLOB, UNIQUE (caller, idempotency))"
        )
        row = ("old", "c", None, "a", b"\x80", 1.0, "completed", msgspec.msgpack.encode(End()))
        before.execute(
            "INSERT INTO task (task_id, caller, idempotency, agent, input, created_at, status, end)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row
        )  # fmt: skip
        before.commit()
    with closing(SqliteRegister(tmp_path, journal)) as register:
        assert listed(register, status="completed") == ["old"]
        assert asyncio.run(register.forget(2.0, 10)) == 1
        assert listed(register) == []

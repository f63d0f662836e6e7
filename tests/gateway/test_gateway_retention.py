"""The journal forgets what is old; sums, budgets and tasks under way stay."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from polysilicon.disk import write_whole
from polysilicon.errors import PolysiliconError
from polysilicon.gateway import retention
from polysilicon.gateway.access import NOBODY
from polysilicon.gateway.retention import Forgotten, Retention
from polysilicon.gateway.tasks.register import (
    NAME,
    Asked,
    End,
    Entry,
    SqliteRegister,
    digest_of,
)  # fmt: skip
from polysilicon.gateway.totals import Totals
from polysilicon.runtime.journals.sqlite import SqliteJournal
from polysilicon.workload.record import StepRecord
from served_gateway import Served, serving

AGENTS = Path(__file__).parents[1] / "agent_samples.py"
COUNT, NEVER = (f"{AGENTS}:{name}" for name in ("count", "never"))


def step(number: int, task: str, end_s: float) -> StepRecord:
    return StepRecord(
        task_id=task, step_id=f"s{number}", agent="a", name="chat", kind="llm", model="m", pool="p",
        start_s=end_s - 1, end_s=end_s, cost_usd=0.25, output_tokens=3, outcome="ok",
    )  # fmt: skip


def journal_of(folder: Path, records: list[StepRecord]) -> SqliteJournal:
    async def fill() -> None:
        for record in records:
            await journal.end_step(record, b"x" * 70_000)

    journal = SqliteJournal(folder)
    asyncio.run(fill())
    return journal


def ids(journal: SqliteJournal) -> list[str]:
    return [record.step_id for record in journal.steps()]


def whole(journal: SqliteJournal, kept: Retention) -> Any:
    """Return the ledger, as a gateway that starts counts it."""
    totals = Totals()
    totals.include(kept.totals.by_group.items())
    for record in journal.steps():
        totals.add(record)
    return msgspec.to_builtins(totals.all)


def test_what_is_old_goes_and_its_sums_stay(tmp_path: Path) -> None:
    records = [step(n, "open" if n == 3 else f"t{n}", float(n)) for n in range(10)]
    records.append(step(10, "late", 4.0))  # ended before those it was committed after
    journal = journal_of(tmp_path, records)
    kept = Retention(journal, tmp_path)
    ledger = whole(journal, kept)
    asyncio.run(kept.forget(6.0, 10.0, excess=0, kept={"open"}))
    assert ids(journal) == ["s3", "s6", "s7", "s8", "s9", "s10"]
    assert whole(journal, kept) == ledger
    asyncio.run(kept.forget(6.0, 11.0, excess=0, kept=set()))  # the task has ended
    assert ids(journal) == ["s6", "s7", "s8", "s9", "s10"]
    asyncio.run(kept.forget(0.0, 11.0, excess=2, kept=set()))
    assert ids(journal) == ["s8", "s9", "s10"]
    again = Retention(journal, tmp_path)
    assert whole(journal, again) == ledger
    assert again.until_s == 11.0
    journal.close()


def test_a_crash_between_the_sums_and_the_journal_counts_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = journal_of(tmp_path, [step(n, f"t{n % 3}", float(n)) for n in range(9)])
    kept = Retention(journal, tmp_path)
    ledger = whole(journal, kept)
    monkeypatch.setattr(retention, "_PAGE", 4)

    def written(path: Path, content: bytes) -> None:
        write_whole(path, content)
        if msgspec.json.decode(content, type=Forgotten).through > 4:
            raise OSError("killed here")

    monkeypatch.setattr(retention, "write_whole", written)
    with pytest.raises(OSError, match="killed"):
        asyncio.run(kept.forget(7.5, 9.0, excess=0, kept={"t1"}))
    assert len(ids(journal)) == 9 - 3  # the first page is gone, but for the task that is kept
    journal.close()
    journal = SqliteJournal(tmp_path)
    assert whole(journal, Retention(journal, tmp_path)) == ledger
    assert ids(journal) == ["s1", "s4", "s7", "s8"]
    journal.close()


def test_what_fails_is_counted_once_however_often_it_is_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = journal_of(tmp_path, [step(n, f"t{n % 3}", float(n)) for n in range(9)])
    kept = Retention(journal, tmp_path)
    ledger = whole(journal, kept)

    def full(*_: object) -> None:
        raise PolysiliconError("no room")

    def lost(*given: Any) -> None:
        forget(*given)
        raise PolysiliconError("a result could not be dropped")

    forget = journal.forget
    for name, where, what in (("write_whole", retention, full), ("forget", journal, full),
                              ("forget", journal, lost)):  # fmt: skip
        for _ in range(2):
            with monkeypatch.context() as patch:
                patch.setattr(where, name, what)
                with pytest.raises(PolysiliconError):
                    asyncio.run(kept.forget(3.5, 9.0, excess=0, kept={"t1"}))
        assert kept.totals.all.steps == 0
    asyncio.run(kept.forget(0.0, 10.0, excess=4, kept={"t1"}))  # of which 3 are settled first
    assert ids(journal) == ["s1", "s4", "s5", "s6", "s7", "s8"]
    assert whole(journal, kept) == ledger
    assert whole(journal, Retention(journal, tmp_path)) == ledger
    journal.close()


def test_forgetting_waits_for_another_writer_and_the_loop_goes_on(tmp_path: Path) -> None:
    journal = journal_of(tmp_path, [step(n, f"t{n}", float(n)) for n in range(4)])
    kept = Retention(journal, tmp_path)

    async def main() -> None:
        forgets = asyncio.create_task(kept.forget(2.5, 9.0, excess=0, kept=set()))
        for _ in range(40):  # where it kept the loop, it would be done when the first has passed
            await asyncio.sleep(0.005)
            assert not forgets.done()
        assert ids(journal) == ["s0", "s1", "s2", "s3"]
        other.execute("COMMIT")
        await forgets

    with closing(sqlite3.connect(tmp_path / "journal.sqlite", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        asyncio.run(main())
    assert ids(journal) == ["s3"]
    assert kept.totals.all.steps == 3
    journal.close()


def test_what_comes_after_all_was_forgotten_is_not_taken_for_it(tmp_path: Path) -> None:
    journal = journal_of(tmp_path, [step(n, "t", float(n)) for n in range(5)])
    kept = Retention(journal, tmp_path)
    asyncio.run(kept.forget(99.0, 99.0, excess=0, kept=set()))
    assert ids(journal) == ["s4"]
    journal.close()
    journal = journal_of(tmp_path, [step(n, "t", float(n)) for n in (5, 6)])
    ledger = whole(journal, kept)
    assert whole(journal, Retention(journal, tmp_path)) == ledger
    assert ids(journal) == ["s4", "s5", "s6"]
    assert ledger["steps"] == 7
    journal.close()


def test_large_results_go_with_the_last_step_that_names_them(tmp_path: Path) -> None:
    journal = journal_of(tmp_path, [step(0, "a", 1.0), step(0, "b", 2.0)])
    (blob,) = (tmp_path / "blobs").iterdir()
    os.utime(blob, (0, 0))
    journal.forget(1, (), ())
    assert blob.exists()
    journal.forget(2, (), ())
    assert not blob.exists()
    journal.close()


def register_before(folder: Path, caller: str, key: str | None, agent: str, given: Any,
                    created_at: float) -> None:  # fmt: skip
    """Write a register as a version before did, with a task that completed."""
    with closing(sqlite3.connect(folder / NAME)) as before:
        before.execute(
            "CREATE TABLE task (seq INTEGER PRIMARY KEY AUTOINCREMENT, task_id TEXT NOT NULL UNIQUE"
            ", caller TEXT NOT NULL, idempotency TEXT, agent TEXT NOT NULL, input BLOB NOT NULL, "
            "created_at REAL NOT NULL, status TEXT NOT NULL, end BLOB, "
            "UNIQUE (caller, idempotency))"
        )
        given, end = msgspec.msgpack.encode(given), msgspec.msgpack.encode(End())
        before.execute(
            "INSERT INTO task VALUES (1, 'old', ?, ?, ?, ?, ?, 'completed', ?)",
            (caller, digest_of(key), agent, given, created_at, end),
        )
        before.commit()


def test_a_key_of_a_version_before_names_its_task(tmp_path: Path) -> None:
    given, folder = {"path": str(tmp_path / "notes")}, tmp_path / "gateway"
    folder.mkdir()
    register_before(folder, NOBODY, "k1", "count", given, time.time())
    with serving(tmp_path, "", agents=(COUNT,)) as served:

        def asked(key: str, value: Any) -> httpx.Response:
            body = {"agent": "count", "input": value}
            return served.client.post("/v1/tasks", json=body, headers={"idempotency-key": key})

        again = asked("k1", given)
        assert (again.status_code, again.json()["id"]) == (200, "old")
        other = asked("k1", {"path": str(tmp_path / "elsewhere")})
        assert other.status_code == 422
        assert other.json()["error"]["code"] == "idempotency_mismatch"
        assert asked("k2", given).status_code == 202
        assert asked("k2", given).status_code == 200
    with closing(sqlite3.connect(folder / NAME)) as after:
        hashes = after.execute("SELECT length(given) FROM task ORDER BY seq").fetchall()
    assert hashes == [(None,), (32,)]


def test_a_task_is_kept_from_its_end_on(tmp_path: Path) -> None:
    register_before(tmp_path, "c", None, "a", None, 50.0)
    journal = SqliteJournal(tmp_path)
    with closing(journal), closing(SqliteRegister(tmp_path, journal)) as register:
        entry = Entry(seq=0, task_id="slow", caller="c", agent="a", input=b"\xc0",
                      created_at=100.0, status="queued")  # fmt: skip

        async def main() -> None:
            await register.add(entry, None)
            await register.ended("slow", "completed", End(), 900.0)
            assert [found.task_id for found in await register.page(Asked())] == ["slow", "old"]
            assert await register.forget(500.0, 10) == 1
            assert [found.task_id for found in await register.page(Asked())] == ["slow"]
            assert await register.forget(901.0, 10) == 1

        asyncio.run(main())


def submitted(served: Served, agent: str, given: Any) -> str:
    body = {"agent": agent, "input": given}
    task_id: str = served.client.post("/v1/tasks", json=body).json()["id"]
    return task_id


def test_a_gateway_forgets_tasks_that_ended_and_keeps_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "_LOOK_S", 0.05)
    options = {"agents": (COUNT, NEVER), "keep_days": 1 / 86_400}
    with serving(tmp_path, "", **options) as served:
        open_id = submitted(served, "never", {})
        done_id = submitted(served, "count", {"path": str(tmp_path / "notes")})
        deadline_s = time.monotonic() + 60
        while served.client.get(f"/v1/tasks/{done_id}").status_code == 200:
            assert time.monotonic() < deadline_s
            time.sleep(0.05)
        assert served.client.get(f"/v1/tasks/{open_id}").json()["status"] == "in_progress"
        while len(served.call(lambda: list(served.gateway.journal.steps()))) > 1:
            assert time.monotonic() < deadline_s
            time.sleep(0.05)
        ledger = served.call(lambda: msgspec.to_builtins(served.gateway.totals.all))
        now_s = served.call(served.gateway.clock)
    assert ledger["steps"] == 4
    with serving(tmp_path, "", **options) as served:
        assert served.call(lambda: msgspec.to_builtins(served.gateway.totals.all)) == ledger
        assert served.call(served.gateway.clock) >= now_s - 1
        assert served.client.get(f"/v1/tasks/{open_id}").json()["status"] != "completed"
        assert served.client.get(f"/v1/tasks/{done_id}").status_code == 404

"""Every journal passes the same suite."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from polysilicon.runtime.journal import Journal, PendingTask, last_end_s
from polysilicon.runtime.journals import open_journal
from polysilicon.runtime.journals.follow import follow
from polysilicon.workload.record import RunInfo, StepRecord, TaskRecord
from polysilicon.workload.run_folder import RunFolder

Open = Callable[..., Journal]
LARGE = b"y" * 100_000


def a_step(task: str, step: str, **fields: Any) -> StepRecord:
    fields = {"end_s": 1.0, "outcome": "ok", **fields}
    return StepRecord(task_id=task, step_id=step, name="x", kind="tool", **fields)


def a_task(task: str) -> TaskRecord:
    return TaskRecord(task_id=task, agent="a", input={}, ok=True, arrival_s=0, start_s=0, end_s=9)


def pending(*names: str) -> list[PendingTask]:
    return [PendingTask(task_id=name, agent="a", input={"n": name}) for name in names]


@pytest.fixture(params=["sqlite", "postgres"])
def address(request: pytest.FixtureRequest) -> str | None:
    """The address of the journal: None is a file in the run's folder."""
    return None if request.param == "sqlite" else request.getfixturevalue("postgres").address()


@pytest.fixture
def opened(address: str | None, tmp_path: Path) -> Iterator[Open]:
    """Open the journal of the folder; all are closed in the end."""
    journals: list[Journal] = []

    def again(folder: Path = tmp_path, **options: Any) -> Journal:
        while journals and not options:
            journals.pop().close()
        journals.append(open_journal(folder, address, **options))
        return journals[-1]

    yield again
    for journal in journals:
        journal.close()


def wait_for(*works: Awaitable[Any]) -> list[Any]:
    async def main() -> list[Any]:
        return await asyncio.gather(*works)

    return asyncio.run(main())


def history(journal: Journal, task: str) -> dict[str, tuple[StepRecord, bytes]]:
    return wait_for(journal.history(task))[0]


def test_steps_and_results_come_back(opened: Open) -> None:
    journal = opened()
    one, two, other = a_step("t1", "s1"), a_step("t1", "s2", parent_ids=("s1",)), a_step("t2", "é'")
    for record, result in ((one, b"small"), (two, LARGE), (other, b"")):
        wait_for(journal.end_step(record, result))
    assert history(opened(), "t1") == {"s1": (one, b"small"), "s2": (two, LARGE)}
    journal = opened()
    assert history(journal, "t2") == {"é'": (other, b"")}
    assert history(journal, "t3") == {}
    assert list(journal.steps()) == [one, two, other]


def test_what_is_written_at_once_is_committed_together_and_all_there(opened: Open) -> None:
    journal = opened()
    records = [a_step(f"t{n % 7}", f"s{n}") for n in range(3000)]
    wait_for(*(journal.end_step(r, r.step_id.encode()) for r in records))
    journal = opened()
    assert sorted(journal.steps(), key=lambda r: int(r.step_id[1:])) == records
    kept = history(journal, "t3")
    assert all(result.decode() == step for step, (_, result) in kept.items())
    assert len(kept) == len([r for r in records if r.task_id == "t3"])


def test_what_is_forgotten_is_gone_and_the_rest_is_there(opened: Open) -> None:
    journal = opened()
    journal.accept(PendingTask(task_id=f"t{n}", agent="a", input={}) for n in range(4))
    records = [a_step(f"t{n % 4}", f"s{n}") for n in range(8)]
    for record in records:
        wait_for(journal.end_step(record, LARGE))
    wait_for(*(journal.end_task(a_task(f"t{n}")) for n in (0, 1)))
    through = journal.ended(0, 6)[-1].seq
    for _ in range(2):  # again changes nothing
        journal.forget(through, {"t1"}, ["t0", "t2", "none"])
        journal = opened()
        assert list(journal.steps()) == [records[1], records[5], records[6], records[7]]
        assert [task.task_id for task in journal.tasks()] == ["t1"]
        assert [task.task_id for task in journal.pending()] == ["t2", "t3"]
    assert history(journal, "t3") == {"s7": (records[7], LARGE)}


def test_large_results_that_are_written_at_once(opened: Open) -> None:
    journal = opened()
    results = {f"s{n}": bytes([n]) * 400_000 for n in range(60)} | {"same": b"\0" * 400_000}
    wait_for(*(journal.end_step(a_step("t", s), data) for s, data in results.items()))
    assert {step: data for step, (_, data) in history(opened(), "t").items()} == results


def test_a_step_that_is_waited_for_by_nobody_is_kept_all_the_same(opened: Open) -> None:
    journal = opened()

    async def main() -> None:
        steps = [a_step("t", f"s{n}") for n in range(9)]
        works = [asyncio.create_task(journal.end_step(step, b"r")) for step in steps]
        await asyncio.sleep(0)
        for work in works:
            work.cancel()
        results = await asyncio.gather(*works, return_exceptions=True)
        assert any(isinstance(result, asyncio.CancelledError) for result in results)

    asyncio.run(main())
    assert len(history(opened(), "t")) == 9


def test_tasks_are_pending_until_they_end(opened: Open) -> None:
    journal = opened()
    assert journal.accept(pending("t0", "t1", "t2")) == 3
    journal.accept(pending("t0", "t1"))  # again changes nothing
    wait_for(journal.end_task(a_task("t1")))
    journal.accept(pending("t1"))
    journal = opened()
    assert [(t.task_id, t.agent, t.input) for t in journal.pending()] == [
        ("t0", "a", {"n": "t0"}), ("t2", "a", {"n": "t2"}),
    ]  # fmt: skip
    assert list(journal.tasks()) == [a_task("t1")]
    assert last_end_s(journal) == 9


def test_a_task_ends_once(opened: Open) -> None:
    journal = opened()
    journal.accept(pending("t0"))
    wait_for(journal.end_task(a_task("t0")))
    late = msgspec.structs.replace(a_task("t0"), ok=False, error="cancelled")
    wait_for(journal.end_task(late))
    assert list(opened().tasks()) == [a_task("t0")]


def test_what_is_known_of_some_tasks(opened: Open) -> None:
    journal = opened()
    journal.accept(pending("t0", "t1", "t2"))
    wait_for(journal.end_task(a_task("t1")))
    assert journal.known(["t1", "t2", "t3"]) == {"t1": a_task("t1"), "t2": None}
    assert journal.known([]) == {}


def test_an_input_is_taken_as_it_is_encoded(opened: Open) -> None:
    journal = opened()
    encoded = msgspec.Raw(msgspec.msgpack.encode({"n": [1, "é", None]}))
    journal.accept([PendingTask(task_id="t", agent="a", input=encoded)])
    (task,) = opened().pending()
    assert task.input == {"n": [1, "é", None]}


def test_many_tasks(opened: Open) -> None:
    journal = opened()
    names = [f"t{n:05d}" for n in range(2500)]
    assert journal.accept(iter(pending(*names))) == 2500
    wait_for(*(journal.end_task(a_task(name)) for name in names[:1200]))
    assert [t.task_id for t in journal.pending()] == names[1200:]
    assert [t.task_id for t in journal.tasks()] == names[:1200]


def test_accepting_is_all_or_nothing(opened: Open) -> None:
    journal = opened()

    def tasks() -> Iterator[PendingTask]:
        yield from pending("t0")
        raise ValueError("broken input")

    with pytest.raises(ValueError, match="broken"):
        journal.accept(tasks())
    assert journal.pending() == []


def test_a_mark_is_no_end(opened: Open) -> None:
    journal = opened()
    mark = a_step("t", "s", end_s=None, outcome="cancelled")
    wait_for(journal.begin_step(mark))
    journal = opened()
    assert history(journal, "t") == {}
    assert journal.ended(0, 10) == []
    assert list(journal.steps()) == [mark]
    wait_for(journal.end_step(a_step("t", "s"), b"r"))
    wait_for(journal.begin_step(mark))  # too late to matter
    journal = opened()
    assert history(journal, "t") == {"s": (a_step("t", "s"), b"r")}
    assert list(journal.steps()) == [a_step("t", "s")]


def test_numbers_of_ended_steps_grow(opened: Open) -> None:
    journal = opened()
    for n in range(5):
        wait_for(journal.end_step(a_step("t", f"s{n}"), b"r"))
    first = journal.ended(0, 3)
    assert [c.record.step_id for c in first] == ["s0", "s1", "s2"]
    rest = journal.ended(first[-1].seq, 3)
    assert [c.record.step_id for c in rest] == ["s3", "s4"]
    assert journal.ended(rest[-1].seq, 3) == []
    wait_for(journal.end_step(a_step("t", "s4"), b"ran again"))
    again = journal.ended(rest[-1].seq, 3)
    assert [c.record.step_id for c in again] == ["s4"]
    numbers = [c.seq for c in (*first, *rest, *again)]
    assert numbers == sorted(set(numbers))


def test_ended_steps_of_one_task(opened: Open) -> None:
    journal = opened()
    for n in range(3):
        for task in ("a", "b"):
            wait_for(journal.end_step(a_step(task, f"s{n}"), b"r"))
    first = journal.ended(0, 2, "b")
    rest = journal.ended(first[-1].seq, 2, "b")
    ended = [(c.record.task_id, c.record.step_id) for c in (*first, *rest)]
    assert ended == [("b", "s0"), ("b", "s1"), ("b", "s2")]
    assert journal.ended(0, 9, "c") == []


def test_runs_do_not_see_each_other(opened: Open, tmp_path: Path, address: str | None) -> None:
    (tmp_path / "other").mkdir()
    one, other = opened(), open_journal(tmp_path / "other", address)
    try:
        assert one.run != other.run
        one.accept(pending("t"))
        wait_for(one.end_step(a_step("t", "s"), b"one"), other.end_step(a_step("t", "s"), b"other"))
        assert history(one, "t")["s"][1] == b"one"
        assert history(other, "t")["s"][1] == b"other"
        assert other.pending() == []
        assert len(one.ended(0, 9)) == len(other.ended(0, 9)) == 1
    finally:
        other.close()


def test_a_run_keeps_its_name(opened: Open) -> None:
    run = opened().run
    assert len(run) == 16
    assert opened().run == run


def test_compaction_keeps_the_records(opened: Open, tmp_path: Path) -> None:
    journal = opened()
    records = [a_step("t", f"s{n}") for n in range(40)]
    wait_for(*(journal.end_step(r, LARGE + r.step_id.encode()) for r in records))
    wait_for(journal.begin_step(a_step("t", "cut", end_s=None, outcome="cancelled")))
    before = journal.ended(0, 99)
    journal.accept(pending("t"))
    wait_for(journal.end_task(a_task("t")))
    journal.compact()
    journal = opened()
    assert journal.ended(0, 99) == before
    assert len(list(journal.steps())) == 41
    assert list(journal.tasks()) == [a_task("t")]
    assert {data for _, data in history(journal, "t").values()} <= {b""}
    journal.compact()  # again changes nothing
    assert sum(f.stat().st_size for f in tmp_path.rglob("*") if f.is_file()) < 200_000


def test_one_follows_what_another_writes(opened: Open, tmp_path: Path, address: str | None) -> None:
    journal, files = opened(), RunFolder(tmp_path)
    info = RunInfo(run="r", version="1", started_at="now", agents={}, model="m")
    files.write_info(info)

    async def write() -> None:
        for n in range(6):
            await journal.end_step(a_step("t", f"s{n}"), b"r")
            await asyncio.sleep(0.05)
        files.write_info(msgspec.structs.replace(info, finished=True))
        journal.compact()

    async def read(after: int) -> list[Any]:
        return [step async for step in follow(tmp_path, after, address=address)]

    async def main() -> tuple[list[Any], list[Any]]:
        writing = asyncio.create_task(write())
        seen = await asyncio.wait_for(read(0), 60)
        await writing
        return seen, await asyncio.wait_for(read(seen[3].seq), 60)

    seen, rest = asyncio.run(main())
    assert [c.record.step_id for c in seen] == [f"s{n}" for n in range(6)]
    assert rest == seen[4:]


def test_a_follower_writes_nothing(opened: Open) -> None:
    journal = opened()
    wait_for(journal.end_step(a_step("t", "s"), b"r"))
    reader = opened(follows=True)
    assert reader.run == journal.run
    wait_for(journal.end_step(a_step("t", "s2"), b"r"))  # beside it
    assert len(reader.ended(0, 9)) == 2


def test_whoever_waited_finds_it_committed(opened: Open) -> None:
    journal = opened()
    wait_for(journal.end_step(a_step("t", "first"), b"r"))
    reader = opened(follows=True)

    async def write(number: int) -> None:
        for n in range(3):
            mark = a_step("t", f"{number}-{n}", end_s=None, outcome="cancelled")
            await journal.begin_step(mark)
            assert mark in reader.steps()
            await journal.end_step(a_step("t", f"{number}-{n}"), b"r")
            assert f"{number}-{n}" in [c.record.step_id for c in reader.ended(0, 100)]

    wait_for(*(write(number) for number in range(20)))

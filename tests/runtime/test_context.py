"""Contexts over real parts: local engine, worker processes, sandbox, index, journal."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import time
from collections.abc import Callable, Coroutine
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from polysilicon.catalog.fleet import Pool
from polysilicon.errors import InputError, StepTimeoutError, ToolError
from polysilicon.runtime import search
from polysilicon.runtime.context import Context
from polysilicon.runtime.dispatch import Dispatcher
from polysilicon.runtime.engines.llamacpp import LlamaCpp
from polysilicon.runtime.here import Here
from polysilicon.runtime.journal import JournalError
from polysilicon.runtime.journals.sqlite import SqliteJournal
from polysilicon.runtime.pools import RunningPool
from polysilicon.runtime.resources import Resources
from polysilicon.runtime.scope import Scope, TaskState
from polysilicon.runtime.steps import StepRunner
from polysilicon.runtime.types import Document
from polysilicon.workload.record import StepRecord

CALLS = "calls.txt"
HERE: list[int] = []


def note(folder: str, text: str) -> str:
    """Leave a line, so that tests can count how often a step ran."""
    with (Path(folder) / CALLS).open("a") as stream:
        stream.write(text + "\n")
    return text.upper()


def fail_once(folder: str) -> int:
    """Fail the first time."""
    if note(folder, "try") and (Path(folder) / CALLS).read_text().count("try") < 2:
        raise RuntimeError("not yet")
    return 7


def pair() -> tuple[int, int]:
    return (1, 2)


async def meet(many: int) -> None:
    """Wait until so many are here."""
    HERE.append(1)
    while len(HERE) % many:  # noqa: ASYNC110 - no event that loops of other tests share
        await asyncio.sleep(0.01)


async def wait_a_little(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "waited"


async def wait_and_fail() -> None:
    raise OSError("unreachable")


def pay(folder: str, amount: int, *, wait_s: float, idempotency_key: str) -> str:
    """Have an effect, and then wait, unless `open` is there."""
    assert amount
    note(folder, idempotency_key)
    if not (Path(folder) / "open").exists():
        time.sleep(wait_s)
    return idempotency_key


def pay_at_second(folder: str, idempotency_key: str) -> int:
    note(folder, idempotency_key)
    count = len((Path(folder) / CALLS).read_text().split())
    if count < 2:
        raise OSError("unreachable")
    return count


async def pay_here(idempotency_key: str) -> str:
    return idempotency_key


def marks(folder: str, idempotency_key: str) -> int:
    """Count the steps that another process sees as begun."""
    assert idempotency_key
    with closing(sqlite3.connect(Path(folder) / "journal.sqlite")) as db:
        return db.execute("SELECT count(*) FROM step WHERE result IS NULL").fetchone()[0]


def text_of(size: int) -> str:
    return "x" * size


async def wait_for_text(size: int) -> str:
    return text_of(size)


def busy(seconds: float, folder: str | None = None) -> None:
    if folder is not None:
        note(folder, "busy")
    time.sleep(seconds)


Scenario = Callable[[Context], Coroutine[Any, Any, Any]]


def run(folder: Path, scenario: Scenario, engine: LlamaCpp | None = None) -> Any:
    """Run `scenario` as the task `t`, going on from what the journal in `folder` holds."""

    async def main() -> Any:
        journal = SqliteJournal(folder)
        pool = RunningPool(Pool(name="local"), engine, 2, lambda c, _s: (c, None), 1.0)
        begin_s = time.monotonic()
        runner = StepRunner(journal, Dispatcher([pool]), lambda: time.monotonic() - begin_s)
        resources = Resources(
            runner=runner, here=Here.opened(2), model="smollm2-135m-instruct",
            clock=lambda: time.monotonic() - begin_s,
        )  # fmt: skip
        task = TaskState("t", "agent", 0.0, random.Random(1), history=await journal.history("t"))
        try:
            return await scenario(Context(resources, Scope(task), folder))
        finally:
            await resources.here.close()
            journal.close()

    return asyncio.run(main())


def steps(folder: Path) -> dict[str, StepRecord]:
    journal = SqliteJournal(folder)
    found = {record.step_id: record for record in journal.steps()}
    journal.close()
    return found


def lines(folder: Path) -> list[str]:
    path = folder / CALLS
    return path.read_text().split() if path.exists() else []


def named(folder: Path, name: str) -> StepRecord:
    (record,) = [record for record in steps(folder).values() if record.name == name]
    return record


def test_chat_is_metered(tmp_path: Path, llama: LlamaCpp) -> None:
    pieces: list[str] = []

    async def scenario(ctx: Context) -> Any:
        messages = [{"role": "user", "content": "Say hello."}]
        return await ctx.chat(messages, max_tokens=8, on_token=pieces.append)

    result = run(tmp_path, scenario, llama)
    record = named(tmp_path, "chat")
    assert "".join(pieces) == result.text
    assert (record.kind, record.model) == ("llm", "smollm2-135m-instruct")
    assert record.output_tokens == result.output_tokens
    assert record.start_s <= record.first_token_s <= record.end_s
    assert 0 < record.cpu_s < 2.5 * (record.end_s - record.start_s)
    assert record.cost_usd == record.cpu_s
    assert run(tmp_path, scenario, llama) == result  # from the journal
    assert len(steps(tmp_path)) == 1


def test_code_search_embed_and_call(tmp_path: Path) -> None:
    documents = [Document(id="a", text="cats purr"), Document(id="b", text="dogs bark")]
    (tmp_path / "indexes").mkdir()
    search.build(tmp_path / "indexes" / "pets", documents)

    async def scenario(ctx: Context) -> None:
        code = await ctx.run_code("x + 1", inputs={"x": 41})
        assert (code.ok, code.value) == (True, 42)
        assert [hit.id for hit in await ctx.search("pets", "who barks?", k=1)] == ["b"]
        vectors = await ctx.embed(["one text", "two texts"])
        assert [len(v) for v in vectors] == [256, 256]
        assert await ctx.call(pair) == [1, 2]  # as the journal gives it back: JSON types
        assert await ctx.call(wait_a_little, 0.05) == "waited"

    run(tmp_path, scenario)
    run(tmp_path, scenario)
    assert sorted(r.name for r in steps(tmp_path).values()) == [
        "code", "embed", "pair", "search", "wait_a_little",
    ]  # fmt: skip
    assert named(tmp_path, "wait_a_little").wait_s >= 0.05
    assert named(tmp_path, "embed").kind == "embed"
    assert all(r.outcome == "ok" for r in steps(tmp_path).values())


def test_a_finished_step_is_never_run_again(tmp_path: Path) -> None:
    async def scenario(ctx: Context) -> list[str]:
        return [await ctx.call(note, str(tmp_path), text) for text in ("a", "b", "a")]

    assert run(tmp_path, scenario) == ["A", "B", "A"]
    assert run(tmp_path, scenario) == ["A", "B", "A"]
    assert lines(tmp_path) == ["a", "b", "a"]


def test_ids_do_not_depend_on_how_steps_interleave(tmp_path: Path) -> None:
    def scenario(order: list[str]) -> Scenario:
        async def body(ctx: Context) -> None:
            await asyncio.gather(*(ctx.call(note, str(tmp_path), text) for text in order))

        return body

    run(tmp_path, scenario(["a", "b", "c"]))
    run(tmp_path, scenario(["c", "a", "b"]))
    assert sorted(lines(tmp_path)) == ["a", "b", "c"]


def test_parents_follow_the_graph(tmp_path: Path) -> None:
    async def scenario(ctx: Context) -> None:
        await ctx.call(note, str(tmp_path), "first", name="first")

        async def item(inner: Context, value: int) -> None:
            await inner.call(note, str(tmp_path), f"x{value}", name="left")
            await inner.call(note, str(tmp_path), f"y{value}", name="right")

        await ctx.map(item, range(2))
        await ctx.call(note, str(tmp_path), "last", name="last")

    run(tmp_path, scenario)
    by_id = steps(tmp_path)
    last = named(tmp_path, "last")
    assert {by_id[p].name for p in last.parent_ids} == {"right"}
    assert len(last.parent_ids) == 2
    for parent in last.parent_ids:
        (left,) = by_id[parent].parent_ids
        (first,) = by_id[left].parent_ids
        assert (by_id[left].name, by_id[first].name) == ("left", "first")
    assert by_id[first].parent_ids == ()


def test_map_keeps_order_limits_and_raises_the_first_failure(tmp_path: Path) -> None:
    active = most = 0

    async def scenario(ctx: Context) -> list[int]:
        async def item(_inner: Context, value: int) -> int:
            nonlocal active, most
            active += 1
            most = max(most, active)
            await asyncio.sleep(0.001 * (10 - value))
            active -= 1
            return value * value

        return await ctx.map(item, iter(range(10)), limit=3)

    assert run(tmp_path, scenario) == [n * n for n in range(10)]
    assert most == 3

    async def failing(ctx: Context) -> None:
        async def item(inner: Context, value: int) -> None:
            await inner.call(fail_always, value)

        with pytest.raises(ToolError, match="ValueError: item"):
            await ctx.map(item, range(3))

    run(tmp_path, failing)


def fail_always(value: int) -> None:
    raise ValueError(f"item {value}")


def test_steps_beside_a_map_are_parents_too(tmp_path: Path) -> None:
    async def scenario(ctx: Context) -> None:
        async def item(inner: Context, value: int) -> None:
            await inner.call(note, str(tmp_path), str(value), name="item")

        await asyncio.gather(
            ctx.map(item, range(2)), ctx.call(note, str(tmp_path), "q", name="beside")
        )
        await ctx.call(note, str(tmp_path), "last", name="last")

    run(tmp_path, scenario)
    by_id = steps(tmp_path)
    names = sorted(by_id[p].name for p in named(tmp_path, "last").parent_ids)
    assert names == ["beside", "item", "item"]


def test_a_resumed_task_has_the_same_parents(tmp_path: Path) -> None:
    found = []
    for stop in (False, True):
        folder = tmp_path / str(stop)
        folder.mkdir()

        async def scenario(ctx: Context, folder: Path = folder, stop: bool = stop) -> None:
            first = ctx.call(note, str(folder), "a", name="a")
            if stop and len(steps(folder)) == 0:
                await first
                return
            await asyncio.gather(first, ctx.call(note, str(folder), "b", name="b"))
            await ctx.call(note, str(folder), "c", name="c")

        run(folder, scenario)
        if stop:
            run(folder, scenario)
        by_id = steps(folder)
        found.append({r.name: sorted(by_id[p].name for p in r.parent_ids) for r in by_id.values()})
    assert found[0] == found[1] == {"a": [], "b": [], "c": ["a", "b"]}


def test_two_maps_have_random_numbers_of_their_own(tmp_path: Path) -> None:
    async def scenario(ctx: Context) -> None:
        async def item(inner: Context, _value: int) -> float:
            return inner.rng.random()

        numbers = [*await ctx.map(item, range(3)), *await ctx.map(item, range(3))]
        assert len(set(numbers)) == 6

    run(tmp_path, scenario)


def test_what_failed_steps_used_is_metered(tmp_path: Path) -> None:
    async def scenario(ctx: Context) -> None:
        with pytest.raises(ToolError, match="SystemExit: 3"):
            await ctx.call(spin_and_exit)

    run(tmp_path, scenario)
    assert named(tmp_path, "spin_and_exit").cpu_s >= 0.1


def spin_and_exit() -> None:
    end_s = time.process_time() + 0.1
    while time.process_time() < end_s:
        pass
    raise SystemExit(3)


def test_waiting_tools_hold_no_core(tmp_path: Path) -> None:
    async def scenario(ctx: Context) -> None:  # on two cores
        await asyncio.gather(*(ctx.call(meet, 8, name=f"n{n}", timeout_s=60) for n in range(8)))

    run(tmp_path, scenario)
    assert len(steps(tmp_path)) == 8
    assert all(r.cpu_s == 0.0 for r in steps(tmp_path).values())


def test_a_map_without_items_keeps_the_graph(tmp_path: Path) -> None:
    async def scenario(ctx: Context) -> None:
        await ctx.call(note, str(tmp_path), "a", name="before")
        assert await ctx.map(fail_always, []) == []
        await ctx.call(note, str(tmp_path), "b", name="after")

    run(tmp_path, scenario)
    assert len(named(tmp_path, "after").parent_ids) == 1


def test_failures_are_journaled_and_replayed(tmp_path: Path) -> None:
    async def scenario(ctx: Context) -> None:
        with pytest.raises(ToolError, match="^ValueError: item 3$"):
            await ctx.call(fail_always, 3)
        with pytest.raises(ToolError, match="OSError: unreachable"):
            await ctx.call(wait_and_fail)

    run(tmp_path, scenario)
    run(tmp_path, scenario)
    assert named(tmp_path, "fail_always").outcome == "error"


@pytest.mark.parametrize("name", ["pay\0", "é" * 500])
def test_a_name_that_a_journal_cannot_keep_fails_its_step_alone(tmp_path: Path, name: str) -> None:
    async def scenario(ctx: Context) -> Any:
        with pytest.raises(InputError, match="no NUL, and its id at most 1000 bytes"):
            await ctx.call(pair, name=name)
        return await ctx.call(pair, name="é" * 490)

    assert run(tmp_path, scenario) is not None
    assert len(steps(tmp_path)) == 1


def test_retries_with_back_off(tmp_path: Path) -> None:
    async def scenario(ctx: Context) -> int:
        return await ctx.call(fail_once, str(tmp_path), retries=2)

    assert run(tmp_path, scenario) == 7
    assert lines(tmp_path) == ["try", "try"]
    assert named(tmp_path, "fail_once").wait_s > 0


def test_a_time_limit_is_an_outcome(tmp_path: Path) -> None:
    async def scenario(ctx: Context) -> None:
        with pytest.raises(StepTimeoutError, match="ran past"):
            await ctx.call(busy, 60, timeout_s=0.3)

    run(tmp_path, scenario)
    assert named(tmp_path, "busy").outcome == "timeout"


def test_a_cancelled_step_is_not_journaled_and_runs_again(tmp_path: Path) -> None:
    async def scenario(ctx: Context) -> None:
        step = asyncio.create_task(ctx.call(busy, 60, str(tmp_path)))
        while not lines(tmp_path):  # noqa: ASYNC110 - a file has no event
            await asyncio.sleep(0.01)
        step.cancel()
        with pytest.raises(asyncio.CancelledError):
            await step

    run(tmp_path, scenario)
    assert steps(tmp_path) == {}


def test_mistakes_of_the_agent(tmp_path: Path) -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]

    async def scenario(ctx: Context) -> None:
        with pytest.raises(InputError, match="no pool serves llm:gpt"):
            await ctx.chat([{"role": "user", "content": "hi"}], model="gpt")
        with pytest.raises(InputError, match="max_token"):
            await ctx.chat([{"role": "user", "content": "hi"}], max_token=3)
        with pytest.raises(InputError, match="there is no index 'pet'"):
            await ctx.search("pet", "cats")
        with pytest.raises(InputError, match="top level"):
            await ctx.call(lambda: 1)
        with pytest.raises(InputError, match="pass numbers, strings"):
            await ctx.call(note, object(), "x")
        with pytest.raises(InputError, match="maximum recursion depth .*; pass numbers, strings"):
            await ctx.call(note, deep, "x")
        with pytest.raises(InputError, match="did you mean monty"):
            await ctx.run_code("1", sandbox="mony")

    run(tmp_path, scenario)


def test_a_step_with_effects_is_tried_again_with_the_same_key(tmp_path: Path) -> None:
    async def cut_off(ctx: Context) -> None:
        step = asyncio.create_task(ctx.call(pay, str(tmp_path), 5, wait_s=60))
        while not lines(tmp_path):  # noqa: ASYNC110 - a file has no event
            await asyncio.sleep(0.01)
        step.cancel()
        with pytest.raises(asyncio.CancelledError):
            await step

    async def again(ctx: Context) -> list[str]:
        return [await ctx.call(pay, str(tmp_path), 5, wait_s=60) for _ in range(2)]

    run(tmp_path, cut_off)
    (mark,) = steps(tmp_path).values()
    assert (mark.name, mark.outcome, mark.end_s) == ("pay", "cancelled", None)
    (tmp_path / "open").touch()
    first, second = run(tmp_path, again)
    assert lines(tmp_path) == [first, first, second]
    assert first != second
    assert len(first) == 32
    assert run(tmp_path, again) == [first, second]
    assert len(lines(tmp_path)) == 3
    assert {record.outcome for record in steps(tmp_path).values()} == {"ok"}


def test_the_key_stays_the_same_over_retries_and_may_be_the_agents_own(tmp_path: Path) -> None:
    async def scenario(ctx: Context) -> tuple[int, str]:
        count = await ctx.call(pay_at_second, str(tmp_path), retries=1)
        return count, await ctx.call(pay_here, idempotency_key="mine")

    assert run(tmp_path, scenario) == (2, "mine")
    one, two = lines(tmp_path)
    assert one == two


def test_a_mark_is_committed_before_the_effect(tmp_path: Path) -> None:
    async def scenario(ctx: Context) -> int:
        return await ctx.call(marks, str(tmp_path))

    assert run(tmp_path, scenario) == 1


def test_a_result_that_is_too_large_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("polysilicon.runtime.results.MAX_RESULT_BYTES", 1000)

    async def scenario(ctx: Context) -> None:
        with pytest.raises(ToolError, match="is 65 MiB, over the limit of 64 MiB; write it to a f"):
            await ctx.call(text_of, 65 * 2**20)
        with pytest.raises(ToolError, match="over the limit"):
            await ctx.call(wait_for_text, 2000)
        assert await ctx.call(wait_for_text, 900) == "x" * 900

    run(tmp_path, scenario)
    assert {r.outcome for r in steps(tmp_path).values() if r.name == "text_of"} == {"error"}


def test_a_journal_that_cannot_be_written_stops_the_run(tmp_path: Path) -> None:
    async def scenario(ctx: Context) -> None:
        runner = ctx._resources.runner
        runner._journal._db.execute("PRAGMA query_only = ON")
        with pytest.raises(JournalError, match="--resume"):
            await ctx.call(pair)
        assert runner.fatal is not None

    run(tmp_path, scenario)

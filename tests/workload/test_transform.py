from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from polysilicon.errors import InputError
from polysilicon.workload import files, transform
from polysilicon.workload.checks import SCHEMA
from polysilicon.workload.files import read, write
from polysilicon.workload.record import StepRecord
from polysilicon.workload.transform import (
    Cut,
    anonymise,
    arrivals,
    cut_steps,
    cut_tasks,
    merge,
    scale,
)
from polysilicon.workload.workload import Workload


def rng() -> np.random.Generator:
    return np.random.default_rng(5)


def task(number: int, at_s: float) -> list[StepRecord]:
    """A call, a tool and a call, each after the one before."""
    name, agent = f"t{number}", "even" if number % 2 == 0 else "odd"
    common = {"task_id": name, "agent": agent, "arrival_s": at_s, "region": "r1", "pool": "p"}
    return [
        StepRecord(**common, step_id="a", name="chat", kind="llm", model=f"m{number % 3}",
                   ready_s=at_s, start_s=at_s + 1, first_token_s=at_s + 1.5, end_s=at_s + 2),
        StepRecord(**common, step_id="b", parent_ids=("a",), name="grep", kind="tool",
                   ready_s=at_s + 2, start_s=at_s + 2, end_s=at_s + 4),
        StepRecord(**common, step_id="c", parent_ids=("b",), name="chat", kind="llm", model="m9",
                   ready_s=at_s + 4, start_s=at_s + 4, end_s=at_s + 5),
    ]  # fmt: skip


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Ten tasks, 10 s apart from 100 s on, whose steps lie in several tables."""
    steps = [task(number, 100 + 10.0 * number) for number in range(10)]
    mixed = [one[place] for place in range(3) for one in steps]
    path = tmp_path / "w.parquet"
    write(Workload.from_records(mixed), path)
    monkeypatch.setattr(files, "_ROW_GROUP", 7)
    return path


def steps(path: Path) -> dict[tuple[str, str], StepRecord]:
    return {(step.task_id, step.step_id): step for step in read(path).steps()}


def test_arrivals_are_seen_through_tables(path: Path) -> None:
    known = arrivals(path)
    assert known.names == [f"t{number}" for number in range(10)]
    assert known.first_s.tolist() == [100 + 10.0 * number for number in range(10)]
    assert (known.begin_s, known.period_s) == (100.0, 100.0)


def test_a_rate_moves_tasks_and_nothing_within_them(path: Path, tmp_path: Path) -> None:
    output = tmp_path / "o.jsonl"
    made = scale(path, output, rate=4.0, rng=rng())
    assert (made.tasks, made.steps, made.output) == (10, 30, str(output))
    before, after = steps(path), steps(output)
    for (name, step_id), old in before.items():
        new = after[name, step_id]
        by_s = 100 + 2.5 * int(name[1:]) - old.arrival_s
        for column in ("arrival_s", "ready_s", "start_s", "first_token_s", "end_s"):
            value = getattr(old, column)
            assert getattr(new, column) == (None if value is None else value + by_s)


def test_fewer_tasks_are_drawn_and_arrive_when_they_did(path: Path, tmp_path: Path) -> None:
    outputs = [tmp_path / "a.parquet", tmp_path / "b.parquet", tmp_path / "c.parquet"]
    for output, seed in zip(outputs, (1, 1, 2), strict=True):
        made = scale(path, output, tasks=4, rng=np.random.default_rng(seed))
        assert (made.tasks, made.steps) == (4, 12)
    first, again, other = (steps(output) for output in outputs)
    assert first == again
    assert first != other
    before = steps(path)
    assert all(before[key] == step for key, step in first.items())


def test_more_tasks_are_the_workload_again_at_the_same_rate(path: Path, tmp_path: Path) -> None:
    output = tmp_path / "o.parquet"
    made = scale(path, output, tasks=25, rate=2.0, rng=rng())
    assert (made.tasks, made.steps) == (25, 75)
    known = arrivals(output)
    at_s = dict(zip(known.names, known.first_s.tolist(), strict=True))
    assert at_s["t3"] == 115.0
    assert at_s["t3~1"] == 165.0
    assert sorted(at_s.values())[:20] == [100 + 5.0 * i for i in range(20)]
    last = {name: at for name, at in at_s.items() if name.endswith("~2")}
    assert sorted(last.values()) == [200 + 5.0 * i for i in range(5)]  # the rate holds to the end
    assert read(output)  # parents, ids and times are sound


def test_rounds_are_the_same_one_by_one_and_many_at_once(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scale(path, tmp_path / "many.parquet", tasks=57, rate=3.0, rng=rng())
    monkeypatch.setattr(transform, "TABLE_ROWS", 1)
    scale(path, tmp_path / "one.parquet", tasks=57, rate=3.0, rng=rng())
    assert steps(tmp_path / "many.parquet") == steps(tmp_path / "one.parquet")


def test_marks_do_not_make_ids_that_are_there(tmp_path: Path) -> None:
    path, output = tmp_path / "w.parquet", tmp_path / "o.parquet"
    names = ["t", "t~1"]
    records = [StepRecord(task_id=n, step_id="a", name="x", kind="tool") for n in names]
    write(Workload.from_records(records), path)
    scale(path, output, tasks=4, rng=rng())
    assert [s.task_id for s in read(output).steps()] == ["t", "t~1", "t~~1", "t~1~~1"]


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan"), float("inf")])
def test_a_rate_is_a_number_above_0(rate: float, path: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--rate: .* is no factor"):
        scale(path, tmp_path / "o.parquet", rate=rate, rng=rng())


@pytest.mark.parametrize(
    ("cut", "names"),
    [
        (Cut(from_s=120, to_s=140), ["t2", "t3"]),
        (Cut(agent="odd"), ["t1", "t3", "t5", "t7", "t9"]),
        (Cut(model="m0", to_s=150), ["t0", "t3"]),
        (Cut(kind="tool", agent="even", from_s=170), ["t8"]),
    ],
)
def test_a_cut_keeps_whole_tasks(cut: Cut, names: list[str], path: Path, tmp_path: Path) -> None:
    made = cut_tasks(path, tmp_path / "o.parquet", cut)
    assert (made.tasks, made.steps) == (len(names), 3 * len(names))
    assert sorted({name for name, _ in steps(tmp_path / "o.parquet")}) == names
    before = steps(path)
    assert all(before[key] == step for key, step in steps(tmp_path / "o.parquet").items())


def test_a_cut_by_steps_keeps_what_waits_for_what(path: Path, tmp_path: Path) -> None:
    made = cut_steps(path, tmp_path / "o.parquet", Cut(kind="llm"))
    assert (made.tasks, made.steps) == (10, 20)
    found = steps(tmp_path / "o.parquet")
    assert found["t4", "a"].parent_ids == ()
    assert found["t4", "c"].parent_ids == ("a",)
    made = cut_steps(path, tmp_path / "o.parquet", Cut(from_s=103.5, to_s=112))
    assert sorted(steps(tmp_path / "o.parquet")) == [("t0", "c"), ("t1", "a")]
    assert read(tmp_path / "o.parquet")


def test_parents_that_are_cut_are_replaced_by_theirs_however_far(tmp_path: Path) -> None:
    count = 3000
    path, output = tmp_path / "w.parquet", tmp_path / "o.parquet"
    records = [
        StepRecord(
            task_id="t",
            step_id=str(i),
            parent_ids=(str(i - 1),) if i else (),
            name="x",
            kind="llm" if i in (0, count - 1) else "tool",
        )
        for i in range(count)
    ]
    write(Workload.from_records(reversed(records)), path)
    cut_steps(path, output, Cut(kind="llm"))
    assert [(s.step_id, s.parent_ids) for s in read(output).steps()] == [
        (str(count - 1), ("0",)),
        ("0", ()),
    ]


def test_nothing_is_written_where_nothing_is_left(path: Path, tmp_path: Path) -> None:
    output = tmp_path / "o.parquet"
    for how in (cut_tasks, cut_steps):
        with pytest.raises(InputError, match="nothing is left of it"):
            how(path, output, Cut(agent="odd", to_s=105))
        with pytest.raises(InputError, match="no step is of agent 'od'; did you mean odd"):
            how(path, output, Cut(agent="od"))
        assert not output.exists()


def test_workloads_are_merged_with_ids_of_their_own(path: Path, tmp_path: Path) -> None:
    other = tmp_path / "x" / "w.jsonl"
    other.parent.mkdir()
    write(Workload.from_records(task(0, 7.0)), other)
    output = tmp_path / "o.parquet"
    made = merge([path, other], output)
    assert (made.tasks, made.steps) == (11, 33)
    assert steps(output)["w-2/t0", "a"].arrival_s == 7.0
    assert steps(output)["w/t0", "a"].arrival_s == 100.0
    merge([path, other], output, align=True)
    assert steps(output)["w-2/t0", "c"].end_s == 5.0
    assert steps(output)["w/t3", "a"].arrival_s == 30.0


def test_ids_are_hashed_alike_with_one_salt_and_otherwise_with_another(
    path: Path, tmp_path: Path
) -> None:
    outputs = [tmp_path / "a.parquet", tmp_path / "b.parquet", tmp_path / "c.parquet"]
    for output, salt in zip(outputs, (b"s" * 16, b"s" * 16, b"z" * 16), strict=True):
        made = anonymise(path, output, salt=salt)
        assert (made.tasks, made.steps) == (10, 30)
    first, again, other = (list(read(output).steps()) for output in outputs)
    assert first == again
    assert not {s.task_id for s in first} & {s.task_id for s in other}
    old = list(read(path).steps())
    assert len({s.task_id for s in first}) == 10
    for before, after in zip(old, first, strict=True):
        assert len(after.parent_ids) == len(before.parent_ids)
        assert (after.agent, after.name, after.region) == (before.agent, before.name, before.region)
        assert (after.model, after.end_s) == (before.model, before.end_s)


def test_names_and_regions_are_hashed_where_that_is_wanted(path: Path, tmp_path: Path) -> None:
    output = tmp_path / "o.parquet"
    anonymise(path, output, salt=b"s" * 16, names=True, models=True, regions=True)
    content = output.read_bytes() + str(pq.read_table(output).to_pylist()).encode()
    for secret in (b"'t3'", b"'odd'", b"grep", b"chat", b"'m1'", b"'r1'", b"'p'", b"ssss"):
        assert secret not in content
    found = list(read(output).steps())
    for kind in ("llm", "tool"):
        assert len({s.name for s in found if s.kind == kind}) == 1
    assert len({s.model for s in found if s.kind == "llm"}) == 4
    assert all(s.model is None for s in found if s.kind == "tool")
    assert len({s.agent for s in found}) == 2
    assert all(s.data_class is None for s in found)


def test_run_folders_are_taken_too(path: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    shutil.copy(path, folder / "steps.parquet")
    assert scale(folder, tmp_path / "o.parquet", rng=rng()).steps == 30


@pytest.mark.parametrize(
    ("rate", "tasks"), [(1e-308, None), (1e-320, None), (1e-14, None), (1e-10, 10**8)]
)
def test_a_rate_that_moves_tasks_out_of_all_time_is_refused(
    path: Path, tmp_path: Path, rate: float, tasks: int | None
) -> None:
    output = tmp_path / "o.jsonl"
    with pytest.raises(InputError, match=r"w\.parquet: tasks would arrive as late as .* --rate"):
        scale(path, output, rate=rate, tasks=tasks, rng=rng())
    assert not output.exists()


def test_tasks_that_arrive_out_of_all_time_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.jsonl"
    write(Workload.from_records([*task(0, 0.0), *task(1, 1.7e308), *task(2, 5.0)]), path)
    for tasks in (2, 3, 7):
        with pytest.raises(InputError, match="as late as"):
            scale(path, tmp_path / "o.jsonl", tasks=tasks, rng=rng())


@pytest.mark.parametrize(
    ("parents", "what"),
    [
        ({"a": ["zz"]}, "task t, parent_ids: parent 'zz' is not a step of task 't'"),
        ({"a": ["b"], "b": ["a"], "c": ["a"]}, "task t, parent_ids: steps wait for each other"),
    ],
)
def test_single_steps_of_an_unsound_task_are_refused(
    tmp_path: Path, parents: dict[str, list[str]], what: str
) -> None:
    path, output = tmp_path / "w.parquet", tmp_path / "o.parquet"
    rows = [
        {**dict.fromkeys(SCHEMA.names), "task_id": "t", "step_id": name, "name": "x", "kind": kind,
         "parent_ids": parents.get(name)}
        for name, kind in (("a", "llm"), ("b", "llm"), ("c", "tool"))
    ]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows, SCHEMA), path)
    with pytest.raises(InputError, match=what):
        cut_steps(path, output, Cut(kind="tool"))
    assert not output.exists()

from __future__ import annotations

import pyarrow as pa
import pytest

from polysilicon.errors import InputError
from polysilicon.workload.checks import SCHEMA, find_fault, normalise
from polysilicon.workload.record import COLUMNS, REQUIRED

BASE: dict[str, list[object]] = {
    "task_id": ["t", "t", "u"],
    "step_id": ["a", "b", "a"],
    "name": ["x", "x", "x"],
    "kind": ["llm", "tool", "train"],
}


def table(**columns: object) -> pa.Table:
    return normalise(pa.table({**BASE, **columns}), "here")


def test_the_schema_is_the_step_record() -> None:
    assert tuple(SCHEMA.names) == COLUMNS
    assert tuple(field.name for field in SCHEMA if not field.nullable) == REQUIRED


@pytest.mark.parametrize(
    "column",
    [
        pa.array([1, 2, 3], pa.int8()),
        pa.array([1, 2, 3], pa.float32()),
        pa.array([None, None, None], pa.null()),
    ],
)
def test_other_widths_of_numbers_are_taken(column: pa.Array) -> None:
    assert table(cpu_s=column)["cpu_s"].type == pa.float64()


@pytest.mark.parametrize(
    "column",
    [
        pa.array(["s", "s", None]).dictionary_encode(),
        pa.array(["s", "s", None], pa.large_string()),
        pa.array(["s", "s", None], pa.string_view()),
    ],
)
def test_other_encodings_of_text_are_taken(column: pa.Array) -> None:
    assert table(agent=column)["agent"].to_pylist() == ["s", "s", None]


def test_large_lists_are_taken() -> None:
    lists = pa.array([[], ["a"], None], pa.large_list(pa.large_string()))
    assert table(parent_ids=lists)["parent_ids"].to_pylist() == [[], ["a"], None]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"prompt_tokens": [1.0, 2.0, 3.0]}, "'prompt_tokens' holds double, expected int64"),
        ({"cpu_s": ["1", "2", "3"]}, "'cpu_s' holds string"),
        ({"agent": [1, 2, 3]}, "'agent' holds int64"),
        ({"parent_ids": ["a", "b", "c"]}, "'parent_ids' holds string"),
        ({"prompt_tokens": pa.array([2**64 - 1, 0, 0], pa.uint64())}, "'prompt_tokens'"),
        ({"zzz": [1, 2, 3]}, "unknown column 'zzz'; known columns: task_id"),
        ({"prompt_tokens": [None, -2, 1]}, None),
    ],
)
def test_wrong_columns_are_refused(columns: dict[str, object], message: str | None) -> None:
    if message is None:
        assert find_fault(table(**columns)) is not None
    else:
        with pytest.raises(InputError, match=message):
            table(**columns)


def test_columns_missing_or_twice_are_refused() -> None:
    with pytest.raises(InputError, match="required column 'kind' is missing"):
        normalise(pa.table({k: v for k, v in BASE.items() if k != "kind"}), "here")
    twice = pa.table([*BASE.values(), BASE["name"]], names=[*BASE, "name"])
    with pytest.raises(InputError, match="column 'name' is there twice"):
        normalise(twice, "here")


def test_a_good_table_has_no_fault() -> None:
    good = table(
        parent_ids=[[], ["a"], None], outcome=["ok", None, "timeout"], end_s=[1.0, 2.0, None]
    )
    assert find_fault(good) is None
    assert find_fault(SCHEMA.empty_table()) is None


@pytest.mark.parametrize(
    ("columns", "row", "field", "what"),
    [
        ({"kind": ["llm", "tool", "Train"]}, 2, "kind", "unknown value 'Train'"),
        ({"outcome": ["ok", "fine", None]}, 1, "outcome", "unknown value 'fine'"),
        ({"name": ["x", None, "x"]}, 1, "name", "is missing"),
        ({"name": ["x", "x", ""]}, 2, "name", "is empty"),
        ({"energy_j": [0.0, float("nan"), 1.0]}, 1, "energy_j", "nan is not a number"),
        ({"energy_j": [0.0, 1.0, float("inf")]}, 2, "energy_j", "inf is not a number"),
        ({"wait_s": [0.0, -0.5, -1.0]}, 1, "wait_s", "-0.5 is negative"),
        ({"start_s": [1.0, 2.0, 3.0], "end_s": [1.0, 1.5, None]}, 1, "end_s", "ends before it st"),
        (
            {"start_s": [2.0] * 3, "first_token_s": [1.0] * 3},
            0,
            "first_token_s",
            "before its start",
        ),
        (
            {"end_s": [2.0] * 3, "first_token_s": [2.0, 3.0, 2.0]},
            1,
            "end_s",
            "before its first tok",
        ),
        ({"step_id": ["a", "a", "a"]}, 1, "step_id", "step 'a' of task 't' is already there"),
        ({"parent_ids": [[], ["a", "z"], []]}, 1, "parent_ids", "parent 'z' is not a step of task"),
        ({"parent_ids": [[], [], ["b"]]}, 2, "parent_ids", "parent 'b' is not a step of task 'u'"),
        ({"parent_ids": [[], [None], []]}, 1, "parent_ids", "parent 'None' is not"),
        ({"parent_ids": [["a"], [], []]}, 0, "parent_ids", "wait for each other: a"),
        ({"parent_ids": [["b"], ["a"], []]}, 0, "parent_ids", "wait for each other: a, b"),
    ],
)
def test_faults_name_row_and_field(
    columns: dict[str, object], row: int, field: str, what: str
) -> None:
    fault = find_fault(table(**columns))
    assert fault is not None
    assert (fault.row, fault.field) == (row, field)
    assert what in fault.what


def test_a_parent_may_come_later_in_the_table() -> None:
    assert find_fault(table(parent_ids=[["b"], [], []])) is None


def test_tables_in_chunks_are_checked_as_one() -> None:
    first = pa.table({**BASE, "parent_ids": [[], ["a"], []]})
    second = pa.table({**BASE, "task_id": ["v", "v", "w"], "parent_ids": [["b"], [], ["q"]]})
    fault = find_fault(normalise(pa.concat_tables([first, second]), "here"))
    assert fault is not None
    assert (fault.row, fault.field) == (5, "parent_ids")
    assert "parent 'q'" in fault.what

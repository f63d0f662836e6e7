from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from polysilicon.errors import InputError
from polysilicon.workload.record import StepRecord
from polysilicon.workload.workload import BATCH_ROWS, Workload


def step(task: str, number: int, **more: object) -> StepRecord:
    return StepRecord(task_id=task, step_id=str(number), name="chat", kind="llm", **more)


def test_records_come_back_as_they_went_in() -> None:
    records = [
        step("t", 0, agent="a", prompt_tokens=7, cpu_s=0.5, outcome="ok"),
        step("t", 1, parent_ids=("0",)),
    ]
    workload = Workload.from_records(iter(records))
    assert len(workload) == 2
    assert list(workload.steps()) == records


def test_more_records_than_a_batch() -> None:
    records = [step(str(i), 0) for i in range(BATCH_ROWS + 3)]
    workload = Workload.from_records(records)
    assert len(workload) == BATCH_ROWS + 3
    codes, names = workload.codes("task_id")
    assert codes[-1] == BATCH_ROWS + 2
    assert names[-1] == str(BATCH_ROWS + 2)


def test_columns_as_arrays() -> None:
    workload = Workload.from_records(
        [step("t", 0, agent="b", prompt_tokens=3), step("t", 1), step("u", 0, agent="b")]
    )
    np.testing.assert_array_equal(workload.numbers("prompt_tokens"), [3, np.nan, np.nan])
    codes, names = workload.codes("agent")
    assert codes.tolist() == [0, -1, 0]
    assert names == ["b"]
    assert workload.codes("model")[1] == []


@pytest.mark.parametrize("column", ["agent", "parent_ids", "nonsense"])
def test_texts_are_not_numbers(column: str) -> None:
    with pytest.raises(InputError, match="not a column of numbers"):
        Workload.from_records([]).numbers(column)


def test_numbers_are_not_texts() -> None:
    with pytest.raises(InputError, match="not a column of texts"):
        Workload.from_records([]).codes("end_s")


def test_broken_records_are_named() -> None:
    with pytest.raises(InputError, match=r"workload, record 1 \(from 0\), end_s: ends before"):
        Workload.from_records([step("t", 0), step("t", 1, start_s=2.0, end_s=1.0)])
    with pytest.raises(InputError, match="workload, cpu_s: "):
        Workload.from_records([step("t", 0, cpu_s="much")])


def test_text_that_is_not_utf8_is_refused() -> None:
    raw = pa.array([b"t\xff"], pa.binary()).cast(pa.string(), safe=False)
    table = pa.table({"task_id": raw, "step_id": ["a"], "name": ["x"], "kind": ["llm"]})
    with pytest.raises(InputError, match="broken data"):
        Workload(table)


def test_equality() -> None:
    one = Workload.from_records([step("t", 0)])
    absent = pa.table({"task_id": ["t"], "step_id": ["0"], "name": ["chat"], "kind": ["llm"]})
    assert one == Workload(absent)
    assert one != Workload.from_records([step("t", 1)])
    assert one != "a workload"
    with pytest.raises(TypeError):
        hash(one)

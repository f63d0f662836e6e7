from __future__ import annotations

import numpy as np
import pytest

from polysilicon import cost
from polysilicon.cost.batch import NUMBERS, TEXTS, check_amounts
from polysilicon.errors import InputError
from polysilicon.workload.record import StepRecord
from polysilicon.workload.workload import Workload


def step(step_id, **values):
    asked = {"name": "chat", "kind": "llm", "model": "a", "prompt_tokens": 10} | values
    return StepRecord(task_id="t", step_id=step_id, **asked)


STEPS = [
    step("1", output_tokens=3),
    step("2", kind="tool", name="code", model=None, prompt_tokens=None, cpu_s=1.5, offer="x"),
    step("3", model="b", memory_bytes=5),
    step("4", region="here"),
]


def test_texts_become_codes_in_order_of_appearance():
    found = cost.batch_of(STEPS)
    assert len(found) == 4
    assert set(found.texts) == set(TEXTS)
    models = found.texts["model"]
    assert models.codes.tolist() == [0, -1, 1, 0]
    assert list(models.texts) == ["a", "b"]
    groups = {text: which.tolist() for text, which in models.groups()}
    assert groups == {None: [1], "a": [0, 3], "b": [2]}


def test_numbers_that_are_not_there_are_not_a_number():
    found = cost.batch_of(STEPS)
    assert set(found.numbers) == set(NUMBERS)
    assert found["prompt_tokens"][[0, 2, 3]].tolist() == [10, 10, 10]
    assert np.isnan(found["prompt_tokens"][1])
    assert found.or_else("cpu_s", 0.0).tolist() == [0, 1.5, 0, 0]
    assert np.isnan(found["cpu_s"][0])


def test_some_of_the_steps():
    found = cost.batch_of(STEPS).take(np.array([2, 0]))
    assert len(found) == 2
    assert found.texts["model"].codes.tolist() == [1, 0]
    assert found["memory_bytes"][0] == 5


def test_a_workload_gives_the_same_batch_as_its_records():
    from_steps, from_table = cost.batch_of(STEPS), cost.batch_of(Workload.from_records(STEPS))
    for name in NUMBERS:
        assert np.array_equal(from_steps[name], from_table[name], equal_nan=True), name
    for name in TEXTS:
        one, other = from_steps.texts[name], from_table.texts[name]
        texts = [
            [None if code < 0 else column.texts[code] for code in column.codes]
            for column in (one, other)
        ]
        assert texts[0] == texts[1], name


def test_no_steps():
    found = cost.batch_of([])
    assert len(found) == 0
    assert found.texts["kind"].groups() == []
    check_amounts(found)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"prompt_tokens": -5}, "prompt_tokens is -5"),
        ({"cached_tokens": -1}, "cached_tokens is -1"),
        ({"output_tokens": -2}, "output_tokens is -2"),
        ({"memory_bytes": -1}, "memory_bytes is -1"),
        ({"cores": -0.5}, "cores is -0.5"),
        ({"prompt_tokens": float("inf")}, "prompt_tokens is inf"),
    ],
)
def test_amounts_that_cannot_be(values, words):
    with pytest.raises(InputError) as caught:
        check_amounts(cost.batch_of([step("1"), step("2", **values)]))
    assert str(caught.value) == f"{words}; it is a number from 0 up"

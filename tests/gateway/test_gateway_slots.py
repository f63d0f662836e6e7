"""Slots of the engine in this process that requests of callers are passed on to."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from polysilicon.gateway import slots
from polysilicon.runtime.engines.native.slots import Slot, Slots


def test_a_body_that_is_passed_on_names_the_slot() -> None:
    body = b'{"messages":[],"id_slot":7}'
    assert msgspec.json.decode(slots.at(body, Slot(3, ""))) == {"messages": [], "id_slot": 3}
    assert slots.at(body, Slot(None, "")) == body


@pytest.mark.parametrize(
    ("fields", "here", "number"),
    [
        ({"messages": b'[{"role":"user","content":"x"}]'}, True, 0),
        ({"prompt": b'"x"'}, True, 0),
        ({"prompt": b' ["x","y"]'}, True, None),
        ({"messages": b"[]"}, False, None),
    ],
)
def test_an_engine_here_is_told_which_and_others_choose(
    fields: dict[str, Any], here: bool, number: int | None
) -> None:
    """So it is with several prompts in one request, which take as many slots."""
    pool: Any = SimpleNamespace(engine=SimpleNamespace(slots=Slots(2)), in_process=here)
    with slots.held(pool, {key: msgspec.Raw(raw) for key, raw in fields.items()}) as slot:
        assert slot.number == number

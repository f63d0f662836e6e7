"""Sequences of an engine that are busy are neighbours, and prompts find what was read of them."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polysilicon.runtime.engines.llamacpp import LlamaCpp
from polysilicon.runtime.engines.native.slots import MOST_CHARACTERS, Slot, Slots, shared
from polysilicon.runtime.types import ChatRequest, ChatResult

LONG = "a prompt that is long enough to be worth a place of its own, as it was read before " * 40


def runs(numbers: list[int]) -> int:
    """Return how many groups of neighbours there are."""
    return sum(number - 1 not in numbers for number in numbers)


@given(st.lists(st.integers(0, 2), max_size=60), st.integers(1, 9))
def test_those_that_are_busy_are_neighbours_where_they_can_be(steps: list[int], count: int) -> None:
    """Each begins beside another, and ends gaps where there are; never one that is busy."""
    slots, held = Slots(count), list[ExitStack]()
    numbers: list[int] = []
    for step in steps:
        if step and len(held) < count:
            stack = ExitStack()
            slot = stack.enter_context(slots.taken(""))
            assert slot.number is not None
            assert slot.number not in numbers
            before = runs(numbers)
            least = min(runs([*numbers, n]) for n in range(count) if n not in numbers)
            numbers.append(slot.number)
            held.append(stack)
            assert runs(numbers) == least
            assert runs(numbers) <= max(before, 1)
        elif held:
            held.pop(0).close()
            numbers.pop(0)


def test_a_prompt_goes_where_most_of_it_was_read_unless_that_costs_more_passes() -> None:
    slots = Slots(8)
    with (
        slots.taken("first"),
        slots.taken("second"),
        slots.taken("third"),
        slots.taken(LONG) as there,
    ):
        there.text += " and its answer"
    with slots.taken(LONG + "going on") as again:
        assert again.number == there.number
        with slots.taken("first", most_tokens=200) as other:
            assert (
                abs(other.number - again.number) == 1
            )  # a few letters are not worth a pass a token
    with slots.taken("first") as far, slots.taken(LONG, most_tokens=8) as home:
        assert (far.number, home.number) == (0, there.number)  # 800 tokens are, of a short answer


def test_what_was_not_used_for_longest_is_given_up_first() -> None:
    slots = Slots(3)
    order = []
    for text in ("a", "b", "c", "d"):
        with slots.taken(text) as slot:
            order.append(slot.number)
    assert order == [0, 1, 2, 0]


def test_with_requests_from_elsewhere_or_no_room_the_server_chooses() -> None:
    slots = Slots(1)
    with slots.taken("a") as one, slots.taken("b") as two:
        assert (one.number, two.number) == (0, None)
        assert two.told({"seed": 1}) == {"seed": 1}
        assert one.told({"seed": 1}) == {"seed": 1, "id_slot": 0}
    slots.leave()
    with slots.taken("a") as left:
        assert left.number is None


@given(st.text("ab", max_size=9), st.text("ab", max_size=9))
def test_what_two_texts_share_is_all_that_they_begin_with(a: str, b: str) -> None:
    size = shared(a, b)
    assert a[:size] == b[:size]
    assert size in (len(a), len(b)) or a[size] != b[size]


def test_the_engine_puts_requests_where_it_is_told(
    llama: LlamaCpp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A conversation that goes on is found again, with others under way beside it."""
    numbers: dict[str, int | None] = {}
    told = Slot.told

    def kept(self: Slot, body: dict[str, object]) -> dict[str, object]:
        numbers[str(body["messages"])] = self.number
        return told(self, body)

    monkeypatch.setattr(Slot, "told", kept)
    talks = [
        [{"role": "user", "content": f"{word}: say what you know of it. " * 8}]
        for word in ("iron", "salt", "wool")
    ]

    def ask(talk: list[dict[str, str]]) -> ChatRequest:
        return ChatRequest(messages=tuple(talk), max_tokens=6, temperature=0.0)

    async def answers() -> list[ChatResult]:
        return await asyncio.gather(*(llama.chat(ask(talk)) for talk in talks))

    first = asyncio.run(answers())
    at = [numbers[str(talk)] for talk in talks]
    assert sorted(at) == list(range(min(at), min(at) + 3))
    for talk, said in zip(talks, first, strict=True):
        talk += [{"role": "assistant", "content": said.text}, {"role": "user", "content": "More."}]
    second = asyncio.run(answers())
    assert [numbers[str(talk)] for talk in talks] == at
    for one, two in zip(first, second, strict=True):
        assert two.cached_tokens >= 0.9 * one.prompt_tokens


def test_one_whose_answer_is_not_wanted_any_more_is_left_alone_for_a_moment() -> None:
    """The server needs a moment to leave it, and who is told it would wait."""
    slots = Slots(2)
    with slots.taken(LONG):
        pass
    with pytest.raises(KeyError), slots.taken(LONG + "more") as left:
        raise KeyError
    assert left.number == 0
    with slots.taken(LONG) as other:
        assert other.number == 1
        with slots.taken(LONG) as third:
            assert third.number is None


def test_of_a_prompt_without_bounds_a_part_is_kept() -> None:
    slots = Slots(1)
    with slots.taken("x" * 10**7) as slot:
        assert len(slot.text) == MOST_CHARACTERS

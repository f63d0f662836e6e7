from __future__ import annotations

import asyncio
import random

import msgspec
import pytest

from polysilicon.runtime.calibration.requests import Reply, ask, ask_all, iteration_seconds, unlike
from polysilicon.runtime.types import ChatResult


def reply(*times: float, start: float = 0.0) -> Reply:
    return Reply(start_s=start, token_s=times, end_s=times[-1], new=10, cached=0, output=len(times))


def test_iterations_are_timed_only_while_all_are_at_work():
    early = reply(*[0.1 * n for n in range(1, 21)])
    late = reply(*[1.0 + 0.2 * n for n in range(6)])
    assert iteration_seconds([early]) == pytest.approx(0.1)
    # From 1.0 to 2.0 one got a token each 0.1 s, the other each 0.2 s.
    assert iteration_seconds([early, late]) == pytest.approx(0.15)


def test_answers_too_short_to_be_timed_tell_nothing():
    assert iteration_seconds([reply(0.1, 0.2, 0.3)]) is None
    apart = [reply(0.1, 0.2, 0.3, 0.4), reply(5.1, 5.2, 5.3, 5.4, start=5.0)]
    assert iteration_seconds(apart) is None


def test_an_answer_without_text_tells_by_its_end():
    empty = Reply(start_s=1.0, token_s=(), end_s=1.5, new=1, cached=0, output=1)
    assert empty.ttft_s == 0.5


def test_prompts_begin_like_no_other():
    rng = random.Random(1)
    first, second = unlike(20, rng), unlike(20, rng)
    assert len(first) == 20
    assert first[0] != second[0]


def test_a_lone_answer_is_timed_by_its_first_token_and_its_end():
    lone = Reply(start_s=0.0, token_s=(1.0,), end_s=3.0, new=10, cached=0, output=21)
    assert iteration_seconds([lone]) == pytest.approx(0.1)
    assert iteration_seconds([msgspec.structs.replace(lone, output=3)]) is None


class Listened:
    """An engine that tells of three tokens, and counts who wanted more."""

    def __init__(self) -> None:
        self.wanted: list[object] = []

    async def chat(self, request, on_token=None):
        self.wanted += [on_token("x") for _ in range(3)]
        return ChatResult(text="xxx", prompt_tokens=4, output_tokens=3)


def test_each_token_is_told_only_where_several_are_timed():
    engine = Listened()
    alone = asyncio.run(ask(engine, ["hi"], 3))
    assert len(alone.token_s) == 1
    assert engine.wanted == [False] * 3
    together = asyncio.run(ask_all(engine, [["hi"], ["ho"]], 3))
    assert [len(reply.token_s) for reply in together] == [3, 3]
    assert engine.wanted[3:] == [True] * 6

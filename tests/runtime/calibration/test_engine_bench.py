from __future__ import annotations

import asyncio
import random

import msgspec
import pytest

from polysilicon.errors import EngineError
from polysilicon.runtime.calibration.engine import EngineBench, Setting, spin
from polysilicon.runtime.calibration.extent import Extent
from polysilicon.runtime.executor import Workers
from polysilicon.runtime.types import ChatResult

EXTENT = Extent(
    search=False,
    prompts=(8, 16, 32, 64),
    extension=8,
    contexts=(16, 32),
    at_once=(1, 2),
    output=6,
    repeats=1,
    most=1,
    spin_s=0.05,
)


class Metronome:
    """An engine without a model: a token each millisecond, up to a limit of its own."""

    name, model, concurrency = "metronome", "beat", 2

    def __init__(self, longest: int = 100) -> None:
        self.longest = longest
        self.asked = 0

    async def chat(self, request, on_token=None):
        self.asked += 1
        prompt = len(request.messages[0]["content"].split())
        count = min(request.max_tokens, self.longest)
        for _ in range(count):
            await asyncio.sleep(0.001)
            on_token("x")
        return ChatResult(text="x" * count, prompt_tokens=prompt, output_tokens=count)

    async def embed(self, texts):
        raise EngineError("no vectors")

    async def close(self):
        pass


def measured(engine: Metronome, until_s: float = 1e12):
    setting = Setting(
        threads=2, slots=2, slot_tokens=512, batch_tokens=512, until_s=until_s, extent=EXTENT
    )
    told: list[str] = []

    async def run():
        workers = Workers(1)
        try:
            bench = EngineBench(engine, setting, random.Random(1), told.append)
            return await bench.run(workers)
        finally:
            await workers.close()

    return asyncio.run(run()), told


def test_all_points_are_measured():
    found, told = measured(Metronome())
    assert [p.sequences for p in found.decode] == [1, 2, 1, 2]
    assert [p.busy for p in found.stretch] == [1]
    assert [p.sequences for p in found.together] == [2, 2]
    # Prompts of more than four extensions are asked once more, longer.
    assert len(found.prefill) == len(EXTENT.prompts) + 1
    assert found.decode_tokens_per_s <= 1000
    assert any("decoding beside 1 busy tool" in what for what in told)
    assert msgspec.json.decode(msgspec.json.encode(found), type=type(found)) == found


def test_when_time_is_up_what_can_be_done_without_is_left_out():
    late, _ = measured(Metronome(), until_s=0.0)
    assert len(late.prefill) == 3
    assert len(late.decode) == 2
    assert late.stretch == ()


def test_answers_too_short_to_be_timed_are_an_error():
    with pytest.raises(EngineError, match="beat ends its answers before they can be timed"):
        measured(Metronome(longest=2))


def test_spinning_takes_its_time_and_counts_its_rounds():
    assert spin(0.02) > 0

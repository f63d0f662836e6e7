"""How fast low-rank adapters are trained and served here, by steps of the agent `posttrain`."""

from __future__ import annotations

import random
import tempfile
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec

from polysilicon.cost.profile import Spread, TrainSpeed, spread
from polysilicon.runtime.calibration.requests import ask_all, unlike
from polysilicon.runtime.executor import CallResult, Workers
from polysilicon.runtime.types import Engine

NEEDS = ("torch", "gguf")
_STEP = "polysilicon.agents.posttrain.step"
_TIMEOUT_S = 300.0
_PAIRS, _WORDS, _OUTPUT = 4, 16, 20
"""Loads with and without the adapter in turn, words of a prompt, tokens of an answer."""


class _Probed(msgspec.Struct, frozen=True, kw_only=True):
    tokens: int
    precision: str
    seconds: list[float]
    core_s: list[float]
    setup_s: float


def can_train() -> bool:
    """Tell whether the extra `train` is installed."""
    return all(find_spec(name) is not None for name in NEEDS)


async def train_speed(model: str, threads: int) -> TrainSpeed:
    """Make a few steps of the optimizer in a worker process.

    Args:
        model: its name.
        threads: that compute.

    Raises:
        ToolError: the model cannot be trained.
        StepTimeoutError: it took minutes.
    """
    result = await _in_worker("probe", model, threads)
    found = msgspec.msgpack.decode(result.data, type=_Probed)
    return TrainSpeed(
        threads=threads,
        precision=found.precision,
        tokens=found.tokens,
        tokens_per_s=spread([found.tokens / seconds for seconds in found.seconds]),
        core_s_per_token=spread([core_s / found.tokens for core_s in found.core_s]),
        setup_s=found.setup_s,
    )


async def served(engine: Engine, model: str, slots: int, rng: random.Random) -> Spread:
    """Return seconds of answers with an adapter over those without, all slots at work.

    Args:
        engine: that serves the model, idle.
        model: its name.
        slots: answers at once.
        rng: of the prompts.

    Raises:
        EngineError: the engine failed.
        ToolError: the model cannot be trained.
    """
    with tempfile.TemporaryDirectory(prefix="polysilicon-") as folder:
        path = str(Path(folder) / "adapter.gguf")
        await _in_worker("blank", model, path)

        async def seconds(adapter: str | None) -> float:
            prompts = [unlike(_WORDS, rng) for _ in range(slots)]
            replies = await ask_all(engine, prompts, _OUTPUT, adapter)
            begin_s = min(reply.start_s for reply in replies)
            return max(reply.end_s for reply in replies) - begin_s

        await seconds(path)  # loads it
        return spread([await seconds(path) / await seconds(None) for _ in range(_PAIRS)])


async def _in_worker(name: str, *args: Any) -> CallResult:
    """Call a function of the agent's training in a worker process of its own.

    Raises:
        ToolError: it failed.
        StepTimeoutError: it took minutes.
    """
    workers = Workers(1, yields=False)
    try:
        return await workers.call(getattr(import_module(_STEP), name), args, {}, _TIMEOUT_S)
    finally:
        await workers.close()

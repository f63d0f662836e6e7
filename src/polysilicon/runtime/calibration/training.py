"""How fast low-rank adapters are trained and served here, by steps of the agent `posttrain`."""

from __future__ import annotations

import random
import statistics
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
_LOADS, _WORDS, _OUTPUT = 4, 8, 40
"""Loads of each kind, words of a prompt, tokens of an answer at most."""


class _Probed(msgspec.Struct, frozen=True, kw_only=True):
    tokens: int
    precision: str
    seconds: list[float]
    core_s: list[float]
    first_s: float
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
        first_s=found.first_s,
    )


class Served(msgspec.Struct, frozen=True, kw_only=True):
    """What an adapter costs the engine, in seconds over those before it was loaded.

    Attributes:
        times: of answers with it.
        beside: of answers without it, once it is loaded: an adapter is an engine of its own, whose
            threads are there beside those of the model without.
        load_s: seconds that the first answers with it take more.
    """

    times: Spread
    beside: Spread
    load_s: float


async def served(engine: Engine, model: str, slots: int, rng: random.Random) -> Served:
    """Return what answers with an adapter take, all slots at work, beside those without.

    Args:
        engine: that serves the model, idle, with no adapter loaded.
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
            # Answers may end early, and not all alike.
            tokens = sum(reply.output for reply in replies)
            return (max(reply.end_s for reply in replies) - begin_s) / tokens * slots * _OUTPUT

        await seconds(None)  # touches all weights
        alone_s = statistics.median([await seconds(None) for _ in range(_LOADS)])
        first_s = await seconds(path)
        pairs = [(await seconds(path), await seconds(None)) for _ in range(_LOADS)]
        adapted, plain = zip(*pairs, strict=True)
        return Served(
            times=spread([one_s / alone_s for one_s in adapted]),
            beside=spread([one_s / alone_s for one_s in plain]),
            load_s=max(first_s - statistics.median(adapted), 0.0),
        )


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

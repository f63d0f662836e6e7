"""How fast low-rank adapters are trained here, by real steps of the agent `posttrain`."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec

import msgspec

from polysilicon.cost.profile import TrainSpeed, spread
from polysilicon.runtime.executor import Workers

NEEDS = ("torch", "gguf")
_PROBE = "polysilicon.agents.posttrain.step", "probe"
_TIMEOUT_S = 300.0


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
    module, name = _PROBE
    workers = Workers(1, yields=False)
    try:
        probe = getattr(import_module(module), name)
        result = await workers.call(probe, (model, threads), {}, _TIMEOUT_S)
    finally:
        await workers.close()
    found = msgspec.msgpack.decode(result.data, type=_Probed)
    return TrainSpeed(
        threads=threads,
        precision=found.precision,
        tokens=found.tokens,
        tokens_per_s=spread([found.tokens / seconds for seconds in found.seconds]),
        core_s_per_token=spread([core_s / found.tokens for core_s in found.core_s]),
        setup_s=found.setup_s,
    )

"""The training step: its recipe, and its function, which only in a worker imports PyTorch."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from polysilicon.errors import InputError
from polysilicon.runtime import models


class Recipe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to train.

    Attributes:
        rank: of the adapter.
        alpha: its addition is scaled by alpha/rank.
        learning_rate: of AdamW.
        epochs: passes over the examples.
        batch: sequences of one step of the optimizer.
        threads: of PyTorch.
        precision: of the frozen matrices, `bfloat16` or `float32`.
    """

    rank: Annotated[int, Meta(ge=1, le=256)] = 16
    alpha: Annotated[float, Meta(gt=0)] = 32.0
    learning_rate: Annotated[float, Meta(gt=0)] = 1e-3
    epochs: Annotated[int, Meta(ge=1, le=100)] = 2
    batch: Annotated[int, Meta(ge=1, le=1024)] = 8
    threads: Annotated[int, Meta(ge=1, le=1024)] = 2
    precision: Literal["bfloat16", "float32"] = "bfloat16"


def check_extra() -> None:
    """Raise before anything is sampled where training would fail.

    Raises:
        InputError: the extra `train` is not installed.
    """
    missing = [name for name in ("torch", "gguf") if find_spec(name) is None]
    if missing:
        mend = "install polysilicon[train]"
        raise InputError(f"training needs {' and '.join(missing)}", mend=mend)


def train(model: str, *rest: Any) -> dict[str, Any]:
    """Train on examples; see `trainer.train`, which takes the model's file in place of its name."""
    from polysilicon.agents.posttrain import trainer  # noqa: PLC0415 - imports PyTorch

    return trainer.train(str(models.pull(model)), *rest)

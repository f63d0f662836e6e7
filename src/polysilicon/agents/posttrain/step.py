"""The training step: its recipe, and its function, which only in a worker imports PyTorch."""

from __future__ import annotations

import time
from importlib.util import find_spec
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from polysilicon.catalog.machine import NO_BF16, detect
from polysilicon.errors import InputError
from polysilicon.runtime import models

Method = Literal["rejection", "grpo"]
Precision = Literal["bfloat16", "float32"]


class Recipe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to train.

    Attributes:
        method: `rejection` learns the answers that passed, of all rounds; `grpo` makes the answers
            of this round likelier that are better than others to the same problem, and the others
            less likely.
        rank: of the adapter.
        alpha: its addition is scaled by alpha/rank.
        learning_rate: of AdamW.
        epochs: passes over the examples.
        batch: sequences of one step of the optimizer; whole groups with `grpo`.
        clip: of `grpo`, how far a token's probability may move from where it was sampled and still
            be rewarded for it, as a share.
        kl: of `grpo`, weight of the divergence from the base model.
        threads: of PyTorch.
        precision: of the frozen matrices, `bfloat16` or `float32`; by default `bfloat16` where the
            CPU that trains has units for it, else `float32`, which is faster there.
    """

    method: Method = "rejection"
    rank: Annotated[int, Meta(ge=1, le=256)] = 16
    alpha: Annotated[float, Meta(gt=0)] = 32.0
    learning_rate: Annotated[float, Meta(gt=0)] = 1e-3
    epochs: Annotated[int, Meta(ge=1, le=100)] = 2
    batch: Annotated[int, Meta(ge=1, le=1024)] = 8
    clip: Annotated[float, Meta(gt=0, lt=1)] = 0.2
    kl: Annotated[float, Meta(ge=0)] = 0.04
    threads: Annotated[int, Meta(ge=1, le=1024)] = 2
    precision: Precision | None = None

    def chosen(self) -> Precision:
        """Return the precision on this CPU."""
        if self.precision is not None:
            return self.precision
        return "float32" if detect().bf16_unit == NO_BF16 else "bfloat16"


class Example(msgspec.Struct, frozen=True, kw_only=True):
    """A conversation, how its last message, the assistant's, goes on, and what that was worth."""

    messages: list[dict[str, str]]
    answer: str
    reward: float = 1.0


class Lesson(msgspec.Struct, frozen=True, kw_only=True):
    """What one training step learns.

    Attributes:
        checkpoints: where this task's are, from the agent's folder.
        number: of the checkpoint to write; the one before it is what training begins with.
        seed: of the run.
        examples: what to learn from.
        sampled_by: number of the checkpoint whose adapter gave them; 0 is the model without one.
        temperature: at which it gave them.
    """

    checkpoints: str
    number: int
    seed: int
    examples: list[Example]
    sampled_by: int = 0
    temperature: float = 1.0


def check_extra() -> None:
    """Raise before anything is sampled where training would fail.

    Raises:
        InputError: the extra `train` is not installed.
    """
    missing = [name for name in ("torch", "gguf") if find_spec(name) is None]
    if missing:
        mend = "install polysilicon[train]"
        raise InputError(f"training needs {' and '.join(missing)}", mend=mend)


def probe(model: str, threads: int) -> dict[str, Any]:
    """Time some steps of the optimizer; see `trainer.probe`, which takes the model's file."""
    from polysilicon.agents.posttrain import trainer  # noqa: PLC0415 - imports PyTorch

    return trainer.probe(str(models.pull(model)), Recipe(threads=threads))


def blank(model: str, path: str) -> None:
    """Write an adapter of the usual size that changes nothing; see `trainer.blank`."""
    from polysilicon.agents.posttrain import trainer  # noqa: PLC0415 - imports PyTorch

    trainer.blank(str(models.pull(model)), Recipe(), path)


def train(model: str, lesson: Any, recipe: Any, *, folder: str) -> dict[str, Any]:
    """Train; see `trainer.train`, which takes the model's file in place of its name.

    Args:
        model: its name.
        lesson: fields of `Lesson`.
        recipe: fields of `Recipe`.
        folder: the agent's.
    """
    begin_s = time.perf_counter()
    from polysilicon.agents.posttrain import trainer  # noqa: PLC0415 - imports PyTorch

    imported_s = time.perf_counter() - begin_s
    told = trainer.train(
        str(models.pull(model)),
        msgspec.convert(lesson, Lesson),
        msgspec.convert(recipe, Recipe),
        folder,
    )
    return {**told, "startup_s": told["startup_s"] + imported_s}

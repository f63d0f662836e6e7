"""Published runs that the laws of embedding and training steps are fitted and scored on."""

from __future__ import annotations

from functools import lru_cache

import msgspec
from msgspec.structs import replace

from polysilicon.catalog.models import ModelArchitecture
from polysilicon.catalog.tables import (
    amount,
    blank_or,
    count,
    data_folder,
    day,
    read_rows,
    text,
    yes_no,
)


class EmbedRun(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One batch of an encoder.

    Attributes:
        processor: a name of the processors.
        count: how many of them; a fraction where a part of a chip worked.
        encoder: a name of the encoders.
        sequence_tokens: of each sequence.
        batch: sequences.
        seconds: that it took.
        served: behind a server, else bare kernels.
        used_for: `fit`, `serving` (fitted too) or `held-out`.
        source: of the run.
        date: of the source.
    """

    processor: str
    count: float
    encoder: str
    sequence_tokens: int
    batch: int
    seconds: float
    served: bool
    used_for: str
    source: str
    date: str


class TrainRun(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One training run.

    Attributes:
        processor: a name of the processors.
        count: how many of them.
        model: as its source names it.
        parameters: all of them.
        layers: transformer blocks.
        hidden: width.
        sequence_tokens: of a sequence.
        method: `full` or `lora`.
        recompute: all activations were computed again in the backward pass.
        tokens_per_s: of one processor.
        used_for: `fit`, `chip` (only its chip's efficiency is fitted) or `held-out`.
        source: of the run.
        date: of the source.
    """

    processor: str
    count: int
    model: str
    parameters: int
    layers: int
    hidden: int
    sequence_tokens: int
    method: str
    recompute: bool
    tokens_per_s: float
    used_for: str
    source: str
    date: str


class CpuTrainRun(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Steps that trained adapters on a CPU.

    Attributes:
        family: of the chip.
        unit: that multiplied matrices: one of `bf16_units.csv`, or `none` in float32.
        threads: that computed.
        model: what it was.
        parameters: that a token is multiplied with.
        layers: transformer blocks.
        hidden: width.
        sequence_tokens: that attend to each other.
        core_s_per_token: core-seconds; None where they were not told.
        alone_s_per_token: in which one thread worked and the other waited; None where not measured.
        clock_s_per_token: seconds on a quiet machine; None where it was not quiet.
        used_for: `fit`, `alone` (only that is fitted) or `held-out`.
        source: of the run.
        date: of the run.
    """

    family: str
    unit: str
    threads: int
    model: str
    parameters: int
    layers: int
    hidden: int
    sequence_tokens: int
    core_s_per_token: float | None
    alone_s_per_token: float | None
    clock_s_per_token: float | None
    used_for: str
    source: str
    date: str


_EMBED = {
    "processor": text,
    "count": amount,
    "encoder": text,
    "sequence_tokens": count,
    "batch": count,
    "seconds": amount,
    "served": yes_no,
    "used_for": text,
    "source": text,
    "date": day,
}
_TRAIN = {
    "processor": text,
    "count": count,
    "model": text,
    "parameters": count,
    "layers": count,
    "hidden": count,
    "sequence_tokens": count,
    "method": text,
    "recompute": yes_no,
    "tokens_per_s": amount,
    "used_for": text,
    "source": text,
    "date": day,
}

_TRAIN_CPU = {
    "family": text,
    "unit": text,
    "threads": count,
    "model": text,
    "parameters": count,
    "layers": count,
    "hidden": count,
    "sequence_tokens": count,
    "core_s_per_token": blank_or(amount),
    "alone_s_per_token": blank_or(amount),
    "clock_s_per_token": blank_or(amount),
    "used_for": text,
    "source": text,
    "date": day,
}


@lru_cache(maxsize=1)
def embed_runs() -> tuple[EmbedRun, ...]:
    """Return the runs of encoders."""
    source = data_folder("polysilicon.cost") / "cc_by_sa" / "embed_runs.csv"
    return tuple(EmbedRun(**row) for _, row in read_rows(source, _EMBED))


@lru_cache(maxsize=1)
def train_runs() -> tuple[TrainRun, ...]:
    """Return the runs of training."""
    source = data_folder("polysilicon.cost") / "cc_by_sa" / "train_runs.csv"
    return tuple(TrainRun(**row) for _, row in read_rows(source, _TRAIN))


@lru_cache(maxsize=1)
def cpu_train_runs() -> tuple[CpuTrainRun, ...]:
    """Return the runs of training on CPUs."""
    source = data_folder("polysilicon.cost") / "train_cpu_runs.csv"
    return tuple(CpuTrainRun(**row) for _, row in read_rows(source, _TRAIN_CPU))


def model_of(run: TrainRun | CpuTrainRun, like: ModelArchitecture) -> ModelArchitecture:
    """Return a model with the shapes that a run tells of; all else is as of another model."""
    return replace(
        like,
        parameters=run.parameters,
        active_parameters=run.parameters,
        layers=run.layers,
        hidden=run.hidden,
        heads=1,
        head_dim=run.hidden,
    )

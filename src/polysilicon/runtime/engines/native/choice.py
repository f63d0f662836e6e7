"""How the local engine is set up for a model: as a search found it, or as the wheel is."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec

from polysilicon.catalog.fleet import Pool
from polysilicon.catalog.machine import Machine, detect
from polysilicon.cost.engine_choice import (
    BATCH,
    MICRO_BATCH,
    EngineChoice,
    choices_path,
    read_choices,
    stale,
)
from polysilicon.errors import EngineError, InputError
from polysilicon.runtime.engines.native.library import use
from polysilicon.runtime.models import model_name

FALLBACK = "the wheel's own kernels and the shipped weights serve"


class Setup(msgspec.Struct, frozen=True, kw_only=True):
    """What the engine is opened with besides the model.

    Attributes:
        kernels: library; None for the wheel's.
        weights: file in another format; None for the model's own.
        threads: that compute.
        alone_threads: of them, that compute a single token, of one sequence alone; all where 0.
            Where one core reads memory about as fast as all do, the others are in its way.
        batch: tokens of an iteration, at most: those of prompts, and one for each other sequence.
        micro_batch: of these, how many are computed at once.
        prompt_lookup: guess what follows from earlier tokens, and check the guess in one go.
    """

    kernels: Path | None = None
    weights: Path | None = None
    threads: int
    alone_threads: int = 0
    batch: int = BATCH
    micro_batch: int = MICRO_BATCH
    prompt_lookup: bool = False


class Chosen(msgspec.Struct, frozen=True, kw_only=True):
    """A setup, and a line for a person where something could not be used."""

    setup: Setup
    note: str = ""


def chosen(model: Path, cores: int, machine: Machine | None = None) -> Chosen:
    """Return how to serve a model here: as measured, or as the wheel is where nothing holds.

    Args:
        model: its file as it was shipped.
        cores: that this process may use.
        machine: this one; asked where None.
    """
    plain = Setup(threads=cores)
    path = choices_path()
    try:
        choice = read_choices(path).models.get(model_name(model))
    except InputError as error:
        return Chosen(setup=plain, note=f"{error}; {FALLBACK}")
    if choice is None:
        return Chosen(setup=plain)
    reason = stale(choice, machine if machine is not None else detect()) or changed(choice, model)
    if reason:
        note = f"{path.name} is not used: {reason}; {FALLBACK}; run `polysilicon calibrate`"
        return Chosen(setup=plain, note=note)
    try:
        use(Path(choice.kernels) if choice.kernels else None)
    except EngineError as error:
        return Chosen(setup=plain, note=f"{error}; {FALLBACK}")
    return Chosen(
        setup=Setup(
            kernels=Path(choice.kernels) if choice.kernels else None,
            weights=Path(choice.weights) if choice.weights else None,
            threads=min(choice.threads, cores),
            alone_threads=min(choice.alone_threads, cores),
            batch=choice.batch,
            micro_batch=choice.micro_batch,
        )
    )


def setup_of(pool: Pool, model: Path, cores: int) -> Setup:
    """Return how a pool's engine is opened here: as `chosen`, but for what the pool says itself.

    Args:
        pool: of a fleet.
        model: its file as it was shipped.
        cores: that this process may use.
    """
    found = chosen(model, cores).setup
    threads = min(pool.threads or found.threads, cores)
    return msgspec.structs.replace(
        found,
        threads=threads,
        alone_threads=min(found.alone_threads, threads),
        prompt_lookup=pool.prompt_lookup,
    )


def changed(choice: EngineChoice, model: Path) -> str:
    """Say which file is no longer the one that was measured; nothing where all are."""
    if not _is_of_size(model, choice.source_bytes):
        return "the model's file has changed"
    if choice.weights and not _is_of_size(Path(choice.weights), choice.weights_bytes):
        return "the converted weights are gone"
    if choice.kernels and sha256_or_blank(Path(choice.kernels)) != choice.kernels_sha256:
        return "the kernels built here are gone, or others"
    return ""


def _is_of_size(path: Path, size_bytes: int) -> bool:
    return path.is_file() and path.stat().st_size == size_bytes


def sha256_or_blank(path: Path) -> str:
    """Return the SHA-256 of a file; blank where it cannot be read."""
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError:
        return ""

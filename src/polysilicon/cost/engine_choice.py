"""Which kernels, weights and threads the local engine was found to be fastest with, by model.

The file lies beside the profile. It holds what a search measured; whoever opens the engine checks
that the files it names are still those that were measured.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec

from polysilicon.catalog.machine import Machine
from polysilicon.disk import write_whole
from polysilicon.errors import InputError

FORMAT = 1
FILE = "engine.json"
ENGINE = "llama.cpp"
AS_SHIPPED = "as shipped"
ENGINE_PACKAGES = {ENGINE: "xllamacpp"}
"""Engine → the package whose version tells which it is."""

BATCH, MICRO_BATCH = 2048, 512
"""llama.cpp's own."""

_AGAIN = "run `polysilicon calibrate`"


class EngineChoice(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one model is served with on this machine.

    Attributes:
        engine_version: of the wheel that it was measured with.
        cpu: `cpu_key` of the machine.
        source_bytes: size of the model's file as it was shipped.
        kernels: library of kernels; blank for the wheel's own.
        kernels_sha256: of that file.
        weights: file in another format; blank for the one that was shipped.
        weights_bytes: size of that file.
        weight_format: as ggml calls it, or `AS_SHIPPED`.
        threads: that compute.
        alone_threads: of them, that compute a single token, of one sequence alone; all where 0.
        batch: tokens of an iteration, at most.
        micro_batch: of these, how many are computed at once.
        slots: sequences at once from which on more of them gain next to nothing; 0 where that was
            not measured.
        gains: what was measured → multiple of the wheel's rate with the shipped file.
        refused: what was tried and not taken → why.
        measured_at: UTC, ISO 8601.
    """

    engine_version: str
    cpu: str
    source_bytes: int
    kernels: str = ""
    kernels_sha256: str = ""
    weights: str = ""
    weights_bytes: int = 0
    weight_format: str = AS_SHIPPED
    threads: int
    alone_threads: int = 0
    batch: int = BATCH
    micro_batch: int = MICRO_BATCH
    slots: int = 0
    gains: dict[str, float] = {}
    refused: dict[str, str] = {}
    measured_at: str = ""

    @property
    def tag(self) -> str:
        """What the version of an engine ends with that is set up so; blank where as shipped."""
        parts = [f"kernels.{self.kernels_sha256[:8]}"] if self.kernels else []
        parts += [self.weight_format] if self.weights else []
        parts += [f"batch.{self.batch}"] if self.batch != BATCH else []
        parts += [f"micro-batch.{self.micro_batch}"] if self.micro_batch != MICRO_BATCH else []
        parts += [f"alone.{self.alone_threads}"] if self.alone_threads else []
        return "+" + ".".join(parts) if parts else ""


class EngineChoices(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The file: model → what it is served with."""

    format: int = FORMAT
    models: dict[str, EngineChoice] = {}


def cpu_key(machine: Machine) -> str:
    """Name a CPU by its model, architecture and instruction set extensions."""
    words = "\n".join((machine.cpu, machine.arch, *sorted(machine.isa_flags)))
    return hashlib.sha256(words.encode()).hexdigest()[:12]


def engine_version(engine: str) -> str:
    """Return the version of an engine's package; blank where there is none."""
    try:
        return version(ENGINE_PACKAGES.get(engine, engine))
    except PackageNotFoundError:
        return ""


def data_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Return the folder of what was measured here."""
    home = environ.get("POLYSILICON_HOME")
    if home:
        return Path(home)
    base = environ.get("XDG_DATA_HOME")
    return (Path(base) if base else Path.home() / ".local" / "share") / "polysilicon"


def choices_path() -> Path:
    """Return where the file lies."""
    return data_folder() / FILE


def read_choices(path: Path) -> EngineChoices:
    """Read the file; nothing is chosen where there is none.

    Raises:
        InputError: it cannot be read, or is of another format.
    """
    if not path.is_file():
        return EngineChoices()
    try:
        found = msgspec.json.decode(path.read_bytes(), type=EngineChoices)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        what = f"not a choice of engines: {' '.join(str(error).split())}"
        raise InputError(what, where=str(path), mend=_AGAIN) from error
    if found.format != FORMAT:
        raise InputError("a choice of another format", where=str(path), mend=_AGAIN)
    return found


def write_choice(model: str, choice: EngineChoice, path: Path) -> None:
    """Put a model's choice into the file, whole or not at all; one that is broken is replaced.

    Raises:
        PolysiliconError: the disk is full, or the folder cannot be written.
    """
    try:
        before = read_choices(path).models
    except InputError:
        before = {}
    after = EngineChoices(models={**before, model: choice})
    write_whole(path, msgspec.json.format(msgspec.json.encode(after), indent=2) + b"\n")


def stale(choice: EngineChoice, machine: Machine) -> str:
    """Say why a choice does not hold on `machine`; nothing where it does."""
    if choice.cpu != cpu_key(machine):
        return "it was made on another CPU"
    if choice.engine_version != engine_version(ENGINE):
        return f"it was made with xllamacpp {choice.engine_version}"
    return ""


def version_in_use(engine: str, model: str, machine: Machine, path: Path) -> str:
    """Return the version of an engine, with what the local one serves a model with here.

    Args:
        engine: its name.
        model: name.
        machine: this one.
        path: file of choices.
    """
    plain = engine_version(engine)
    if engine != ENGINE:
        return plain
    try:
        choice = read_choices(path).models.get(model)
    except InputError:
        return plain
    return plain + choice.tag if choice is not None and not stale(choice, machine) else plain

"""How a model is served on accelerators: what was asked for, and what is taken where it was not."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import msgspec
import numpy as np

from polysilicon.catalog.models import ModelArchitecture
from polysilicon.catalog.processors import Processor
from polysilicon.catalog.tables import Cell, data_folder, day, read_rows, text, yes_no
from polysilicon.cost.constants import constants
from polysilicon.cost.llm.work import Split, sequences_that_fit, weights_per_gpu
from polysilicon.cost.types import Serving
from polysilicon.errors import InputError, NoBasisError, nearest

# It was measured on server CPUs, and on a few accelerators one request at a time.
CPU_ENGINE = "llama.cpp"
# Fewer bytes a parameter than this are too few for anything but the experts of a mixture.
NARROW_BYTES = 1.0


class Engine(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A server of models on accelerators.

    Attributes:
        engine: its name.
        default_of: the family of chips on which it is taken where none is asked for.
        runs_on: families or vendors of chips, parted by blanks.
        narrow_cache: quantised models keep their cache in one byte a value.
        even_heads: tensor parallelism must divide the number of heads.
        source: of that.
        date: of the source.
    """

    engine: str
    default_of: str
    runs_on: str
    narrow_cache: bool
    even_heads: bool
    source: str
    date: str


class Need(msgspec.Struct, frozen=True, kw_only=True):
    """How much room is needed: steps at once, and tokens of the longest."""

    concurrency: float
    tokens: float


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """How one copy of a model is served."""

    engine: str
    precision: str
    split: Split


@lru_cache(maxsize=1)
def engines() -> dict[str, Engine]:
    """Return the servers of accelerators by name."""
    columns: dict[str, Cell] = {
        "engine": text,
        "default_of": str,
        "runs_on": text,
        "narrow_cache": yes_no,
        "even_heads": yes_no,
        "source": text,
        "date": day,
    }
    source = data_folder("polysilicon.cost") / "engines.csv"
    return {row["engine"]: Engine(**row) for _, row in read_rows(source, columns)}


def family_of(chip: Processor) -> str:
    """Return what engines a chip has: those of `gpu`, `neuron`, `tpu`, `gaudi`; or blank."""
    isa = (chip.isa or "").casefold()
    if chip.kind == "gpu":
        return "gpu"
    for start, family in (("neuron", "neuron"), ("tensorcore", "tpu"), ("tpc", "gaudi")):
        if isa.startswith(start):
            return family
    return ""


def engine_of(chip: Processor, asked: str) -> Engine:
    """Return the engine asked for, or the usual one of the chip.

    Raises:
        InputError: an engine that is not known; names near ones.
        NoBasisError: it does not run on the chip, or was not measured there.
    """
    known = engines()
    if asked:
        if asked == CPU_ENGINE:
            raise NoBasisError(f"no law of {CPU_ENGINE} on accelerators is fitted")
        if asked not in known:
            mend = nearest(asked, known) or f"known: {', '.join(known)}"
            raise InputError(f"unknown engine {asked!r} on {chip.name}", mend=mend)
        if not set(known[asked].runs_on.split()) & {family_of(chip) or "other", chip.vendor}:
            raise NoBasisError(f"{asked} does not run on {chip.name}")
        return known[asked]
    usual = [engine for engine in known.values() if engine.default_of == family_of(chip)]
    # TPUs and chips without an engine of their own are served by vLLM.
    return usual[0] if usual and family_of(chip) else known["vllm"]


def split_for(
    model: ModelArchitecture,
    chip: Processor,
    engine: Engine,
    weight_bytes: float,
    serving: Serving,
    gpus: int,
) -> Split:
    """Return how a model is spread over so many accelerators.

    Raises:
        InputError: a parallelism that cannot be.
        NoBasisError: a fact is missing.
    """
    if chip.memory_gb is None:
        raise NoBasisError(f"the memory of {chip.name} is not known")
    check_parallelism(model, serving, gpus)
    # With ranks the attention is cut less than tp says.
    if engine.even_heads and serving.tp and not serving.dp and model.heads % serving.tp:
        what = f"impossible parallelism: tp={serving.tp} of {model.heads} heads of {model.name}"
        raise InputError(what, mend=f"in {engine.engine} tp divides them")
    quantised = weight_bytes <= NARROW_BYTES
    narrow = weight_bytes < NARROW_BYTES and model.experts is not None
    return Split(
        gpus=gpus,
        ranks=serving.dp or 1,
        experts=serving.ep or 1,
        weight_bytes=weight_bytes,
        rest_bytes=2.0 if narrow else weight_bytes,
        cache_bytes=1.0 if quantised and engine.narrow_cache else 2.0,
        usable_bytes=chip.memory_gb * 1e9 * constants()["memory"]["usable_share"],
    )


def check_parallelism(model: ModelArchitecture, serving: Serving, gpus: int) -> None:
    """Raise `InputError` where the ways to spread a model contradict each other.

    Ranks of data-parallel attention share the accelerators of one copy.
    """
    asked = {name: getattr(serving, name) for name in ("tp", "pp", "dp", "ep")}
    told = " ".join(f"{name}={much}" for name, much in asked.items() if much is not None)
    told = f"{told} on {gpus}".lstrip()
    if min([gpus, *(much for much in asked.values() if much is not None)]) < 1:
        raise InputError(f"impossible parallelism: {told}", mend="each is at least 1")
    tp, dp, ep = serving.tp or gpus, serving.dp or 1, serving.ep or 1
    if (serving.pp or 1) > 1:
        raise NoBasisError("pipeline parallelism was not measured")
    if ep > 1 and model.experts is None:
        what = f"impossible parallelism: {model.name} has no experts to spread"
        raise InputError(what, mend="leave out ep")
    if tp > gpus or dp > gpus or ep > gpus:
        raise InputError(f"impossible parallelism: {told}", mend=f"none is more than {gpus}")
    if gpus % dp or gpus % ep or gpus % tp:
        raise InputError(f"impossible parallelism: {told}", mend=f"each must divide {gpus}")


def setting_of(
    model: ModelArchitecture,
    chip: Processor,
    available: int,
    serving: Serving,
    need: Need,
    precisions: Mapping[str, float],
) -> Setting:
    """Return how a model is served on the accelerators of an offer.

    Without a precision it is the one in which the model was published, or the next narrower one
    whose weights fit; without a number of accelerators it is the smallest of 1, 2, 4, … and all
    that holds the weights and, where memory allows, the cache of all steps.

    Raises:
        InputError: an unknown engine or precision, or an impossible parallelism.
        NoBasisError: the model does not fit, or a fact is missing.
    """
    engine = engine_of(chip, serving.engine)
    if serving.precision and serving.precision not in precisions:
        mend = nearest(serving.precision, precisions)
        raise InputError(f"unknown precision {serving.precision!r}", mend=mend)
    told = (serving.count, serving.tp, serving.dp, serving.ep)
    asked = next((count for count in told if count is not None), None)
    if asked is not None and asked < 1:
        raise InputError(f"impossible parallelism: {asked} accelerators", mend="at least 1")
    if asked is not None and asked > available:
        what = f"impossible parallelism: {asked} of {available} accelerators"
        raise InputError(what, where=chip.name, mend=f"at most {available}")
    counts = [asked] if asked is not None else _doublings(available)
    chosen = [serving.precision] if serving.precision else usual_precisions(model, chip)
    tightest: Setting | None = None
    split: Split | None = None
    for precision in chosen:
        for gpus in counts:
            split = split_for(model, chip, engine, precisions[precision], serving, gpus)
            if weights_per_gpu(model, split) >= split.usable_bytes:
                continue
            found = Setting(engine=engine.engine, precision=precision, split=split)
            room = float(sequences_that_fit(model, split, np.array([need.tokens]))[0])
            if room >= need.concurrency:
                return found
            tightest = found
        if tightest is not None:
            return tightest
    assert split is not None
    raise _too_large(model, split, chip)


def usual_precisions(model: ModelArchitecture, chip: Processor) -> list[str]:
    """Return the precision in which a model was published, and the narrower ones that a chip takes.

    GPUs widen narrow weights as they read them, those of NVIDIA from Ampere on (vLLM documentation,
    quantisation, supported hardware); other chips take only what they compute in, so that weights
    that were published narrower are widened before they are loaded.
    """
    old = chip.isa in ("CUDA sm_70", "CUDA sm_75")
    narrower = {"bf16": ("fp8", "fp4"), "fp16": ("fp8", "fp4"), "fp8": ("fp4",)}
    takes = {"fp8": chip.fp8_tflops is not None, "fp4": chip.fp4_tflops is not None}
    published = model.published_precision
    widens = chip.kind == "gpu" and not old
    if not widens and not takes.get(published, True):
        return ["bf16"]
    also = narrower.get(published, ())
    return [published, *(p for p in also if widens or takes[p])]


def _too_large(model: ModelArchitecture, split: Split, chip: Processor) -> NoBasisError:
    """Return the refusal of a model that does not fit."""
    need = weights_per_gpu(model, split) * split.gpus / 1e9
    has = (chip.memory_gb or 0.0) * split.gpus
    return NoBasisError(f"it does not fit: {need:.0f} GB of weights on {has:g} GB of {chip.name}")


def _doublings(most: int) -> list[int]:
    """Return 1, 2, 4, … and `most`."""
    counts = []
    gpus = 1
    while gpus < most:
        counts.append(gpus)
        gpus *= 2
    return [*counts, most]

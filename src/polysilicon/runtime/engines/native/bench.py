"""The local engine against two ceilings: memory bandwidth, and the peak rate of 8-bit integers.

One sequence that is decoded reads all weights for each token, so tokens a second are at most the
bandwidth over those bytes. A prompt of n tokens multiplies each weight n times, so its tokens a
second are at most the peak rate over two operations a weight (Williams, Waterman and Patterson
2009, "Roofline: an insightful visual performance model", CACM 52(4)). Where the weights fit into a
cache the first can be passed.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import msgspec

from polysilicon.catalog.fleet import LOCAL
from polysilicon.catalog.machine import Machine
from polysilicon.catalog.measurements import Measurement
from polysilicon.cost.engine_choice import ENGINE, engine_version
from polysilicon.errors import EngineError
from polysilicon.runtime.calibration.speed import memory_bandwidth
from polysilicon.runtime.engines.native import build, child
from polysilicon.runtime.engines.native.choice import Setup
from polysilicon.runtime.engines.native.search import KERNELS
from polysilicon.runtime.engines.native.speed import Batch, Extent, Prompt, Speed
from polysilicon.runtime.models import model_name

WHEEL = "wheel"

EXTENT = Extent(
    prompt_words=(30, 120, 450),
    sequences=(1, 8, 32),
    context_words=(8, 200),
    output=32,
)
ARRAY_BYTES = 256 * 2**20
_PEAK_S = 0.5

Tell = Callable[[str], None]


class Ceilings(msgspec.Struct, frozen=True, kw_only=True):
    """What the machine can do, measured.

    Attributes:
        bandwidth_gbs: of memory, all cores, triad as in STREAM.
        int8_tops: 10¹² operations a second of 8-bit integers, all cores; None where no kernels
            were built here, or the CPU has no instructions for them.
        weight_bytes: of the model's file.
        parameters: of the model.
        decode_tokens_per_s: the bandwidth over the weights.
        prefill_tokens_per_s: the peak rate over two operations a weight.
    """

    bandwidth_gbs: float
    int8_tops: float | None
    weight_bytes: int
    parameters: int
    decode_tokens_per_s: float
    prefill_tokens_per_s: float | None


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One measurement.

    Attributes:
        kernels: whose.
        what: `prefill` or `decode`.
        tokens: of the prompt, or mean context of the sequences.
        sequences: at once.
        tokens_per_s: of all of them.
        of_ceiling: share of the ceiling; that of decoding is for one sequence, and None for more.
    """

    kernels: str
    what: str
    tokens: float
    sequences: int
    tokens_per_s: float
    of_ceiling: float | None


class Bench(msgspec.Struct, frozen=True, kw_only=True):
    """All of it."""

    model: str
    processor: str
    cores: int
    ceilings: Ceilings
    rows: tuple[Row, ...]
    refused: dict[str, str]


def bench(model: Path, machine: Machine, tell: Tell, extent: Extent = EXTENT) -> Bench:
    """Measure the wheel's kernels and those built here, each in a child process.

    Raises:
        EngineError: nothing can be timed.
    """
    built = build.find(machine)
    tell("memory bandwidth and peak rate")
    found = ceilings(model, machine, Path(built.path) if built is not None else None)
    kernels = {WHEEL: None} | ({KERNELS: Path(built.path)} if built is not None else {})
    rows: list[Row] = []
    refused: dict[str, str] = {}
    for name, library in kernels.items():
        tell(f"timing the {name}" if name == WHEEL else f"timing {name}")
        setup = Setup(kernels=library, threads=machine.cores)
        try:
            speed = child.run(child.Time(model=str(model), setup=setup, extent=extent), Speed)
        except EngineError as error:
            refused[name] = str(error)
            continue
        rows += [_prefill_row(name, prompt, found) for prompt in speed.prompts]
        rows += [_decode_row(name, batch, found) for batch in speed.batches]
    if not rows:
        raise EngineError(f"the engine cannot be timed: {next(iter(refused.values()))}")
    return Bench(
        model=model_name(model),
        processor=machine.cpu or machine.arch,
        cores=machine.cores,
        ceilings=found,
        rows=tuple(rows),
        refused=refused,
    )


def ceilings(model: Path, machine: Machine, kernels: Path | None) -> Ceilings:
    """Measure what the machine can do, and what that means for a model."""
    bandwidth = memory_bandwidth(machine.cores, ARRAY_BYTES).triad_gbs.high
    size = model.stat().st_size
    parameters = child.run(child.Count(weights=str(model)), int)
    peak = peak_rate(kernels, machine.cores) if kernels is not None else None
    return Ceilings(
        bandwidth_gbs=bandwidth,
        int8_tops=peak / 1e12 if peak is not None else None,
        weight_bytes=size,
        parameters=parameters,
        decode_tokens_per_s=bandwidth * 1e9 / size,
        prefill_tokens_per_s=peak / (2 * parameters) if peak is not None else None,
    )


def peak_rate(kernels: Path, cores: int) -> float | None:
    """Return 8-bit operations a second of all cores at once; None where it cannot be measured."""
    rate = getattr(ctypes.CDLL(str(kernels)), "polysilicon_int8_rate", None)
    if rate is None:
        return None
    rate.restype, rate.argtypes = ctypes.c_double, [ctypes.c_double]
    with ThreadPoolExecutor(cores) as pool:
        each: list[float] = list(pool.map(rate, [_PEAK_S] * cores))
    return sum(each) or None


def _prefill_row(kernels: str, prompt: Prompt, found: Ceilings) -> Row:
    rate = prompt.tokens / prompt.seconds
    most = found.prefill_tokens_per_s
    return Row(
        kernels=kernels,
        what="prefill",
        tokens=prompt.tokens,
        sequences=1,
        tokens_per_s=rate,
        of_ceiling=rate / most if most is not None else None,
    )


def _decode_row(kernels: str, batch: Batch, found: Ceilings) -> Row:
    rate = batch.sequences / batch.seconds
    return Row(
        kernels=kernels,
        what="decode",
        tokens=batch.context_tokens,
        sequences=batch.sequences,
        tokens_per_s=rate,
        of_ceiling=rate / found.decode_tokens_per_s if batch.sequences == 1 else None,
    )


def measurements(found: Bench) -> Iterator[Measurement]:
    """Yield the rows as those of a measurement file; see `calibration.rows.measurements`."""
    today = datetime.now(UTC).date().isoformat()
    for number, row in enumerate(found.rows, start=1):
        is_prefill = row.what == "prefill"
        yield Measurement(
            row=number,
            source=f"polysilicon {version('polysilicon')} bench engine",
            date=today,
            instance=LOCAL,
            processor=found.processor,
            count=found.cores,
            engine=ENGINE,
            engine_version=f"{engine_version(ENGINE)} {row.kernels}",
            model=found.model,
            concurrency=float(row.sequences),
            prompt_tokens=round(row.tokens) if is_prefill else 0,
            output_tokens=0 if is_prefill else round(2 * row.tokens),
            ttft_ms=1e3 * row.tokens / row.tokens_per_s if is_prefill else None,
            tpot_ms=None if is_prefill else 1e3 * row.sequences / row.tokens_per_s,
            prefill_tokens_per_s=row.tokens_per_s if is_prefill else None,
            decode_tokens_per_s=None if is_prefill else row.tokens_per_s,
        )

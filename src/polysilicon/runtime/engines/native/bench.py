"""The local engine against two ceilings: reading the weights, and the peak rate of 8-bit integers.

One sequence that is decoded reads all weights for each token, and the keys and values of all tokens
before it, so tokens a second are at most what these cores read of an array as large as the weights,
over those bytes. A prompt of n tokens multiplies each weight n times, so its tokens a second are at
most the peak rate over two operations a weight (Williams, Waterman and Patterson 2009, "Roofline:
an insightful visual performance model", CACM 52(4)).

Each cell is measured in a child process of its own, the kernels in turn, within a limit. What took
too long is told, and what was measured is handed on at once.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType

import msgspec

from polysilicon.catalog.fleet import LOCAL
from polysilicon.catalog.machine import Machine
from polysilicon.catalog.measurements import Measurement
from polysilicon.cost.engine_choice import ENGINE, engine_version
from polysilicon.errors import EngineError
from polysilicon.runtime import assets
from polysilicon.runtime.calibration.speed import read_bandwidth
from polysilicon.runtime.engines.native import build, ceilings, child
from polysilicon.runtime.engines.native.ceilings import Ceilings
from polysilicon.runtime.engines.native.choice import Setup, chosen
from polysilicon.runtime.engines.native.search import KERNELS
from polysilicon.runtime.engines.native.shapes import SHAPES
from polysilicon.runtime.engines.native.speed import Extent, Speed
from polysilicon.runtime.models import model_name

WHEEL = "wheel"

CELL_S = 100.0
"""Of one cell, at most."""

BUDGET_S = 400.0
"""After which no further cell is begun."""

_AGAIN_S = 15.0
"""A measurement that took so long is not repeated."""

_OUTPUT = 32

Tell = Callable[[str], None]


class Cell(msgspec.Struct, frozen=True, kw_only=True):
    """What is timed at once: a prompt alone, or sequences that are decoded.

    Attributes:
        words: of the prompt, or before what is decoded.
        sequences: that are decoded at once; 0 for a prompt alone.
    """

    words: int
    sequences: int = 0

    @property
    def name(self) -> str:
        """What a person calls it."""
        if not self.sequences:
            return f"prompt of {self.words} words"
        return f"{self.sequences} at once after {self.words} words"

    @property
    def extent(self) -> Extent:
        """What of it is measured."""
        if self.sequences:
            one = Extent(prompt_words=(), sequences=(self.sequences,), context_words=(self.words,))
        else:
            one = Extent(prompt_words=(self.words,), sequences=(), context_words=())
        return msgspec.structs.replace(one, output=_OUTPUT, budget_s=_AGAIN_S)


CELLS = (
    *(Cell(words=words) for words in (30, 120, 450)),
    *(Cell(words=words, sequences=count) for words in (8, 200) for count in (1, 8, 32)),
)


OF_SHAPES = (Cell(words=120), Cell(words=8, sequences=1))
"""Of these, for a larger model: what the ceilings are of."""


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One measurement.

    Attributes:
        kernels: whose.
        cell: which.
        what: `prefill` or `decode`.
        tokens: of the prompt, or mean context of the sequences.
        sequences: at once.
        tokens_per_s: of all of them.
        of_ceiling: share of the ceiling; that of decoding is for one sequence, and None for more.
    """

    kernels: str
    cell: str
    what: str
    tokens: float
    sequences: int
    tokens_per_s: float
    of_ceiling: float | None


class Bench(msgspec.Struct, frozen=True, kw_only=True):
    """All of it; `refused` tells by kernels and cell what could not be timed, and why."""

    date: str
    model: str
    processor: str
    cores: int
    ceilings: Ceilings
    rows: tuple[Row, ...]
    refused: dict[str, str]


def bench(
    model: Path,
    machine: Machine,
    tell: Tell,
    keep: Callable[[Bench], None] = lambda _so_far: None,
    known: Mapping[tuple[str, str], Row] = MappingProxyType({}),
    cells: tuple[Cell, ...] = CELLS,
) -> Bench:
    """Measure the wheel's kernels and those built here.

    Args:
        model: its file.
        machine: this one.
        tell: takes what is being done, for a person.
        keep: takes what is measured so far, after each cell.
        known: rows by kernels and cell that were measured before, and are not measured again.
        cells: what is timed.

    Raises:
        EngineError: nothing can be timed.
    """
    built = build.find(machine)
    tell("what this machine can do")
    found = Bench(
        date=datetime.now(UTC).date().isoformat(),
        model=model_name(model),
        processor=machine.cpu or machine.arch,
        cores=machine.cores,
        ceilings=ceilings.measure(model, machine, Path(built.path) if built is not None else None),
        rows=tuple(known.values()),
        refused={},
    )
    found = _with_rows(found, ())
    kernels = {WHEEL: None} | ({KERNELS: Path(built.path)} if built is not None else {})
    until_s = time.monotonic() + BUDGET_S
    wanted = [(name, cell) for cell in cells for name in kernels if (name, cell.name) not in known]
    for name, cell in wanted:
        setup = _setup(kernels[name], model, machine)
        tell(f"{cell.name}, {name}")
        try:
            row = _timed(model, name, cell, setup, until_s)
        except EngineError as error:
            tell(f"  {error}")
            refused = found.refused | {f"{name}, {cell.name}": str(error)}
            found = msgspec.structs.replace(found, refused=refused)
            continue
        tell(f"  {row.tokens_per_s:.0f} tokens/s")
        if cell.sequences == 1:
            gbs = read_bandwidth(machine.cores, found.ceilings.weight_bytes)
            found = msgspec.structs.replace(found, ceilings=found.ceilings.with_read(gbs))
        found = _with_rows(found, (row,))
        keep(found)
    if not found.rows:
        raise EngineError(f"the engine cannot be timed: {next(iter(found.refused.values()))}")
    return found


def _setup(kernels: Path | None, model: Path, machine: Machine) -> Setup:
    """Return how kernels are timed: as the search set them up for this model, where it did."""
    found = chosen(model, machine.cores, machine).setup
    if kernels is not None and found.kernels == kernels:
        return msgspec.structs.replace(found, weights=None)
    return Setup(kernels=kernels, threads=machine.cores)


def bench_shape(shape: str, source: Path, machine: Machine, tell: Tell) -> Bench:
    """Measure a model of random weights, which is made for that and removed.

    Args:
        shape: one of `SHAPES`.
        source: a model's file, whose tokens it takes.
        machine: this one.
        tell: takes what is being done, for a person.

    Raises:
        EngineError: it cannot be made, or nothing can be timed.
    """
    folder = assets.cache_folder() / "engine"
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="shape-", dir=folder) as temporary:
        target = Path(temporary) / f"random-{shape}.gguf"
        tell(f"making {target.name}")
        job = child.Make(shape=SHAPES[shape], source=str(source), target=str(target))
        child.run(job, int)
        return bench(target, machine, tell, cells=OF_SHAPES)


def _timed(model: Path, name: str, cell: Cell, setup: Setup, until_s: float) -> Row:
    """Time a cell.

    Raises:
        EngineError: it cannot be timed, or the time for all cells is up.
    """
    left_s = until_s - time.monotonic()
    if left_s <= 0:
        raise EngineError(f"left out: {BUDGET_S:.0f} s were over")
    job = child.Time(model=str(model), setup=setup, extent=cell.extent)
    speed = child.run(job, Speed, min(CELL_S, left_s))
    if cell.sequences:
        batch = speed.batches[0]
        tokens, rate = batch.context_tokens, batch.sequences / batch.seconds
    else:
        prompt = speed.prompts[0]
        tokens, rate = float(prompt.tokens), prompt.tokens / prompt.seconds
    return Row(
        kernels=name,
        cell=cell.name,
        what="decode" if cell.sequences else "prefill",
        tokens=tokens,
        sequences=cell.sequences or 1,
        tokens_per_s=rate,
        of_ceiling=None,
    )


def _with_rows(found: Bench, more: tuple[Row, ...]) -> Bench:
    """Return a bench with more rows, in the order of the cells, with their shares."""
    order = {cell.name: number for number, cell in enumerate(CELLS)}
    rows = sorted((*found.rows, *more), key=lambda row: order[row.cell])
    shared = tuple(_with_share(row, found.ceilings) for row in rows)
    return msgspec.structs.replace(found, rows=shared)


def _with_share(row: Row, found: Ceilings) -> Row:
    """Return a row with its share of the ceiling that it has, if any."""
    if row.what == "prefill":
        most = found.prefill_tokens_per_s
    else:
        most = found.decode_at(row.tokens) if row.sequences == 1 else None
    share = row.tokens_per_s / most if most is not None else None
    return msgspec.structs.replace(row, of_ceiling=share)


def measurements(found: Bench) -> Iterator[Measurement]:
    """Yield the rows as those of a measurement file; see `calibration.rows.measurements`."""
    for number, row in enumerate(found.rows, start=1):
        is_prefill = row.what == "prefill"
        yield Measurement(
            row=number,
            source=f"{_source()}, {row.cell}",
            date=found.date,
            instance=LOCAL,
            processor=found.processor,
            count=found.cores,
            engine=ENGINE,
            engine_version=_version(row.kernels),
            model=found.model,
            concurrency=float(row.sequences),
            prompt_tokens=round(row.tokens) if is_prefill else 0,
            output_tokens=0 if is_prefill else round(2 * row.tokens),
            ttft_ms=1e3 * row.tokens / row.tokens_per_s if is_prefill else None,
            tpot_ms=None if is_prefill else 1e3 * row.sequences / row.tokens_per_s,
            prefill_tokens_per_s=row.tokens_per_s if is_prefill else None,
            decode_tokens_per_s=None if is_prefill else row.tokens_per_s,
        )


def _source() -> str:
    return f"polysilicon {version('polysilicon')} bench engine"


def _version(kernels: str) -> str:
    return f"{engine_version(ENGINE)} {kernels}"


def rows_of(
    measured: Iterable[Measurement], model: Path, machine: Machine
) -> dict[tuple[str, str], Row]:
    """Return the rows of a measurement file that an earlier run on this machine left unfinished.

    Nothing where the file has all cells: then it is measured anew.
    """
    built = build.find(machine)
    kernels = (WHEEL, KERNELS) if built is not None else (WHEEL,)
    wanted = {
        (f"{_source()}, {cell.name}", _version(name)): (name, cell)
        for cell in CELLS
        for name in kernels
    }
    found: dict[tuple[str, str], Row] = {}
    for one in measured:
        named = wanted.get((one.source, one.engine_version))
        same = (one.model, one.processor, one.count) == (
            model_name(model), machine.cpu or machine.arch, machine.cores,
        )  # fmt: skip
        rate = one.prefill_tokens_per_s or one.decode_tokens_per_s
        if named is None or not same or not rate:
            continue
        name, cell = named
        found[name, cell.name] = Row(
            kernels=name,
            cell=cell.name,
            what="decode" if cell.sequences else "prefill",
            tokens=(one.output_tokens or 0) / 2 if cell.sequences else (one.prompt_tokens or 0),
            sequences=cell.sequences or 1,
            tokens_per_s=rate,
            of_ceiling=None,
        )
    return found if len(found) < len(wanted) else {}

"""Core scores: how fast one core of a chip is alone, when all are busy, and with two threads.

Three benchmarks were run on one thread of each chip; none of them is a tool, and they disagree. The
speed of a core for tools is taken as the geometric mean of two of them, relative to AWS Graviton3:
text compression and the tool-like workloads of Geekbench 6 (compiling, HTML, PDF, text, files).
Where Geekbench was not run, its score is estimated from the other two benchmarks; the weights of
that estimate are fitted and lie in `score_weights.csv`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from importlib.resources.abc import Traversable

import msgspec

from polysilicon.catalog.tables import amount, count, data_folder, day, read_rows, text

REFERENCE = "AWS Graviton3"
COMPRESSION, GEEKBENCH, PASSMARK = "compression", "geekbench6-tools", "passmark"
STRESS = "stress-ng"
ONE, PAIR = "one", "both of a core"
QUARTER, WHOLE = "cores, quarter of the machine", "cores, whole machine"


class CoreScore(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One benchmark of one chip, the median over the instance types that were measured.

    Attributes:
        processor: a name of the processors.
        benchmark: `compression`, `geekbench6-tools`, `passmark` or `stress-ng`.
        threads: how many were busy: `one`; `cores, …` is one on each core; `both of a core`.
        score: in `unit`.
        unit: of the score.
        machines: how many values it is the median of.
        source: of the measurements.
        date: of the source.
    """

    processor: str
    benchmark: str
    threads: str
    score: float
    unit: str
    machines: int
    source: str
    date: str


class CoreSpeed(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How fast the cores of one chip are.

    Attributes:
        processor: a name of the processors.
        alone: speed of one thread on an otherwise idle machine, as a multiple of Graviton3's.
        estimated: Geekbench was not run on this chip, and its part of `alone` is an estimate.
        kept_quarter: what a core keeps of that speed when every core of a machine that is a quarter
            of the largest or smaller runs one thread.
        kept_whole: the same on a machine larger than half of the largest.
        pair: what both threads of a core do together, as a multiple of one thread; None where a
            core has one thread or it was not measured.
    """

    processor: str
    alone: float
    estimated: bool
    kept_quarter: float
    kept_whole: float
    pair: float | None


_COLUMNS = {
    "processor": text,
    "benchmark": text,
    "threads": text,
    "score": amount,
    "unit": text,
    "machines": count,
    "source": text,
    "date": day,
}
_WEIGHT_COLUMNS = {"benchmark": text, "weight": amount, "source": text, "date": day}


def read_scores(source: Traversable) -> tuple[CoreScore, ...]:
    """Read core scores.

    Raises:
        InputError: a cell that cannot be; names file, row and column.
    """
    return tuple(CoreScore(**row) for _, row in read_rows(source, _COLUMNS))


def read_weights(source: Traversable) -> dict[str, float]:
    """Read the weights that estimate Geekbench's score, by benchmark."""
    return {row["benchmark"]: row["weight"] for _, row in read_rows(source, _WEIGHT_COLUMNS)}


def speeds(scores: tuple[CoreScore, ...], weights: Mapping[str, float]) -> dict[str, CoreSpeed]:
    """Return core speeds by processor; chips without the compression score are left out.

    Args:
        scores: of all chips, the reference's among them.
        weights: exponents of the other benchmarks' ratios in the estimate of Geekbench's.
    """
    found: dict[str, dict[tuple[str, str], float]] = {}
    for row in scores:
        found.setdefault(row.processor, {})[row.benchmark, row.threads] = row.score
    base = found.get(REFERENCE, {})
    result: dict[str, CoreSpeed] = {}
    for name, own in found.items():
        ratio = {
            key: own[key, ONE] / base[key, ONE]
            for key in (COMPRESSION, GEEKBENCH, PASSMARK)
            if (key, ONE) in own and (key, ONE) in base
        }
        estimated = GEEKBENCH not in ratio
        if COMPRESSION not in ratio or (estimated and PASSMARK not in ratio):
            continue
        if estimated:
            ratio[GEEKBENCH] = math.prod(ratio[key] ** weight for key, weight in weights.items())
        whole = own.get((STRESS, WHOLE), own.get((STRESS, QUARTER), 1.0))
        result[name] = CoreSpeed(
            processor=name,
            alone=math.sqrt(ratio[COMPRESSION] * ratio[GEEKBENCH]),
            estimated=estimated,
            kept_quarter=min(own.get((STRESS, QUARTER), whole), 1.0),
            kept_whole=min(whole, 1.0),
            pair=own.get((GEEKBENCH, PAIR)),
        )
    return result


@lru_cache(maxsize=1)
def core_scores() -> tuple[CoreScore, ...]:
    """Return the core scores that come with Polysilicon; they are read once."""
    return read_scores(data_folder() / "cc_by_sa" / "core_scores.csv")


@lru_cache(maxsize=1)
def core_speeds() -> Mapping[str, CoreSpeed]:
    """Return core speeds by processor, from the scores that come with Polysilicon."""
    folder = data_folder() / "cc_by_sa"
    scores = core_scores() + read_scores(folder / "host_scores.csv")
    return speeds(scores, read_weights(folder / "score_weights.csv"))

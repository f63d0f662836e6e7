"""Rates of CPU servers for rows of measurement files, many at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from polysilicon.catalog.catalog import Catalog
from polysilicon.catalog.measurements import Measurement
from polysilicon.cost.llm.cpu_points import KINDS, OUTPUT_TOKENS
from polysilicon.cost.llm.cpu_rates import CpuFit, shipped
from polysilicon.cost.llm.law import Numbers
from polysilicon.cost.types import BASES
from polysilicon.errors import InputError

# Fewer requests than this at once are one request at a time, with gaps.
BUSY_FROM = 1.5


class PredictedRates(msgspec.Struct, frozen=True, kw_only=True):
    """Rates of rows; all arrays have one entry a row, not a number where there is no basis.

    Attributes:
        tokens_per_s: prompt tokens of one request, or output tokens of all requests.
        low: lower end of its band.
        high: upper end.
        prefill: the rate is of prompt tokens.
        basis: index into `BASES`; -1 where there is none.
    """

    tokens_per_s: Numbers
    low: Numbers
    high: Numbers
    prefill: npt.NDArray[np.bool_]
    basis: npt.NDArray[np.int8]


def predict_rates(
    rows: Sequence[Measurement], catalog: Catalog, fitted: CpuFit | None = None
) -> PredictedRates:
    """Return what rows should have measured on CPU servers of known types.

    Args:
        rows: of llama.cpp or vLLM; others get no rate.
        catalog: models.
        fitted: another fit than the one that comes with Polysilicon, such as one that has not seen
            these rows.
    """
    fit = shipped() if fitted is None else fitted
    log, band = np.full(len(rows), np.nan), np.full(len(rows), np.nan)
    basis = np.full(len(rows), -1, dtype=np.int8)
    prefill = np.array([row.prefill_tokens_per_s is not None for row in rows], dtype=bool)
    sites: dict[tuple[str, str, str], list[tuple[int, tuple[str, int, float]]]] = {}
    for i, row in enumerate(rows):
        asked = _question(row)
        if asked is not None and row.instance in fit.data.words.servers.types:
            sites.setdefault((row.instance, row.model, row.engine), []).append((i, asked))
    for (instance, name, _), questions in sites.items():
        try:
            model = catalog.model(name)
        except InputError:
            continue
        at = np.array([i for i, _ in questions])
        server = fit.data.words.servers.types[instance]
        rates = fit.rates(server, model, [asked for _, asked in questions])
        log[at], band[at] = rates.log, rates.band
        weak = BASES.index("calibrated" if rates.near else "roofline")
        basis[at] = np.where(rates.measured, BASES.index("measured"), weak)
    return PredictedRates(
        tokens_per_s=np.exp(log),
        low=np.exp(log - band),
        high=np.exp(log + band),
        prefill=prefill,
        basis=basis,
    )


def _question(row: Measurement) -> tuple[str, int, float] | None:
    """Return kind, tokens and concurrency of a row; None where no rate of CPUs is like it."""
    load = row.concurrency or 1.0
    if row.engine == "llama.cpp" and load < BUSY_FROM:
        if row.prefill_tokens_per_s is not None and row.prompt_tokens:
            return "prefill", row.prompt_tokens, 1.0
        if row.decode_tokens_per_s is not None and row.output_tokens:
            return "decode", max((row.prompt_tokens or 0) + row.output_tokens // 2, 1), 1.0
    if row.engine == "vllm" and row.decode_tokens_per_s is not None and row.prompt_tokens:
        # What was measured has the outputs of these prompts; others would need a law of requests.
        near = min(OUTPUT_TOKENS, key=lambda p: abs(math.log(p / (row.prompt_tokens or 1))))
        if row.prompt_tokens == near and row.output_tokens == OUTPUT_TOKENS[near]:
            kind = KINDS[3] if load >= BUSY_FROM else KINDS[2]
            return kind, near, load if kind == KINDS[3] else 1.0
    return None

"""Fits the laws of embedding and training steps, and scores them on runs that were held out.

Usage: python tools/work_fit.py

Reads `embed_runs.csv` and `train_runs.csv` of the cost model's data; prints the constants that
stand in `embed.csv` and `train.csv`, and tables of held-out errors in Markdown.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from polysilicon import catalog
from polysilicon.catalog.encoders import encoder
from polysilicon.cost.embed import BYTES, embed_constants, encoder_flops
from polysilicon.cost.runs import EmbedRun, TrainRun, embed_runs, train_runs
from polysilicon.cost.train import train_constants

Numbers = npt.NDArray[np.float64]


def main() -> None:
    """Print everything."""
    embed()
    train()


def least(law: Callable[[Numbers], Numbers], truth: Numbers, start: Iterable[float]) -> Numbers:
    """Return the positive parameters with the least mean absolute error of logarithms."""

    def loss(logs: Numbers) -> float:
        return float(np.mean(np.abs(np.log(law(np.exp(logs)) / truth))))

    options = {"maxiter": 20_000, "maxfev": 20_000, "xatol": 1e-6, "fatol": 1e-9}
    first = np.log(np.array(list(start)))
    for _ in range(3):
        # Each restart of the simplex gets it out of a corner that it shrank into.
        first = minimize(loss, first, method="Nelder-Mead", options=options).x
    return np.asarray(np.exp(first))


def score(name: str, ratios: Numbers) -> None:
    """Print a line of a table: estimated over true time."""
    errors = np.abs(ratios - 1)
    low, high = np.quantile(1 / ratios, [0.05, 0.95])
    print(
        f"| {name} | {len(ratios)} | {median(errors):.1%} | {errors.mean():.1%}"
        f" | {median(ratios):.2f} | {low:.2f} to {high:.2f} |"
    )


def head(title: str) -> None:
    """Print the head of a table."""
    print(f"\n{title}\n")
    print("| held out | runs | median error | mean error | estimate / truth | truth / estimate |")
    print("|---|---|---|---|---|---|")


def embed() -> None:
    """Fit and score the law of encoders on accelerators."""
    runs = embed_runs()
    fitted = [run for run in runs if run.used_for == "fit"]
    start = (0.8, 20.0, 2e-5)
    best = least(embed_law(fitted), seconds(fitted), start)
    names = ("compute_efficiency", "traffic", "layer_overhead_s")
    print("embed:", {n: float(f"{v:.3g}") for n, v in zip(names, best, strict=True)})
    stored = np.array([embed_constants()["accelerator"][name] for name in names])
    head("Encoders")
    for key in ("processor", "encoder"):
        for value in sorted({getattr(run, key) for run in fitted}):
            apart = [run for run in fitted if getattr(run, key) == value]
            rest = [run for run in fitted if getattr(run, key) != value]
            found = least(embed_law(rest), seconds(rest), start)
            score(value, embed_law(apart)(found) / seconds(apart))
    for value in ("AWS Inferentia2", "AWS Trainium1"):
        apart = [run for run in runs if run.processor == value]
        score(f"{value} (never fitted)", embed_law(apart)(stored) / seconds(apart))
    served = [run for run in runs if run.used_for == "serving"]
    print("serving:", round(median(seconds(served) / embed_law(served)(stored)), 3))


def seconds(runs: list[EmbedRun]) -> Numbers:
    """Return the measured seconds."""
    return np.array([run.seconds for run in runs])


def embed_law(runs: list[EmbedRun]) -> Callable[[Numbers], Numbers]:
    """Return seconds of runs as a function of efficiency, traffic and overhead."""
    shapes = [encoder(run.encoder) for run in runs]
    chips = [catalog.load().processor(run.processor) for run in runs]
    tokens = np.array([run.batch * run.sequence_tokens for run in runs])
    each = [encoder_flops(s, r.sequence_tokens) for s, r in zip(shapes, runs, strict=True)]
    flops = tokens * np.array(each)
    part = np.array([run.count for run in runs])
    peak = part * np.array([known(chip.peak_flops("fp16")) for chip in chips])
    bandwidth = part * np.array([known(chip.bandwidth_bytes_per_s()) for chip in chips])
    layers = np.array([shape.layers for shape in shapes])
    width = np.array([shape.hidden for shape in shapes])
    weights = np.array([shape.matrix_parameters() * BYTES for shape in shapes])

    def law(values: Numbers) -> Numbers:
        efficiency, traffic, overhead_s = values
        moved = weights + tokens * layers * width * BYTES * traffic
        return np.asarray(flops / (peak * efficiency) + moved / bandwidth + layers * overhead_s)

    return law


def known(value: float | None) -> float:
    """Return a fact that must be there."""
    assert value is not None
    return value


def train() -> None:
    """Fit and score the law of training."""
    runs = train_runs()
    fitted = [run for run in runs if run.used_for == "fit"]
    chips = sorted({run.processor for run in fitted})
    start = (500.0, 0.5, *(0.6 for _ in chips))
    best = least(train_law(fitted, chips), times(fitted), start)
    named = dict(zip(("narrow", "attention", *chips), best, strict=True))
    print("\ntrain:", {name: float(f"{value:.3g}") for name, value in named.items()})
    head("Training")
    every: list[float] = []
    for value in sorted({run.model for run in fitted}):
        apart = [run for run in fitted if run.model == value]
        rest = [run for run in fitted if run.model != value]
        found = least(train_law(rest, chips), times(rest), start)
        ratios = train_law(apart, chips)(found) / times(apart)
        every += ratios.tolist()
        score(value, ratios)
    score("all models, each in turn", np.array(every))
    for value in chips:
        apart = [run for run in fitted if run.processor == value]
        rest = [run for run in fitted if run.processor != value]
        others = [chip for chip in chips if chip != value]
        found = least(train_law(rest, others), times(rest), start[:-1])
        mean = math.exp(np.mean(np.log(found[2:])))
        ratios = train_law(apart, [value])(np.array([*found[:2], mean])) / times(apart)
        score(f"{value}, by the other chips", ratios)
    law, fixed = train_constants()["law"], train_constants()
    apart = [run for run in runs if run.used_for == "held-out"]
    own = np.array([law["narrow"], law["attention"], fixed[apart[0].processor]["efficiency"]])
    ratios = train_law(apart, [apart[0].processor])(own) / times(apart)
    for method in ("full", "lora"):
        mask = np.array([run.method == method for run in apart])
        score(f"H100, other software, {method} (never fitted)", ratios[mask])
    for run in runs:
        if run.used_for == "chip":
            own = np.array([law["narrow"], law["attention"], 1.0])
            share = float(train_law([run], [run.processor])(own)[0] / times([run])[0])
            print(f"efficiency of {run.processor}, {run.model}: {share:.3f}")


def times(runs: list[TrainRun]) -> Numbers:
    """Return the measured seconds of a token on one chip."""
    return np.array([1 / run.tokens_per_s for run in runs])


def train_law(runs: list[TrainRun], chips: list[str]) -> Callable[[Numbers], Numbers]:
    """Return seconds of a token as a function of width, attention and each chip's efficiency."""
    peaks: dict[str, Any] = {
        name: known(catalog.load().processor(name).peak_flops("bf16")) for name in chips
    }
    peak = np.array([peaks[run.processor] for run in runs])
    index = np.array([chips.index(run.processor) for run in runs])
    passes = {("full", False): 6.0, ("full", True): 8.0, ("lora", False): 4.0}
    times_through = np.array([passes[run.method, run.recompute] for run in runs])
    parameters = np.array([run.parameters for run in runs])
    width = np.array([run.hidden for run in runs])
    attention = np.array([run.layers * run.hidden * run.sequence_tokens for run in runs])

    def law(values: Numbers) -> Numbers:
        narrow, share = values[:2]
        work = parameters * (1 + narrow / width) + attention / share
        return np.asarray(times_through * work / (peak * values[2:][index]))

    return law


if __name__ == "__main__":
    main()

"""Scores core speeds on benchmarks that they were not made from, and fits what Geekbench would say.

Usage: python tools/speed_fit.py REPOSITORY

REPOSITORY is a copy of SpareCores/sc-inspector-data. Prints the weights of `score_weights.csv`, the
bands of `tools.csv` and tables in Markdown: each tool-like workload of Geekbench 6 is estimated
from text compression and the other six, each chip in turn from every other.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from itertools import permutations
from statistics import median

import numpy as np
import numpy.typing as npt

from core_scores import TOOL_LIKE, Row, machines
from polysilicon.catalog.scores import COMPRESSION, PASSMARK, REFERENCE, core_scores

Numbers = npt.NDArray[np.float64]


def main(repository: str) -> None:
    """Print everything."""
    chips: dict[str, list[Row]] = defaultdict(list)
    for machine in machines(("git", "-C", repository)):
        if machine["geekbench"]:
            chips[machine["chip"]].append(machine)
    names = sorted(chips)
    base = names.index(REFERENCE)
    workloads = {
        work: logs([one_thread(chips[n], work) for n in names], base) for work in TOOL_LIKE
    }
    scores = {(row.processor, row.benchmark): row.score for row in core_scores()}
    text = logs([scores[name, COMPRESSION] for name in names], base)
    rating = logs([scores[name, PASSMARK] for name in names], base)
    every = np.mean(list(workloads.values()), axis=0)
    guessed = estimate(np.stack([text, rating], axis=1), every, base)

    print("\n| held out | chips | median error | by compression alone |\n|---|---|---|---|")
    firm: list[float] = []
    rough: list[float] = []
    for work, truth in workloads.items():
        others = np.mean([v for name, v in workloads.items() if name != work], axis=0)
        found = ratios((text + others) / 2, truth)
        firm += found
        rough += ratios((text + guessed) / 2, truth)
        print(f"| {work} | {len(names)} | {off(found):.1%} | {off(ratios(text, truth)):.1%} |")
    found = ratios(every, text)
    firm += found
    print(f"| text compression | {len(names)} | {off(found):.1%} | |")
    for name, values in (("speed", firm), ("estimated", rough)):
        low, high = np.quantile(values, [0.05, 0.95])
        print(f"{name}: median error {off(values):.1%}, low {low:.2f}, high {high:.2f}")


def one_thread(rows: list[Row], work: str) -> float:
    """Return the median score of a workload on one thread."""
    return median(row["geekbench"]["Single-Core Performance"][work]["score"] for row in rows)


def logs(values: list[float], base: int) -> Numbers:
    """Return logarithms of values over one of them."""
    return np.log(np.array(values) / values[base])


def estimate(given: Numbers, truth: Numbers, base: int) -> Numbers:
    """Return what the other benchmarks say of Geekbench, each chip by weights of the others."""
    used = np.arange(len(truth)) != base
    weights = np.linalg.lstsq(given[used], truth[used], rcond=None)[0]
    print("weights:", dict(zip((COMPRESSION, PASSMARK), weights.round(3).tolist(), strict=True)))
    out = np.zeros(len(truth))
    for i in np.flatnonzero(used):
        rest = used & (np.arange(len(truth)) != i)
        out[i] = given[i] @ np.linalg.lstsq(given[rest], truth[rest], rcond=None)[0]
    errors = np.abs(np.expm1(out - truth))[used]
    print(f"each chip by the others: median {median(errors):.1%}, largest {errors.max():.1%}")
    return out


def ratios(speed: Numbers, truth: Numbers) -> list[float]:
    """Return true over estimated time from every chip to every other."""
    pairs = permutations(range(len(speed)), 2)
    return [float(np.exp((speed[j] - speed[i]) - (truth[j] - truth[i]))) for i, j in pairs]


def off(values: list[float]) -> float:
    """Return the median error."""
    return median(abs(1 / value - 1) for value in values)


if __name__ == "__main__":
    main(sys.argv[1])

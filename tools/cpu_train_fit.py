"""Fits the law of training on CPUs, and scores it on runs that were held out.

Usage: python tools/cpu_train_fit.py

Reads `train_cpu_runs.csv` of the cost model's data, and the rates of busy vLLM in bf16 on servers
whose cores have units for it; prints the constants that stand in `train.csv`, and a table.
"""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median

import numpy as np
from scipy.optimize import minimize

from polysilicon import catalog
from polysilicon.catalog.servers import load_servers
from polysilicon.cost.cores import Cores
from polysilicon.cost.runs import CpuTrainRun, cpu_train_runs, model_of
from polysilicon.cost.train import MEASURED_FAMILY, cpu_token_s, train_constants

# Chips that the measured machines are taken for.
CHIPS = {"Genoa": "9R14", "Sapphire Rapids": "8488C"}
LOADS = (("busy_256_128_tokens_per_s", 3.0), ("busy_1024_256_tokens_per_s", 5.0))
VCPUS = (4, 32)
"""Servers that are looked at."""
ENOUGH = 5
"""Servers of a family that a ratio takes."""


def main() -> None:
    """Print everything."""
    fit()
    units()
    like = catalog.load().model("smollm2-135m-instruct")
    print("\n| held out | unit | threads | measured | estimated | measured / estimated |")
    print("|---|---|---|---|---|---|")
    for run in cpu_train_runs():
        if run.used_for == "held-out":
            truth = run.clock_s_per_token or run.core_s_per_token or 0.0
            said, _ = cpu_token_s(model_of(run, like), cores(run), "lora", run.sequence_tokens)
            print(
                f"| {run.family} | {run.unit} | {run.threads} | {1e3 * truth:.2f} ms a token"
                f" | {1e3 * said:.2f} | {truth / said:.2f} |"
            )


def cores(run: CpuTrainRun) -> Cores:
    """Return the cores of a run: those of a chip of its family on small servers."""
    servers = load_servers()
    types = [
        t for t in servers.types.values()
        if t.chip == CHIPS[run.family] and t.vcpus <= VCPUS[1] and t.instance in servers.scores
    ]  # fmt: skip
    scores = [servers.scores[t.instance] for t in types]
    l1 = median(s.l1_read_gbs / t.vcpus for s, t in zip(scores, types, strict=True))
    return Cores(
        used=run.threads,
        vcpus=run.threads,
        l1_bytes_per_s=l1 * 1e9,
        thread_score=median(s.thread_score for s in scores),
        family=run.family,
        bf16_unit=run.unit,
    )


def fit() -> None:
    """Fit what one core does, given what one thread does alone."""
    runs = [run for run in cpu_train_runs() if run.used_for == "fit"]
    alone = [run for run in cpu_train_runs() if run.alone_s_per_token is not None]
    each_s = [(run.alone_s_per_token or 0.0) / run.layers for run in alone]
    score, l1 = cores(runs[0]).thread_score, cores(runs[0]).l1_bytes_per_s
    print(f"alone: {1e6 * min(each_s):.0f} to {1e6 * max(each_s):.0f} us a layer and token;")
    alone_s = median(each_s)
    share = train_constants()["law"]["attention"]
    work = np.array([
        4 * (run.parameters + run.layers * run.hidden * run.sequence_tokens / share) for run in runs
    ])  # fmt: skip
    wide = np.array([run.layers * run.hidden for run in runs])
    layers = np.array([run.layers for run in runs])
    unit = np.array([run.unit != "none" for run in runs])
    truth = np.array([run.core_s_per_token or 0.0 for run in runs])

    def error(logs: np.ndarray) -> float:
        per_byte, times, rest = np.exp(logs)
        rate = per_byte * l1 * np.where(unit, times, 1.0)
        said = work / rate + wide * rest / l1 + layers * alone_s
        return float(np.mean(np.abs(np.log(said / truth))))

    best = np.log([0.5, 2.0, 5000.0])
    options = {"maxiter": 20_000, "maxfev": 20_000, "xatol": 1e-6, "fatol": 1e-9}
    for _ in range(4):
        best = minimize(error, best, method="Nelder-Mead", options=options).x
    per_byte, times, rest = np.exp(best)
    print(
        f"alone_scores {alone_s * score:.3g}, flop_per_l1_byte {per_byte:.3g}, rest_l1_bytes"
        f" {rest:.4g}, avx512_bf16 times_fp32 {times:.3g}; mean error {error(best):.1%}"
    )


def units() -> None:
    """Print what other units reach over that of the measured family, by busy vLLM in bf16."""
    found = rates()
    base = train_constants()["avx512_bf16"]["times_fp32"]
    for unit in ("amx", "avx512_bf16", "bfmmla"):
        ratios = [
            value / median(found[MEASURED_FAMILY, *key])
            for (family, *key), values in found.items()
            if len(values) >= ENOUGH and family != MEASURED_FAMILY
            and (MEASURED_FAMILY, *key) in found
            and load_servers().bf16_units[family].unit == unit
            for value in [median(values)]
        ]  # fmt: skip
        middle = median(ratios)
        print(
            f"{unit}: {len(ratios)} ratios, {min(ratios):.2f} to {max(ratios):.2f}, median"
            f" {middle:.2f}, times_fp32 {middle * base:.2g}"
        )


def rates() -> Mapping[tuple[str, str, str], list[float]]:
    """Return operations for each byte of first-level cache, by family, model and load."""
    known, servers = catalog.load(), load_servers()
    found: dict[tuple[str, str, str], list[float]] = {}
    for name, server in servers.types.items():
        chip = servers.chips.get(server.chip)
        if chip is None or not VCPUS[0] <= server.vcpus <= VCPUS[1]:
            continue
        l1 = servers.score(server).l1_read_gbs * 1e9
        for row in known.rates.get(name, ()):
            model = known.models.get(row.model)
            for load, tokens in LOADS:
                rate = getattr(row, load)
                if row.engine == "vllm" and model is not None and rate is not None:
                    flops = 2.0 * model.active_parameters * rate * tokens
                    key = (chip.family, row.model, load)
                    found.setdefault(key, []).append(flops / l1)
    return found


if __name__ == "__main__":
    main()

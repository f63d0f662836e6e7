"""What AIConfigurator predicts for measured serving runs; run with the peer's own Python.

    python -m venv PEER && PEER/bin/pip install aiconfigurator==0.8.0
    PEER/bin/python benchmarks/peers/aiconfigurator_rows.py SAMPLE MEASUREMENTS OUT

SAMPLE is `silicon_sample.csv`, which aiconfigurator-core 0.12.0 carries under `systems/`. It names
model, system, engine, parallelism, quantisation and lengths of each run as AIConfigurator wants
them. MEASUREMENTS is a measurement file whose `source` ends in an id of SAMPLE; its rows are
predicted. OUT gets a row for each: what was predicted, with which engine version's database, or why
nothing was.

A run is asked as AIConfigurator's own accuracy test asks it. Where it has no database of the
engine version of the run, the nearest version is taken, then the others; where it does not know
the sample's quantisation for that model, it may choose its own; where its measurements of kernels
do not suffice, it may fill them in (its mode HYBRID). All this is in its favour.
"""

from __future__ import annotations

import csv
import logging
import re
import sys
from contextlib import redirect_stdout
from functools import cache
from importlib.metadata import version
from itertools import product
from pathlib import Path

from aiconfigurator.cli.api import cli_estimate
from aiconfigurator.sdk.perf_database import get_supported_databases
from aiconfigurator.sdk.utils import HuggingFaceDownloadError

PARALLEL = ("tp_size", "pp_size", "attention_dp_size", "moe_tp_size", "moe_ep_size")
# Names under which some of its versions know a model, or one of the same shapes; it would look for
# others on the network.
ALIASES = {
    "meta-llama/Llama-3.1-8B-Instruct": "meta-llama/Meta-Llama-3.1-8B",
    "meta-llama/Llama-3.1-70B": "meta-llama/Meta-Llama-3.1-70B",
    "deepseek-ai/DeepSeek-R1": "deepseek-ai/DeepSeek-V3",
    "nvidia/DeepSeek-R1-NVFP4": "deepseek-ai/DeepSeek-V3",
    "nvidia/DeepSeek-V3.1-NVFP4": "deepseek-ai/DeepSeek-V3",
    "zhipuai/GLM-5": "zai-org/GLM-5",
}
MODES = ("SILICON", "HYBRID")
COLUMNS = ("source", "ttft_ms", "tpot_ms", "database", "mode", "quantisation", "reason", "peer")

# How it says that it cannot predict a run: all kinds that were seen.
FAILURES = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    HuggingFaceDownloadError,
)

Result = tuple[float, float]


def numbers(engine_version: str) -> tuple[int, ...]:
    """Return the numbers in a version, to compare by."""
    return tuple(int(n) for n in re.findall(r"\d+", engine_version)[:4])


def distance(left: str, right: str) -> list[int]:
    """Return how far two versions are apart; the first difference counts most."""
    one, other = numbers(left), numbers(right)
    size = max(len(one), len(other))
    padded = [(*v, *(0,) * (size - len(v))) for v in (one, other)]
    return [abs(a - b) for a, b in zip(*padded, strict=True)]


def databases(system: str, engine: str, engine_version: str) -> list[str]:
    """Return the versions that it has data of, the nearest first; the newest where none is told."""
    known = list(get_supported_databases()[system].get(engine, []))
    if not numbers(engine_version):
        return sorted(known, key=numbers, reverse=True)
    return sorted(known, key=lambda v: (distance(v, engine_version), numbers(v)))


@cache
def estimate(asked: tuple[tuple[str, object], ...]) -> Result | str:
    """Return milliseconds to the first and for each later token, or why there are none."""
    try:
        with redirect_stdout(sys.stderr):
            result = cli_estimate(**dict(asked))
    except FAILURES as error:
        words = " ".join(str(error).split()) or type(error).__name__
        return f"{type(error).__name__}: {words[:160]}"
    if not (result.ttft > 0 and result.tpot > 0):
        return "predicted nothing above 0"
    return result.ttft, result.tpot


def predict(run: dict[str, str], mode: str) -> dict[str, object]:
    """Return what is predicted for a run of SAMPLE in a mode, or why nothing is."""
    common: dict[str, object] = {
        "system_name": run["system"],
        "backend_name": run["backend"],
        "database_mode": mode,
        "isl": int(run["isl"]),
        "osl": int(run["osl"]),
        "batch_size": int(float(run["batch_size"])),
        **{field: int(float(run[field])) for field in PARALLEL if run.get(field)},
    }
    as_told = {"gemm_quant_mode": run["gemm_quant_mode"], "moe_quant_mode": run["moe_quant_mode"]}
    as_told = {name: quantised for name, quantised in as_told.items() if quantised}
    versions = databases(run["system"], run["backend"], run["backend_version"])
    reason = ""
    names = [ALIASES[name], name] if (name := run["model_path"]) in ALIASES else [name]
    choices = product(names, [as_told, {}] if as_told else [{}], versions)
    for model, quantised, known in choices:
        asked = {**common, **quantised, "model_path": model, "backend_version": known}
        found = estimate(tuple(sorted(asked.items())))
        if isinstance(found, str):
            reason = reason or found
            continue
        return {
            "ttft_ms": f"{found[0]:.6g}",
            "tpot_ms": f"{found[1]:.6g}",
            "database": known,
            "mode": mode,
            "quantisation": "as told" if quantised == as_told else "its own",
        }
    return {"reason": reason or "no database of this system and engine"}


def main() -> None:
    """Predict all rows."""
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    sample, measurements, out = map(Path, sys.argv[1:])
    logging.disable(logging.CRITICAL)
    with sample.open(encoding="utf-8", newline="") as lines:
        runs = {row["id"]: row for row in csv.DictReader(lines)}
    with measurements.open(encoding="utf-8", newline="") as lines:
        sources = [row["source"] for row in csv.DictReader(lines)]
    peer = f"aiconfigurator {version('aiconfigurator')}"
    found: dict[str, dict[str, object]] = {}
    # A mode changes databases that are in memory, so one mode goes over all rows before the next.
    for mode in MODES:
        for number, source in enumerate(sources, 1):
            if "ttft_ms" not in found.get(source, {}):
                new = predict(runs[source.split()[-1]], mode)
                found[source] = new if "ttft_ms" in new else {**new, **found.get(source, {})}
            if number % 100 == 0:
                print(f"{mode}: {number} of {len(sources)}", file=sys.stderr, flush=True)
    with out.open("w", encoding="utf-8", newline="") as lines:
        table = csv.DictWriter(lines, COLUMNS, restval="", lineterminator="\n")
        table.writeheader()
        table.writerows({"source": source, "peer": peer, **found[source]} for source in sources)


if __name__ == "__main__":
    main()

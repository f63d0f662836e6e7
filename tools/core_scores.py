"""Makes `core_scores.csv` of the catalog from a copy of SpareCores/sc-inspector-data.

Usage: python tools/core_scores.py REPOSITORY > core_scores.csv

For each CPU of the catalog's offers it writes medians over the instance types that were measured:
how fast one thread alone is by three benchmarks, what a core keeps of that when all cores are busy,
and what the second thread of a core adds. The result is derived from data under CC BY-SA 4.0.
"""

from __future__ import annotations

import csv
import json
import math
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from statistics import median
from typing import Any, TextIO

from polysilicon import catalog

FILES = ("compression_text", "geekbench", "passmark", "stressngfull", "lscpu")
OUTPUT = dict.fromkeys(FILES, "stdout") | {"geekbench": "results.json"}

# Geekbench 6 workloads that resemble what tools of agents do.
TOOL_LIKE = (
    "File Compression",
    "Navigation",
    "HTML5 Browser",
    "PDF Renderer",
    "Clang",
    "Text Processing",
    "Asset Compression",
)
# Those of them that use all threads of a small machine where threads are whole cores.
SCALING = ("HTML5 Browser", "PDF Renderer", "Clang", "Asset Compression")
SMALL_VCPUS = (2, 4)
# Types with local disks, not in the catalog's offers, of a chip of which no other was measured.
SIBLINGS = {
    f"azure/Standard_{size}_v7": "Intel Xeon 6 Granite Rapids (Azure)"
    for size in ("D2ds", "D4ds", "D8ds", "D16ds", "D32ds", "D48ds", "D64ds", "D96ds", "D128ds")
}
COLUMNS = ("processor", "benchmark", "threads", "score", "unit", "machines", "source", "date")
Row = dict[str, Any]


def main(repository: str, out: TextIO) -> None:
    """Write the table."""
    git = ("git", "-C", repository)
    head = subprocess.run((*git, "log", "-1", "--format=%H %cs"), capture_output=True, check=True)
    commit, date = head.stdout.decode().split()
    every = [m for m in machines(git) if m["threads_per_core"]]
    chips: dict[str, list[Row]] = defaultdict(list)
    rates = [machine["text"] for machine in every if machine["text"]]
    common = set.intersection(*map(set, rates))
    for machine in every:
        machine["text"] = machine["text"] and mean([machine["text"][key] for key in common])
        chips[machine["chip"]].append(machine)
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    source = f"SpareCores/sc-inspector-data@{commit[:8]}"
    whole = scaling_of_whole_cores(every)
    for chip in sorted(chips):
        write_chip(writer, chip, chips[chip], whole, source, date)


def write_chip(
    writer: Any, chip: str, rows: list[Row], whole: dict[str, float], source: str, date: str
) -> None:
    """Write what the machines of a chip tell."""
    for name, threads, unit, values in _facts(rows, whole):
        found = [value for value in values if value is not None]
        if found:
            score = f"{median(found):.4g}"
            writer.writerow((chip, name, threads, score, unit, len(found), source, date))


def machines(git: tuple[str, ...]) -> Iterator[Row]:
    """Yield what was measured on each instance type of the catalog's CPU offers."""
    chips = {
        offer.name: offer.processor.name
        for offer in catalog.load().offers
        if offer.kind == "cpu" and offer.processor is not None
    } | SIBLINGS
    for _, machine in read_machines(git, chips):
        yield machine


def read_machines(git: tuple[str, ...], chips: dict[str, str]) -> Iterator[tuple[str, Row]]:
    """Yield what was measured on instance types, whose chips are given."""
    with subprocess.Popen(
        (*git, "cat-file", "--batch"), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as pipe:
        for name, chip in chips.items():
            texts = {f: read_file(pipe, f"data/{name}/{f}/{OUTPUT[f]}") for f in FILES}
            yield (
                name,
                {
                    "chip": chip,
                    "model": _parsed(texts["lscpu"], lambda text: _fields(text)["Model name:"]),
                    "vcpus": _parsed(texts["lscpu"], lambda text: int(_fields(text)["CPU(s):"])),
                    "threads_per_core": _parsed(
                        texts["lscpu"], lambda text: int(_fields(text)["Thread(s) per core:"])
                    ),
                    "text": _parsed(texts["compression_text"], _compression),
                    "geekbench": _parsed(texts["geekbench"], json.loads),
                    "passmark": _parsed(texts["passmark"], passmark),
                    "curve": _parsed(texts["stressngfull"], _curve),
                },
            )


def read_file(pipe: subprocess.Popen[bytes], path: str) -> str | None:
    """Return a file of the newest commit, or None where there is none."""
    assert pipe.stdin is not None
    assert pipe.stdout is not None
    pipe.stdin.write(f"HEAD:{path}\n".encode())
    pipe.stdin.flush()
    head = pipe.stdout.readline().split()
    if head[-1] == b"missing":
        return None
    text = pipe.stdout.read(int(head[2]) + 1)
    return text.decode("utf-8", errors="replace")


def _parsed(text: str | None, parse: Callable[[str], Any]) -> Any:
    """Return what `parse` makes of a text; None where it is not what it should be."""
    try:
        return parse(text) if text else None
    except (ValueError, KeyError, IndexError, TypeError):
        return None


def _fields(text: str) -> dict[str, str]:
    """Return what lscpu says, by field."""
    return {entry["field"]: entry["data"] for entry in json.loads(text)["lscpu"]}


def _compression(text: str) -> dict[tuple[Any, ...], float]:
    """Return single-thread rates by program, level, block and way, MB/s."""
    return {
        (name, level, run["extra_args"].get("block_size"), way): run[way] / 1e6
        for name, levels in json.loads(text).items()
        for level, runs in levels.items()
        for run in runs
        if run["threads"] == 1
        for way in ("compress", "decompress")
        if run.get(way)
    }


def passmark(text: str) -> float:
    """Return PassMark's single-thread rating."""
    return float(re.findall(r"CPU_SINGLETHREAD: ([\d.]+)", text)[0])


def _curve(text: str) -> dict[int, float]:
    """Return stress-ng operations a second by number of busy threads."""
    pairs = (line.split(",") for line in text.strip().splitlines())
    return {int(threads): float(rate) for threads, rate in pairs}


def _facts(
    rows: list[Row], whole: dict[str, float]
) -> Iterator[tuple[str, str, str, Iterable[float | None]]]:
    """Yield benchmark, threads, unit and values over the machines of one chip."""
    yield "compression", "one", "MB/s", [row["text"] for row in rows]
    scores = [row["geekbench"]["Single-Core Performance"] for row in rows if row["geekbench"]]
    tools = [mean([float(s[name]["score"]) for name in TOOL_LIKE]) for s in scores]
    yield "geekbench6-tools", "one", "score", tools
    yield "passmark", "one", "score", [row["passmark"] for row in rows]
    largest = max(row["vcpus"] for row in rows)
    small = [row for row in rows if row["vcpus"] <= largest / 4]
    large = [row for row in rows if row["vcpus"] > largest / 2]
    yield "stress-ng", "cores, quarter of the machine", "share of alone", map(_kept, small)
    yield "stress-ng", "cores, whole machine", "share of alone", map(_kept, large)
    pairs = [row for row in rows if row["threads_per_core"] == 2]
    yield "stress-ng", "both of a core", "x one", map(_second_thread, pairs)
    gains = [gain for row in pairs for gain in _gains(row, whole)]
    yield "geekbench6-tools", "both of a core", "x one", gains


def _kept(row: Row) -> float | None:
    """Return the speed of a core when all have one busy thread, as a share of its speed alone."""
    curve = row["curve"] or {}
    cores = row["vcpus"] // row["threads_per_core"]
    if 1 not in curve or cores not in curve:
        return None
    return float(curve[cores] / cores / curve[1])


def _second_thread(row: Row) -> float | None:
    """Return the rate of all threads over the rate of one thread a core."""
    curve = row["curve"] or {}
    cores = row["vcpus"] // row["threads_per_core"]
    if row["vcpus"] not in curve or cores not in curve:
        return None
    return float(curve[row["vcpus"]] / curve[cores])


def _per_core(row: Row, name: str) -> float | None:
    """Return a workload's score on all threads, per core, over its score on one thread."""
    if not row["geekbench"] or row["vcpus"] not in SMALL_VCPUS:
        return None
    cores = row["vcpus"] / row["threads_per_core"]
    every = row["geekbench"]["Multi-Core Performance"][name]["score"]
    one = row["geekbench"]["Single-Core Performance"][name]["score"]
    return float(every / one / cores)


def scaling_of_whole_cores(every: list[Row]) -> dict[str, float]:
    """Return what the workloads themselves lose on several threads, where threads are cores."""
    rows = [row for row in every if row["threads_per_core"] == 1]
    found = {name: [_per_core(row, name) for row in rows] for name in SCALING}
    return {name: median(v for v in values if v is not None) for name, values in found.items()}


def _gains(row: Row, whole: dict[str, float]) -> Iterator[float]:
    """Yield what both threads of a core do, as a multiple of one, by workload."""
    for name in SCALING:
        value = _per_core(row, name)
        if value is not None:
            yield value / whole[name]


def mean(values: list[float]) -> float:
    """Return the geometric mean."""
    return math.exp(sum(map(math.log, values)) / len(values))


if __name__ == "__main__":
    main(sys.argv[1], sys.stdout)

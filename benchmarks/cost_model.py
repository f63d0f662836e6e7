"""How right the cost model is on measured serving runs, beside AIConfigurator on the same runs.

    python benchmarks/cost_model.py [--peer FILE ...] [--json]

Ours are the predictions of `polysilicon validate MEASUREMENTS --hold-out random`, in which no run
was fitted on that is scored; MEASUREMENTS is the package's `gpu_serving.csv`. Each FILE is what
`benchmarks/peers/aiconfigurator_rows.py` writes; that takes minutes and another environment, so
what it wrote with AIConfigurator 0.12.0 lies beside it and is the default.

Errors are relative to what was measured. A line counts the runs that both predicted. Runs listed
twice count once.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from pathlib import Path

import msgspec
import numpy as np
from rich.console import Console
from rich.table import Table

METRICS = ("tpot_ms", "ttft_ms")
RECORDED = Path(__file__).parent / "peers" / "aiconfigurator_0.12.0.csv"

Said = dict[tuple[str, str], float]
"""What was predicted, in milliseconds, by source and metric."""


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """A measured run: where it stands, its groups, what was measured."""

    source: str
    groups: tuple[str, ...]
    measured: dict[str, float]


class Score(msgspec.Struct, frozen=True, kw_only=True):
    """Errors of one predictor on the runs of a group; `both` is how many both predicted."""

    peer: str
    metric: str
    group: str
    runs: int
    both: int
    peer_median: float
    peer_mape: float
    own_median: float | None
    own_mape: float | None


def measured_runs() -> list[Run]:
    """Return the measured runs, each once."""
    table = files("polysilicon.cost") / "data" / "measurements" / "gpu_serving.csv"
    runs: dict[tuple[str, ...], Run] = {}
    with table.open("r", encoding="utf-8") as lines:
        for row in csv.DictReader(lines):
            told = tuple(row[name] for name in ("processor", "engine", "model", *METRICS))
            groups = ("all", row["processor"], row["engine"], row["model"])
            measured = {metric: float(row[metric]) for metric in METRICS}
            source = row["source"].split()[-1]
            runs.setdefault(told, Run(source=source, groups=groups, measured=measured))
    return list(runs.values())


def held_out() -> Said:
    """Predict the runs with Polysilicon, each by a fit that does not know its fold."""
    command = str(Path(sys.executable).with_name("polysilicon"))
    table = str(files("polysilicon.cost") / "data" / "measurements" / "gpu_serving.csv")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "predictions.csv"
        asked = [command, "validate", table, "--hold-out", "random", "-o", str(path), "--json"]
        subprocess.run(asked, check=True, stdout=subprocess.DEVNULL)
        return own_predictions(path)


def own_predictions(path: Path) -> Said:
    """Read what Polysilicon predicted: one line for each metric of a row."""
    with path.open(encoding="utf-8", newline="") as lines:
        return {
            (row["source"].split()[-1], row["metric"]): float(row["predicted"])
            for row in csv.DictReader(lines)
            if row["predicted"]
        }


def peer_predictions(path: Path) -> tuple[str, Said, dict[str, str], Counter[str]]:
    """Read what a peer predicted: its name, its figures, their modes, why it refused rows."""
    said: Said = {}
    modes: dict[str, str] = {}
    refused: Counter[str] = Counter()
    name = path.stem
    with path.open(encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines):
            name = row["peer"]
            if row["reason"]:
                # Alike but for the sizes asked: one reason.
                refused[re.sub(r"\d[\d.]*", "N", row["reason"])[:100]] += 1
                continue
            source = row["source"].split()[-1]
            modes[source] = f"its mode {row['mode']}"
            for metric in METRICS:
                said[source, metric] = float(row[metric])
    return name, said, modes, refused


def errors(runs: Sequence[Run], said: Mapping[tuple[str, str], float], metric: str) -> list[float]:
    """Return relative errors of predictions of a metric, which all runs have."""
    pairs = [(said[run.source, metric], run.measured[metric]) for run in runs]
    return [abs(predicted - measured) / measured for predicted, measured in pairs]


def scores(runs: Sequence[Run], peer: str, theirs: Said, own: Said | None) -> Iterator[Score]:
    """Yield scores by metric and group."""
    by_kind = zip(*(run.groups for run in runs), strict=True)
    groups = list(dict.fromkeys(group for kind in by_kind for group in sorted(set(kind))))
    for metric in METRICS:
        for group in groups:
            members = [run for run in runs if group in run.groups]
            both = [
                run
                for run in members
                if (run.source, metric) in theirs and (own is None or (run.source, metric) in own)
            ]
            if not both:
                continue
            peer_errors = errors(both, theirs, metric)
            own_errors = errors(both, own, metric) if own is not None else None
            yield Score(
                peer=peer,
                metric=metric,
                group=group,
                runs=len(members),
                both=len(both),
                peer_median=float(np.median(peer_errors)),
                peer_mape=float(np.mean(peer_errors)),
                own_median=None if own_errors is None else float(np.median(own_errors)),
                own_mape=None if own_errors is None else float(np.mean(own_errors)),
            )


def show(console: Console, found: Sequence[Score]) -> None:
    """Print one table of a peer."""
    table = Table(title=f"{found[0].peer} and Polysilicon on the same runs")
    for column in ("metric", "group"):
        table.add_column(column)
    for column in ("runs", "both", "peer median", "peer mean", "own median", "own mean"):
        table.add_column(column, justify="right")
    for score in found:
        shares = (score.peer_median, score.peer_mape, score.own_median, score.own_mape)
        cells = ["-" if share is None else f"{share:.1%}" for share in shares]
        table.add_row(score.metric, score.group, str(score.runs), str(score.both), *cells)
    console.print(table)


def main(arguments: Sequence[str] | None = None) -> None:
    """Score and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer", type=Path, action="append")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    options.peer = options.peer or [RECORDED]
    own = held_out()
    runs = measured_runs()
    console = Console(width=120)
    everything: list[Score] = []
    reasons: dict[str, dict[str, int]] = {}
    for path in options.peer:
        peer, theirs, modes, refused = peer_predictions(path)
        grouped = [
            msgspec.structs.replace(run, groups=(*run.groups, modes.get(run.source, "refused")))
            for run in runs
        ]
        found = list(scores(grouped, peer, theirs, own))
        everything += found
        reasons[peer] = dict(refused.most_common())
        if not options.json:
            show(console, found)
            console.print(f"{peer} predicted nothing for {refused.total()} of all rows:")
            for reason, count in refused.most_common(12):
                console.print(f"  {count:4d}  {reason}", highlight=False, markup=False)
    if options.json:
        print(json.dumps({"scores": msgspec.to_builtins(everything), "refused": reasons}))


if __name__ == "__main__":
    main()

"""Writes docs/placement_savings.md: what placed fleets save against simpler ones, at equal SLOs.

Run: .venv/bin/python tools/placement_savings.py docs [--model MODEL --traces FILE...]

Traces are of the Azure LLM inference trace, of Mooncake, or of coding-agent sessions. Their model
is the one that is named, for they name none, or one that nobody can rent machines for.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa

from polysilicon import units
from polysilicon.catalog.catalog import Catalog, shipped
from polysilicon.catalog.policy import Policy, Slo
from polysilicon.disk import atomic
from polysilicon.errors import InfeasibleError
from polysilicon.placement.case import start
from polysilicon.placement.parts import least_possible
from polysilicon.placement.place import Question, place, prepared
from polysilicon.placement.rates import Sizing
from polysilicon.placement.settle import begin
from polysilicon.placement.types import Placement
from polysilicon.simulate.check import Player
from polysilicon.workload.generate.asked import mixed
from polysilicon.workload.generate.generate import Asked, Mix, write
from polysilicon.workload.groups import task_times
from polysilicon.workload.imports.run import import_files
from polysilicon.workload.imports.types import Options
from polysilicon.workload.run_folder import open_workload
from polysilicon.workload.workload import Workload

OFFERS = (
    "aws/m9g.2xlarge",
    "aws/m9g.12xlarge",
    "aws/m7i.2xlarge",
    "aws/g6e.xlarge",
    "aws/g6e.12xlarge",
    "aws/p5.4xlarge",
    "aws/p5.48xlarge",
    "aws/inf2.xlarge",
    "gcp/g2-standard-4",
    "gcp/c4a-standard-8",
    "gcp/tpu-v6e-16",
    "azure/Standard_D8ps_v6",
)
CASES: tuple[tuple[tuple[str, ...], float], ...] = (
    (("chat",), 0.1),
    (("chat",), 10.0),
    (("support",), 0.1),
    (("support",), 10.0),
    (("data-preparation",), 0.1),
    (("data-preparation",), 10.0),
    (("chat", "support"), 0.1),
    (("research",), 0.1),
    (("coding",), 0.1),
)
"""Shapes, and at how many tasks a second they are asked for; what arrives is near that."""

MEASURED_ON = "aws/m7g.xlarge"
TASKS, SEED = 300, 7
STRETCH = 2.0
"""SLOs are so many times what the slowest tasks take where every step is at its fastest."""


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """What was found for a mix at a rate; `placement` is None where no fleet can serve it.

    `played_s` are the 99th percentiles by agent where that fleet is played; `played` is the fleet
    that keeps the SLO then, where that one does not.
    """

    mix: str
    tasks_per_s: float
    slo: str
    placement: Placement | None
    why: str = ""
    played_s: Mapping[str, float] = {}
    played: Placement | None = None


SOURCES = {
    "azure-llm": (
        "Azure conversations",
        "the Azure LLM inference trace of 2023 (github.com/Azure/AzurePublicDataset, CC-BY-4.0)",
    ),
    "mooncake": (
        "Mooncake conversations",
        "the Mooncake trace, conversations (github.com/kvcache-ai/Mooncake, Apache-2.0)",
    ),
    "coding-sessions": (
        "coding sessions",
        "sessions of coding agents (github.com/callanjfox/kv-cache-tester, Apache-2.0)",
    ),
}
"""By the format that a trace is in: what its tasks are called, and where it is from."""

MOST_PROMPT = 131_072
"""Tokens of the longest prompt and output of models that can be rented for; sessions with a longer
one are left out."""

SESSIONS_PER_S = 0.05
"""Of traces whose tasks all begin at once, for nobody tells when they did."""


def main() -> None:
    """Write the page into the folder that is named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="llama-3.3-70b-instruct", help="of traces")
    parser.add_argument("--traces", type=Path, nargs="*", default=[])
    asked = parser.parse_args()
    catalog = shipped()
    rows: list[Row] = []
    told: list[str] = []
    for path in asked.traces:
        name, words, steps = traced(path, asked.model)
        told.append(words)
        add(rows, found(name, steps, catalog, "peak"), asked.folder, told)
    for mix, rate in CASES:
        add(rows, found(" + ".join(mix), workload(mix, rate), catalog, "mean"), asked.folder, told)


def add(rows: list[Row], row: Row, folder: Path, told: list[str]) -> None:
    """Write the page anew with one more row, for all of it takes minutes."""
    rows.append(row)
    print(row.mix, f"{row.tasks_per_s:.3g}", said(row), file=sys.stderr, flush=True)
    with atomic(folder / "placement_savings.md") as temporary:
        temporary.write_text(page(rows, told), encoding="utf-8")


def traced(path: Path, model: str) -> tuple[str, str, Workload]:
    """Return the tasks of a trace, all of whose LLM steps ask one model.

    Args:
        path: of the trace.
        model: that they ask.

    Returns:
        What its tasks are called, where it is from and what was made of it, and the tasks.
    """
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / "w.parquet"
        imported = import_files([path], written, options=Options(agent="agent"))
        steps = open_workload(written)
    name, source = SOURCES[imported.format]
    table = steps.table
    llm = np.array([kind == "llm" for kind in table["kind"].to_pylist()])
    longest = np.nan_to_num(steps.numbers("prompt_tokens") + steps.numbers("output_tokens"))
    times = task_times(steps)
    fits = np.ones(len(times.names), dtype=bool)
    fits[times.codes[longest > MOST_PROMPT]] = False
    arrival_s = np.asarray(times.arrival_s, dtype=np.float64)
    words = f"- {name}: {source}; {fits.sum():,} of {len(fits):,} tasks"
    words += ", the others have longer prompts" if not fits.all() else ""
    if np.ptp(arrival_s) == 0.0:
        gaps = np.random.default_rng(SEED).exponential(1.0 / SESSIONS_PER_S, len(arrival_s))
        arrival_s = np.cumsum(gaps)
        words += f"; they begin at random, {SESSIONS_PER_S:g} in a second"
    columns = {
        "model": pa.array([model if one else None for one in llm.tolist()]),
        # One agent, so that its SLO is that of whole tasks.
        "agent": pa.array([name.replace(" ", "-")] * len(table)),
        "arrival_s": pa.array(arrival_s[times.codes]),
    }
    for column, values in columns.items():
        at = table.schema.get_field_index(column)
        table = table.set_column(at, column, values.cast(table.schema.field(column).type))
    for column in ("ready_s", "start_s", "first_token_s", "end_s"):
        # Recorded moments are of other machines, and do not begin where these tasks do.
        at = table.schema.get_field_index(column)
        table = table.set_column(at, column, pa.nulls(len(table), table.schema.field(column).type))
    return name, words + ".", Workload(table.filter(pa.array(fits[times.codes])))


def workload(mix: tuple[str, ...], rate: float) -> Workload:
    """Return tasks of a mix of shapes that arrive at a rate."""
    shapes, shares = mixed(dict.fromkeys(mix, 1.0))
    asked = Asked(rate_per_s=rate, span_s=TASKS / rate, tasks=TASKS, seed=SEED)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "w.parquet"
        write(Mix(shapes, shares, asked), path, lambda _: None)
        return open_workload(path)


def found(name: str, steps: Workload, catalog: Catalog, sizing: Sizing) -> Row:
    """Return what was found for some tasks, at SLOs that all fleets are held to."""
    question = Question(
        workload=steps, policy=Policy(), offers=OFFERS, sizing=sizing, measured_on=MEASURED_ON
    )
    arrival_s = np.asarray(task_times(steps).arrival_s, dtype=np.float64)
    rate = float(f"{len(arrival_s) / float(np.ptp(arrival_s)):.2g}")
    try:
        case, rates, _ = prepared(question, catalog)
    except InfeasibleError as error:
        return Row(mix=name, tasks_per_s=rate, slo="", placement=None, why=str(error))
    hurried = msgspec.structs.replace(
        case,
        policy=Policy(slo=tuple(Slo(agent=agent, p99_s=1.0) for agent in rates.agents)),
    )
    state, every = start(hurried), np.ones(len(case.pairs.code), dtype=bool)
    begin(hurried, state, every)
    slos = tuple(
        Slo(agent=tail.agent, p99_s=round(STRETCH * least_possible(hurried, tail, every), 1))
        for tail in state.tails
    )
    asked = msgspec.structs.replace(question, policy=Policy(slo=slos))
    words = ", ".join(f"{slo.agent} {units.seconds(slo.p99_s)}" for slo in slos)
    try:
        player = Player(policy=asked.policy, catalog=catalog, measured_on=MEASURED_ON)
        placement, fleet = place(asked, catalog)
        played_s = player(fleet, steps).p99_s
        late = any(played_s[slo.agent] > slo.p99_s for slo in slos)
        again = place(asked, catalog, player)[0] if late else None
    except InfeasibleError as error:
        return Row(mix=name, tasks_per_s=rate, slo=words, placement=None, why=str(error))
    return Row(
        mix=name,
        tasks_per_s=rate,
        slo=words,
        placement=placement,
        played_s=played_s,
        played=again,
    )


def said(row: Row) -> str:
    """Return a result in a line, for whoever waits."""
    if row.placement is None:
        return row.why
    return f"{row.placement.cost_usd_per_hour:.2f} {row.placement.seconds:.0f} s"


def page(rows: list[Row], told: list[str]) -> str:
    """Return the page."""
    names = ("all on the best GPU", "all on the best CPU", "one vendor only", "cheapest per token")
    heads = ["tasks", "tasks/s", "SLO (p99)", "played (p99)", "$ an hour", *names, "gap"]
    lines = [
        HEAD,
        *(["Traces:", "", *told, ""] if told else []),
        "| " + " | ".join(heads) + " |",
        "|" + "---|" * len(heads),
    ]
    for row in rows:
        if row.placement is None:
            cells = [row.slo, "", f"no fleet: {row.why}", *[""] * 5]
            lines.append(f"| {row.mix} | {row.tasks_per_s:g} | " + " | ".join(cells) + " |")
            continue
        found = row.placement
        cells = [row.slo, played(row), f"{found.cost_usd_per_hour:.2f}"]
        cells += [against(found, name) for name in names]
        cells.append(f"{found.gap:.1%}")
        lines.append(f"| {row.mix} | {row.tasks_per_s:g} | " + " | ".join(cells) + " |")
    lines += ["", "## What the fleets are made of", "", FLEETS, ""]
    lines += ["| tasks | tasks/s | kinds | fleet |", "|---|---|---|---|"]
    lines += [made_of(row) for row in rows if row.placement is not None]
    lines += ["", "## Where a mixed fleet does not pay", "", where_not(rows), ""]
    return "\n".join(lines)


def played(row: Row) -> str:
    """Return what the slowest tasks took where it was played, and what holds if that missed."""
    words = ", ".join(f"{agent} {units.seconds(took)}" for agent, took in row.played_s.items())
    if row.played is None:
        return words
    other = f"{row.played.cost_usd_per_hour:.2f} an hour"
    return f"{words}: {other} {'keep it' if row.played.checked else 'do not keep it either'}"


def against(found: Placement, name: str) -> str:
    """Return what a baseline costs, and how much less the placed fleet does."""
    one = next(b for b in found.baselines if b.name.startswith(name))
    if one.usd_per_hour is None:
        return "not found" if one.note.startswith("not found") else "cannot serve all"
    if not one.meets_slo:
        return f"misses the SLO ({one.usd_per_hour:.2f})"
    return f"{one.usd_per_hour:.2f}, saves {1 - found.cost_usd_per_hour / one.usd_per_hour:.0%}"


def made_of(row: Row) -> str:
    """Return the row of a fleet."""
    assert row.placement is not None
    pools = row.placement.pools
    words = ", ".join(f"{p.units:,} {p.offer} ({p.model or 'tools'})" for p in pools)
    kinds = ", ".join(dict.fromkeys(p.kind for p in pools))
    return f"| {row.mix} | {row.tasks_per_s:g} | {kinds} | {words} |"


def where_not(rows: list[Row]) -> str:
    """Return in words where the best simpler fleet is as good."""
    lines = []
    for row in rows:
        if row.placement is None:
            continue
        cost = row.placement.cost_usd_per_hour
        same = [b for b in row.placement.baselines if b.meets_slo and b.usd_per_hour is not None]
        near = [b for b in same if b.usd_per_hour is not None and b.usd_per_hour <= cost * 1.02]
        if near:
            names = ", ".join(f"{b.name} ({', '.join(b.offers)})" for b in near)
            lines.append(f"- {row.mix} at {row.tasks_per_s:g} tasks/s: {names}.")
    head = "In these cases a simpler fleet costs no more than 2 % more at the same SLO:"
    return "\n".join([head, "", *lines]) if lines else "In all cases it saved more than 2 %."


HEAD = f"""# What placed fleets save

Written by `tools/placement_savings.py`. Tasks of real traces, and of the shapes that come with
[`workload generate`](generate.md), {TASKS} of each mix, placed on {len(OFFERS)} offers at on-demand
prices ({", ".join(OFFERS)}), sized for the busiest minute of a trace and for the mean rate of a
generated mix. Each agent's SLO is
{STRETCH:g} times the 99th percentile of its tasks where every step is at its fastest, and all
fleets of a row are held to it by the formulas of [placement](place.md), for Poisson arrivals: that
is what their dollars compare. The placed fleet was also played by the simulator with the arrivals
as they were; where these come in bursts it may miss its SLO, and what the fleet costs that `place`
then finds, by playing, is told beside. A mix of several shapes has as many tasks of each. A gap
says how much less a fleet could cost at most, under the same parts of the SLO. Baselines are found
as the fleets are, with the same search over waits. One that misses the SLO is sized for its work
alone, so its dollars in brackets are no saving.
"""

FLEETS = "Models as the shapes name them; a pool of tools serves all that is not a model."


if __name__ == "__main__":
    main()

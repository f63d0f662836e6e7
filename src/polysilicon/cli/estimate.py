"""`polysilicon estimate`: a step on one or all offers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click
import msgspec
from rich.markup import escape
from rich.table import Table

from polysilicon import catalog, cost, units
from polysilicon.catalog.fleet import LOCAL
from polysilicon.catalog.machine import detect, local_offer
from polysilicon.cli.output import emit_json, json_option, out
from polysilicon.errors import InputError, NoBasisError
from polysilicon.workload.record import StepRecord

TABLE_ROWS = 20


@click.command(
    name="estimate",
    epilog=(
        "Example:  polysilicon estimate --model llama-3.1-8b-instruct --prompt 1000 --output 200"
        " --limit 5"
    ),
)
@click.option(
    "--kind", type=click.Choice(["llm", "tool", "embed"]), default="llm", show_default=True
)
@click.option("--model", help="Model of an LLM step, by its name in the catalog.")
@click.option("--prompt", type=click.IntRange(min=1), help="Prompt tokens, cached ones included.")
@click.option("--output", type=click.IntRange(min=0), help="Output tokens.")
@click.option("--cached", type=click.IntRange(min=0), default=0, help="Prompt tokens in a cache.")
@click.option("--cpu-s", type=click.FloatRange(min=0), help="Core-seconds here, of a tool step.")
@click.option(
    "--concurrency",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="LLM steps that share a machine at once.",
)
@click.option("--offer", "names", multiple=True, help="Where; all offers by default. Repeatable.")
@click.option("--sort", "by", type=click.Choice(["usd", "speed"]), default="usd", show_default=True)
@click.option("--limit", type=click.IntRange(min=1), help="How many offers at most.")
@json_option
def command(*, names: tuple[str, ...], limit: int | None, as_json: bool, **asked: Any) -> None:
    """Estimate seconds, dollars and joules of one step on offers, cheapest first.

    Each offer is taken in its cheapest region. An offer without measurements and without the facts
    for a roofline is refused, with the reason.
    """
    step = _step(asked)
    load = cost.Load(concurrency=asked["concurrency"])
    rows, refused = _estimates(step, _offers(names), load)
    speed = asked["by"] == "speed"
    rows.sort(key=lambda row: (row.service_s if speed else row.cost_usd, row.offer))
    if as_json:
        emit_json({"estimates": [_json_row(row) for row in rows[:limit]], "refused": refused})
        return
    _print(rows, refused, limit or TABLE_ROWS)


def _step(asked: dict[str, Any]) -> StepRecord:
    """Build the step from the options.

    Raises:
        click.UsageError: an option that the kind needs is missing, or one that it cannot have.
        InputError: the model is not in the catalog.
    """
    llm = ("model", "prompt", "output")
    needed = llm if asked["kind"] == "llm" else ("cpu_s",)
    for option in (*llm, "cpu_s"):
        flag = f"--{option.replace('_', '-')}"
        if option in needed and asked[option] is None:
            raise click.UsageError(f"--kind {asked['kind']} needs {flag}")
        if option not in needed and asked[option] is not None:
            raise click.UsageError(f"--kind {asked['kind']} has no {flag}")
    if asked["kind"] != "llm":
        return StepRecord(
            task_id="estimate",
            step_id="1",
            name=asked["kind"],
            kind=asked["kind"],
            cpu_s=asked["cpu_s"],
            offer=LOCAL,
            region=LOCAL,
        )
    if asked["cached"] > asked["prompt"]:
        raise click.UsageError("--cached is more than --prompt")
    return StepRecord(
        task_id="estimate",
        step_id="1",
        name="chat",
        kind="llm",
        model=catalog.load().model(asked["model"]).name,
        prompt_tokens=asked["prompt"],
        cached_tokens=asked["cached"],
        output_tokens=asked["output"],
    )


def _offers(names: Sequence[str]) -> list[catalog.Offer]:
    """Return the named offers, or all of them and this machine, each in its cheapest region."""
    known = catalog.load()
    here = [local_offer(known, detect())] if not names or LOCAL in names else []
    every = dict.fromkeys(offer.name for offer in known.offers)
    return here + [known.offer(name) for name in names or every if name != LOCAL]


def _estimates(
    step: StepRecord, offers: Sequence[catalog.Offer], load: cost.Load
) -> tuple[list[cost.Estimate], list[dict[str, Any]]]:
    """Return the estimates, and for each reason the first offer refused and how many were."""
    rows: list[cost.Estimate] = []
    refused: dict[str, dict[str, Any]] = {}
    for offer in offers:
        try:
            rows.append(cost.estimate(step, offer, load))
        except NoBasisError as error:
            entry = {"offer": offer.name, "reason": str(error), "count": 0}
            refused.setdefault(str(error), entry)["count"] += 1
    return rows, list(refused.values())


def _json_row(row: cost.Estimate) -> dict[str, Any]:
    """Return an estimate under the names that scripts rely on."""
    values: dict[str, Any] = msgspec.to_builtins(row)
    values["usd"], values["joules"] = values.pop("cost_usd"), values.pop("energy_j")
    return values


def _print(rows: Sequence[cost.Estimate], refused: Sequence[dict[str, Any]], limit: int) -> None:
    """Print the table, and in one line each why offers were refused.

    Raises:
        InputError: all offers were refused.
    """
    if not rows:
        reasons = "; ".join(f"{r['offer']}: {r['reason']}" for r in refused[:3])
        raise InputError("no offer can be estimated", mend=reasons)
    table = Table(box=None, pad_edge=False)
    table.add_column("offer", overflow="fold")
    table.add_column("region", overflow="fold")
    llm = any(row.ttft_s is not None for row in rows)
    heads = ("time", "first", "next token") if llm else ("time",)
    for head in (*heads, "$ per 1,000"):
        table.add_column(head, justify="right", no_wrap=True)
    table.add_column("basis", no_wrap=True)
    table.add_column("band of time", no_wrap=True)
    for row in rows[:limit]:
        times = (row.service_s, row.ttft_s, row.tpot_s) if llm else (row.service_s,)
        table.add_row(
            escape(row.offer),
            escape(row.region),
            *("-" if t is None else units.seconds(t) for t in times),
            units.usd(row.cost_usd * 1000),
            row.basis,
            f"{units.seconds(row.low_s)} to {units.seconds(row.high_s)}",
        )
    console = out()
    console.print(table)
    console.print(f"{min(limit, len(rows))} of {len(rows)} offers; - is not known")
    total = sum(entry["count"] for entry in refused)
    if total:
        console.print(f"{total} offers refused for want of facts (--json lists the reasons)")

"""`polysilicon estimate`: a step on one or all offers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from polysilicon import catalog
from polysilicon.catalog.fleet import LOCAL
from polysilicon.catalog.machine import detect
from polysilicon.catalog.offers import PRICES
from polysilicon.catalog.processors import KINDS
from polysilicon.cli.grouped import Grouped, group, number, whole
from polysilicon.cli.output import emit_json, json_option, out
from polysilicon.cost.profile_found import find_profile
from polysilicon.report.compare import compare, comparison_object
from polysilicon.report.offers import comparison_page, write_comparison
from polysilicon.report.question import question_of
from polysilicon.workload.record import KINDS as STEP_KINDS

TABLE_ROWS = 20

_step = group("The step")
_served = group("How it is served")
_where = group("Where")
_shown = group("What is shown")


@click.command(
    name="estimate",
    cls=Grouped,
    epilog=(
        "Example:  polysilicon estimate --model llama-3.1-8b-instruct --prompt 1000 --output 200"
        " --slo 30 --limit 5"
    ),
)
@_step("--kind", type=click.Choice(STEP_KINDS), default="llm", show_default=True)
@_step("--model", help="Model; of an embedding step an encoder.")
@_step("--prompt", type=whole(1, 10**15), help="Prompt tokens; those trained on.")
@_step("--output", type=whole(0, 10**8), help="Output tokens.")
@_step("--cached", type=whole(0, 10**8), help="Prompt tokens that a cache holds.")
@_step("--cpu-s", type=number(0, 10**9), help="Core-seconds of a tool or embedding step.")
@_step("--measured-on", help="The offer of these core-seconds; this machine by default.")
@_step("--method", type=click.Choice(["full", "lora"]), help="What is trained; full by default.")
@_served("--engine", help="Server of the model; the usual one by default.")
@_served("--precision", help="Of the weights; the widest that fits by default.")
@_served("--count", type=whole(1, 10**6), help="Accelerators for one copy.")
@_served("--tp", type=whole(1, 10**6), help="Tensor parallelism.")
@_served("--dp", type=whole(1, 10**6), help="Data parallelism of attention.")
@_served("--ep", type=whole(1, 10**6), help="Expert parallelism.")
@_served("--concurrency", type=whole(1, 10**6), help="Such steps at once; default 1.")
@_served("--utilisation", type=number(0, 1000), help="Share of the vCPUs that is busy anyway.")
@_where("--offer", "names", multiple=True, help="Offer; all by default. Repeatable.")
@_where("--chips", multiple=True, type=click.Choice(KINDS), help="Only these. Repeatable.")
@_where("--region", help="Only there; each offer's cheapest by default.")
@_where("--price", type=click.Choice(PRICES), default="on-demand", show_default=True)
@_shown("--slo", type=number(0, 10**9), help="Only offers that end the step in so many seconds.")
@_shown("--slo-ttft", type=number(0, 10**9), help="Seconds to the first token.")
@_shown("--slo-tpot", type=number(0, 10**9), help="Seconds for each later token.")
@_shown("--sort", "by", type=click.Choice(["usd", "speed"]), default="usd", show_default=True)
@_shown("--limit", type=whole(1, 10**6), help="How many offers at most.")
@_shown(
    "--html", type=click.Path(path_type=Path, dir_okay=False), help="Write a page with a chart."
)
@json_option
def command(*, by: str, limit: int | None, html: Path | None, as_json: bool, **asked: Any) -> None:
    """Estimate seconds, dollars and joules of one step on offers, cheapest first.

    An offer without measurements and without the facts for a law is refused, with the reason.
    The band of the time holds the truth in 90 of 100 cases.
    """
    question = question_of(asked, catalog.load())
    if any(offer.name == LOCAL for offer in question.offers):
        note = find_profile(detect()).note
        if note:
            click.echo(note, err=True)
    found = compare(question, speed=by == "speed")
    if html is not None:
        write_comparison(found, html)
    if as_json:
        emit_json(comparison_object(found, limit))
        return
    out().print(comparison_page(found, limit or TABLE_ROWS))
    if html is not None:
        out().print(f"page: {html}", markup=False)

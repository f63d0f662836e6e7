"""`polysilicon plan update`: actual usage against the plan in force, and the next purchase."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click
import msgspec

from polysilicon import catalog
from polysilicon.catalog.catalog import Catalog
from polysilicon.cli.output import emit_json, json_option, out
from polysilicon.cli.plan_solving import effort_options, solving
from polysilicon.planning.answered import planned, recomposed
from polysilicon.planning.compose import Composed, Source
from polysilicon.planning.drift import Seen, drifts, seen_of_bill, seen_of_workload
from polysilicon.planning.focus import read_bill
from polysilicon.planning.plan import Commitment
from polysilicon.planning.plan_file import PlanFile, check_name, read_plan, write_plan
from polysilicon.planning.roll import check_left, rolled
from polysilicon.report.plan_update import Update, update_page
from polysilicon.workload.files import check_other
from polysilicon.workload.run_folder import open_workload


@click.command(
    epilog="\b\nExample:\n  polysilicon plan update plan.json --usage bill.csv -o plan-next.json",
)
@click.argument("plan", type=click.Path(path_type=Path))
@click.option("--usage", required=True, type=click.Path(path_type=Path),
              help="A bill in FOCUS format (.csv), or a run or its steps.")  # fmt: skip
@click.option("--from", "begin", type=click.DateTime(["%Y-%m-%d"]),
              help="When the steps began; of bills it is told. By default this month.")  # fmt: skip
@effort_options
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write a plan file (.json).")
@json_option
def update(
    plan: Path, *, usage: Path, begin: datetime | None, gap: float, time_s: float,
    output: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Compare usage with PLAN (the plan file in force), and say what to buy next."""
    if output is not None:
        check_other(output, [plan, usage])
        check_name(output)
    kept = read_plan(plan)
    facts = catalog.load()
    composed = recomposed(kept, str(plan), facts)
    seen = _seen(kept, composed, usage, begin, facts)
    found = drifts(kept.plan, seen)
    months = max(seen.last + 1, 0)
    check_left(composed, months)
    file = rolled(composed, kept.plan, months, {one.need: one.factor for one in found})
    source = Source(folder=Path(kept.folder), where=str(plan), today=kept.made)
    with solving(gap, time_s) as effort:
        after = planned(file, kept.changes, source, facts, effort)
    if output is not None:
        write_plan(after, output)
    told = Update(drift=found, coverage=seen.coverage, buy=_next(after, gap), notes=seen.notes)
    if as_json:
        emit_json(msgspec.to_builtins(told) | {"plan": after.plan})
    else:
        out().print(update_page(told, after.plan))
        if output is not None:
            out().print(f"plan: {output}", markup=False)


def _seen(
    kept: PlanFile, composed: Composed, usage: Path, begin: datetime | None, facts: Catalog
) -> Seen:
    """Return what was used."""
    if usage.suffix == ".csv":
        return seen_of_bill(read_bill(usage), kept.plan, composed.calendar)
    now = datetime.now(UTC)
    moment = now.replace(day=1) if begin is None else begin.replace(tzinfo=UTC)
    workload = open_workload(usage)
    return seen_of_workload(workload, moment, kept.plan, composed.calendar, composed.needs, facts)


def _next(after: PlanFile, gap: float) -> list[Commitment]:
    """Return the orders of the first month in which there are any.

    What is worth less than the gap of the solve is noise of it, and would come and go.
    """
    plan = after.plan
    orders = [one for one in plan.commitments if not one.held]
    orders = [one for one in orders if abs(one.usd) >= gap * abs(plan.cost_usd)]
    first = min((one.order_month for one in orders), default="")
    return [one for one in orders if one.order_month == first]

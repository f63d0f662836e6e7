"""The pages, each a function of a snapshot (and of what it is about) to HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import msgspec

from polysilicon import units
from polysilicon.gateway.dashboard.charts import (
    MAX_STEPS,
    ROOMS,
    lanes,
    load_bar,
    load_words,
    meter,
    spending_chart,
    step_rows,
)
from polysilicon.gateway.dashboard.records import (
    UNENDED,
    Budget,
    Chrome,
    Found,
    PoolNow,
    Snapshot,
    TaskNow,
)
from polysilicon.gateway.totals import Sums
from polysilicon.planning.dates import HOURS_PER_MONTH
from polysilicon.planning.plan import Commitment
from polysilicon.report.charts import offer_chart
from polysilicon.report.html import cut, decimals, environment
from polysilicon.units import SECONDS_PER_HOUR
from polysilicon.workload.record import KINDS

TEMPLATES = Path(__file__).parent / "templates"

PAGES = (
    ("/", "Fleet"),
    ("/tasks", "Tasks"),
    ("/money", "Money"),
    ("/elsewhere", "Elsewhere"),
    ("/placement", "Placement"),
    ("/plan", "Plan"),
)


class BudgetRow(msgspec.Struct, frozen=True, kw_only=True):
    """A budget, how much of it is spent as a share and a bar, and whether all of it is."""

    budget: Budget
    share: float | None
    chart: Any
    gone: bool


class CommitmentRow(msgspec.Struct, frozen=True, kw_only=True):
    """A pool that is paid for in any case, and what its steps made of that, in dollars."""

    pool: PoolNow
    paid_usd: float | None
    used_usd: float
    unused_usd: float | None
    chart: Any


def fleet_page(snapshot: Snapshot, chrome: Chrome) -> str:
    """Return the page of the pools: load, price, health."""
    return page_of(
        "fleet.html.j2",
        "/",
        snapshot,
        chrome,
        under_way=sum(task.state in UNENDED for task in snapshot.tasks) + snapshot.tasks_left_out,
        rooms=ROOMS,
        load_bar=load_bar,
        load_words=load_words,
        health_words=health_words,
        **fleet_money(snapshot.pools),
    )


def tasks_page(snapshot: Snapshot, chrome: Chrome, origin: str) -> str:
    """Return the page of the tasks, and their steps on a timeline; `origin` is the gateway's."""
    chart, not_drawn = lanes(snapshot.tasks, snapshot.now_s)
    return page_of(
        "tasks.html.j2",
        "/tasks",
        snapshot,
        chrome,
        chart=chart,
        not_drawn=not_drawn,
        kinds=KINDS,
        origin=origin,
        task_link=task_link,
        doing=doing,
        lasted=lambda task: _lasted_s(task, snapshot.now_s),
    )


def task_page(snapshot: Snapshot, chrome: Chrome, task: TaskNow) -> str:
    """Return the page of one task."""
    return page_of(
        "task.html.j2",
        task_link(task.task_id),
        snapshot,
        chrome,
        task=task,
        rows=step_rows(task, snapshot.now_s),
        left_out_steps=task.steps_left_out + max(len(task.steps) - MAX_STEPS, 0),
        kinds=KINDS,
        names={step.step_id: step.name for step in task.steps},
        unended=UNENDED,
        lasted=lambda one: _lasted_s(one, snapshot.now_s),
    )


def money_page(snapshot: Snapshot, chrome: Chrome, planned: Sequence[Commitment] = ()) -> str:
    """Return the page of the money: spent, against budgets and commitments, and the ledger.

    Args:
        snapshot: of the gateway.
        chrome: around the page.
        planned: commitments of the plan that are in force this month.
    """
    planned_usd = sum(one.usd_per_month for one in planned)
    spending, total = snapshot.spending, snapshot.sums
    spent = 0.0 if total is None else total.cost_usd
    fleet = fleet_money(snapshot.pools)
    so_far = fleet["fleet_usd"] * snapshot.up_s / SECONDS_PER_HOUR
    since_start = 0.0 if spending is None else sum(spending.usd)
    return page_of(
        "money.html.j2",
        "/money",
        snapshot,
        chrome,
        spent=spent,
        since_start=since_start,
        fleet_so_far=so_far,
        used=since_start / so_far if so_far else None,
        chart=spending_chart(spending, snapshot.now_s) if spending and since_start else None,
        budgets=[_budget_row(budget) for budget in snapshot.budgets],
        commitments=[_commitment(p, snapshot.up_s) for p in snapshot.pools if p.committed],
        total=total,
        tables=_books(snapshot.books, total),
        cents=decimals(spent),
        planned=planned,
        planned_usd=planned_usd,
        planned_usd_per_hour=planned_usd / HOURS_PER_MONTH,
        **fleet,
    )


def elsewhere_page(snapshot: Snapshot, chrome: Chrome, found: Found) -> str:
    """Return the page of the work seen here, estimated on other offers."""
    offers = offer_chart(found.rows) if found.rows else None
    return page_of("elsewhere.html.j2", "/elsewhere", snapshot, chrome, found=found, offers=offers)


def login_page(chrome: Chrome, wrong: str = "") -> str:
    """Return the form that asks for a key; `wrong` says what was wrong with the last one."""
    return environment(TEMPLATES).get_template("login.html.j2").render(chrome=chrome, wrong=wrong)


def problem_page(heading: str, text: str) -> str:
    """Return a page that says why there is no other one."""
    found = environment(TEMPLATES).get_template("problem.html.j2")
    return found.render(heading=heading, text=text, chrome=Chrome(every_s=0.0))


def health_words(pool: PoolNow) -> str:
    """Return how a pool's engine is."""
    if pool.health == "up":
        return "up"
    in_a_row = f"{pool.failures:,} failure{'s' * (pool.failures != 1)} in a row"
    return f"{pool.health}: {in_a_row}"


def task_link(task_id: str) -> str:
    """Return the address of a task's page; ids are the callers', and so may hold anything."""
    return "/task?" + urlencode({"id": task_id})


def doing(task: TaskNow) -> str:
    """Return the steps of a task that are under way, in words."""
    names = [step.name for step in task.steps if step.end_s is None]
    shown = ", ".join(names[:3])
    return f"{shown} and {len(names) - 3:,} more" if len(names) > 3 else shown


def page_of(template: str, here: str, snapshot: Snapshot, chrome: Chrome, **values: Any) -> str:
    """Return a page with what is around it."""
    page = environment(TEMPLATES).get_template(template)
    return page.render(
        snapshot=snapshot, chrome=chrome, pages=PAGES, here=here, self_link=here, **values
    )


def _lasted_s(task: TaskNow, now_s: float) -> float:
    """Return seconds from a task's arrival to its end, or to now."""
    return max((now_s if task.end_s is None else task.end_s) - task.arrival_s, 0.0)


def fleet_money(pools: Sequence[PoolNow]) -> dict[str, Any]:
    """Return what the fleet costs an hour, and the pools whose price is not known."""
    known = [pool.usd_per_hour for pool in pools if pool.usd_per_hour is not None]
    return {
        "fleet_usd": sum(known),
        "unpriced": [pool.name for pool in pools if pool.usd_per_hour is None],
    }


def _budget_row(budget: Budget) -> BudgetRow:
    """Return a budget with its bar."""
    limit = budget.limit_usd
    if limit is None:
        return BudgetRow(budget=budget, share=None, chart="", gone=False)
    part = budget.spent_usd / limit if limit > 0 else 1.0
    words = f"{budget.key}: {units.usd(budget.spent_usd)} of {units.usd(limit)}"
    return BudgetRow(budget=budget, share=part, chart=meter(part, words), gone=part >= 1)


def _commitment(pool: PoolNow, up_s: float) -> CommitmentRow:
    """Return what a committed pool cost since the gateway started, and what was used of that."""
    used = pool.spent_usd
    if pool.usd_per_hour is None:
        return CommitmentRow(pool=pool, paid_usd=None, used_usd=used, unused_usd=None, chart="")
    paid = pool.usd_per_hour * up_s / SECONDS_PER_HOUR
    part = used / paid if paid else 0.0
    chart = meter(min(part, 0.999), f"{pool.name}: used {units.share(part)}")
    return CommitmentRow(
        pool=pool, paid_usd=paid, used_usd=used, unused_usd=max(paid - used, 0.0), chart=chart
    )


def _books(books: Mapping[str, Mapping[str, Sums]], total: Sums | None) -> list[Any]:
    """Return the ledger's tables, dearest rows first, and the total."""
    if total is None:
        return []
    tables = [
        cut(title, sorted(sums.items(), key=lambda row: (-row[1].cost_usd, -row[1].steps, row[0])))
        for title, sums in books.items()
    ]
    return [*tables, cut("total", [("all", total)])]

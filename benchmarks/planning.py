"""How fast plans are solved, and what they cost beside simpler ways to buy.

The first table is of 5 years of months, 24 hours, 20 scenarios and 240 options: the certified plan
and what-ifs from a warm start. The second holds plans against scenarios that they were not made
for: the solver's plan, what a cloud's recommendation would buy (cover what the last months used,
at the least cost over that history), nothing, and enough for the peak. The third is of problems
written out in full, which one simplex solves whole, from small ones up to the first that it does
not solve in a minute and 4 GB.

Run: .venv/bin/python benchmarks/planning.py [speed] [held-back] [in-full]
"""

from __future__ import annotations

import resource
import sys
import time
from multiprocessing import Pipe, Process
from multiprocessing.connection import Connection
from pathlib import Path

import msgspec
import numpy as np
from rich.console import Console
from rich.table import Table

from polysilicon.planning.derive import only
from polysilicon.planning.fix import Units, cost, units_of
from polysilicon.planning.problem import INF, Option, Problem, UnitContract
from polysilicon.planning.solve import solve

GAP, SEED = 0.005, 1
MOST_S, MOST_GB = 60, 4
"""That the program written out in full may take."""

SIZES = (
    (2, 6, 6, 6), (4, 12, 6, 8), (6, 12, 12, 12), (8, 12, 24, 16), (10, 24, 24, 24),
    (20, 36, 24, 40), (20, 60, 24, 60),
)  # fmt: skip
"""Scenarios, months, hours and options of problems that are written out in full."""

replace = msgspec.structs.replace


def problem(
    scenarios: int, months: int, hours: int, options: int, *, classes: int = 2, every: int = 3
) -> Problem:
    """Return growing demand with a daily rhythm, options of four vendors, three programs each.

    On-demand prices fall, a fifth of the options arrive later and are faster; supply binds.
    """
    rng = np.random.default_rng(SEED)
    rhythm = 1 + 0.5 * np.sin(np.arange(hours) / hours * 2 * np.pi)[:, None]
    growth = np.exp(np.cumsum(rng.normal(0.012, 0.04, (scenarios, months)), axis=1))
    noise = np.exp(rng.normal(0, 0.05, (scenarios, months, hours, classes)))
    demand = 1000 * growth[:, :, None, None] * rhythm * noise
    path = np.exp(np.cumsum(rng.normal(-0.006, 0.004, months)))
    made, contracts = [], []
    for number in range(options):
        work = rng.uniform(0.5, 2, classes) * (rng.random(classes) < 0.7)
        work = work if work.any() else np.ones(classes)
        price = float(work.max() * rng.uniform(0.8, 1.3))
        late = number % 5 == 0
        first = int(rng.integers(0, months * 2 // 3)) if late else 0
        made.append(
            Option(
                name=f"option {number}",
                vendor=f"vendor {number % 4}",
                region=f"region {number % 6}",
                work=work * (1.3 if late else 1.0),
                output=(np.arange(months) >= first) * 1.0,
                availability=0.99,
                on_demand_usd_per_h=price * path,
                supply=float(rng.uniform(100, 400)),
            )
        )
        for term, discount in ((12, 0.3), (36, 0.5), (60, 0.6)):
            fee = price * path * (1 - discount) * 730 * rng.uniform(0.9, 1.1)
            contracts.append(
                UnitContract(
                    name=f"{number} for {term} months",
                    program=f"{term} months",
                    option=number,
                    orders=tuple(range(first, months, every)),
                    term_months=term,
                    monthly_usd=fee,
                )
            )
    return Problem(
        classes=tuple(f"class {k}" for k in range(classes)),
        scenarios=tuple(f"scenario {s}" for s in range(scenarios)),
        probability=np.full(scenarios, 1 / scenarios),
        hours=np.full((months, hours), 730 / hours),
        demand=demand,
        options=tuple(made),
        contracts=tuple(contracts),
        unmet_usd_per_h=np.full(classes, INF),
        money=np.ones(months),
    )


def changes(asked: Problem) -> dict[str, Problem]:
    """Return what-ifs."""

    def mapped(vendor: str, **fields: object) -> tuple[Option, ...]:
        return tuple(
            replace(one, **fields) if one.vendor == vendor else one for one in asked.options
        )

    cheaper = tuple(
        replace(one, on_demand_usd_per_h=one.on_demand_usd_per_h * 0.85) for one in asked.options
    )
    halved = tuple(replace(one, supply=one.supply / 2) for one in asked.options)
    return {
        "10 % more demand": replace(asked, demand=asked.demand * 1.1),
        "on demand 15 % cheaper": replace(asked, options=cheaper),
        "half the supply": replace(asked, options=halved),
        "a vendor removed": replace(
            asked, options=mapped("vendor 0", supply=0.0, on_demand_usd_per_h=INF)
        ),
        "a vendor at 30 % at most": replace(asked, vendor_share_max={"vendor 2": 0.3}),
    }


def harder() -> dict[str, Problem]:
    """Return problems of the same size whose hours are all unlike each other."""
    asked = problem(20, 60, 24, 240, classes=3)
    rng = np.random.default_rng(7)
    path = np.exp(np.cumsum(rng.normal(0, 0.02, asked.shape[:2]), axis=1))
    noisy = tuple(
        replace(one, on_demand_usd_per_h=one.on_demand_usd_per_h * path, supply=one.supply / 4)
        for one in asked.options
    )
    spots = tuple(
        replace(
            one,
            spot_usd_per_h=one.on_demand_usd_per_h * rng.uniform(0.3, 0.6),
            spot_limit=float(rng.uniform(5, 40)),
            spot_efficiency=0.9,
        )
        for one in asked.options
    )
    demand = asked.demand * np.exp(rng.normal(0, 0.2, asked.demand.shape))
    return {
        "3 classes, prices by scenario, noisy, supply / 4, CVaR": replace(
            asked, demand=demand, options=noisy, cvar_alpha=0.9, risk_weight=0.5
        ),
        "3 classes, 240 limited spot markets": replace(asked, options=spots),
    }


def speed(console: Console) -> None:
    """Print how long the large plan, its what-ifs, and harder plans from nothing take."""
    asked = problem(20, 60, 24, 240)
    table = Table(title="28,800 hours x 240 options", title_justify="left", box=None)
    for head in ("", "seconds", "rounds", "cost $M", "certified gap", "memory GB"):
        table.add_column(head, justify="right" if head else "left")
    base = None
    whatifs, more = changes(asked), harder()
    for name, case in {"from nothing": asked, **whatifs, **more}.items():
        warm = base.warm if base is not None and name in whatifs else None
        started = time.perf_counter()
        answer = solve(case, gap=GAP, time_s=300, warm=warm)
        seconds = time.perf_counter() - started
        base = base or answer
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        table.add_row(
            name,
            f"{seconds:.1f}",
            str(answer.rounds),
            f"{answer.cost_usd / 1e6:.2f}",
            f"{answer.gap:.2%}",
            f"{memory:.2f}",
        )
    console.print(table)


def lookback(asked: Problem, months: int) -> Units:
    """Return what covering the last months would have cost least, bought at once for a year.

    Demand is taken to go on as it was: the plan is the cheapest for the history, as the clouds'
    recommendations are (AWS: "Savings Plans recommendations", 7, 30 or 60 days of use).
    """
    before = asked.demand[:, :months].mean(axis=0, keepdims=True)
    year = np.repeat(before.mean(axis=1, keepdims=True), asked.shape[1], axis=1)
    flat = [
        replace(one, on_demand_usd_per_h=np.broadcast_to(one.on_demand_usd_per_h, 60)[0])
        for one in asked.options
    ]
    yearly = tuple(
        replace(one, orders=tuple(o for o in one.orders if o == 0 and one.term_months == 12))
        for one in asked.contracts
    )
    history = replace(
        asked,
        scenarios=("history",),
        probability=np.ones(1),
        demand=year,
        options=tuple(flat),
        contracts=yearly,
    )
    found = units_of(solve(history, gap=GAP))
    # It is followed again each year, as long as the horizon lasts.
    renewed: Units = {}
    for (contract, _), units in found.items():
        for order in range(0, asked.shape[1], 12):
            renewed[contract, order] = units
    return renewed


def peak(asked: Problem) -> Units:
    """Return the plan of one scenario that always has its peak: enough for all that is foreseen."""
    most = asked.demand.max(axis=(0, 2), keepdims=True)
    demand = np.broadcast_to(most, (1, *asked.demand.shape[1:]))
    case = replace(asked, scenarios=("peak",), probability=np.ones(1), demand=demand)
    return units_of(solve(case, gap=GAP))


def held_back(console: Console) -> None:
    """Print what plans cost on scenarios that they were not made for."""
    whole = problem(40, 60, 24, 60)
    seen, unseen = only(whole, range(20)), only(whole, range(20, 40))
    plans = {
        "this solver": units_of(solve(seen, gap=GAP)),
        "lookback, renewed each year": lookback(seen, 2),
        "buy for the peak": peak(seen),
        "buy nothing": {},
    }
    table = Table(title="on 20 scenarios held back", title_justify="left", box=None)
    for head in ("", "cost $M", "dearer by", "worst 10 % $M"):
        table.add_column(head, justify="right" if head else "left")
    first = 0.0
    for name, units in plans.items():
        answer = cost(unseen, units)
        first = first or answer.cost_usd
        table.add_row(
            name,
            f"{answer.mean_usd / 1e6:.2f}",
            f"{answer.mean_usd / first - 1:.1%}",
            f"{answer.cvar_usd / 1e6:.2f}",
        )
    console.print(table)


def in_full(size: tuple[int, ...], answer: Connection) -> None:
    """Send the cost of a problem written out in full, in a process that may take 4 GB."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from reference_plan import cost_of  # noqa: PLC0415

    limit = int(MOST_GB * 2**30)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    try:
        answer.send((cost_of(problem(*size)), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss))
    except MemoryError:
        answer.send(None)


def limited(size: tuple[int, ...]) -> tuple[float, float] | str:
    """Return the cost of a problem written out in full and its GB, or why there is none."""
    ours, theirs = Pipe(duplex=False)
    child = Process(target=in_full, args=(size, theirs))
    child.start()
    theirs.close()
    try:
        if not ours.poll(MOST_S):
            return f"not in {MOST_S} s"
        told = ours.recv()
    except EOFError:  # it was killed, or ended without a word
        told = None
    finally:
        child.kill()
        child.join()
    return f"not in {MOST_GB} GB" if told is None else (told[0], told[1] / 2**20)


def written_out(console: Console) -> None:
    """Print how long the program takes that is written out in full, up to where it does not end."""
    table = Table(title="the program written out", title_justify="left", box=None)
    heads = ("scenarios x months x hours x options", "here s", "gap", "in full s", "GB", "cost off")
    for head in heads:
        table.add_column(head, justify="right")
    for size in SIZES:
        started = time.perf_counter()
        answer = solve(problem(*size), gap=1e-4)
        middle = time.perf_counter()
        full = limited(size)
        told = (
            (full, "", "")
            if isinstance(full, str)
            else (
                f"{time.perf_counter() - middle:.1f}",
                f"{full[1]:.1f}",
                f"{answer.cost_usd / full[0] - 1:.4%}",
            )
        )
        table.add_row(
            " x ".join(map(str, size)), f"{middle - started:.1f}", f"{answer.gap:.3%}", *told
        )
        if isinstance(full, str):
            break
    console.print(table)


def main() -> None:
    """Print all tables."""
    console = Console(file=sys.stdout, width=110)
    tables = {"speed": speed, "held-back": held_back, "in-full": written_out}
    for name in sys.argv[1:] or tables:
        tables[name](console)


if __name__ == "__main__":
    main()

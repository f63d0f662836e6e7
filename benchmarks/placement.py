"""How fast placements are solved, and what they cost beside Mélange's integer program.

The first table is of 10,000 classes on 500 offers. The second solves one profile table twice:
request rates of buckets of sizes, and the cost model's rates of an 8B model on GPU and ASIC offers.
Mélange's program (T. Griggs et al., arXiv 2404.14527, section 5) cuts each bucket into slices, 8 by
default, each of which goes to one GPU type whole; ours lets shares be any. HiGHS solves both.

Run: .venv/bin/python benchmarks/placement.py
"""

from __future__ import annotations

import resource
import time

import highspy
import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_array

from polysilicon.catalog.catalog import shipped
from polysilicon.cost import Load, Serving
from polysilicon.cost.llm.choose import law_for
from polysilicon.errors import InputError, NoBasisError
from polysilicon.placement.program import LEAST_LOAD, Program, Row, with_rows
from polysilicon.placement.solve import solve

CLASSES, OFFERS, SEED = 10_000, 500, 7
MODEL = "llama-3.1-8b-instruct"
SLICES = 8
SLO_TPOT_S = 0.04
CONCURRENCIES = (1, 4, 16, 64, 256)
GPUS = (
    "aws/g5.xlarge",
    "aws/g6.xlarge",
    "aws/g6e.xlarge",
    "aws/p4d.24xlarge",
    "aws/p5.4xlarge",
    "aws/inf2.xlarge",
    "aws/trn1.2xlarge",
    "gcp/g2-standard-4",
)


def large(rng: np.random.Generator) -> Program:
    """Return classes of many sizes on offers whose price buys nearly as much speed."""
    price = rng.lognormal(0.0, 1.0, OFFERS) * 2
    speed = price**0.9 * rng.lognormal(0.0, 0.2, OFFERS)
    work = rng.lognormal(0.0, 1.0, CLASSES)[:, None] / speed
    load = 3.0 * work * rng.lognormal(0.0, 0.3, work.shape)
    return Program(
        classes=CLASSES,
        pair_class=np.repeat(np.arange(CLASSES), OFFERS),
        pair_row=np.tile(np.arange(OFFERS), CLASSES),
        load=np.maximum(load.ravel(), LEAST_LOAD),
        pair_cost=np.zeros(CLASSES * OFFERS),
        row_pool=np.arange(OFFERS),
        unit_cost=price,
    )


def limited(program: Program, rng: np.random.Generator) -> Program:
    """Return a program with supplies, a vendor's share and an SLO that bind."""
    found = solve(program)
    assert found is not None
    units = np.eye(OFFERS)
    rows = [
        Row(
            name=f"supply {one}",
            kind="supply",
            subject="",
            limit=float(max(found.units[one] // 3, 1)),
            units=units[one],
        )
        for one in np.argsort(-found.units)[:20]
    ]
    vendor = rng.integers(0, 3, OFFERS)
    spent = program.unit_cost * found.units
    main = int(np.argmax(np.bincount(vendor, weights=spent)))
    weights = np.where(vendor == main, program.unit_cost, 0.0) - 0.25 * program.unit_cost
    rows.append(Row(name="share", kind="vendor", subject="", limit=0.0, units=weights))
    seconds = rng.lognormal(0.0, 0.5, len(program.load)) / CLASSES
    limit = 0.8 * float(seconds @ found.share)
    rows.append(Row(name="slo", kind="slo", subject="", limit=limit, pairs=seconds))
    return with_rows(program, rows)


def profile() -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Return seconds of a whole machine for a request, (buckets, offers), prices, and names."""
    facts = shipped()
    model = facts.model(MODEL)
    sizes = [(2**i, 2**o) for i in range(6, 13) for o in range(4, 11)]
    prompt, output = (np.array(column, np.float64) for column in zip(*sizes, strict=True))
    names, columns, prices = [], [], []
    for name in GPUS:
        offer = facts.offer(name)
        best = np.full(len(sizes), np.inf)
        for at_once in CONCURRENCIES:
            load = Load(concurrency=at_once, serving=Serving(count=1))
            try:
                law = law_for(model, offer, load, facts, float((prompt + output).max()))
                said = law.seconds(prompt, np.zeros(len(sizes)), output)
            except (NoBasisError, InputError):
                continue
            service_s = said.ttft_s + (output - 1) * said.tpot_s
            machine_s = service_s * law.share if said.machine_s is None else said.machine_s
            best = np.where(said.tpot_s <= SLO_TPOT_S, np.minimum(best, machine_s), best)
        if np.isfinite(best).any():
            names.append(name)
            columns.append(best)
            prices.append(offer.usd_per_hour())
    return np.stack(columns, axis=1), np.array(prices), names


def melange(load: np.ndarray, price: np.ndarray) -> tuple[float, float]:
    """Return dollars an hour and seconds of Mélange's program: slices that go to one type whole."""
    begun = time.perf_counter()
    sliced = np.repeat(load / SLICES, SLICES, axis=0)
    items, types = sliced.shape
    pairs = np.argwhere(np.isfinite(sliced))
    count = len(pairs)
    place = np.arange(count)
    once = coo_array((np.ones(count), (pairs[:, 0], place)), (items, count + types))
    room = coo_array(
        (
            np.concatenate([sliced[pairs[:, 0], pairs[:, 1]], -np.ones(types)]),
            (
                np.concatenate([pairs[:, 1], np.arange(types)]),
                np.concatenate([place, count + np.arange(types)]),
            ),
        ),
        (types, count + types),
    )
    found = milp(
        np.concatenate([np.zeros(count), price]),
        integrality=np.ones(count + types),
        bounds=Bounds(0, np.concatenate([np.ones(count), np.full(types, np.inf)])),
        constraints=[LinearConstraint(once, 1, 1), LinearConstraint(room, -np.inf, 0)],
        options={"time_limit": 60, "mip_rel_gap": 1e-3},
    )
    return float(found.fun), time.perf_counter() - begun


def ours(load: np.ndarray, price: np.ndarray) -> tuple[float, float]:
    """Return dollars an hour and seconds of the same table placed by this project."""
    begun = time.perf_counter()
    buckets, types = np.nonzero(np.isfinite(load))
    program = Program(
        classes=len(load),
        pair_class=buckets,
        pair_row=types,
        load=np.maximum(load[buckets, types], LEAST_LOAD),
        pair_cost=np.zeros(len(buckets)),
        row_pool=np.arange(len(price)),
        unit_cost=price,
    )
    found = solve(program)
    assert found is not None
    return found.cost, time.perf_counter() - begun


def single(load: np.ndarray, price: np.ndarray) -> float:
    """Return the cheapest fleet of one type."""
    whole = np.ceil(np.where(np.isfinite(load).all(axis=0), load.sum(axis=0), np.inf))
    return float((whole * price).min())


def solving(console: Console) -> None:
    """Print how long the large programs take."""
    rng = np.random.default_rng(SEED)
    program = large(rng)
    table = Table(title=f"{CLASSES:,} classes on {OFFERS} offers, one thread")
    for head in ("constraints", "seconds", "gap", "status", "units", "pools"):
        table.add_column(head, justify="right")
    for name, one in (("none", program), ("22 binding or not", limited(program, rng))):
        begun = time.perf_counter()
        found = solve(one)
        seconds = time.perf_counter() - begun
        assert found is not None
        table.add_row(
            name,
            f"{seconds:.1f}",
            f"{found.gap:.3%}",
            found.status,
            f"{found.units.sum():,.0f}",
            f"{(found.units > 0).sum()}",
        )
    console.print(table)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    console.print(f"HiGHS {highspy.Highs().version()}, {peak:.1f} GiB at most")


def peers(console: Console) -> None:
    """Print what both programs cost on one profile table."""
    machine_s, price, names = profile()
    table = Table(title=f"{MODEL}, {len(machine_s)} buckets on {', '.join(names)}")
    for head in ("requests/s", "$ one type", "$ Mélange", "s", "$ Polysilicon", "s"):
        table.add_column(head, justify="right")
    rng = np.random.default_rng(SEED)
    mix = rng.dirichlet(np.full(len(machine_s), 0.5))
    for rate in (1.0, 4.0, 16.0, 64.0, 256.0):
        load = machine_s * (mix * rate)[:, None]
        usd, seconds = melange(load, price)
        our_usd, our_seconds = ours(load, price)
        table.add_row(
            f"{rate:g}",
            f"{single(load, price):.2f}",
            f"{usd:.2f}",
            f"{seconds:.2f}",
            f"{our_usd:.2f}",
            f"{our_seconds:.2f}",
        )
    console.print(table)


def main() -> None:
    """Print both tables."""
    console = Console(width=100)
    solving(console)
    peers(console)


if __name__ == "__main__":
    main()

"""Small programs at random, and the least that any whole numbers of machines cost."""

from __future__ import annotations

import itertools

import numpy as np
from scipy.optimize import linprog

from polysilicon.placement.program import LEAST_LOAD, Program, Row


def small(rng: np.random.Generator) -> Program:
    """Return up to four classes on up to three pools, with rows of every kind."""
    classes, pools = int(rng.integers(1, 5)), int(rng.integers(1, 4))
    there = rng.random((classes, pools)) < 0.8
    there[np.arange(classes), rng.integers(0, pools, classes)] = True
    code, pool = np.nonzero(there)
    pairs = len(code)
    load = np.maximum(rng.lognormal(-1.0, 1.0, pairs), LEAST_LOAD)
    costs = rng.lognormal(0.0, 0.7, pools)
    seconds = rng.uniform(0.5, 3.0, pairs)
    rows = []
    if rng.random() < 0.6:
        limit = float(rng.uniform(0.8, 2.5)) * classes
        rows.append(Row(name="slo", kind="slo", subject="a", limit=limit, pairs=seconds))
    if rng.random() < 0.5:
        units = np.eye(pools)[int(rng.integers(pools))]
        limit = float(rng.integers(0, 3))
        rows.append(Row(name="supply", kind="supply", subject="o", limit=limit, units=units))
    if rng.random() < 0.4:
        mine = np.eye(pools)[int(rng.integers(pools))]
        weights = mine * costs - float(rng.uniform(0.2, 0.9)) * costs
        rows.append(Row(name="vendor", kind="vendor", subject="v", limit=0.0, units=weights))
    pair_cost = rng.uniform(0.0, 0.3, pairs) if rng.random() < 0.3 else np.zeros(pairs)
    return Program(
        classes=classes,
        pair_class=code.astype(np.int64),
        pair_row=pool.astype(np.int64),
        load=load,
        pair_cost=pair_cost,
        row_pool=np.arange(pools),
        unit_cost=costs,
        rows=rows,
    )


def brute_force(program: Program, most: int = 6) -> float | None:
    """Return the least cost over all whole numbers of machines from 0 to `most`; None if none."""
    best = np.inf
    pools = len(program.unit_cost)
    numbers = itertools.product(range(most + 1), repeat=pools)
    ranked = sorted(numbers, key=lambda units: float(program.unit_cost @ np.array(units)))
    for units in ranked:
        given = np.array(units, dtype=np.float64)
        money = float(program.unit_cost @ given)
        if money >= best:
            break
        shares = _shares(program, given)
        if shares is not None:
            best = min(best, money + shares)
    return None if np.isinf(best) else float(best)


def _shares(program: Program, units: np.ndarray) -> float | None:
    """Return the least cost of shares with given machines; None where they do not suffice."""
    matrix = program.matrix(np.arange(len(program.pair_class))).toarray()
    pools, k = len(program.unit_cost), program.classes
    limits = np.concatenate([np.zeros(len(program.row_pool)), [row.limit for row in program.rows]])
    rest = limits - matrix[k:, :pools] @ units
    weights = matrix[k:, pools:]
    empty = ~weights.any(axis=1)
    if (rest[empty] < -1e-9).any():
        return None
    found = linprog(
        program.pair_cost,
        A_ub=weights[~empty],
        b_ub=rest[~empty] + 1e-9,
        A_eq=matrix[:k, pools:],
        b_eq=np.ones(k),
    )
    return float(found.fun) if found.status == 0 else None

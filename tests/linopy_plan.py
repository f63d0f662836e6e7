"""The extensive form of plans of unit contracts, by names, in linopy; shares no code with src."""

from __future__ import annotations

import linopy
import numpy as np
import pandas as pd
import xarray as xr

from planned import option, problem, units
from polysilicon.planning.problem import Problem


def random_case(seed: int) -> Problem:
    """Return a problem of all that `cost_of` knows: limits, markets, terms, money, risk."""
    rng = np.random.default_rng(seed)
    shape = s, t, _, k = 2 + seed % 2, 3, 3, 1 + seed % 3
    options, contracts = [], []
    for number in range(4):
        work = np.round(rng.uniform(0.5, 2.0, k), 2) * (rng.random(k) < 0.8)
        options.append(
            option(
                f"o{number}",
                work=tuple(work),
                price=float(rng.uniform(2, 4)),
                on_demand_limit=float(rng.choice([3.0, np.inf])),
                output=rng.uniform(0.8, 1.2, (s, t)),
                availability=0.95,
                spot_usd_per_h=float(rng.uniform(0.5, 1.5)),
                spot_limit=rng.uniform(0.5, 2.0, (s, t)),
                spot_efficiency=0.8,
                running_usd_per_h=float(rng.uniform(0.0, 0.2)),
                supply=float(rng.uniform(3, 8)),
            )
        )
        contracts.append(
            units(
                f"c{number}",
                number,
                orders=(0, 1),
                lead_months=seed % 2,
                term_months=2,
                monthly_usd=730 * rng.uniform(0.5, 2.0),
                upfront_usd=rng.uniform(0, 400, t),
                most=6.0,
            )
        )
    return problem(
        rng.uniform(2, 15, shape),
        options=tuple(options),
        contracts=tuple(contracts),
        unmet_usd_per_h=np.full(k, 20.0),
        money=0.99 ** np.arange(t),
        cvar_alpha=0.5,
        risk_weight=float(rng.choice([0.0, 0.4])),
    )


def cost_of(asked: Problem) -> float:
    """Return the least cost of a plan."""
    s, t, h, k = asked.shape
    axis = {
        "s": pd.RangeIndex(s, name="s"),
        "t": pd.RangeIndex(t, name="t"),
        "h": pd.RangeIndex(h, name="h"),
        "k": pd.RangeIndex(k, name="k"),
        "r": pd.RangeIndex(len(asked.options), name="r"),
    }

    def named(dims: str, values: object) -> xr.DataArray:
        shape = [len(axis[one]) for one in dims]
        return xr.DataArray(
            np.broadcast_to(values, shape), {one: axis[one] for one in dims}, list(dims)
        )

    def paths(name: str) -> xr.DataArray:
        each = [asked.path(getattr(one, name)) for one in asked.options]
        return named("rst", np.array(each))

    model = linopy.Model()
    work = named("rk", np.array([one.work for one in asked.options]))
    output = paths("output")
    useful = work.where(work > 0, 1.0)
    all_dims = [axis[one] for one in "sthrk"]

    def used(name: str) -> linopy.Variable:
        most = xr.where(work > 0, np.inf, 0.0)
        high = most.expand_dims(s=axis["s"], t=axis["t"], h=axis["h"])
        return model.add_variables(0, high.transpose(*"sthrk"), all_dims, name=name)

    committed, rented, spot = used("committed"), used("rented"), used("spot")
    unmet = model.add_variables(0, np.inf, [axis[one] for one in "sthk"], name="unmet")

    paid, under = 0, {}
    for contract in asked.contracts:
        for order in contract.orders:
            x = model.add_variables(0, contract.most, name=f"{contract.name} {order}")
            first = order + contract.lead_months
            months = range(first, min(first + contract.term_months, t))
            fee = sum(float(contract.monthly_usd * asked.money[month]) for month in months)
            share = len(months) / contract.term_months
            paid += x * (fee + float(contract.upfront_usd[order] * share * asked.money[order]))
            for month in months:
                under[contract.option, month] = under.get((contract.option, month), 0) + x
    for (r, month), sums in under.items():
        one, at = asked.options[r], {"r": r, "t": month}
        model.add_constraints(sums <= one.supply)
        busy = (committed.sel(at) / useful.sel(r=r) / output.sel(at)).sum("k")
        model.add_constraints(busy - one.availability * sums <= 0)
    for r in range(len(asked.options)):
        for month in set(range(t)) - {month for one, month in under if one == r}:
            model.add_constraints(committed.sel(r=r, t=month) <= 0)
    served = committed.sum("r") + rented.sum("r") + spot.sum("r") + unmet
    model.add_constraints(served >= named("sthk", asked.demand))
    lost = named("r", [one.spot_efficiency for one in asked.options])
    on_demand, market = rented / (useful * output), spot / (useful * output * lost)
    limit = named("r", [one.on_demand_limit for one in asked.options])
    model.add_constraints(on_demand.sum("k") <= limit.where(np.isfinite(limit), 1e6))
    model.add_constraints(market.sum("k") <= paths("spot_limit"))
    hourly = (on_demand * paths("on_demand_usd_per_h")).sum(["r", "k"])
    hourly += (market * paths("spot_usd_per_h")).sum(["r", "k"])
    hourly += (committed / (useful * output) * paths("running_usd_per_h")).sum(["r", "k"])
    hourly += (unmet * named("k", asked.unmet_usd_per_h)).sum("k")
    scenario = (hourly * named("th", asked.hours) * named("t", asked.money)).sum(["t", "h"])
    chance = named("s", asked.probability)
    beyond = model.add_variables(0, np.inf, [axis["s"]], name="beyond")
    level = model.add_variables(name="level")
    model.add_constraints(beyond - scenario + level >= 0)
    tail = level + (beyond * chance).sum() / (1 - asked.cvar_alpha)
    risk = asked.risk_weight
    model.add_objective(paid + (1 - risk) * (scenario * chance).sum() + risk * tail)
    model.solve(solver_name="highs", io_api="direct", output_flag=False)
    return float(model.objective.value)

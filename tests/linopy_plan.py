"""The extensive form of random plans, by names, in linopy; shares no code with what it checks.

Linopy takes a second for a program of any size, so cases of one shape are one program with a
dimension of cases: nothing ties them, so each costs what it would cost alone.
"""

from __future__ import annotations

import linopy
import numpy as np
import pandas as pd
import xarray as xr

from planned import option, problem, units
from polysilicon.planning.problem import Cap, DollarContract, Problem, SpendContract

GROUPS = 4
"""Units alone; with a cap and a vendor's share; with dollars an hour; with a drawdown."""

CASES = 13
MONTHS, HOURS, OPTIONS = 3, 3, 4
RATE, CARRIED, HEADROOM, SHARE = 0.65, 0.5, 0.4, 0.55
PROMISED = (900.0, 1500.0, 1100.0)


def random_case(group: int, seed: int) -> Problem:
    """Return a problem of what a group has; all have limits, markets, terms, money and risk."""
    rng = np.random.default_rng([group, seed])
    s, t, k = 2 + group % 2, MONTHS, 1 + group % 3
    options, contracts = [], []
    for number in range(OPTIONS):
        work = np.round(rng.uniform(0.5, 2.0, k), 2) * (rng.random(k) < 0.8)
        options.append(
            option(
                f"o{number}",
                work=tuple(work),
                vendor=f"v{number % 2}",
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
    prices = [one.on_demand_usd_per_h for one in options]
    if group == 2:
        contracts.append(
            DollarContract(
                name="savings", program="p", vendor="v0", options=(0, 1), term_months=2,
                rate_usd_per_h=tuple(RATE * price for price in prices[:2]),
            )
        )  # fmt: skip
    if group == 3:
        contracts.append(
            SpendContract(
                name="drawdown", program="p", vendor="v1", options=(2, 3), period_months=1,
                rate_usd_per_h=tuple(RATE * price for price in prices[2:]), whole=False,
                commitment_usd=PROMISED, headroom=HEADROOM, excess_carried=CARRIED, most=2.0,
            )
        )  # fmt: skip
    cap = Cap(name="power", options=(0, 1, 2), weights=(1.0, 2.0, 1.0), limit=9.0)
    return problem(
        rng.uniform(2, 15, (s, t, HOURS, k)),
        options=tuple(options),
        contracts=tuple(contracts),
        unmet_usd_per_h=np.full(k, 20.0),
        money=0.99 ** np.arange(t),
        caps=(cap,) if group == 1 else (),
        vendor_share_max={"v0": SHARE} if group == 1 else {},
        cvar_alpha=0.5,
        risk_weight=float(rng.choice([0.0, 0.4])),
    )


class _Group:
    """The program of some cases of one shape; dimensions n s t h r k, and q of orders."""

    def __init__(self, cases: list[Problem]) -> None:
        self.cases, (s, t, h, k) = cases, cases[0].shape
        sizes = {"n": len(cases), "s": s, "t": t, "h": h, "r": OPTIONS, "k": k, "q": 2}
        self.axis = {name: pd.RangeIndex(size, name=name) for name, size in sizes.items()}
        self.model = linopy.Model()
        self.work = self.of("nrk", [[one.work for one in case.options] for case in cases])
        self.output = self.paths("output")
        self.per_unit = self.work.where(self.work > 0, 1.0) * self.output
        self.weight = self.of("th", cases[0].hours) * self.of("t", cases[0].money)
        self.served, self.hourly, self.paid = 0, 0, 0

    def of(self, dims: str, values: object) -> xr.DataArray:
        """Return numbers by names."""
        shape = [len(self.axis[one]) for one in dims]
        return xr.DataArray(
            np.broadcast_to(values, shape), {one: self.axis[one] for one in dims}, list(dims)
        )

    def paths(self, name: str) -> xr.DataArray:
        """Return an option's field in each case, scenario and month."""
        each = [[case.path(getattr(one, name)) for one in case.options] for case in self.cases]
        return self.of("nrst", np.array(each))

    def var(self, dims: str, high: object = np.inf) -> linopy.Variable:
        """Return variables from 0 up."""
        return self.model.add_variables(0, self.of(dims, high), [self.axis[one] for one in dims])

    def use(self, usd_per_h: xr.DataArray | float, lost: xr.DataArray | float = 1.0):
        """Add a way to serve: work that counts, and what it costs; return the units at work."""
        most = np.where(self.work.values > 0, np.inf, 0.0)[:, None, None, None]
        work = self.var("nsthrk", most)
        busy = (work / (self.per_unit * lost)).sum("k")
        self.served += work.sum("r")
        if not isinstance(usd_per_h, float):
            self.hourly += (busy * usd_per_h).sum("r")
        return busy

    def signed(self) -> dict[tuple[int, int], object]:
        """Add orders of units, and their payments; return units by option and month."""
        x = self.var("nrq", self.cases[0].contracts[0].most)
        fee = self.of(
            "nr", [[c.monthly_usd for c in one.contracts[:OPTIONS]] for one in self.cases]
        )
        up = [[c.upfront_usd for c in one.contracts[:OPTIONS]] for one in self.cases]
        money, under, dollars = self.cases[0].money, {}, 0
        late = self.of("n", [one.contracts[0].lead_months for one in self.cases])
        for order in (0, 1):
            one = x.isel(q=order, drop=True)
            each = 0
            for month in range(MONTHS):
                inside = (month >= order + late) & (month < order + late + 2)
                under[month] = under.get(month, 0) + one * inside
                self.paid += (one * (fee * inside * money[month])).sum("r")
                each = each + fee * inside
            share = np.minimum(MONTHS - order - late, 2) / 2
            upfront = self.of("nr", np.array(up)[:, :, order]) * share
            self.paid += (one * (upfront * money[order])).sum("r")
            dollars += one * (each + upfront)
        self.dollars = dollars
        return under

    def rules(self, under: dict[int, object], group: int) -> None:
        """Add supply, and in group 1 a cap and a vendor's share."""
        supply = self.of("nr", [[one.supply for one in case.options] for case in self.cases])
        for month in range(MONTHS):
            self.model.add_constraints(under[month] <= supply)
            if group == 1:
                power = (under[month] * self.of("r", [1.0, 2.0, 1.0, 0.0])).sum("r")
                self.model.add_constraints(power <= 9.0)
        if group == 1:
            mine = self.of("r", [1.0 - SHARE, -SHARE, 1.0 - SHARE, -SHARE])
            self.model.add_constraints((self.dollars * mine).sum("r") <= 0)

    def savings(self, rented: object, price: xr.DataArray) -> object:
        """Add dollars an hour for options 0 and 1; return all units rented, with those they pay."""
        dollars = self.var("n")
        bought = self.use(0.0)
        spent = (bought * price * RATE * self.of("r", [1.0, 1.0, 0.0, 0.0])).sum("r")
        there = self.of("t", [1.0, 1.0, 0.0])
        self.model.add_constraints(spent - dollars * there <= 0)
        self.model.add_constraints(bought.sel(r=[2, 3]) <= 0)
        paid = self.cases[0].month_hours * self.cases[0].money * there.values
        self.paid += dollars * float(paid.sum())
        return rented + bought

    def drawdown(self, rented: object, price: xr.DataArray) -> tuple[object, object]:
        """Add a drawdown for options 2 and 3; return all units rented, and what is drawn and short.

        Both by case, scenario: dollars of the first month.
        """
        bought = self.use(0.0)
        self.model.add_constraints(bought.sel(r=[0, 1]) <= 0)
        spend = (bought * price * RATE * self.of("th", self.cases[0].hours)).sum(["r", "h"])
        size, drawn, short = self.var("n", 2.0), self.var("nst"), self.var("nst")
        excess, carried = self.var("nst"), self.var("nst")
        promised = self.of("t", PROMISED)
        self.model.add_constraints(spend - drawn <= 0)
        self.model.add_constraints(drawn + carried + short - excess - size * promised == 0)
        self.model.add_constraints(drawn - size * promised * (1 + HEADROOM) <= 0)
        self.model.add_constraints(carried.isel(t=0, drop=True) <= 0)
        for month in range(1, MONTHS):
            before = excess.isel(t=month - 1, drop=True)
            self.model.add_constraints(carried.isel(t=month, drop=True) - CARRIED * before <= 0)
        money = self.of("t", self.cases[0].money)
        return rented + bought, ((drawn + short) * money).sum("t")

    def costs(self, group: int) -> list[float]:
        """Return the least cost of each case."""
        model, under = self.model, self.signed()
        self.rules(under, group)
        busy = self.use(self.paths("running_usd_per_h"))
        ready = self.of("r", [one.availability for one in self.cases[0].options])
        for month in range(MONTHS):
            model.add_constraints(busy.isel(t=month, drop=True) - under[month] * ready <= 0)
        price = self.paths("on_demand_usd_per_h")
        rented, extra = self.use(price), 0
        if group == 2:
            rented = self.savings(rented, price)
        elif group == 3:
            rented, extra = self.drawdown(rented, price)
        limit = self.paths("on_demand_limit")
        model.add_constraints(rented <= limit.where(np.isfinite(limit), 1e6))
        lost = self.of("r", [one.spot_efficiency for one in self.cases[0].options])
        spot = self.use(self.paths("spot_usd_per_h"), lost)
        model.add_constraints(spot <= self.paths("spot_limit"))
        unmet = self.var("nsthk")
        self.hourly += (unmet * self.of("k", self.cases[0].unmet_usd_per_h)).sum("k")
        demand = self.of("nsthk", np.array([case.demand for case in self.cases]))
        model.add_constraints(self.served + unmet >= demand)
        scenario = (self.hourly * self.weight).sum(["t", "h"]) + extra
        chance = self.of("s", self.cases[0].probability)
        beyond, level = self.var("ns"), model.add_variables(coords=[self.axis["n"]])
        model.add_constraints(beyond - scenario + level >= 0)
        tail = level + (beyond * chance).sum("s") / (1 - self.cases[0].cvar_alpha)
        risk = self.of("n", [case.risk_weight for case in self.cases])
        cost = self.paid + (scenario * chance).sum("s") * (1 - risk) + tail * risk
        model.add_objective(cost.sum())
        model.solve(solver_name="highs", io_api="direct", output_flag=False)
        return [float(one) for one in cost.solution]


def group_costs(group: int) -> list[float]:
    """Return the least cost of each case of a group."""
    return _Group([random_case(group, seed) for seed in range(CASES)]).costs(group)

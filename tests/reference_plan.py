"""A plan's problem written out in full, hour by hour, as one program: slow, plain, for comparison.

Every sum is written as the contracts are described, with nothing shared with the solver but the
problem itself. HiGHS (through SciPy) solves it.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array

from polysilicon.planning.problem import DollarContract, Problem, SpendContract, UnitContract


class Sums:
    """Variables and rows, added one by one."""

    def __init__(self):
        self.low, self.high, self.whole, self.rows = [], [], [], []

    def var(self, low=0.0, high=np.inf, whole=False):
        self.low.append(low)
        self.high.append(high)
        self.whole.append(whole)
        return len(self.low) - 1

    def row(self, terms, low=-np.inf, high=np.inf):
        self.rows.append((terms, low, high))

    def minimise(self, cost):
        c = np.zeros(len(self.low))
        for var, price in cost:
            c[var] += price
        data, at, ptr, lows, highs = [], [], [0], [], []
        for terms, low, high in self.rows:
            for var, weight in terms:
                at.append(var)
                data.append(weight)
            ptr.append(len(at))
            lows.append(low)
            highs.append(high)
        matrix = csr_array((data, at, ptr), shape=(len(lows), len(c)))
        scale = float(np.abs(c).max()) or 1.0
        found = milp(
            c / scale,
            constraints=LinearConstraint(matrix, lows, highs),
            bounds=Bounds(self.low, self.high),
            integrality=np.array(self.whole, dtype=int),
            options={"mip_rel_gap": 1e-9},
        )
        return None if found.status == 2 else found.fun * scale


def cost_of(problem: Problem):  # noqa: C901, PLR0912, PLR0915
    """Return the least cost; None where there is no plan."""
    scenarios, horizon, day, _ = problem.demand.shape
    lp = Sums()
    money, path, monthly = problem.money, problem.path, problem.by_month
    always, own = [], [[] for _ in range(scenarios)]  # (variable, dollars now)
    units = {}  # (scenario, month, kind, option or contract) -> terms
    active = {}  # (scenario, month, option) -> terms, for supply
    vendor_terms = {}
    hours = problem.hours.sum(axis=1)

    def serve(s, first, last, var, contract, number, amount):
        for t in range(first, last):
            if contract.flexible:
                key, much = ("flexible", number), amount
            elif contract.at_on_demand:
                key, much = ("reserved", contract.option), amount * contract.per_unit
            else:
                key, much = ("committed", contract.option), amount * contract.per_unit
            units.setdefault((s, t, *key), []).append((var, much))
            spot = (s, t, contract.option)
            active.setdefault(spot, []).append((var, amount * contract.per_unit))

    def dollars(contract, order, held):
        first = max(order + contract.lead_months, 0)
        last = min(order + contract.lead_months + contract.term_months, horizon)
        paid = np.zeros(horizon)
        if isinstance(contract, DollarContract):
            up = hours.mean() * contract.term_months * contract.upfront_share
            fee, salvage = hours * (1 - contract.upfront_share), 0.0
        else:
            at = max(order, 0)
            up, salvage = monthly(contract.upfront_usd)[at], monthly(contract.salvage_usd)[at]
            fee = np.full(horizon, monthly(contract.monthly_usd)[at])
        for t in range(first, last):
            paid[t] += fee[t]
        cut = order + contract.lead_months + contract.term_months - horizon
        if order >= 0:
            share = (last - first) / contract.term_months if contract.beyond == "prorated" else 1.0
            paid[order] += up * max(share, 0.0)
        if contract.beyond == "owed" and cut > 0 and last > first:
            paid[horizon - 1] += cut * fee[horizon - 1]
        if cut >= 0 and last > first:
            paid[horizon - 1] -= salvage
        return first, max(last, first), paid, fee

    def unit_order(number, contract, order, held=None):
        first, last, paid, fee = dollars(contract, order, held)
        low = 0.0 if held is None else held
        most = contract.most if held is None else held
        x = lp.var(low, most, contract.whole and held is None)
        if contract.least and held is None:
            on = lp.var(0, 1, True)
            lp.row([(x, 1), (on, -contract.least)], low=0)
            lp.row([(x, 1), (on, -most)], high=0)
        if contract.tiers and held is None:
            edges = [0, *(tier.above for tier in contract.tiers), most]
            parts = []
            for i, factor in enumerate([1, *(tier.factor for tier in contract.tiers)]):
                part = lp.var(0, edges[i + 1] - edges[i])
                always.append((part, factor * (paid @ money)))
                if i:
                    on = lp.var(0, 1, True)
                    lp.row([(part, 1), (on, -(edges[i + 1] - edges[i]))], high=0)
                    lp.row([(parts[-1], 1), (on, -(edges[i] - edges[i - 1]))], low=0)
                parts.append(part)
            lp.row([(x, -1), *((p, 1) for p in parts)], low=0, high=0)
        else:
            always.append((x, paid @ money))
        price = path(problem.options[contract.option].on_demand_usd_per_h) * contract.per_unit
        total = paid.clip(0).sum()
        for s in range(scenarios):
            serve(s, first, last, x, contract, number, 1.0)
            if contract.at_on_demand:
                each = sum(price[s, t] * hours[t] * money[t] for t in range(first, last))
                own[s].append((x, each))
                total += problem.probability[s] * each
            rights(s, x, contract, number, first, last, order, fee, paid)
        vendor_terms.setdefault(problem.options[contract.option].vendor, []).append((x, total))
        return x, paid

    def rights(s, x, contract, number, first, last, order, fee, paid):  # noqa: C901, PLR0917
        gone, more = [], []
        for right in contract.rights:
            usd = monthly(right.usd)
            if right.kind == "extend":
                if first < last < horizon:
                    z = lp.var()
                    end = min(last + right.term_months, horizon)
                    serve(s, last, end, z, contract, number, 1.0)
                    pay = sum(right.monthly_usd * money[t] for t in range(last, end))
                    own[s].append((z, pay - usd[last] * money[last]))
                    more.append(z)
                continue
            for month in right.months:
                if not first <= month < last:
                    continue
                z = lp.var()
                gone.append(z)
                serve(s, month, last, z, contract, number, -1.0)
                got = usd[month] * money[month]
                if right.kind == "exchange" or right.ends_fees:
                    got += sum(fee[t] * money[t] for t in range(month, last))
                if right.kind == "exchange":
                    got -= sum(right.monthly_usd * money[t] for t in range(month, last))
                    for t in range(month, last):
                        key = (s, t, "committed", right.option)
                        units.setdefault(key, []).append((z, right.ratio))
                        spot = (s, t, right.option)
                        active.setdefault(spot, []).append((z, right.ratio))
                cut = order + contract.lead_months + contract.term_months - horizon
                if cut >= 0 and last > first:
                    owed = cut * fee[horizon - 1] if contract.beyond == "owed" else 0.0
                    got += (owed - monthly(contract.salvage_usd)[max(order, 0)]) * money[
                        horizon - 1
                    ]
                own[s].append((z, -got))
        for some in (gone, gone + more):
            if some:
                lp.row([(x, -1), *((z, 1) for z in some)], high=0)

    fees = {}  # contract -> [(variable, dollars by month)]
    dollar_units = {}
    orders = [(n, o, None) for n, c in enumerate(problem.contracts) for o in c.orders]
    orders += [(h.contract, h.order, h.units) for h in problem.held]
    signed = []
    for number, order, held in orders:
        contract = problem.contracts[number]
        if isinstance(contract, UnitContract):
            x, paid = unit_order(number, contract, order, held)
        elif isinstance(contract, DollarContract):
            first, last, paid, _ = dollars(contract, order, held)
            high = contract.most if held is None else held
            x = lp.var(0.0 if held is None else held, high)
            always.append((x, paid @ money))
            vendor_terms.setdefault(contract.vendor, []).append((x, paid.clip(0).sum()))
            for t in range(first, last):
                dollar_units.setdefault((t, number), []).append((x, 1.0))
        else:
            low, high = (0, contract.most) if held is None else (held, held)
            x = lp.var(low, high, contract.whole and held is None)
            signed.append((number, order, x))
            continue
        fees.setdefault(number, []).append((x, paid.clip(0)))

    draws = {}  # (scenario, month, contract) -> terms
    for number, order, x in signed:
        contract = problem.contracts[number]
        size = contract.period_months
        inside = range(max(order, 0), min(order + contract.term_months, horizon))
        total = sum(contract.commitment_usd[(t - order) // size] / size for t in inside)
        vendor_terms.setdefault(contract.vendor, []).append((x, total))
        for s in range(scenarios):
            last_over = last_short = None
            for p, full in enumerate(contract.commitment_usd):
                months = [
                    t for t in range(order + p * size, order + (p + 1) * size) if 0 <= t < horizon
                ]
                if not months:
                    continue
                usd = full * len(months) / size
                spent = []
                for t in months:
                    draw = lp.var()
                    spent.append((draw, 1.0))
                    draws.setdefault((s, t, number), []).append((draw, 1.0))
                    if not contract.tiers:
                        own[s].append((draw, money[t]))
                end = money[months[-1]]
                if contract.tiers:
                    edges = [0, *(tier.above for tier in contract.tiers), 1e6]
                    parts = []
                    for i, factor in enumerate([1, *(tier.factor for tier in contract.tiers)]):
                        part = lp.var(0, edges[i + 1] - edges[i])
                        own[s].append((part, factor * end))
                        if i:
                            on = lp.var(0, 1, True)
                            lp.row([(part, 1), (on, -(edges[i + 1] - edges[i]))], high=0)
                            lp.row([(parts[-1][0], 1), (on, -(edges[i] - edges[i - 1]))], low=0)
                        parts.append((part, factor))
                    lp.row([*spent, *((part, -1) for part, _ in parts)], low=0, high=0)
                    spent = parts
                short, over = lp.var(), lp.var()
                own[s].append((short, end))
                counted = [*spent, (short, 1), (over, -1), (x, -usd)]
                for counting in contract.counting:
                    for y, paid in fees.get(counting, []):
                        counted.append((y, paid[months[0] : months[-1] + 1].sum()))
                if contract.excess_carried and last_over is not None:
                    carried = lp.var()
                    counted.append((carried, 1))
                    lp.row([(carried, 1), (last_over, -contract.excess_carried)], high=0)
                if contract.shortfall_credit:
                    on = lp.var(0, 1, True)
                    lp.row([(short, 1), (on, -usd * contract.most)], high=0)
                    lp.row([(over, 1), (on, 1e7)], high=1e7)
                if contract.shortfall_credit and last_short is not None:
                    credit = lp.var()
                    own[s].append((credit, -end))
                    lp.row([(credit, 1), (last_short, -contract.shortfall_credit)], high=0)
                    lp.row([(credit, 1), (over, -1)], high=0)
                    lp.row([(credit, 1), *((v, -f) for v, f in spent)], high=0)
                lp.row(counted, low=0, high=0)
                most = min((1 + contract.headroom) * usd, 1e6)
                lp.row([*spent, (x, -most)], high=0)
                last_over, last_short = over, short

    for s in range(scenarios):
        for t in range(horizon):
            meters = {}
            for h in range(day):
                hour(problem, lp, (s, t, h), units, dollar_units, draws, meters, own)
            for number, terms in meters.items():
                limit = [(v, -w) for v, w in draws.get((s, t, number), [])]
                lp.row([*terms, *limit], high=0)
            for r, option in enumerate(problem.options):
                if np.isfinite(monthly(option.supply)[t]):
                    lp.row(active.get((s, t, r), []), high=monthly(option.supply)[t])
            for cap in problem.caps:
                terms = [
                    (v, w * weight)
                    for r, weight in zip(cap.options, cap.weights, strict=True)
                    for v, w in active.get((s, t, r), [])
                ]
                lp.row(terms, high=monthly(cap.limit)[t])
            for rule in problem.redundancy:
                survive(problem, lp, rule, (s, t), units)

    for vendor, share in problem.vendor_share_max.items():
        terms = [
            (v, usd * ((name == vendor) - share))
            for name, some in vendor_terms.items()
            for v, usd in some
        ]
        lp.row(terms, high=0)

    risk, tail = problem.risk_weight, lp.var(-np.inf)
    cost = [*always]
    for s in range(scenarios):
        p = problem.probability[s]
        cost += [(v, (1 - risk) * p * usd) for v, usd in own[s]]
        if risk:
            over = lp.var()
            lp.row([(over, 1), (tail, 1), *((v, -usd) for v, usd in own[s])], low=0)
            cost.append((over, risk * p / (1 - problem.cvar_alpha)))
    if risk:
        cost.append((tail, risk))
    else:
        lp.row([(tail, 1)], low=0, high=0)
    return lp.minimise(cost)


def hour(problem, lp, at, units, dollar_units, draws, meters, own):  # noqa: C901, PLR0912, PLR0915
    """Add one hour: who serves which class."""
    s, t, h = at
    weight = problem.hours[t, h] * problem.money[t]
    served = [[] for _ in problem.classes]
    path = problem.path
    on_demand = {}

    def use(option, cost, terms_of, factor=1.0):
        """Add use of an option by all classes; `terms_of` gets (variable, units)."""
        output = path(option.output)[s, t] * factor
        for k in range(len(problem.classes)):
            if option.work[k] > 0 and output > 0 and np.isfinite(cost):
                y = lp.var()
                served[k].append((y, output * option.work[k]))
                own[s].append((y, cost * weight))
                terms_of.append((y, 1.0))

    for r, option in enumerate(problem.options):
        run = path(option.running_usd_per_h)[s, t]
        for kind, cost in (("committed", run), ("reserved", 0.0)):
            there = units.get((s, t, kind, r))
            if there:
                mine = []
                use(option, cost, mine)
                lp.row([*mine, *((v, -w * option.availability) for v, w in there)], high=0)
        on_demand[r] = []
        use(option, path(option.on_demand_usd_per_h)[s, t], on_demand[r])
        spot = []
        use(option, path(option.spot_usd_per_h)[s, t], spot, option.spot_efficiency)
        lp.row(spot, high=path(option.spot_limit)[s, t])
    for number, contract in enumerate(problem.contracts):
        if isinstance(contract, UnitContract):
            there = units.get((s, t, "flexible", number))
            if there:
                mine = []
                for r, ratio in ((contract.option, contract.per_unit), *contract.flexible):
                    some = []
                    use(problem.options[r], path(problem.options[r].running_usd_per_h)[s, t], some)
                    mine += [(y, 1 / ratio) for y, _ in some]
                up = problem.options[contract.option].availability
                lp.row([*mine, *((v, -w * up) for v, w in there)], high=0)
            continue
        spent = []
        for r, rates in zip(contract.options, contract.rate_usd_per_h, strict=True):
            price = path(problem.options[r].on_demand_usd_per_h)[s, t]
            if not np.isfinite(price):
                continue
            some = []
            use(problem.options[r], 0.0, some)
            rate = path(rates)[s, t]
            spent += [(y, rate) for y, _ in some]
            on_demand[r] += some
            reserved = units.get((s, t, "reserved", r))
            if isinstance(contract, DollarContract) and reserved:
                cover = lp.var()
                own[s].append((cover, -price * weight))
                spent.append((cover, rate))
                meters_of = on_demand.setdefault(("cover", r), [])
                meters_of.append((cover, 1.0))
        if isinstance(contract, DollarContract):
            have = dollar_units.get((t, number), [])
            lp.row([*spent, *((v, -w) for v, w in have)], high=0)
        else:
            assert isinstance(contract, SpendContract)
            hours = problem.hours[t, h]
            meters.setdefault(number, []).extend((y, w * hours) for y, w in spent)
    for r, option in enumerate(problem.options):
        limit = path(option.on_demand_limit)[s, t]
        if np.isfinite(limit):
            lp.row(on_demand[r], high=limit)
        if ("cover", r) in on_demand:
            held = units.get((s, t, "reserved", r), [])
            lp.row([*on_demand["cover", r], *((v, -w) for v, w in held)], high=0)
    for k, penalty in enumerate(problem.unmet_usd_per_h):
        if np.isfinite(penalty):
            y = lp.var()
            served[k].append((y, 1.0))
            own[s].append((y, penalty * weight))
        lp.row(served[k], low=problem.demand[s, t, h, k])


def survive(problem, lp, rule, at, units):
    """Add that units outside any one group serve the demand that must survive."""
    s, t = at
    for lost in {getattr(option, rule.by) for option in problem.options}:
        served = [[] for _ in problem.classes]
        for (s1, t1, kind, index), there in units.items():
            if (s1, t1) != at:
                continue
            pairs = [(index, 1.0)]
            if kind == "flexible":
                contract = problem.contracts[index]
                pairs = [(contract.option, contract.per_unit), *contract.flexible]
            main = problem.options[pairs[0][0]]
            if getattr(main, rule.by) == lost:
                continue
            mine = []
            for r, ratio in pairs:
                output = problem.path(problem.options[r].output)[s, t]
                for k, work in enumerate(problem.options[r].work):
                    if work * output > 0:
                        y = lp.var()
                        served[k].append((y, work * output * ratio))
                        mine.append((y, 1.0))
            lp.row([*mine, *((v, -w * main.availability) for v, w in there)], high=0)
        for k, need in enumerate(rule.demand[t]):
            lp.row(served[k], low=need)

"""Problems of plans: plain ones, and random ones with all contract shapes."""

from __future__ import annotations

import numpy as np

from polysilicon.planning.problem import (
    INF,
    Cap,
    DollarContract,
    Held,
    Option,
    Problem,
    Redundancy,
    Right,
    SpendContract,
    Tier,
    UnitContract,
)


def problem(demand, **fields) -> Problem:
    """Return a problem whose scenarios and hours count alike; all demand must be served."""
    demand = np.asarray(demand, dtype=np.float64)
    s, t, h, k = demand.shape
    plain = {
        "classes": tuple(f"class {i}" for i in range(k)),
        "scenarios": tuple(f"scenario {i}" for i in range(s)),
        "probability": np.full(s, 1 / s),
        "hours": np.full((t, h), 730 / h),
        "demand": demand,
        "unmet_usd_per_h": np.full(k, INF),
        "money": np.ones(t),
    }
    return Problem(**{**plain, **fields})


def option(name="a", *, price=1.0, work=(1.0,), **fields) -> Option:
    """Return an option of one vendor with an on-demand price."""
    plain = {"vendor": "v", "region": "r", "on_demand_usd_per_h": price}
    return Option(name=name, work=np.array(work, dtype=np.float64), **{**plain, **fields})


def units(name="commitment", index=0, **fields) -> UnitContract:
    """Return a contract for units."""
    return UnitContract(name=name, program=name, option=index, **fields)


def mixed(seed: int) -> Problem:
    """Return a random problem, small, with contracts of all shapes."""
    rng = np.random.default_rng(seed)
    s, t, h, k = rng.integers(1, 4), rng.integers(3, 5), rng.integers(2, 5), rng.integers(1, 3)
    shape = (s, t, h, k)
    demand = 10 * rng.gamma(4.0, 0.25, shape) * (1 + 0.5 * rng.random((s, 1, 1, 1)))
    options = []
    for number in range(4):
        work = rng.uniform(0.5, 2.0, k) * (rng.random(k) < 0.8)
        if number < 2 or not work.any():
            work = np.maximum(work, 0.5)
        price = float(work.max() * rng.uniform(0.7, 1.3))
        path = price * (1 - 0.03 * np.arange(t)) * rng.uniform(0.9, 1.1, (s, 1))
        late = np.where(np.arange(t) >= number - 1, 1.0, 0.0) if number == 3 else 1.0
        options.append(
            Option(
                name=f"option {number}",
                vendor=f"vendor {number % 2}",
                region=f"region {number // 2}",
                work=work,
                output=late * rng.choice([1.0, 1.2], (s, 1)) if number == 3 else 1.0,
                availability=float(rng.choice([1.0, 0.95])),
                on_demand_usd_per_h=path if number != 2 else INF,
                on_demand_limit=float(rng.choice([INF, 6.0])) if number else INF,
                spot_usd_per_h=price * 0.6 if number == 1 else INF,
                spot_efficiency=0.8,
                spot_limit=float(rng.choice([INF, 3.0])),
                running_usd_per_h=0.1 if number == 2 else 0.0,
                supply=float(rng.choice([INF, 9.0])),
            )
        )
    rate = [one.on_demand_usd_per_h for one in options]
    hours = 730.0

    signed = bool(rng.random() < 0.5)

    def fee(number, share):
        return float(options[number].work.max() * hours * share)

    contracts = [
        units("plain", 0, orders=(0, 1), term_months=3, monthly_usd=fee(0, 0.5), lead_months=1),
        units(
            "owned", 2, term_months=8, upfront_usd=fee(2, 2.5), salvage_usd=fee(2, 0.2),
            beyond=str(rng.choice(["prorated", "owed", "paid"])),
        ),
        DollarContract(
            name="savings", program="plan", vendor="vendor 0", options=(0, 1),
            rate_usd_per_h=(rate[0] * 0.6, rate[1] * 0.7), orders=(0, 1), term_months=4,
            upfront_share=0.3,
        ),
    ]  # fmt: skip
    extra = [
        units("racks", 1, per_unit=2.0, whole=True, term_months=5, monthly_usd=fee(1, 1.0)),
        units(
            "rights", 1, term_months=2, monthly_usd=fee(1, 0.55), most=7.0,
            rights=(
                Right(kind="sell", months=(1,), usd=-5.0),
                Right(kind="extend", term_months=2, monthly_usd=fee(1, 0.5)),
                Right(kind="exchange", months=(1, 2), option=3, ratio=1.1, usd=-9.0,
                      monthly_usd=fee(1, 0.5)),
            ),
        ),
        units("flexible", 0, flexible=((1, 0.9),), term_months=t, monthly_usd=fee(0, 0.55)),
        units("reserved", 1, at_on_demand=True, term_months=2, orders=(0, 1), monthly_usd=1.0),
        units(
            "tiered", 0, term_months=4, monthly_usd=fee(0, 0.6), most=20.0, least=1.0,
            tiers=(Tier(above=5.0, factor=0.8), Tier(above=10.0, factor=0.7)),
        ),
        SpendContract(
            name="drawdown", program="drawdown", vendor="vendor 1", options=(1, 0),
            rate_usd_per_h=(rate[1] * 0.75, rate[0] * 0.8), period_months=2,
            commitment_usd=(fee(1, 4.0), fee(1, 5.0)), headroom=(0.5, INF)[signed], whole=signed,
            excess_carried=float(rng.choice([0.0, 0.5])),
            counting=(0,),
        ),
        SpendContract(
            name="take or pay", program="take or pay", vendor="vendor 0", options=(0,),
            rate_usd_per_h=(rate[0] * 0.7,), period_months=1, headroom=1.0,
            commitment_usd=(fee(0, 3.0), fee(0, 3.0), fee(0, 2.0)), shortfall_credit=0.5,
            tiers=(Tier(above=fee(0, 2.0), factor=0.9),) if rng.random() < 0.5 else (),
        ),
    ]  # fmt: skip
    chosen = rng.random(len(extra)) < np.array([0.4, 0.5, 0.5, 0.5, 0.4, 0.25, 0.25])
    rules = rng.random(3) < 0.35
    chosen[0] |= rules[2]
    late = np.outer(np.arange(t) > 1, np.ones(k))
    contracts += [one for one, taken in zip(extra, chosen, strict=True) if taken]
    return problem(
        demand,
        probability=(weights := rng.uniform(0.5, 1.5, s)) / weights.sum(),
        hours=rng.uniform(50, 300, (t, h)),
        options=tuple(options),
        contracts=tuple(contracts),
        held=(Held(contract=0, order=-2, units=2.0),) if rng.random() < 0.5 else (),
        unmet_usd_per_h=np.where(rng.random(k) < 0.3, 20.0, INF),
        money=0.99 ** np.arange(t),
        caps=(Cap(name="power", options=(0, 1, 2), weights=(1.0, 2.0, 1.0), limit=25.0),)
        if rules[0]
        else (),
        vendor_share_max={"vendor 0": 0.6} if rules[1] else {},
        redundancy=(Redundancy(by="vendor", demand=late),) if rules[2] else (),
        cvar_alpha=0.6,
        risk_weight=float(rng.choice([0.0, 0.3])),
    )  # fmt: skip

"""What is other in one plan than in another."""

from __future__ import annotations

import msgspec

from polysilicon.planning.plan import Commitment, Plan

_LEAST = 1e-6


class Moved(msgspec.Struct, frozen=True, kw_only=True):
    """Commitments of one contract on one offer, in two plans.

    Attributes:
        contract: its name.
        offer: that it is of.
        region: where.
        units_before: in all orders.
        units_after: likewise.
        usd_before: fixed within the horizon.
        usd_after: likewise.
    """

    contract: str
    offer: str
    region: str
    units_before: float
    units_after: float
    usd_before: float
    usd_after: float


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """Two plans side by side.

    Attributes:
        changes: that were made to the problem.
        cost_usd: of both.
        cvar_usd: of both.
        left_usd: paid by the hour, of both.
        vendors: share of commitment dollars, of both.
        commitments: that are other, the largest change first.
    """

    changes: list[str]
    cost_usd: tuple[float, float]
    cvar_usd: tuple[float, float]
    left_usd: tuple[float, float]
    vendors: dict[str, tuple[float, float]]
    commitments: list[Moved]


def difference(before: Plan, after: Plan, changes: list[str]) -> Difference:
    """Return two plans side by side."""
    sums = _sums(before), _sums(after)
    moved = []
    for key in dict.fromkeys([*sums[0], *sums[1]]):
        (units_before, usd_before), (units_after, usd_after) = (
            each.get(key, (0.0, 0.0)) for each in sums
        )
        scale = max(abs(units_before), abs(units_after))
        if abs(units_after - units_before) > _LEAST * scale:
            contract, offer, region = key
            moved.append(
                Moved(
                    contract=contract,
                    offer=offer,
                    region=region,
                    units_before=units_before,
                    units_after=units_after,
                    usd_before=usd_before,
                    usd_after=usd_after,
                )
            )
    vendors = dict.fromkeys([*before.vendors, *after.vendors])
    return Difference(
        changes=changes,
        cost_usd=(before.cost_usd, after.cost_usd),
        cvar_usd=(before.cvar_usd, after.cvar_usd),
        left_usd=(before.left_usd, after.left_usd),
        vendors={v: (before.vendors.get(v, 0.0), after.vendors.get(v, 0.0)) for v in vendors},
        commitments=sorted(moved, key=lambda one: -abs(one.usd_after - one.usd_before)),
    )


def _sums(plan: Plan) -> dict[tuple[str, str, str], tuple[float, float]]:
    """Return units and dollars of all orders by contract, offer and region."""
    found: dict[tuple[str, str, str], tuple[float, float]] = {}
    for one in plan.commitments:
        key = _key(one)
        units, usd = found.get(key, (0.0, 0.0))
        found[key] = units + one.units, usd + one.usd
    return found


def _key(one: Commitment) -> tuple[str, str, str]:
    """Return what makes commitments the same."""
    return one.contract, one.offer, one.region

"""Bills in the FOCUS format (1.0 and later): what ran where, how it was paid, what was unused.

Of each row are read ChargePeriodStart and ChargePeriodEnd, ChargeCategory, BillingCurrency,
EffectiveCost, ConsumedQuantity and ConsumedUnit (PricingQuantity and PricingUnit where these are
blank), PricingCategory, CommitmentDiscountStatus, RegionId, SkuPriceDetails and, for the vendor,
ProviderName (ServiceProviderName since 1.3). The instance type is `InstanceType` of SkuPriceDetails
(`F_InstanceType` in drafts), a JSON object. Source: FinOps Open Cost and Usage Specification,
columns, https://focus.finops.org
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from polysilicon.disk import unread
from polysilicon.errors import InputError

MOST_ROWS = 50_000_000
NEEDED = (
    "ChargePeriodStart",
    "ChargePeriodEnd",
    "ChargeCategory",
    "BillingCurrency",
    "EffectiveCost",
    "PricingCategory",
    "RegionId",
    "SkuPriceDetails",
)
VENDORS = {
    "amazon": "aws",
    "aws": "aws",
    "google": "gcp",
    "gcp": "gcp",
    "microsoft": "azure",
    "azure": "azure",
    "oracle": "oci",
    "alibaba": "alicloud",
}
_HOURS = {"hour": 1.0, "hours": 1.0, "hrs": 1.0, "hr": 1.0, "h": 1.0, "instance-hours": 1.0,
          "seconds": 1 / 3600, "second": 1 / 3600, "minutes": 1 / 60, "minute": 1 / 60}  # fmt: skip
_HOW = {"Standard": "on_demand", "Dynamic": "spot", "Committed": "committed", "Other": "on_demand"}


class Ran(msgspec.Struct, kw_only=True):
    """What ran on an offer in a region, in unit-hours and dollars.

    Attributes:
        committed_h: covered by commitments.
        unused_h: of commitments that nothing used.
        on_demand_h: by the hour.
        spot_h: on the spot market.
        usd: effective cost of all of it.
    """

    committed_h: float = 0.0
    unused_h: float = 0.0
    on_demand_h: float = 0.0
    spot_h: float = 0.0
    usd: float = 0.0

    @property
    def used_h(self) -> float:
        """All unit-hours that work was done in."""
        return self.committed_h + self.on_demand_h + self.spot_h


class Bill(msgspec.Struct, frozen=True, kw_only=True):
    """A bill.

    Attributes:
        begin: of the first charge period.
        end: of the last one.
        ran: by offer and region.
        left_out_usd: reason → dollars of rows that are no machine's use.
    """

    begin: datetime
    end: datetime
    ran: dict[tuple[str, str], Ran]
    left_out_usd: dict[str, float]

    @property
    def hours(self) -> float:
        """Hours that the bill covers."""
        return (self.end - self.begin).total_seconds() / 3600.0


def read_bill(path: Path) -> Bill:
    """Read a bill.

    Raises:
        InputError: no such file, a column that is missing, another currency than dollars, or a
            cell that cannot be.
    """
    where = str(path)
    ran: dict[tuple[str, str], Ran] = {}
    left: dict[str, float] = {}
    times: list[datetime] = []
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            rows = csv.DictReader(lines)
            _check_columns(rows.fieldnames, where)
            for row in rows:
                if rows.line_num > MOST_ROWS:
                    raise InputError(f"more than {MOST_ROWS:,} rows", where=where)
                span = _read_row(row, ran, left, f"{where}, row {rows.line_num}")
                if row["ChargeCategory"] != "Purchase":  # that of a term may last for years
                    times = [min([*times[:1], span[0]]), max([*times[1:], span[1]])]
    except OSError as error:
        raise unread(path, error) from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"cannot read: {error}", where=where) from error
    if not times or times[1] <= times[0]:
        raise InputError("the bill has no charge", where=where)
    if not ran:
        told = ", ".join(left) or "no rows"
        mend = "SkuPriceDetails must tell the InstanceType"
        raise InputError(f"no row is a machine's use: {told}", where=where, mend=mend)
    for (offer, region), one in ran.items():
        if min(one.committed_h, one.unused_h, one.on_demand_h, one.spot_h) < -1e-6:
            mend = "it lacks the rows that its corrections are of"
            raise InputError(f"{offer} {region} ran less than no hours", where=where, mend=mend)
    return Bill(begin=times[0], end=times[1], ran=ran, left_out_usd=left)


def _check_columns(found: Any, where: str) -> None:
    """Raise `InputError` where a column is missing."""
    names = set(found or ())
    missing = [name for name in NEEDED if name not in names]
    if not names & {"ProviderName", "ServiceProviderName"}:
        missing.append("ProviderName")
    if not names & {"ConsumedQuantity", "PricingQuantity"}:
        missing.append("ConsumedQuantity")
    if missing:
        mend = "export the bill in FOCUS 1.0 or later"
        raise InputError(f"columns are missing: {', '.join(missing)}", where=where, mend=mend)


def _read_row(
    row: Mapping[str, str | None],
    ran: dict[tuple[str, str], Ran],
    left: dict[str, float],
    where: str,
) -> tuple[datetime, datetime]:
    """Count a row, and return its charge period."""
    begin, end = (_moment(row, name, where) for name in ("ChargePeriodStart", "ChargePeriodEnd"))
    usd = _number(row, "EffectiveCost", where)
    if row["BillingCurrency"] != "USD":
        what = f"BillingCurrency is {row['BillingCurrency']!r}"
        raise InputError(what, where=where, mend="plans are in dollars: convert the bill")
    category = row["ChargeCategory"] or "none"
    if category != "Usage":
        left[category.lower()] = left.get(category.lower(), 0.0) + usd
        return begin, end
    offer = _offer(row)
    if offer is None:
        reason = "use without an instance type"
        left[reason] = left.get(reason, 0.0) + usd
        return begin, end
    hours = _hours(row, where)
    if hours is None:
        reason = "use that is not counted in hours"
        left[reason] = left.get(reason, 0.0) + usd
        return begin, end
    one = ran.setdefault((offer, (row["RegionId"] or "").lower()), Ran())
    one.usd += usd
    how = _HOW.get(row["PricingCategory"] or "", "on_demand")
    if row.get("CommitmentDiscountStatus") == "Unused":
        how = "unused"
    setattr(one, f"{how}_h", getattr(one, f"{how}_h") + hours)
    return begin, end


def _offer(row: Mapping[str, str | None]) -> str | None:
    """Return the offer that a row is of; None where it does not tell."""
    told = row.get("SkuPriceDetails") or ""
    try:
        details = msgspec.json.decode(told, type=dict[str, Any]) if told else {}
    except (msgspec.DecodeError, RecursionError):
        return None
    kind = details.get("InstanceType") or details.get("F_InstanceType")
    who = (row.get("ServiceProviderName") or row.get("ProviderName") or "").lower()
    vendor = next((short for word, short in VENDORS.items() if word in who), who.split(" ")[0])
    if not isinstance(kind, str) or not kind or not vendor:
        return None
    return f"{vendor}/{kind}"


def _hours(row: Mapping[str, str | None], where: str) -> float | None:
    """Return the unit-hours of a row; None where it is counted in something else."""
    for what in ("Consumed", "Pricing"):
        if row.get(f"{what}Quantity"):
            unit = (row.get(f"{what}Unit") or "").lower()
            factor = _HOURS.get(unit)
            if factor is not None:
                return _number(row, f"{what}Quantity", where) * factor
    return None


def _moment(row: Mapping[str, str | None], name: str, where: str) -> datetime:
    """Return a moment; without a zone it is of UTC."""
    try:
        found = datetime.fromisoformat(row[name] or "")
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError):
        mend = "give a moment such as 2026-11-01T00:00:00Z"
        raise InputError(f"{row[name]!r} is no moment", where=f"{where}, {name}",
                         mend=mend) from None  # fmt: skip


def _number(row: Mapping[str, str | None], name: str, where: str) -> float:
    """Return a number."""
    try:
        value = float(row[name] or "")
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"{row[name]!r} is no number", where=f"{where}, {name}")
    return value

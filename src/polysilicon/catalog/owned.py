"""Machines that are owned: what an hour of one costs."""

from __future__ import annotations

import msgspec

from polysilicon.errors import InputError

HOURS_PER_YEAR = 8766.0
W_PER_KW = 1000.0


class Owned(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A machine that is owned, for prices of its hours.

    Attributes:
        capex_usd: machine, network and installation.
        life_years: over which it is written off.
        residual_share: of the capital, what it sells for at the end.
        discount_rate: a year, of capital; 0 writes off in equal parts.
        busy_w: power at full load, without the building's share.
        idle_w: power when idle.
        utilisation: mean share of the busy power above idle, from 0 to 1.
        pue: power of the building over power of the machine.
        usd_per_kwh: tariff.
        colocation_usd_per_kw_month: space and cooling, by busy power; 0 in one's own building.
        operations_share: of the capital a year, for staff, spares and support.
        usable_share: of its hours, those in which it serves; what stands still is paid by the rest.
    """

    capex_usd: float
    life_years: float
    residual_share: float = 0.0
    discount_rate: float = 0.0
    busy_w: float = 0.0
    idle_w: float = 0.0
    utilisation: float = 1.0
    pue: float = 1.0
    usd_per_kwh: float = 0.0
    colocation_usd_per_kw_month: float = 0.0
    operations_share: float = 0.0
    usable_share: float = 1.0

    def __post_init__(self) -> None:
        """Raise `InputError` where a figure cannot be."""
        for name in self.__struct_fields__:
            if not 0 <= getattr(self, name) < float("inf"):
                raise InputError(f"{name} is {getattr(self, name):g}", mend="it is 0 or more")
        for name in ("residual_share", "utilisation", "usable_share"):
            if getattr(self, name) > 1:
                raise InputError(f"{name} is {getattr(self, name):g}", mend="it is at most 1")
        if self.life_years <= 0 or self.usable_share <= 0:
            raise InputError("life_years and usable_share must be greater than 0")
        if self.pue < 1 or self.idle_w > self.busy_w:
            raise InputError("pue is at least 1, and idle_w at most busy_w")

    def capital_usd_per_year(self) -> float:
        """Return what the capital costs a year: an annuity, less the present worth of the rest.

        Source: annuity factor d / (1 - (1 + d)^-n), any textbook of finance.
        """
        rate, years = self.discount_rate, self.life_years
        if rate == 0:
            return self.capex_usd * (1 - self.residual_share) / years
        left: float = (1 + rate) ** -years
        return self.capex_usd * (1 - self.residual_share * left) * rate / (1 - left)

    def mean_w(self) -> float:
        """Return its mean power, without the building's share."""
        return self.idle_w + (self.busy_w - self.idle_w) * self.utilisation

    def usd_per_hour(self) -> float:
        """Return dollars for one usable hour."""
        power = self.mean_w() / W_PER_KW * self.pue * self.usd_per_kwh * HOURS_PER_YEAR
        space = self.busy_w / W_PER_KW * self.colocation_usd_per_kw_month * 12
        staff = self.capex_usd * self.operations_share
        total = self.capital_usd_per_year() + power + space + staff
        return total / (HOURS_PER_YEAR * self.usable_share)

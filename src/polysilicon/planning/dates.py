"""Months of a horizon: counted from 0 within, told as `2027-03` or counted from 1 in files."""

from __future__ import annotations

import re
from datetime import date

import msgspec

from polysilicon.errors import InputError

HOURS_PER_MONTH = 730.0
MONTHS_PER_YEAR = 12
MOST_MONTHS = 240

MONTH = re.compile(r"(\d{4})-(0[1-9]|1[0-2])")


class Calendar(msgspec.Struct, frozen=True, kw_only=True):
    """The months of a horizon.

    Attributes:
        year: of the first month.
        month: of the first month, from 1.
        months: how many.
    """

    year: int
    month: int
    months: int

    def name(self, place: int) -> str:
        """Return a month as `2027-03`; places before and after the horizon have names too."""
        whole = self.year * MONTHS_PER_YEAR + self.month - 1 + place
        return f"{whole // MONTHS_PER_YEAR:04d}-{whole % MONTHS_PER_YEAR + 1:02d}"

    def names(self) -> list[str]:
        """Return all months."""
        return [self.name(place) for place in range(self.months)]

    def place(self, told: int | str, where: str) -> int:
        """Return the place of a month from 0; below 0 or beyond the end where it is not within.

        Args:
            told: as `2027-03`, or the number of the month from 1.
            where: named in errors.

        Raises:
            InputError: no month.
        """
        if isinstance(told, int):
            return told - 1
        found = MONTH.fullmatch(told)
        if found is None:
            mend = 'write "2027-03", or the number of the month from 1'
            raise InputError(f"{told!r} is no month", where=where, mend=mend)
        whole = int(found[1]) * MONTHS_PER_YEAR + int(found[2]) - 1
        return whole - (self.year * MONTHS_PER_YEAR + self.month - 1)

    def within(self, told: int | str, where: str) -> int:
        """Return the place of a month of the horizon.

        Raises:
            InputError: no month, or outside of the horizon.
        """
        place = self.place(told, where)
        if not 0 <= place < self.months:
            mend = f"the horizon is {self.name(0)} to {self.name(self.months - 1)}"
            what = "is in the past" if place < 0 else "is after the horizon"
            raise InputError(f"month {told} {what}", where=where, mend=mend)
        return place


def calendar_of(start: str | None, months: int, today: date, where: str) -> Calendar:
    """Return the months of a horizon; without a start it begins next month.

    Raises:
        InputError: no month, or it is in the past.
    """
    this = Calendar(year=today.year, month=today.month, months=1)
    place = 1 if start is None else this.place(start, f"{where}, horizon, start")
    if place < 0:
        mend = f"begin with {this.name(0)} or later, or leave start out: then with next month"
        raise InputError(f"{start} is in the past", where=f"{where}, horizon, start", mend=mend)
    year, month = this.name(place).split("-")
    return Calendar(year=int(year), month=int(month), months=months)

"""Entries of columns in the cuts and limits of the master program."""

from __future__ import annotations

import msgspec
import numpy as np

from polysilicon.planning.columns import Book
from polysilicon.planning.problem import Numbers
from polysilicon.planning.rows import Limit
from polysilicon.planning.supply import Codes


class Flat(msgspec.Struct, frozen=True, kw_only=True):
    """Uses or units of some columns, as arrays of one length.

    Attributes:
        column: position among those columns.
        owner: scenario of the column, -1 for all.
        place: row of `Ways`, or option.
        first: month.
        last: month after the last.
        amount: of one unit of the column.
    """

    column: Codes
    owner: Codes
    place: Codes
    first: Codes
    last: Codes
    amount: Numbers


class Chosen:
    """Some columns.

    Args:
        count: how many they are.
        edges: months at which segments begin and end, shape (G + 1,).
        uses: of them.
        units: of them.
    """

    def __init__(self, count: int, edges: Codes, uses: Flat, units: Flat) -> None:
        self.count, self.edges, self.uses, self.units = count, edges, uses, units

    def cut(self, value: Numbers) -> Numbers:
        """Return entries in a round's cuts, shape (S, G, J).

        Args:
            value: running sums over months, shape (S, T + 1, E).
        """
        uses, segments, s = self.uses, len(self.edges) - 1, len(value)
        found = np.zeros((s, segments, self.count))
        for segment in range(segments):
            low = np.maximum(uses.first, self.edges[segment])
            high = np.minimum(uses.last, self.edges[segment + 1])
            on = np.flatnonzero(high > low)
            if not len(on):
                continue
            each = value[:, high[on], uses.place[on]] - value[:, low[on], uses.place[on]]
            each = each * uses.amount[on]
            owner = uses.owner[on]
            each[(owner >= 0) & (owner != np.arange(s)[:, None])] = 0.0
            for one in range(s):
                found[one, segment] = np.bincount(
                    uses.column[on], weights=each[one], minlength=self.count
                )
        return found

    def limit(self, limit: Limit) -> Numbers:
        """Return entries in a limit, shape (J,)."""
        found = np.zeros(self.count)
        for flat, weights in ((self.uses, limit.uses), (self.units, limit.units)):
            if weights is None:
                continue
            on = (flat.first <= limit.month) & (limit.month < flat.last)
            on &= (flat.owner < 0) | (flat.owner == limit.scenario)
            found += np.bincount(
                flat.column[on],
                weights=weights[flat.place[on]] * flat.amount[on],
                minlength=self.count,
            )
        return found


class Entries:
    """Gives the entries of any columns of a book.

    Args:
        book: of the columns.
        scenario: of each of them, -1 for all, shape (N,).
        edges: months at which segments begin and end, shape (G + 1,).
    """

    def __init__(self, book: Book, scenario: Codes, edges: Codes) -> None:
        self.scenario, self.edges = scenario, edges
        every = range(len(book.columns))
        self._uses, self._units = book.flat("uses", every), book.flat("units", every)

    def of(self, some: Codes) -> Chosen:
        """Return some columns."""
        position = np.full(len(self.scenario), -1)
        position[some] = np.arange(len(some))
        found = []
        for column, place, first, last, amount in (self._uses, self._units):
            on = np.flatnonzero(position[column] >= 0)
            flat = Flat(
                column=position[column[on]],
                owner=self.scenario[column[on]],
                place=place[on],
                first=first[on],
                last=last[on],
                amount=amount[on],
            )
            found.append(flat)
        return Chosen(len(some), self.edges, *found)

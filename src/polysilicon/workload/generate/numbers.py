"""How a number of a step is spread, as a quantile function tabulated over standard normals.

A number is drawn from a standard normal z, so that numbers that hang together need only normals
that do (a Gaussian copula). The table of a quantile function over a grid of z turns a normal into a
value with one look-up, whatever the function.
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, ndtri

from polysilicon.errors import InputError

Floats = npt.NDArray[np.float64]
Whole = npt.NDArray[np.int64]
Reals = npt.NDArray[np.floating[Any]]

Z_MOST = 4.5
"""Normals beyond it, 7 in a million, count as this."""

KNOTS = 1025
_STEP = 2 * Z_MOST / (KNOTS - 1)
_Z = np.linspace(-Z_MOST, Z_MOST, KNOTS)
_P = ndtr(_Z)
_P99 = float(ndtri(0.99))

LARGEST = 2.0**53
"""The largest number that is drawn: what counts whole things holds it exactly."""

MOST_KNOTS = 400
_ATOM = 1 / MOST_KNOTS


class Number(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """How a number is spread: one value, a lognormal law, or quantiles.

    Attributes:
        value: always this.
        median: of a lognormal law, with `p99`.
        p99: its 99th percentile.
        most: no value is larger.
        p: shares from 0 to 1, rising, of the quantiles.
        v: the values at them, rising. Between two positive ones the value goes geometrically,
            otherwise on a straight line.
    """

    value: float | None = None
    median: float | None = None
    p99: float | None = None
    most: float | None = None
    p: tuple[float, ...] = ()
    v: tuple[float, ...] = ()

    def check(self, where: str, *, least: float = 0.0) -> None:
        """Refuse a number that is not one law.

        Args:
            where: named in errors.
            least: the smallest value that may be.

        Raises:
            InputError: so it is.
        """
        ways = [self.value is not None, self.median is not None, bool(self.p or self.v)]
        if sum(ways) != 1:
            mend = "give value, or median and p99, or p and v"
            raise InputError("a number has one law", where=where, mend=mend)
        if self.p or self.v:
            self._check_quantiles(where)
        elif self.median is not None and not 0 < self.median <= (self.p99 or 0) < np.inf:
            raise InputError("p99 must be finite, median positive and not above it", where=where)
        smallest = self.v[0] if self.v else self.value
        if smallest is not None and not least <= smallest < np.inf:
            raise InputError(f"{smallest:g} is below {least:g} or not finite", where=where)
        if self.most is not None and not 0 <= self.most < np.inf:
            raise InputError(f"most is {self.most:g}", where=where)
        self._check_size(where)

    def _check_size(self, where: str) -> None:
        """Refuse a law whose values cannot be calculated with.

        Raises:
            InputError: so it is.
        """
        with np.errstate(all="ignore"):
            whole, table = self._whole(), self.table()
            top = float(np.abs(table).max())
        if not top <= LARGEST:
            mend = "give a smaller p99, or most" if self.median is not None else ""
            what = f"its values go up to {top:g}, which is above {LARGEST:g}"
            raise InputError(what, where=where, mend=mend)
        if not np.isfinite(whole).all():
            raise InputError("p99 is too far above the median", where=where)

    def _check_quantiles(self, where: str) -> None:
        """Refuse quantiles that are none.

        Raises:
            InputError: so they are.
        """
        p, v = np.array(self.p), np.array(self.v)
        if len(p) != len(v) or len(p) < 2:
            raise InputError("p and v must be of one length, two or more", where=where)
        if p[0] != 0 or p[-1] != 1 or not (np.diff(p) >= 0).all():
            raise InputError("p must rise from 0 to 1", where=where)
        if not np.isfinite(v).all() or not (v[1:] >= v[:-1]).all():
            raise InputError("v must be finite and must not fall", where=where)

    def table(self) -> Floats:
        """Return the value at each knot of the grid of normals, shape (KNOTS,)."""
        values = self._whole()
        return values if self.most is None else np.minimum(values, self.most)

    def _whole(self) -> Floats:
        """Return what `table` does, as if there were no `most`."""
        if self.value is not None:
            return np.full(KNOTS, float(self.value))
        if self.median is not None and self.p99 is not None:
            return np.asarray(self.median * np.exp(_Z * np.log(self.p99 / self.median) / _P99))
        return _between(np.array(self.p), np.array(self.v))

    @property
    def fixed(self) -> bool:
        """Whether it is always the same value."""
        return self.value is not None


def _between(p: Floats, v: Floats) -> Floats:
    """Return quantiles at the grid from those at `p`."""
    straight = np.interp(_P, p, v)
    above = np.clip(np.searchsorted(p, _P), 1, len(p) - 1)
    # A value that many have stays what it is to the last bit.
    positive = (v[above - 1] > 0) & (v[above] > v[above - 1])
    logs = np.log(np.where(v > 0, v, 1.0))
    return np.asarray(np.where(positive, np.exp(np.interp(_P, p, logs)), straight))


def look_up(tables: Floats, rows: Whole, z: Floats) -> Floats:
    """Return a value for each normal.

    Args:
        tables: shape (laws, KNOTS).
        rows: the law of each, shape (n,).
        z: standard normals, shape (n,).
    """
    at = np.clip((z + Z_MOST) * (1 / _STEP), 0.0, KNOTS - 1.001)
    low = at.astype(np.int64)
    at -= low
    low += rows * KNOTS
    flat = tables.ravel()
    first = flat.take(low)
    low += 1
    return np.asarray(first + at * (flat.take(low) - first))


def of_sample(values: Floats) -> Number:
    """Return the law of a sample: its quantiles, with at most some hundred knots.

    Values that are more than a four-hundredth of the sample keep their share exactly.

    Args:
        values: shape (n,), at least one, none of them NaN.
    """
    distinct, counts = np.unique(values, return_counts=True)
    if len(distinct) == 1:
        return Number(value=_short(float(distinct[0])))
    n = len(values)
    high = np.cumsum(counts) / n
    low = np.append(0.0, high[:-1])
    atom = counts / n > _ATOM
    atom[[0, -1]] = True  # the ends are at 0 and 1
    middle = ~atom
    p = np.concatenate((low[atom], high[atom], _thinned((low + high)[middle] / 2)))
    v = np.interp(p[2 * atom.sum() :], (low + high) / 2, distinct)
    v = np.concatenate((distinct[atom], distinct[atom], v))
    order = np.lexsort((v, p))
    p, v = p[order], v[order]
    p[0], p[-1] = 0.0, 1.0
    shares = np.round(p, 7).tolist()
    return Number(p=tuple(shares), v=tuple(_short(x) for x in v.tolist()))


def _thinned(p: Floats) -> Floats:
    """Return some hundred of the shares, the tails better kept than the middle."""
    if len(p) <= MOST_KNOTS:
        return p
    wanted = np.concatenate((np.linspace(0, 1, MOST_KNOTS), ndtr(np.linspace(-4, 4, 81))))
    return np.asarray(p[np.unique(np.clip(np.searchsorted(p, wanted), 0, len(p) - 1))])


def _short(value: float) -> float:
    """Return a value with seven digits, which is more than a sample can tell."""
    return float(f"{value:.7g}")


def normal_scores(values: Floats, rng: np.random.Generator) -> Floats:
    """Return the normals at the ranks of values, shape (n,); ties are broken by chance."""
    order = np.lexsort((rng.random(len(values)), values))
    rank = np.empty(len(values))
    rank[order] = np.arange(len(values)) + 0.5
    return np.asarray(ndtri(rank / max(len(values), 1)))

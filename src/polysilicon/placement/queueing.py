"""Utilisation caps from queueing theory: how busy servers may be while steps hardly wait.

Steps that find all n servers of a pool taken wait. With offered load a = n·u the share that waits
is Erlang's C, and the mean wait over the mean service is C / (n·(1-u)) for exponential service,
times (1 + cv²) / 2 for others. Sources: A. K. Erlang, 1917; A. O. Allen, "Probability, Statistics,
and Queueing Theory", 1990, section 5.4.1 (Allen-Cunneen); S. Halfin and W. Whitt, Operations
Research 29(3), 1981, for many servers: n = a + β·√a.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import special

Numbers = npt.NDArray[np.float64]
Values = Numbers | float

# Above this a pool has no room for the drift of its own load.
MOST_BUSY = 0.98
_HALVINGS = 50


def erlang_b(servers: Values, load: Values) -> Numbers:
    """Return the share of arrivals that find all servers taken and go away, elementwise.

    It is the Poisson probability of `servers` over that of at most `servers`, so ten million
    servers cost no more than two.

    Args:
        servers: how many, 1 or more; any real number.
        load: arrivals a second times seconds of service, above 0.
    """
    n, a = np.asarray(servers, np.float64), np.asarray(load, np.float64)
    log_exactly = n * np.log(a) - a - special.gammaln(n + 1.0)
    return np.asarray(np.exp(log_exactly) / special.gammaincc(n + 1.0, a))


def erlang_c(servers: Values, load: Values) -> Numbers:
    """Return the share of arrivals that wait, elementwise; 1 where the load is all servers.

    Args:
        servers: how many, 1 or more.
        load: arrivals a second times seconds of service, from 0.
    """
    n, a = np.asarray(servers, np.float64), np.asarray(load, np.float64)
    stable = (a < n) & (a > 0)
    safe = np.where(stable, a, n / 2)
    b = erlang_b(n, safe)
    c = n * b / (n - safe * (1.0 - b))
    return np.where(stable, c, np.where(a >= n, 1.0, 0.0))


def halfin_whitt(beta: Values) -> Numbers:
    """Return the share of arrivals that wait with a + β·√a servers, for large a; β above 0."""
    b = np.asarray(beta, np.float64)
    density = np.exp(-(b**2) / 2) / np.sqrt(2 * np.pi)
    return np.asarray(1.0 / (1.0 + b * special.ndtr(b) / density))


def wait_share(servers: Values, busy: Values, cv2: Values = 1.0) -> Numbers:
    """Return the mean wait over the mean service, elementwise; infinite where nothing is left idle.

    Args:
        servers: how many.
        busy: share of their time, from 0.
        cv2: variance of service over its squared mean.
    """
    n, rho = np.asarray(servers, np.float64), np.asarray(busy, np.float64)
    idle = np.maximum(1.0 - rho, 1e-12)
    waits = erlang_c(n, n * np.minimum(rho, 1.0)) / (n * idle)
    spread = (1.0 + np.asarray(cv2, np.float64)) / 2.0
    return np.where(rho >= 1.0, np.inf, waits * spread)


def cap(servers: Values, share: Values, cv2: Values = 1.0) -> Numbers:
    """Return how busy servers may be while the mean wait is at most `share` of the mean service.

    Args:
        servers: how many.
        share: above 0.
        cv2: as in `wait_share`.
    """
    n, most = np.broadcast_arrays(np.asarray(servers, np.float64), np.asarray(share, np.float64))
    low, high = np.zeros(n.shape), np.full(n.shape, MOST_BUSY)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        good = wait_share(n, middle, cv2) <= most
        low, high = np.where(good, middle, low), np.where(good, high, middle)
    return np.asarray(low, dtype=np.float64)

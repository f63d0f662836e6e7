"""Queues as flows against what is known of them in closed form."""

from __future__ import annotations

import math

import numpy as np
import pytest

from polysilicon.placement.queueing import erlang_c, halfin_whitt
from polysilicon.simulate.fluid.backlog import LEVELS, Backlog


def _rested(servers: float, busy: float, cv2: float = 1.0) -> tuple[Backlog, float]:
    """Return a queue that has come to rest, and its mean wait over the mean service."""
    queue = Backlog(servers, servers + 1e8)
    come, go = busy * servers, np.minimum(queue.at, servers)
    variance = come + np.where(queue.at >= servers, cv2 * go, go)
    for _ in range(100):
        queue.advance(come, go, variance, max(10.0, 6.0 / (1.0 - busy) ** 2 / servers))
    shares = (np.arange(200_000) + 0.5) / 200_000
    return queue, float(np.interp(shares, LEVELS, queue.ahead()).mean()) / servers


@pytest.mark.parametrize(
    ("servers", "busy"),
    [(1, 0.5), (1, 0.9), (2, 0.5), (10, 0.9), (100, 0.95), (10**4, 0.99), (10**7, 0.9995)],
)
def test_it_rests_where_erlangs_c_says(servers: int, busy: float) -> None:
    queue, wait = _rested(servers, busy)
    chance = float(erlang_c(servers, busy * servers))
    assert wait == pytest.approx(chance / (servers * (1.0 - busy)), rel=0.01)
    found = float(queue.share[queue.at >= servers - 1e-9].sum())
    # Points a twelfth of a square root apart count those just below the servers to them.
    assert found == pytest.approx(chance, rel=1e-6 if servers <= 100 else 0.08)


@pytest.mark.parametrize("beta", [0.3, 1.0, 2.0])
def test_large_pools_wait_by_halfin_and_whitt(beta: float) -> None:
    servers = 4e7
    busy = 1.0 - beta / math.sqrt(servers)
    queue, _ = _rested(servers, busy)
    found = float(queue.share[queue.at >= servers].sum())
    assert found == pytest.approx(float(halfin_whitt(beta)), rel=0.12)


def test_service_that_varies_more_waits_longer_by_allen_and_cunneen() -> None:
    _, usual = _rested(100, 0.97)
    _, more = _rested(100, 0.97, cv2=4.0)
    assert more / usual == pytest.approx((1 + 4) / 2, rel=0.1)


@pytest.mark.parametrize("servers", [4.0, 100.0, 1e6])
def test_overload_is_a_ramp_up_and_down(servers: float) -> None:
    queue = Backlog(servers, servers + 1e9)
    go = np.minimum(queue.at, servers)
    for _ in range(40):  # until all servers are taken
        queue.advance(1.25 * servers, go, np.full_like(go, 2.25 * servers), 0.25)
    begun = queue.mean
    for _ in range(50):
        queue.advance(1.25 * servers, go, np.full_like(go, 2.25 * servers), 2.0)
    assert queue.mean - begun == pytest.approx(0.25 * servers * 100.0, rel=0.01)
    top = queue.mean
    half_s = (top - servers) / (0.5 * servers) / 2.0
    for _ in range(50):
        queue.advance(0.5 * servers, go, np.full_like(go, 1.5 * servers), half_s / 50)
    assert queue.mean == pytest.approx(servers + (top - servers) / 2.0, rel=0.01)
    # The wait in the middle of what is there is the queue over what the servers do.
    middle = float(np.interp(0.5, LEVELS, queue.ahead())) / servers
    assert middle == pytest.approx((queue.mean - servers + 1.0) / servers, rel=0.02)
    for _ in range(200):
        queue.advance(0.5 * servers, go, 0.5 * servers + go, half_s / 20)
    assert queue.mean == pytest.approx(0.5 * servers, rel=0.3)


def test_an_idle_queue_lets_nobody_wait_and_shares_stay_shares() -> None:
    queue = Backlog(50.0, 1e5)
    go = np.minimum(queue.at, 50.0)
    queue.advance(5.0, go, 5.0 + go, 100.0)
    assert queue.ahead()[LEVELS <= 0.99].max() == 0.0
    assert queue.share.sum() == pytest.approx(1.0)
    assert queue.mean == pytest.approx(5.0, rel=1e-3)
    queue.advance(0.0, go, go, 1e4)
    assert queue.mean == pytest.approx(0.0, abs=1e-3)

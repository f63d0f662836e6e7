"""Erlang's formulas, square-root staffing, and the caps that follow from them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from polysilicon.placement.queueing import (
    MOST_BUSY,
    cap,
    erlang_b,
    erlang_c,
    halfin_whitt,
    wait_share,
)


@pytest.mark.parametrize("servers", [1, 2, 7, 50, 400])
@pytest.mark.parametrize("busy", [0.1, 0.7, 0.99])
def test_erlang_b_is_the_recursion(servers: int, busy: float) -> None:
    load, blocked = servers * busy, 1.0
    for n in range(1, servers + 1):
        blocked = load * blocked / (n + load * blocked)
    assert float(erlang_b(servers, load)) == pytest.approx(blocked, rel=1e-9, abs=1e-300)


def test_two_servers_at_half_load_let_a_third_wait() -> None:
    assert float(erlang_c(2, 1.0)) == pytest.approx(1 / 3)


def test_one_server_is_the_m_m_1_queue() -> None:
    busy = np.array([0.2, 0.5, 0.9])
    assert np.allclose(erlang_c(1, busy), busy)
    assert np.allclose(wait_share(1, busy), busy / (1 - busy))


def test_general_service_waits_by_pollaczek_and_khinchine() -> None:
    # M/G/1: W/S = u (1 + cv²) / (2 (1 - u)), exact for one server.
    assert float(wait_share(1, 0.8, 3.0)) == pytest.approx(0.8 * 4 / (2 * 0.2))
    assert float(wait_share(1, 0.8, 0.0)) == pytest.approx(0.8 / (2 * 0.2))


@pytest.mark.parametrize("beta", [0.2, 1.0, 2.0])
def test_many_servers_wait_by_halfin_and_whitt(beta: float) -> None:
    load = 10_000_000.0
    servers = load + beta * math.sqrt(load)
    assert float(erlang_c(servers, load)) == pytest.approx(float(halfin_whitt(beta)), rel=2e-3)


def test_a_full_pool_waits_for_ever_and_an_idle_one_not_at_all() -> None:
    assert float(wait_share(4, 1.0)) == math.inf
    assert float(erlang_c(4, 4.0)) == 1.0
    assert float(erlang_c(4, 0.0)) == 0.0
    assert float(wait_share(4, 0.0)) == 0.0


def test_the_cap_is_where_the_wait_is_what_it_may_be() -> None:
    servers = np.array([1.0, 8.0, 64.0, 4096.0])
    caps = cap(servers, 0.1, 2.0)
    assert np.allclose(wait_share(servers, caps, 2.0)[:3], 0.1, rtol=1e-6)
    assert (np.diff(caps) > 0).all()  # many servers share their room
    assert float(cap(1e7, 0.1)) == pytest.approx(MOST_BUSY)


def test_square_root_staffing_leaves_a_square_root_of_the_load_idle() -> None:
    # With (1 - u)·n = β·√a the wait over the service is P(wait) / (β·√a).
    loads = np.array([1e4, 1e5])
    beta = 1.5
    servers = loads + beta * np.sqrt(loads)
    expected = halfin_whitt(beta) / (beta * np.sqrt(loads))
    assert np.allclose(wait_share(servers, loads / servers), expected, rtol=0.02)

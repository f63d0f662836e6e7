"""When a second request pays, and for how long a slot is kept: the rules, and what they do."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polysilicon import schedule

TIMES = st.lists(st.floats(0.01, 100.0), min_size=20, max_size=64)


def after_s(times, other_s, other_usd, slack_s=math.inf, late=1.0):
    return schedule.hedge_after_s(np.array(times), other_s, other_usd, slack_s, late)


def test_a_tail_is_hedged_once_the_body_is_past() -> None:
    assert after_s([1.0] * 30 + [30.0] * 3, 1.0, 1e-4) == 1.0


def test_without_a_tail_only_what_is_longer_than_anything_seen_is_hedged() -> None:
    times = [1.0 + n / 100 for n in range(30)]
    assert after_s(times, 1.0, 1e-6) == times[-1]
    assert after_s(times, 3.0, 1e-6) == math.inf  # the other pool would not be there before


def test_dollars_decide() -> None:
    tail = [1.0] * 30 + [30.0] * 3
    assert after_s(tail, 1.0, 1.0) == math.inf  # 28 s, at 1e-3 dollars each, against one dollar
    assert after_s(tail, 1.0, 1.0, slack_s=2.0) == 1.0  # a deadline makes a second worth a dollar


def test_a_free_request_waits_for_the_tail_too() -> None:
    times = [0.1 * n for n in range(1, 41)]
    assert after_s(times, 0.1, 0.0) == pytest.approx(3.6)


def test_what_is_still_in_time_is_not_late() -> None:
    assert after_s([1.0] * 30 + [30.0] * 3, 1.0, 1e-4, slack_s=1000.0) == math.inf


def test_few_times_tell_no_tail() -> None:
    assert after_s([1.0] * 18 + [30.0], 1.0, 1e-9) == math.inf


@given(TIMES, st.floats(0.0, 50.0), st.floats(1e-9, 1.0), st.floats(1.0, 10.0))
def test_a_dearer_request_never_pays_earlier(times, other_s, usd, factor) -> None:
    assert after_s(times, other_s, usd) <= after_s(times, other_s, factor * usd)


@given(st.lists(st.floats(0.01, 100.0), max_size=40), st.randoms(use_true_random=False))
def test_the_order_of_the_times_does_not_matter(times, rng) -> None:
    mixed = list(times)
    rng.shuffle(mixed)
    assert after_s(times, 1.0, 1e-6) == after_s(mixed, 1.0, 1e-6)


def test_a_count_over_a_bimodal_tail() -> None:
    """5,000 requests, of which one in fifty hangs: the tail goes, for few requests more."""
    rng = np.random.default_rng(5)
    times_s = np.where(rng.random(5000) < 0.02, 30.0, rng.uniform(0.5, 1.5, 5000))
    at_s = schedule.hedge_after_s(times_s[:64], 1.0, 8e-3, math.inf, 1.0)
    hedged = times_s > at_s
    ends_s = np.where(hedged, np.minimum(times_s, at_s + 1.0), times_s)
    assert np.percentile(times_s, 99) == 30.0
    assert np.percentile(ends_s, 99) < 3.0
    assert hedged.mean() < 0.2


def test_a_slot_is_kept_for_a_short_pause_only() -> None:
    assert schedule.hold_s(2.0, 0.5, 1.0) == 2.0
    assert schedule.hold_s(2.0, 3.0, 1.0) == 0.0
    assert schedule.hold_s(2.0, 0.5, 0.2) == 0.0  # mostly the task was at its end
    assert schedule.hold_s(2.0, math.nan, 0.0) == 0.0
    assert schedule.hold_s(0.0, 0.0, 1.0) == 0.0


@pytest.mark.parametrize("pause_s", [0.0, 0.5, 1.9, 2.1, 50.0])
def test_a_wrong_forecast_costs_at_most_twice_the_best(pause_s) -> None:
    kept_s = schedule.hold_s(2.0, 0.5, 1.0)
    cost_s = pause_s if pause_s <= kept_s else kept_s + 2.0  # then the prefill is done again
    assert cost_s <= 2.0 * min(pause_s, 2.0)

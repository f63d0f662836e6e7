from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polysilicon import schedule

SECONDS = st.floats(0, 1e6)


def _arrays(price, work, queue, eligible, saved=None, slack=np.inf, late=1e-6):
    price, work, queue = (np.array(column, dtype=float) for column in (price, work, queue))
    saved = np.zeros(len(work)) if saved is None else np.array(saved, dtype=float)
    return price, work, saved, queue, np.array(eligible, dtype=bool), slack, late


def _choose(*columns, **options):
    return schedule.choose(*_arrays(*columns, **options))


def test_the_cheapest_work_wins() -> None:
    assert _choose([1.0, 0.1], [1.0, 5.0], [0.0, 0.0], [True, True]) == 1


def test_a_deadline_can_be_worth_the_dearer_pool() -> None:
    args = ([1.0, 0.1], [1.0, 5.0], [0.0, 0.0], [True, True])
    assert _choose(*args, slack=2.0, late=10.0) == 0


def test_a_prefix_cache_can_be_worth_a_queue() -> None:
    args = ([1.0, 1.0], [4.0, 4.0], [0.0, 1.0], [True, True])
    assert _choose(*args) == 0
    assert _choose(*args, saved=[0.0, 3.0]) == 1


def test_no_eligible_pool() -> None:
    assert _choose([1.0], [1.0], [0.0], [False]) == -1


def test_equal_prices_are_decided_by_speed() -> None:
    assert _choose([0.0, 0.0], [2.0, 1.0], [0.0, 0.5], [True, True]) == 1


def test_scores_are_dollars_of_work_and_of_lateness() -> None:
    given_ = _arrays([2.0, 2.0], [3.0, 3.0], [4.0, 0.0], [True, False], slack=5.0, late=10.0)
    assert schedule.scores(*given_).tolist() == [2.0 * 3.0 + 10.0 * 2.0, np.inf]


@given(
    st.lists(
        st.tuples(st.floats(0, 1e3), SECONDS, SECONDS, SECONDS, st.booleans()),
        min_size=1,
        max_size=12,
    ),
    st.one_of(st.just(np.inf), SECONDS),
)
def test_the_choice_has_the_least_score_and_is_eligible(pools, slack) -> None:
    price, work, saved, queue, eligible = zip(*pools, strict=True)
    arrays = _arrays(price, work, queue, eligible, saved=saved, slack=slack, late=0.5)
    chosen, found = schedule.choose(*arrays), schedule.scores(*arrays)
    if not any(eligible):
        assert chosen == -1
    else:
        assert eligible[chosen]
        assert found[chosen] == found.min()


def _next(attained, ready, klass=None, slack=None, saved=None, now=0.0, starve=np.inf):
    n = len(attained)
    return schedule.next_step(
        np.array([schedule.doublings(seconds) for seconds in attained], dtype=np.int64),
        np.array(ready, dtype=float),
        np.full(n, schedule.BATCH) if klass is None else np.array(klass, dtype=np.int64),
        np.full(n, np.inf) if slack is None else np.array(slack, dtype=float),
        np.zeros(n) if saved is None else np.array(saved, dtype=float),
        now,
        starve,
    )


def test_nothing_waits() -> None:
    assert _next([], []) == -1


def test_least_attained_service_first_then_first_come() -> None:
    assert _next([3.0, 1.0, 1.0], [0.0, 2.0, 1.0]) == 2


def test_somebody_who_waits_for_an_answer_goes_first() -> None:
    klass = [schedule.BATCH, schedule.INTERACTIVE]
    assert _next([0.0, 9.0], [0.0, 5.0], klass=klass) == 1


def test_who_waited_long_enough_is_not_passed_over() -> None:
    klass = [schedule.INTERACTIVE, schedule.BATCH]
    assert _next([0.0, 500.0], [9.0, 0.0], klass=klass, now=10.0, starve=60.0) == 0
    assert _next([0.0, 500.0], [59.0, 0.0], klass=klass, now=60.0, starve=60.0) == 1


def test_a_deadline_that_would_be_missed_comes_before_less_service() -> None:
    assert _next([0.0, 9.0], [0.0, 0.0], slack=[np.inf, 3.0], now=4.0) == 1
    assert _next([0.0, 9.0], [0.0, 0.0], slack=[np.inf, 30.0], now=4.0) == 0
    assert _next([0.0, 9.0], [0.0, 0.0], slack=[np.inf, -1.0], now=4.0) == 0
    assert _next([0.0, 9.0], [0.0, 0.0], slack=[2.0, 1.0], now=4.0) == 1


def test_a_found_prefix_decides_between_tasks_of_alike_service() -> None:
    assert _next([1.0, 1.1], [0.0, 5.0], saved=[0.0, 0.4]) == 1
    assert _next([1.0, 9.0], [0.0, 5.0], saved=[0.0, 0.4]) == 0


@given(
    st.lists(
        st.tuples(SECONDS, SECONDS, st.integers(0, 1), st.floats(-1e3, 1e6), SECONDS),
        min_size=1,
        max_size=20,
    ),
    SECONDS,
    st.randoms(use_true_random=False),
)
def test_the_next_step_does_not_depend_on_the_order_of_the_waiting(waiting, now, rng) -> None:
    order = list(range(len(waiting)))
    rng.shuffle(order)
    mixed = [waiting[i] for i in order]

    def pick(rows):
        attained, ready, klass, slack, saved = zip(*rows, strict=True)
        at = _next(attained, ready, klass, slack, saved, now, 100.0)
        waited = now - ready[at]
        starved = waited >= 100.0
        level = 0 if starved else schedule.doublings(attained[at])
        return (
            klass[at] == schedule.INTERACTIVE or starved,
            slack[at] if 0 <= slack[at] < max(waited, 0.0) else np.inf,
            level,
            saved[at],
            ready[at],
        )

    assert pick(waiting) == pick(mixed)


def test_admit_fills_the_room_that_there_is() -> None:
    assert schedule.admit(3, 10, 8) == 5
    assert schedule.admit(9, 10, 8) == 0
    assert schedule.admit(0, 2, 8) == 2


def test_the_law_of_a_batch_is_found_among_disturbed_iterations() -> None:
    rng = np.random.default_rng(3)
    sequences = rng.integers(1, 33, 60).astype(float)
    seconds = 0.02 + 0.001 * sequences
    seconds[:12] *= 5.0  # a fifth of them had to wait for something else
    fixed_s, each_s = schedule.batch_law(sequences, seconds)
    assert fixed_s == pytest.approx(0.02, rel=0.25)
    assert each_s == pytest.approx(0.001, rel=0.25)


def test_one_size_of_batch_tells_nothing() -> None:
    assert np.isnan(schedule.batch_law(np.array([4.0, 4.0]), np.array([0.1, 0.2]))).all()
    assert schedule.batch_cap(np.nan, np.nan, 0.1, 32) == 32


@given(st.floats(1e-4, 1.0), st.floats(1e-5, 0.1), st.floats(0.05, 0.9))
def test_up_to_the_cap_doubling_pays_and_beyond_it_does_not(fixed_s, each_s, gain) -> None:
    def rate(batch: float) -> float:
        return batch / (fixed_s + each_s * batch)

    cap = schedule.batch_cap(fixed_s, each_s, gain, 10**9)
    if cap > 1:
        assert rate(cap) >= (1.0 + gain) * rate(cap / 2) * (1 - 1e-9)
    assert rate(2 * (cap + 1)) < (1.0 + gain) * rate(cap + 1)


def test_a_batch_that_costs_nothing_more_is_as_large_as_it_can_be() -> None:
    assert schedule.batch_cap(0.1, 0.0, 0.1, 16) == 16
    assert schedule.batch_cap(0.0, 0.1, 0.1, 16) == 1


def _allowed(able, resident, vendor, spent, most):
    return schedule.allowed(
        np.array(able, dtype=bool),
        np.array(resident, dtype=bool),
        np.array(vendor, dtype=np.int64),
        np.array(spent, dtype=float),
        np.array(most, dtype=float),
    ).tolist()


def test_what_is_not_able_or_not_resident_is_not_allowed() -> None:
    assert _allowed([True, False, True], [True, True, False], [0, 0, 0], [0.0], [1.0]) == [
        True,
        False,
        False,
    ]


def test_a_vendor_above_its_share_waits_until_it_is_not() -> None:
    assert _allowed([True, True], [True, True], [0, 1], [6.0, 4.0], [0.5, 1.0]) == [False, True]
    assert _allowed([True, True], [True, True], [0, 1], [5.0, 5.0], [0.5, 1.0]) == [True, True]


@given(st.lists(st.floats(0.01, 5.0), min_size=20, max_size=80), st.floats(0.1, 0.9))
def test_shares_end_at_most_a_step_above_their_caps(prices, cap) -> None:
    spent = np.zeros(2)
    both = np.ones(2, dtype=bool)
    for price in prices:
        free = schedule.allowed(both, both, np.arange(2), spent, np.array([cap, 1.0]))
        spent[0 if free[0] else 1] += price
    assert spent[0] <= cap * spent.sum() + max(prices)

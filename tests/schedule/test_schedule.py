from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from polysilicon import schedule


def _choose(price, work, queue, eligible, slack=np.inf, late=1e-6):
    arrays = (np.array(column, dtype=float) for column in (price, work, queue))
    return schedule.choose(*arrays, np.array(eligible, dtype=bool), slack, late)


def test_the_cheapest_work_wins() -> None:
    assert _choose([1.0, 0.1], [1.0, 5.0], [0.0, 0.0], [True, True]) == 1


def test_a_deadline_can_be_worth_the_dearer_pool() -> None:
    args = ([1.0, 0.1], [1.0, 5.0], [0.0, 0.0], [True, True])
    assert _choose(*args, slack=2.0, late=10.0) == 0


def test_no_eligible_pool() -> None:
    assert _choose([1.0], [1.0], [0.0], [False]) == -1


def test_equal_prices_are_decided_by_speed() -> None:
    assert _choose([0.0, 0.0], [2.0, 1.0], [0.0, 0.5], [True, True]) == 1


def test_least_attained_service_first_then_first_come() -> None:
    assert schedule.next_step(np.array([3.0, 1.0, 1.0]), np.array([0.0, 2.0, 1.0])) == 2


@given(st.lists(st.tuples(st.floats(0, 1e6), st.floats(0, 1e6)), min_size=1, max_size=30))
def test_next_step_never_passes_over_a_task_with_less_service(waiting) -> None:
    attained = np.array([a for a, _ in waiting])
    ready = np.array([r for _, r in waiting])
    index = schedule.next_step(attained, ready)
    assert attained[index] == attained.min()
    assert ready[index] == ready[attained == attained.min()].min()


def test_admit_fills_the_room_that_there_is() -> None:
    assert schedule.admit(3, 10, 8) == 5
    assert schedule.admit(9, 10, 8) == 0
    assert schedule.admit(0, 2, 8) == 2

"""SLOs over the steps of tasks, and tasks played by routes and queues."""

from __future__ import annotations

import numpy as np
import pytest

from polysilicon.placement.classes import Sizes
from polysilicon.placement.deadlines import (
    Served,
    class_seconds,
    foresee,
    p99,
    step_seconds,
    tail_of,
    waits,
)
from polysilicon.placement.eligible import Pairs
from polysilicon.placement.queueing import wait_share
from polysilicon.placement.tasks import Tasks

MANY = 4000


def chains(count: int = MANY) -> Tasks:
    """Tasks of a step of class 0, then one of class 1; sizes alike but in one task of a hundred."""
    task = np.repeat(np.arange(count), 2)
    size = np.where(task % 50 == 0, 3.0, 1.0)
    return Tasks(
        agents=["a"] * count,
        task=task,
        code=np.tile([0, 1], count),
        sizes=Sizes(first=np.ones(2 * count), rest=size),
        pause_s=np.full(2 * count, 0.25),
        child=np.arange(count) * 2 + 1,
        parent=np.arange(count) * 2,
    )


def pairs() -> Pairs:
    """Class 0 on a slow and a fast option, class 1 on the fast one."""
    return Pairs(
        code=np.array([0, 0, 1]),
        option=np.array([0, 1, 1]),
        work_s=np.ones(3),
        fixed_s=np.array([0.1, 0.1, 0.0]),
        first_s=np.array([1.0, 0.5, 0.0]),
        rest_s=np.array([4.0, 1.0, 2.0]),
        low=np.ones(3),
        high=np.ones(3),
    )


def test_the_tail_is_a_sum_of_classes() -> None:
    tasks, share = chains(), np.array([0.0, 1.0, 1.0])
    now = class_seconds(pairs(), share, 2)
    ends = tasks.finish_s(step_seconds(tasks, now))[1]
    assert p99(ends) == pytest.approx(0.25 + 0.1 + 0.5 + 3.0 + 0.25 + 6.0)
    tail = tail_of(tasks, "a", now)
    assert tail.steps.tolist() == [1.0, 1.0]
    assert tail.rest.tolist() == [3.0, 3.0]
    assert tail.pause_s == pytest.approx(0.5)
    row = tail.seconds(pairs())
    assert float(row @ share) + tail.pause_s == pytest.approx(p99(ends))
    assert row[0] == pytest.approx(0.1 + 1.0 + 12.0)


def test_routes_are_drawn_by_their_shares() -> None:
    tasks, share = chains(), np.array([0.25, 0.75, 1.0])
    idle = Served(servers=np.ones(2), busy=np.zeros(2), cv2=np.ones(2), mean_s=np.array([5.0, 2.0]))
    ends = foresee(tasks, pairs(), share, idle, np.random.default_rng(1))
    plain = np.arange(MANY) % 50 != 0
    slow, fast = 0.5 + 5.1 + 2.0, 0.5 + 1.6 + 2.0
    assert np.isclose(ends[plain], slow).mean() == pytest.approx(0.25, abs=0.02)
    assert np.isclose(ends[plain], fast).mean() == pytest.approx(0.75, abs=0.02)


def test_waits_have_the_mean_of_the_queue() -> None:
    served = Served(
        servers=np.array([1.0, 4.0]),
        busy=np.array([0.5, 0.8]),
        cv2=np.array([1.0, 3.0]),
        mean_s=np.array([2.0, 1.0]),
    )
    option = np.repeat([0, 1], 200_000)
    drawn = waits(served, option, np.random.default_rng(2))
    expected = wait_share(served.servers, served.busy, served.cv2) * served.mean_s
    for place in (0, 1):
        assert drawn[option == place].mean() == pytest.approx(expected[place], rel=0.03)

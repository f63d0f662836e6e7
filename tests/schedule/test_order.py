"""On which level a task is: like ones on one, shorter ones below longer ones."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polysilicon import schedule

SECONDS = st.floats(1e-3, 1e6)


class Agent:
    """What is known of the tasks of an agent."""

    def __init__(self) -> None:
        self.service_s, self.ended, self.usual_s = np.zeros(schedule.REMEMBERED), 0, 0.0

    def end(self, *service_s: float) -> Agent:
        """Let tasks end."""
        for seconds in service_s:
            self.service_s[self.ended % schedule.REMEMBERED] = seconds
            self.ended += 1
            if schedule.looks(self.ended):
                self.usual_s = schedule.usual_s(self.service_s, 0, self.ended, self.usual_s)
        return self

    def left_s(self, attained_s: float = 0.0) -> float:
        """Return what is expected to be left of a task."""
        return schedule.expected_left_s(self.service_s, 0, self.ended, attained_s)

    def level(self, attained_s: float = 0.0) -> int:
        """Return the level of a task."""
        return schedule.level(self.service_s, 0, self.ended, self.usual_s, attained_s)


@pytest.mark.parametrize(("seconds", "level"), [(0.0, 0), (0.09, 0), (0.1, 1), (0.2, 2), (25.6, 9)])
def test_levels_double(seconds: float, level: int) -> None:
    assert schedule.doublings(seconds) == level


def test_what_is_left_is_the_mean_of_those_that_took_longer() -> None:
    assert Agent().left_s(3.0) == 3.0  # nothing known: as much again as it has had
    agent = Agent().end(1.0, 4.0, 6.0)
    assert agent.left_s(2.0) == 3.0
    assert agent.left_s(7.0) == 7.0
    assert Agent().end(*[100.0] * 10, *[2.0] * schedule.REMEMBERED).left_s() == 2.0


def test_least_service_goes_first_where_no_task_of_the_agent_ended() -> None:
    assert [Agent().level(had_s) for had_s in (0.0, 0.5, 3.0)] == [0, 3, 5]


def test_what_is_usual_is_told_anew_as_long_as_few_ended() -> None:
    agent = Agent()
    told = [agent.end(seconds).usual_s for seconds in (1.0, 3.0, 8.0, 4.0, 10.0)]
    assert told == [1.0, 2.0, 2.0, 4.0, 4.0]


@pytest.mark.parametrize(("then_s", "usual_s"), [(1.4, 1.0), (0.71, 1.0), (1.5, 1.5), (0.7, 0.7)])
def test_what_is_usual_stays_where_the_mean_moves_by_less_than_half_a_level(
    then_s: float, usual_s: float
) -> None:
    agent = Agent().end(*[1.0] * schedule.REMEMBERED)
    assert agent.end(*[then_s] * (schedule.REMEMBERED - 1)).usual_s == 1.0
    assert agent.end(then_s).usual_s == pytest.approx(usual_s)


@pytest.mark.parametrize("mean_s", [0.05, 0.1, 0.8, 51.2])
def test_tasks_that_begin_stay_on_one_level_though_their_mean_is_at_an_edge(mean_s: float) -> None:
    agent, levels, noisy = Agent(), set(), []
    for at, seconds in enumerate(np.random.default_rng(4).exponential(mean_s, 20_000)):
        agent.end(seconds)
        if at >= schedule.REMEMBERED:
            levels.add(agent.level())
            noisy.append(schedule.doublings(agent.left_s()))
    assert len(levels) == 1
    if mean_s >= 0.1:
        assert np.count_nonzero(np.diff(noisy)) > 20


def test_a_task_is_a_level_lower_with_each_half_of_it_that_is_done() -> None:
    agent = Agent().end(*[10.0] * 4)
    assert [agent.level(had_s) for had_s in (0.0, 2.0, 5.0, 7.5, 9.99)] == [7, 7, 6, 5, 0]


def test_a_task_that_has_had_more_than_is_usual_has_more_left() -> None:
    agent = Agent().end(*[1.0] * 30, 40.0, 40.0)
    assert agent.level() == 6  # of 3.4 s
    assert agent.level(2.0) == 9  # 38 s are left


def test_short_tasks_go_before_long_ones_whatever_is_usual() -> None:
    short, long = Agent().end(*[0.1] * 8), Agent().end(*[30.0] * 8)
    assert short.level() < long.level(29.0) < long.level()
    assert Agent().end(*[0.001] * 8).level(0.0005) == 0


@given(st.lists(SECONDS, min_size=1, max_size=600), st.one_of(st.just(0.0), SECONDS))
def test_the_level_is_within_one_of_that_of_what_is_left(
    service_s: list[float], attained_s: float
) -> None:
    agent = Agent().end(*service_s)
    level, left_s = agent.level(attained_s), agent.left_s(attained_s)
    assert level >= 0
    if attained_s > 0.0:
        assert abs(level - schedule.doublings(left_s)) <= 1
    elif agent.ended <= schedule.REMEMBERED and math.log2(agent.ended).is_integer():
        assert level == schedule.doublings(left_s)

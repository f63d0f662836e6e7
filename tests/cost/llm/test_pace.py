from __future__ import annotations

import pytest

from polysilicon.cost.llm.pace import Pace


def test_a_machine_of_which_nothing_was_seen_is_as_it_was_measured():
    assert Pace().at(3.0) == 1.0


def test_the_pace_comes_close_to_what_was_seen_and_one_odd_step_does_not_move_it():
    pace = Pace()
    for n in range(20):
        pace.saw(float(n), 8.0 if n == 17 else 2.0, 1.0)
    assert 1.7 < pace.at(30.0) < 2.0
    first = Pace()
    first.saw(0.0, 2.0, 1.0)
    assert 1.0 < first.at(1.0) < 1.5


def test_what_was_not_over_yet_is_not_known():
    pace = Pace()
    pace.saw(5.0, 2.0, 1.0)
    assert pace.at(4.9) == 1.0
    assert pace.at(5.0) > 1.0


def test_the_latest_count():
    pace = Pace()
    for n in range(40):
        pace.saw(float(n), 0.5 if n >= 20 else 2.0, 1.0)
    assert pace.at(19.0) > 1.5
    assert pace.at(39.0) == pytest.approx(1 / pace.at(19.0))


def test_what_took_no_time_tells_nothing():
    pace = Pace()
    pace.saw(1.0, 0.0, 1.0)
    pace.saw(1.0, 1.0, 0.0)
    assert pace.at(2.0) == 1.0

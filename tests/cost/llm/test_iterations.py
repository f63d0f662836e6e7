from __future__ import annotations

import msgspec
import numpy as np
import pytest

from polysilicon.cost.llm.iterations import (
    Engine,
    EngineSteps,
    Recorded,
    cores_taken,
    play,
    play_each,
)
from polysilicon.cost.llm.local import rates_of
from polysilicon.cost.llm.pace import Pace
from profiles import iteration_s, llm_profile, prompt_s

RATES = rates_of(llm_profile())
ENGINE = Engine(rates=RATES, slots=8, batch_tokens=2048)


def steps(*rows: tuple[float, float, float, float]) -> EngineSteps:
    """Steps of start, new, cached and output."""
    columns = np.array(rows, dtype=np.float64).T
    return EngineSteps(start_s=columns[0], new=columns[1], cached=columns[2], output=columns[3])


def played(*rows, slots=8, batch_tokens=2048, taken=None):
    engine = Engine(rates=RATES, slots=slots, batch_tokens=batch_tokens, taken=taken)
    return play(steps(*rows), engine)


def played_each(*rows, slower=1.0, pace=None):
    """What is played of each step of a record that follows the rates exactly, or all slower."""
    engine = Engine(rates=RATES, slots=8, batch_tokens=2048)
    true = play(steps(*rows), engine)
    given = steps(*((row[0] * slower, *row[1:]) for row in rows))
    recorded = Recorded(
        first_token_s=true.first_token_s * slower,
        end_s=true.end_s * slower,
        ready_s=given.start_s,
    )
    return recorded, play_each(given, recorded, engine, pace)


def test_a_step_alone_takes_its_prompt_and_then_its_tokens():
    found = played((5.0, 192, 0, 21))
    assert found.first_token_s[0] - 5.0 == pytest.approx(prompt_s(192), rel=0.02)
    rest = sum(iteration_s(1, 192 + k) for k in range(20))
    assert found.end_s[0] - found.first_token_s[0] == pytest.approx(rest, rel=0.02)


@pytest.mark.parametrize("output", [0, 1])
def test_one_token_is_over_with_the_prompt(output):
    found = played((1.0, 50, 10, output))
    assert found.first_token_s[0] == found.end_s[0] > 1.0


def test_prompts_that_wait_together_end_together():
    found = played((0.0, 100, 0, 5), (0.01, 100, 0, 5), (0.02, 60, 0, 5))
    assert found.first_token_s[1] == found.first_token_s[2] > found.first_token_s[0]
    both = float(RATES.prefill(160, 100 * 50 + 60 * 30) + RATES.decode(1, 100))
    assert found.first_token_s[1] - found.first_token_s[0] == pytest.approx(both, rel=0.01)


def test_a_prompt_makes_the_others_stand_still():
    alone = played((0.0, 20, 0, 40))
    beside = played((0.0, 20, 0, 40), (0.5, 500, 0, 1))
    late = beside.end_s[0] - alone.end_s[0]
    assert late == pytest.approx(prompt_s(500), rel=0.1)


def test_more_than_the_slots_wait_for_one():
    found = played((0.0, 20, 0, 10), (0.0, 20, 0, 10), (0.0, 20, 0, 10), slots=2)
    assert found.first_token_s[2] > max(found.end_s[:2])


def test_a_step_that_follows_another_begins_at_its_end():
    rows = [(0.0, 20, 0, 10), (0.0, 20, 0, 30), (0.0, 20, 0, 10), (0.0, 20, 0, 10)]
    engine = Engine(rates=RATES, slots=2, batch_tokens=2048)
    lines = msgspec.structs.replace(steps(*rows), after=np.array([-1, -1, 1, 0]))
    found = play(lines, engine)
    # The fourth takes the place of the first, though the third came before it.
    assert found.end_s[0] < found.first_token_s[3] < found.end_s[3] < found.end_s[1]
    assert found.first_token_s[2] > found.end_s[1]
    free = play(steps(*rows), engine)
    assert free.first_token_s[2] < free.end_s[1]


def test_a_long_queue_of_prompts_fills_several_iterations():
    rows = [(0.0, 100, 0, 1)] * 4
    found = played(*rows, batch_tokens=150)
    assert len(set(np.round(found.end_s, 9))) == 3
    whole = played(*rows)
    assert len(set(whole.end_s)) == 1


def test_tools_make_it_slower_while_they_run():
    free = played((0.0, 100, 0, 10))
    # As many cores as two tools had beside the engine when it was measured.
    busy = played((0.0, 100, 0, 10), taken=lambda a, b: 2 / 6)
    assert busy.end_s[0] == pytest.approx(free.end_s[0] * 1.3)


def test_a_tool_with_a_core_for_itself_all_but_stops_the_engine():
    free = played((0.0, 300, 0, 10))
    half_s = free.end_s[0] / 2
    alone = cores_taken(np.array([0.0]), np.array([half_s]), np.array([half_s]))
    beside = played((0.0, 300, 0, 10), taken=alone)
    assert free.end_s[0] + 0.6 * half_s < beside.end_s[0] < free.end_s[0] + 1.2 * half_s


def test_cores_taken_are_those_of_the_tools_at_work():
    taken = cores_taken(np.array([1.0, 2.0]), np.array([2.0, 0.0]), np.array([0.5, 0.0]))
    assert taken(0.0, 1.0) == 0.0
    assert taken(1.0, 2.0) == pytest.approx(0.25)
    assert taken(2.0, 4.0) == pytest.approx(0.125)
    assert taken(9.0, 9.0) == 0.0


def test_an_idle_engine_waits_for_the_next_step():
    found = played((100.0, 10, 0, 2), (0.0, 10, 0, 2))
    assert found.end_s[1] < 1.0
    assert 100.0 < found.end_s[0] < 101.0


def test_no_steps_end_at_no_time():
    empty = np.zeros(0)
    none = EngineSteps(start_s=empty, new=empty, cached=empty, output=empty)
    found = play(none, Engine(rates=RATES, slots=8, batch_tokens=2048))
    assert found.end_s.shape == (0,)


def test_prompts_at_once_pay_for_each_piece():
    one = played((0.0, 200, 0, 1))
    paying = rates_of(llm_profile())
    paying = msgspec.structs.replace(paying, piece_s=0.03)
    engine = Engine(rates=paying, slots=8, batch_tokens=2048)
    two = play(steps((0.0, 100, 0, 1), (0.0, 100, 0, 1)), engine)
    assert two.end_s[0] > one.end_s[0]


def test_each_step_is_played_from_what_was_at_work_when_it_began():
    rows = [(0.0, 100, 0, 30), (0.2, 50, 20, 10), (0.9, 300, 0, 20), (1.0, 40, 0, 5)]
    true, found = played_each(*rows)
    starts = steps(*rows).start_s
    assert found.end_s - starts == pytest.approx(true.end_s - starts, rel=0.05)
    assert found.first_token_s - starts == pytest.approx(true.first_token_s - starts, rel=0.1)


def test_an_error_on_one_step_does_not_shift_the_next():
    rows = [(0.0, 100, 0, 20), (30.0, 100, 0, 20)]
    engine = Engine(rates=RATES, slots=8, batch_tokens=2048)
    true = play(steps(*rows), engine)
    late = Recorded(
        first_token_s=true.first_token_s + np.array([5.0, 0.0]),
        end_s=true.end_s + np.array([20.0, 0.0]),
        ready_s=np.array([0.0, 30.0]),
    )
    found = play_each(steps(*rows), late, engine)
    assert found.end_s == pytest.approx(true.end_s)


def test_who_waited_for_a_slot_begins_when_one_is_free():
    rows = [(0.0, 100, 0, 10), (0.0, 100, 0, 40)]
    engine = Engine(rates=RATES, slots=2, batch_tokens=2048)
    true = play(steps(*rows), engine)
    # The third began when the first ended, which was later than the law has it.
    begin_s = float(true.end_s[0]) + 1.0
    rows.append((begin_s, 300, 0, 5))
    recorded = Recorded(
        first_token_s=np.append(true.first_token_s, begin_s + 1.5),
        end_s=np.append(true.end_s + np.array([1.0, 3.0]), begin_s + 2.0),
        ready_s=np.array([0.0, 0.0, 0.1]),
    )
    met = play_each(steps(*rows), recorded, engine)
    alone = play_each(steps(*rows[:2]), _first_two(recorded), engine)
    assert met.end_s[1] > alone.end_s[1] + 0.5


def _first_two(recorded: Recorded) -> Recorded:
    return Recorded(
        first_token_s=recorded.first_token_s[:2],
        end_s=recorded.end_s[:2],
        ready_s=recorded.ready_s[:2],
    )


def test_a_step_that_comes_during_a_prompt_waits_for_its_end():
    rows = [(0.0, 500, 0, 10), (0.5, 40, 0, 3)]
    true, found = played_each(*rows)
    assert found.first_token_s[1] > prompt_s(500)
    assert found.first_token_s == pytest.approx(true.first_token_s, rel=0.01)


def test_where_others_wait_no_more_run_than_do():
    """An engine may have more slots than are used, where more at once do not pay."""
    rows = [(0.0, 100, 0, 40), (2.0, 300, 0, 5), (4.0, 300, 0, 5)]
    alone = [play(steps((0.0, *row[1:])), ENGINE) for row in rows]
    starts = np.array([0.0, alone[0].end_s[0], alone[0].end_s[0] + alone[1].end_s[0]])
    given = steps(*((s, *row[1:]) for s, row in zip(starts.tolist(), rows, strict=True)))
    recorded = Recorded(
        first_token_s=starts + np.array([a.first_token_s[0] for a in alone]),
        end_s=starts + np.array([a.end_s[0] for a in alone]),
        ready_s=np.zeros(3),
    )
    found = play_each(given, recorded, ENGINE)
    assert found.end_s == pytest.approx(recorded.end_s, rel=0.01)


def test_a_gap_between_slots_takes_another_pass():
    """When the second of three ends, the others are no neighbours any more."""
    rows = [(0.0, 20, 0, 21), (0.0, 20, 0, 2), (0.0, 20, 0, 21)]
    found = played(*rows)
    rest_s = found.end_s[0] - found.end_s[1]
    assert rest_s == pytest.approx(19 * 2 * iteration_s(1, 32), rel=0.02)


def test_the_pace_of_the_machine_is_followed():
    rows = [(5.0 * n, 200, 0, 20) for n in range(12)]
    recorded, blind = played_each(*rows, slower=1.5)
    _, follows = played_each(*rows, slower=1.5, pace=Pace())
    took_s = recorded.end_s - recorded.ready_s
    assert (blind.end_s - recorded.ready_s) * 1.5 == pytest.approx(took_s, rel=0.02)
    assert follows.end_s[0] == blind.end_s[0]
    assert (follows.end_s - recorded.ready_s)[6:] == pytest.approx(took_s[6:], rel=0.1)

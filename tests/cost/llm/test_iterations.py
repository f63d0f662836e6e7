from __future__ import annotations

import numpy as np
import pytest

from polysilicon.cost.llm.iterations import EngineSteps, play
from polysilicon.cost.llm.local import rates_of
from profiles import iteration_s, llm_profile, prompt_s

RATES = rates_of(llm_profile())


def steps(*rows: tuple[float, float, float, float]) -> EngineSteps:
    """Steps of start, new, cached and output."""
    columns = np.array(rows, dtype=np.float64).T
    return EngineSteps(start_s=columns[0], new=columns[1], cached=columns[2], output=columns[3])


def played(*rows, slots=8, batch_tokens=2048, busy=None):
    return play(steps(*rows), RATES, slots=slots, batch_tokens=batch_tokens, busy=busy)


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
    both = float(RATES.prefill(160 + 1, 100 * 50 + 60 * 30 + 100))
    assert found.first_token_s[1] - found.first_token_s[0] == pytest.approx(both, rel=0.01)


def test_a_prompt_makes_the_others_stand_still():
    alone = played((0.0, 20, 0, 40))
    beside = played((0.0, 20, 0, 40), (0.5, 500, 0, 1))
    late = beside.end_s[0] - alone.end_s[0]
    assert late == pytest.approx(prompt_s(500), rel=0.1)


def test_more_than_the_slots_wait_for_one():
    found = played((0.0, 20, 0, 10), (0.0, 20, 0, 10), (0.0, 20, 0, 10), slots=2)
    assert found.first_token_s[2] > max(found.end_s[:2])


def test_a_long_queue_of_prompts_fills_several_iterations():
    rows = [(0.0, 100, 0, 1)] * 4
    found = played(*rows, batch_tokens=150)
    assert len(set(np.round(found.end_s, 9))) == 3
    whole = played(*rows)
    assert len(set(whole.end_s)) == 1


def test_tools_make_it_slower_while_they_run():
    free = played((0.0, 100, 0, 10))
    busy = played((0.0, 100, 0, 10), busy=lambda now_s: 2.0)
    assert busy.end_s[0] == pytest.approx(free.end_s[0] * 1.3)


def test_an_idle_engine_waits_for_the_next_step():
    found = played((100.0, 10, 0, 2), (0.0, 10, 0, 2))
    assert found.end_s[1] < 1.0
    assert 100.0 < found.end_s[0] < 101.0


def test_no_steps_end_at_no_time():
    empty = np.zeros(0)
    found = play(
        EngineSteps(start_s=empty, new=empty, cached=empty, output=empty),
        RATES,
        slots=8,
        batch_tokens=2048,
    )
    assert found.end_s.shape == (0,)

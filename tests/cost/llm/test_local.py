from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from polysilicon.cost.llm.local import LocalLaw, rates_of
from polysilicon.cost.profile import DecodePoint, PrefillPoint, StretchPoint
from polysilicon.cost.types import BASES
from polysilicon.errors import NoBasisError
from profiles import exact, iteration_s, llm_profile, prompt_s


def numbers(*values: float) -> np.ndarray:
    return np.array(values, dtype=np.float64)


def test_rates_follow_what_was_measured():
    rates = rates_of(llm_profile())
    for new, cached in ((50, 0), (300, 0), (700, 24), (96, 1000)):
        found = rates.prefill(new, new * (cached + new / 2))
        assert found == pytest.approx(prompt_s(new, cached), rel=0.03)
    for sequences, context in ((1, 100), (3, 500), (8, 1000), (6, 2000)):
        assert rates.decode(sequences, context) == pytest.approx(
            iteration_s(sequences, context), rel=0.02
        )


def test_prompts_beyond_the_longest_go_on_with_its_slope():
    rates = rates_of(llm_profile())
    assert rates.prefill(2000, 2000 * 1000) == pytest.approx(prompt_s(2000), rel=0.05)


def test_tools_beside_stretch_iterations_between_what_was_measured():
    rates = rates_of(llm_profile())
    assert rates.slower(0) == 1.0
    assert rates.slower(0.5) == pytest.approx(1.1)
    assert rates.slower(7) == pytest.approx(1.3)
    assert rates_of(llm_profile(stretch=())).slower(2) == 1.0
    # Two busy tools may hinder less than one: each then has a core's leftovers.
    uneven = llm_profile(
        stretch=(
            StretchPoint(busy=1, engine=1.8, tool=2.0),
            StretchPoint(busy=2, engine=0.9, tool=9.0),
        )
    )
    assert rates_of(uneven).slower(1) == pytest.approx(1.8)
    assert rates_of(uneven).slower(2) == 1.0


def test_a_step_alone_takes_its_prompt_and_its_iterations():
    law = LocalLaw(llm_profile())
    found = law.seconds(numbers(192, 96), numbers(0, 512), numbers(20, 1))
    assert found.ttft_s == pytest.approx([prompt_s(192), prompt_s(96, 512)], rel=0.02)
    assert found.tpot_s == pytest.approx([iteration_s(1, 202), iteration_s(1, 608)], rel=0.02)
    assert law.share == 1.0
    assert law.largest_tokens == 2048
    assert "llama.cpp" in law.note


def test_the_more_at_once_the_slower_each():
    laws = [LocalLaw(llm_profile(), count) for count in (1, 2, 4, 8)]
    found = [law.seconds(numbers(200), numbers(0), numbers(30)) for law in laws]
    for before, after in pairwise(found):
        assert after.ttft_s > before.ttft_s
        assert after.tpot_s > before.tpot_s
    # But not by as much as they are more: together they gain.
    spent = [f.ttft_s[0] + 29 * f.tpot_s[0] for f in found]
    assert spent[-1] < 8 * spent[0]


def test_beyond_the_slots_steps_queue_and_are_served_no_slower():
    at_slots, beyond = LocalLaw(llm_profile(), 8), LocalLaw(llm_profile(), 64)
    given = numbers(100), numbers(0), numbers(10)
    assert beyond.seconds(*given).tpot_s == at_slots.seconds(*given).tpot_s
    assert beyond.share == pytest.approx(1 / 8)


def test_the_basis_is_measured_only_where_it_was():
    law = LocalLaw(llm_profile(), 4)
    found = law.seconds(numbers(500, 1500, 100), numbers(0, 0, 1800), numbers(20, 20, 20))
    assert [BASES[n] for n in found.basis] == ["measured", "calibrated", "calibrated"]
    busy = LocalLaw(llm_profile(), 4, busy=9.0).seconds(numbers(100), numbers(0), numbers(9))
    assert BASES[busy.basis[0]] == "calibrated"


def test_bands_are_those_of_the_trial_and_wide_without_one():
    given = numbers(100), numbers(0), numbers(10)
    alone = LocalLaw(llm_profile()).seconds(*given)
    assert alone.ttft_high_s / alone.ttft_s == pytest.approx([1.15])
    assert alone.tpot_low_s / alone.tpot_s == pytest.approx([0.9])
    scored = LocalLaw(llm_profile(), 4).seconds(*given)
    assert scored.ttft_low_s / scored.ttft_s == pytest.approx([0.85])
    assert scored.tpot_high_s / scored.tpot_s == pytest.approx([1.1])
    blind = LocalLaw(llm_profile(trial=None), 4).seconds(*given)
    assert blind.ttft_low_s < scored.ttft_low_s
    assert blind.tpot_high_s > scored.tpot_high_s


def test_too_little_that_was_measured_is_refused():
    with pytest.raises(NoBasisError, match="too little of tiny"):
        LocalLaw(llm_profile(decode=()))
    with pytest.raises(NoBasisError, match="too little of tiny"):
        LocalLaw(llm_profile(prefill=llm_profile().prefill[:1]))


def test_a_prompt_of_one_token_takes_no_more_than_a_later_token():
    rates = rates_of(llm_profile())
    assert rates.prefill(1, 0) == pytest.approx(iteration_s(1, 0), rel=0.02)
    assert rates.prefill(1, 0) < rates.prefill(4, 0) < rates.prefill(8, 0)


def test_noise_in_points_makes_no_impossible_law():
    shrinking = llm_profile(
        prefill=(
            PrefillPoint(new_tokens=10, cached_tokens=0, seconds=exact(0.2)),
            PrefillPoint(new_tokens=100, cached_tokens=0, seconds=exact(0.1)),
            PrefillPoint(new_tokens=10, cached_tokens=400, seconds=exact(0.01)),
        ),
        decode=(
            DecodePoint(sequences=1, context_tokens=64, seconds=exact(0.02)),
            DecodePoint(sequences=1, context_tokens=400, seconds=exact(0.01)),
        ),
    )
    rates = rates_of(shrinking)
    assert rates.pair_s == 0.0
    assert rates.prefill(1000, 0) >= rates.prefill(10, 0) > 0
    assert rates.decode(1, 5000) > 0
    assert rates.decode(4, 5000) == rates.decode(1, 5000)

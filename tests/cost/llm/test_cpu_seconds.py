from __future__ import annotations

import numpy as np
import pytest

from polysilicon.cost.llm.cpu_seconds import CALIBRATED, CpuLaw

PLAIN = {
    "share": 1.0, "note": "", "largest_tokens": 1e6, "prompt_s": 0.01, "prompt_slope_s": 0.0,
    "contexts": (64.0, 256.0), "output_s": (0.1, 0.1), "weight_bytes": 1e9, "kv_bytes": 0.0,
    "slower": (1.0, 1.0), "prompt_bands": (0.5, 0.5), "output_band": 0.5, "basis": CALIBRATED,
    "long_basis": CALIBRATED, "output_basis": CALIBRATED, "longer_band": 0.0,
}  # fmt: skip


def ask(new, output, **changes):
    law = CpuLaw(**(PLAIN | changes))
    return law.seconds(*(np.array([float(n)]) for n in (new, 0, output)))


def test_without_bounds_prompts_and_outputs_take_their_seconds():
    said = ask(100, 11)
    assert said.ttft_s == pytest.approx(1.0)
    assert said.tpot_s == pytest.approx(0.1)
    assert said.ttft_low_s == pytest.approx(np.exp(-0.5))
    assert said.tpot_low_s == pytest.approx(0.1 * np.exp(-0.5))


def test_requests_whose_arithmetic_shares_the_cores_take_turns():
    # 8 requests of 100 prompt tokens and 10 later ones, 10 ms of arithmetic each: 8.8 s.
    said = ask(100, 11, in_turn=8.0)
    assert said.ttft_s == pytest.approx(1.0)
    assert said.ttft_s + 10 * said.tpot_s == pytest.approx(8 * (1.0 + 10 * 0.01))
    # One token has no later ones to wait, so it waits itself.
    assert ask(100, 1, in_turn=8.0).ttft_s == pytest.approx(8 * 1.0)
    # Where they are slower anyway, nothing is added.
    slow = ask(100, 11, in_turn=8.0, slower=(9.0, 9.0))
    assert slow.ttft_s == pytest.approx(9.0)
    assert slow.tpot_s == pytest.approx(0.9)


def test_the_best_estimate_is_no_faster_than_arithmetic():
    said = ask(100, 11, token_least_s=0.05)
    assert said.ttft_s == pytest.approx(1.0)
    assert said.ttft_s + 10 * said.tpot_s == pytest.approx((100 + 10) * 0.05)
    assert ask(100, 1, token_least_s=0.05).ttft_s == pytest.approx(100 * 0.05)
    assert ask(100, 11, token_least_s=0.01).tpot_s == pytest.approx(0.1)


def test_the_larger_of_both_bounds_holds():
    both = ask(100, 11, in_turn=8.0, token_least_s=0.1)
    assert both.ttft_s + 10 * both.tpot_s == pytest.approx(110 * 0.1)
    both = ask(100, 11, in_turn=20.0, token_least_s=0.1)
    assert both.ttft_s + 10 * both.tpot_s == pytest.approx(20 * 1.1)


def test_the_band_ends_where_the_cores_are_at_their_peak():
    low = np.exp(-0.5)
    free, bound = ask(100, 11), ask(100, 11, token_peak_s=0.0125)
    assert bound.tpot_s == free.tpot_s
    assert bound.ttft_low_s == free.ttft_low_s == pytest.approx(low)
    # 110 tokens at the peak take 1.375 s, of which the first took its lowest.
    assert bound.ttft_low_s + 10 * bound.tpot_low_s == pytest.approx(1.375)
    assert bound.tpot_low_s > free.tpot_low_s
    # But no end of a band passes the best estimate.
    tight = ask(100, 11, token_peak_s=1.0)
    assert tight.tpot_low_s == tight.tpot_s

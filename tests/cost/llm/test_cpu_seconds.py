from __future__ import annotations

import numpy as np
import pytest

from polysilicon.cost.llm.cpu_seconds import CALIBRATED, CpuLaw

PLAIN = {
    "engine": "vllm", "precision": "bf16", "concurrency": 1.0, "note": "", "largest_tokens": 1e6,
    "prompt_s": 0.01, "prompt_slope_s": 0.0, "contexts": (64.0, 256.0), "output_s": (0.1, 0.1),
    "decode_s": (0.1, 0.1), "weight_bytes": 1e9, "kv_bytes": 0.0, "prompt_bands": (0.5, 0.5),
    "output_band": 0.5, "basis": CALIBRATED, "long_basis": CALIBRATED, "output_basis": CALIBRATED,
    "longer_band": 0.0,
}  # fmt: skip


def ask(new, output, **changes):
    law = CpuLaw(**(PLAIN | changes))
    return law.seconds(*(np.array([float(n)]) for n in (new, 0, output)))


def test_one_step_takes_its_prompt_and_its_outputs():
    said = ask(100, 11)
    assert said.ttft_s == pytest.approx(1.0)
    assert said.tpot_s == pytest.approx(0.1)
    assert said.ttft_low_s == pytest.approx(np.exp(-0.5))
    assert said.tpot_low_s == pytest.approx(0.1 * np.exp(-0.5))


def test_steps_at_once_see_all_prompts_and_decode_together():
    # 8 prompts of 1 s, and 10 passes of 0.3 s, as long as 0.1 s times 8^e. Each step is idle in one
    # of 11 iterations.
    said = ask(100, 11, concurrency=8.0, decode_s=(0.3, 0.3))
    idle = 1.1 ** (1 - np.log(3) / np.log(8))
    assert said.ttft_s + 10 * said.tpot_s == pytest.approx(8 * 1.0 + 10 * 0.3 * idle)
    # A prompt meets 7 others in a cycle, each 1 s of it, and half a pass that is under way.
    assert said.ttft_s == pytest.approx(1.0 + 7 / (8 + 3 * idle) + 0.15 * idle)
    # One token has no later ones to wait, so it waits itself.
    assert ask(100, 1, concurrency=8.0).ttft_s == pytest.approx(8 * 1.0)
    assert (said.passes.prompt_s, said.passes.decode_s) == pytest.approx((1.0, 0.3))


def test_prompts_that_fill_iterations_keep_steps_from_decoding():
    few, many = (ask(n, 2, concurrency=8.0, prompt_s=1e-9) for n in (100, 1024))
    # 8 prompts of half a batch fill 4 iterations, 3 more than the one later token.
    assert many.passes.batches == pytest.approx(0.5)
    # Each prompt passes the weights once, in 0.1 s, as a decode does.
    assert few.ttft_s + few.tpot_s == pytest.approx(8 * 0.1 + 0.1 * 2)
    assert many.ttft_s + many.tpot_s == pytest.approx(8 * 0.1 + 0.1 * 4)


def test_the_best_estimate_of_many_is_no_faster_than_arithmetic():
    said = ask(100, 11, concurrency=8.0, token_least_s=0.05)
    assert said.ttft_s + 10 * said.tpot_s == pytest.approx(8 * (100 + 10) * 0.05, rel=0.01)
    assert ask(100, 1, concurrency=8.0, token_least_s=0.05).ttft_s == pytest.approx(8 * 100 * 0.05)
    # One alone was measured.
    assert ask(100, 11, token_least_s=0.05).ttft_s == pytest.approx(1.0)


def test_contexts_of_all_are_read_where_many_decode():
    far = {"decode_s": (0.1, 0.1), "kv_bytes": 1e6, "concurrency": 4.0}
    said = ask(4001, 1, **far)
    # 4,001 tokens of 4 steps, beside the weights, over 256 of each.
    read = (1e9 + 4 * 4001.5e6) / (1e9 + 4 * 256e6)
    assert said.passes.decode_s == pytest.approx(0.1 * read)


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

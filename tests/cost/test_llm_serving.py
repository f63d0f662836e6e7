from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from polysilicon.cost.llm.serving import COEFFICIENTS, serve
from polysilicon.cost.llm.work import Work

BASE = {
    "new": 100.0, "output": 50.0, "sequences": 1.0, "waiting": 0.0, "prefill_flops": 3e12,
    "prefill_bytes": 4e9, "prefill_link_bytes": 0.0, "decode_flops": 3e9, "decode_bytes": 4e6,
    "cache_bytes": 0.0, "decode_link_bytes": 0.0, "messages": 0.0, "gpus": 1.0, "ranks": 1.0,
    "layers": 10.0, "peak_flops": 1e12, "bandwidth": 1e9, "link": np.inf,
}  # fmt: skip
IDEAL = dict.fromkeys(COEFFICIENTS, 0.0) | {
    "compute": 1.0, "memory": 1.0, "cache": 1.0, "link": 1.0, "wait_power": 1.0, "queue": 1.0,
}  # fmt: skip


def served(c=None, **changes):
    fields = {name: np.array([float(v)]) for name, v in (BASE | changes).items()}
    return serve(Work(**fields), IDEAL | (c or {}))


def test_arithmetic_and_memory_add_in_quadrature():
    found = served()
    assert found.prefill_s == pytest.approx(5.0)  # 3 s and 4 s
    assert found.iteration_s == pytest.approx(5e-3)
    assert found.ttft_s == found.prefill_s
    # The first of 50 tokens comes with the prompt.
    assert found.cycle_s == pytest.approx(5.0 + 49 * 5e-3)


def test_shares_of_the_peaks():
    slow = served({"compute": 0.5, "memory": 0.25, "cache": 2.0}, cache_bytes=1e6)
    assert slow.prefill_s == pytest.approx(np.hypot(6.0, 16.0))
    assert slow.iteration_s == pytest.approx(np.hypot(6e-3, (4 + 2) * 4e-3))


def test_overhead_grows_with_the_sequences_of_a_rank():
    c = {"layer_s": 1e-3, "sequence": 0.1}
    rest = served(sequences=8).iteration_s
    assert served(c, sequences=8).iteration_s == pytest.approx(rest + 10e-3 * 1.8)
    spread = {"sequences": 8, "gpus": 4, "ranks": 4}
    rest = served(**spread).iteration_s
    assert served(c, **spread).iteration_s == pytest.approx(rest + 10e-3 * 1.2)


def test_a_prompt_is_computed_by_its_own_rank():
    four = served(gpus=4)
    ranks = served(gpus=4, ranks=4)
    assert four.prefill_s == pytest.approx(np.hypot(0.75, 4.0))
    assert ranks.prefill_s == pytest.approx(np.hypot(3.0, 4.0))


def test_a_prompt_waits_for_some_of_those_beside_it():
    waits = {"wait": 0.5, "wait_power": 1.0}
    assert served(waits).ttft_s == served().ttft_s
    assert served(waits, sequences=5).ttft_s == pytest.approx(5.0 + 5.0 * 0.5 * 4)
    ranked = served(waits, sequences=8, gpus=4, ranks=4)
    assert ranked.ttft_s == pytest.approx(ranked.prefill_s * (1 + 0.5))
    assert served(waits, sequences=0.5).ttft_s == served(sequences=0.5).ttft_s


def test_a_prompt_waits_for_the_front_end_and_an_iteration_beside_each_chunk():
    for prompt, iterations in ((0, 1), (512, 1.5), (8192, 9)):
        found = served({"request_s": 0.25, "iteration": 2.0}, new=prompt)
        assert found.ttft_s == pytest.approx(5.0 + 0.25 + 2 * iterations * 5e-3)


def test_prompts_that_one_waits_for_are_not_waited_for_again():
    c = {"interference": 1.0, "wait": 0.5, "overlap": 1.0}
    found = served(c, sequences=4)
    # Three other prompts of 3 s each, less a wait of 1.5 prompts of 5 s, over 49 later tokens.
    assert found.tpot_s == pytest.approx(found.iteration_s + (9.0 - 7.5) / 49)
    assert found.ttft_s == pytest.approx(5.0 + 7.5)
    floor = served(c | {"overlap": 9.0}, sequences=4)
    assert floor.tpot_s == pytest.approx(floor.iteration_s + 0.05 * 9.0 / 49)
    # Its own prompt is no other's: alone it waits for none, nor does less than one wait.
    for sequences in (1, 0.5):
        alone = served(c, sequences=sequences)
        assert alone.tpot_s == alone.iteration_s


@pytest.mark.parametrize(("interference", "wait"), [(0.0, 0.0), (0.1, 0.0), (0.0, 0.1), (0.5, 0.0)])
def test_all_prompts_of_a_cycle_are_computed_in_it(interference, wait):
    c = {"interference": interference, "wait": wait}
    found = served(c, sequences=8)
    # Eight prompts of 3 s and 49 iterations, though the decodes wait for few of them.
    assert found.cycle_s == pytest.approx(8 * 3.0 + 49 * 5e-3)
    # What decodes wait for lies between their tokens, the rest before the first.
    assert found.tpot_s == pytest.approx(5e-3 + interference * 7 * 3.0 / 49)
    assert found.ttft_s == pytest.approx(8 * 3.0 - interference * 7 * 3.0)
    # A wait that is longer than all that stays as it is.
    long = served(c | {"wait": 1.0}, sequences=8)
    assert long.ttft_s == pytest.approx(5.0 + 5.0 * 7)
    ranked = served(c | {"wait": 0.0}, sequences=8, gpus=4, ranks=4)
    assert ranked.cycle_s == pytest.approx(
        max(8 * 0.75, 5.0 + interference * 7 * 0.75) + 49 * ranked.iteration_s
    )


def test_one_token_has_no_later_ones_to_wait():
    found = served({"interference": 1.0}, sequences=8, output=1)
    assert found.cycle_s == found.ttft_s == pytest.approx(8 * 3.0)
    assert found.tpot_s == pytest.approx(5e-3 + 7 * 3.0)


def test_no_output_is_no_division_by_nothing():
    found = served({"interference": 1.0}, output=0)
    assert np.isfinite(found.tpot_s)
    assert found.cycle_s == found.ttft_s


def test_a_queue_is_a_share_of_the_cycles_before():
    found = served({"queue": 0.5}, waiting=3)
    assert found.queue_s == pytest.approx(0.5 * 3 * 5.245)
    assert found.ttft_s == pytest.approx(5.0 + 0.5 * 3 * 5.245)
    assert found.cycle_s == pytest.approx(5.245 + 0.5 * 3 * 5.245)
    assert served().queue_s == 0.0
    assert found.tpot_s == served().tpot_s
    assert found.batch_s == pytest.approx(served().batch_s * 4)


def test_coefficients_may_differ_from_step_to_step():
    fields = {name: np.array([v, v], dtype=np.float64) for name, v in BASE.items()}
    both = serve(Work(**fields), IDEAL | {"request_s": np.array([0.0, 1.0])})
    assert both.ttft_s[1] - both.ttft_s[0] == pytest.approx(1.0)


def test_every_cost_makes_it_slower():
    for name in ("layer_s", "request_s", "iteration", "interference", "wait", "sequence"):
        # Where decodes wait for all prompts, the cycle holds these already.
        c = {"layer_s": 1e-4, "interference": 1.0}
        found = [
            served(c | {name: c.get(name, 0.0) + much}, sequences=6).cycle_s
            for much in (0.0, 0.01, 0.1)
        ]
        assert all(a < b for a, b in pairwise(found)), name
        # Where they do not, a small cost hides in the time that prompts take anyway.
        c = {"layer_s": 1e-4}
        found = [
            served(c | {name: c.get(name, 0.0) + much}, sequences=6).cycle_s
            for much in (0.0, 0.01, 0.1, 1e5)
        ]
        assert all(a <= b * (1 + 1e-12) for a, b in pairwise(found)), name
        assert found[0] < found[-1], name

"""The reference simulator against cases that are computed by hand."""

from __future__ import annotations

import math

import pytest

from reference_simulator import EnginePool, Law, Step, ToolPool, play

# A prompt token takes 1 s, an iteration that decodes 10 s and 1 s more for each other sequence.
LAW = Law(grid_tokens=(0, 1000), grid_s=(0, 1000), base_s=(0, 10, 11, 12, 13), context_s=(0,) * 5)


def engine(**changes) -> EnginePool:
    return EnginePool(**{"law": LAW, "slots": 4, "batch_tokens": 1000, **changes})


def told(times) -> list[tuple[float, float, float, float]]:
    return [(t.ready_s, t.start_s, t.first_token_s, t.end_s) for t in times]


def test_one_step_alone():
    # 5 prompt tokens in one iteration, the first of 3 tokens at its end, two more iterations.
    assert told(play([Step(pool=0, prompt=5, output=3, ready_s=2)], [engine()])) == [(2, 2, 7, 27)]


def test_one_token_ends_with_the_prompt():
    assert told(play([Step(pool=0, prompt=5, output=1)], [engine()])) == [(0, 0, 5, 5)]


def test_cached_tokens_cost_nothing_but_one_is_always_new():
    steps = [Step(pool=0, prompt=5, cached=2), Step(pool=0, prompt=5, cached=5, ready_s=100)]
    assert [t.end_s for t in play(steps, [engine()])] == [3, 101]


def test_a_step_joins_at_the_end_of_the_iteration_in_which_it_comes():
    # The first decodes in (4, 14), (14, ...); the second comes at 5 and begins at 14: that
    # iteration takes 3 of prompt and 10 of decoding, until 27; then both decode, 11, until 38.
    steps = [Step(pool=0, prompt=4, output=4), Step(pool=0, prompt=3, output=2, ready_s=5)]
    assert told(play(steps, [engine()])) == [(0, 0, 4, 38), (5, 5, 27, 38)]


def test_a_step_at_the_exact_end_joins_the_next_iteration():
    steps = [Step(pool=0, prompt=4, output=4), Step(pool=0, prompt=3, output=2, ready_s=14)]
    assert told(play(steps, [engine()])) == [(0, 0, 4, 38), (14, 14, 27, 38)]


def test_prompts_share_what_decoding_leaves_of_an_iteration():
    # Iterations of 4 tokens. The first has 2 prompt tokens, the second 5: 2 + 2 until 4; one
    # decodes and 3 are taken until 4 + 3 + 10 = 17; the first is over with its second token.
    steps = [Step(pool=0, prompt=2, output=2), Step(pool=0, prompt=5, output=1)]
    assert told(play(steps, [engine(batch_tokens=4)])) == [(0, 0, 4, 17), (0, 0, 17, 17)]


def test_pairs_of_tokens_and_pieces():
    law = Law(
        grid_tokens=(0, 1),
        grid_s=(0, 1),
        base_s=(0, 0, 0, 0, 0),
        context_s=(0, 0, 0, 0, 0),
        pair_s=1,
        piece_s=100,
    )
    # 2 tokens after 3 that are cached: 2·(3 + 1) = 8; 4 tokens after none: 4·2 = 8; 6 tokens in
    # all; one prompt more than one: 100.
    steps = [Step(pool=0, prompt=5, cached=3), Step(pool=0, prompt=4)]
    assert [t.end_s for t in play(steps, [engine(law=law)])] == [122, 122]


def test_the_context_grows_by_each_token():
    law = Law(grid_tokens=(0, 1), grid_s=(0, 0), base_s=(0, 0), context_s=(0, 1))
    # The second token is made with the prompt of 5 in the cache, the third with one token more.
    steps = [Step(pool=0, prompt=5, output=3)]
    assert [t.end_s for t in play(steps, [engine(law=law, slots=1)])] == [11]


def test_seconds_of_prefill_are_linear_between_points_and_beyond():
    law = Law(grid_tokens=(0, 10, 20), grid_s=(1, 3, 4), base_s=(0,), context_s=(0,))
    assert [law.prefill_s(n) for n in (0, 5, 10, 15, 20, 40)] == [1, 2, 3, 3.5, 4, 6]


def test_no_more_than_the_slots():
    steps = [Step(pool=0, prompt=1, output=2), Step(pool=0, prompt=1, output=1)]
    assert [t.start_s for t in play(steps, [engine(slots=1)])] == [0, 11]


def test_no_more_than_the_cache_holds_and_none_overtakes():
    # 8 of 10 tokens are held until 16: the second has to wait, and the third behind it.
    steps = [
        Step(pool=0, prompt=6, output=2),
        Step(pool=0, prompt=5, output=1),
        Step(pool=0, prompt=1, output=1),
    ]
    assert [t.start_s for t in play(steps, [engine(kv_tokens=10)])] == [0, 16, 16]


def test_the_replica_with_the_fewest_sequences_takes_the_next():
    # Two begin on two replicas; the third shares the first with the one that is there.
    steps = [Step(pool=0, prompt=9, output=1), Step(pool=0, prompt=2), Step(pool=0, prompt=2)]
    found = play(steps, [engine(replicas=2)])
    assert [t.end_s for t in found] == [11, 2, 11]


def test_one_queue_for_all_replicas():
    # Both are full; the third goes where there is room first.
    steps = [Step(pool=0, prompt=9), Step(pool=0, prompt=2), Step(pool=0, prompt=2)]
    found = play(steps, [engine(replicas=2, slots=1)])
    assert told(found)[2] == (0, 2, 4, 4)


def test_cores_are_shared_by_as_many_threads_as_there_are():
    # Alone a thread runs at 1, two at a half each.
    pool = ToolPool(cores=2, rate=(1, 1, 0.5))
    steps = [Step(pool=0, work_s=3), Step(pool=0, work_s=3, ready_s=2)]
    found = play(steps, [pool])
    # 2 are done alone, the last 1 takes 2; then 2 are left of the other, alone.
    assert told(found) == [
        (0, 0, pytest.approx(math.nan, nan_ok=True), 4),
        (2, 2, pytest.approx(math.nan, nan_ok=True), 6),
    ]


def test_a_step_of_two_threads_waits_until_both_are_free_and_none_overtakes():
    pool = ToolPool(cores=2, rate=(1, 1, 1))
    steps = [Step(pool=0, work_s=3), Step(pool=0, work_s=1, cores=2), Step(pool=0, work_s=1)]
    assert [t.start_s for t in play(steps, [pool])] == [0, 3, 4]


def test_waiting_off_the_cores_frees_them():
    pool = ToolPool(cores=1, rate=(1, 1))
    steps = [Step(pool=0, work_s=1, wait_s=5), Step(pool=0, work_s=1)]
    assert [(t.start_s, t.end_s) for t in play(steps, [pool])] == [(0, 6), (1, 2)]


def test_a_child_is_ready_after_the_last_of_its_parents_and_its_think_time():
    tools = ToolPool(cores=4, rate=(1,) * 5)
    steps = [
        Step(pool=0, work_s=1),
        Step(pool=0, work_s=2),
        Step(pool=1, parents=(0, 1), think_s=3, prompt=4),
    ]
    assert told(play(steps, [tools, engine()]))[2] == (5, 5, 9, 9)


def test_what_never_fits_is_refused():
    with pytest.raises(ValueError, match="KV cache"):
        play([Step(pool=0, prompt=10, output=1)], [engine(kv_tokens=10)])
    with pytest.raises(ValueError, match="cores"):
        play([Step(pool=0, work_s=1, cores=2)], [ToolPool(cores=1, rate=(1, 1))])

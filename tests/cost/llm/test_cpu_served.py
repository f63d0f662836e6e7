"""Served loads, made of passes that are known, are taken apart into these."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from polysilicon.cost.llm.cpu_served import Runs, crowded, split, taken_apart
from polysilicon.cost.llm.cpu_site import constants

GIVEN = constants()
RATIO, TOKEN_S, POWER = 0.05, 0.08, 0.4
# The cores reach as much of their peak as is expected.
PEAK_S = RATIO * TOKEN_S * GIVEN["compute_efficiency"]
TOKENS, LATER = np.array([256.0, 1024.0]), np.array([127.0, 255.0])
LOADS = np.array([4.0, 8.0, 16.0, 32.0, 64.0])
RUNS = Runs(
    tokens=TOKENS,
    counted=np.ones(2),
    later=LATER,
    alone_s=TOKEN_S * (TOKENS * RATIO + LATER),
    loads=np.stack([LOADS, LOADS]),
    busy_s=TOKEN_S * (np.outer(TOKENS * RATIO, LOADS) + np.outer(LATER, LOADS**POWER)),
    weight_bytes=1.0,
    context_bytes=np.zeros(2),
)


def test_passes_come_back_and_make_the_runs_that_were_measured():
    found = taken_apart(RUNS, 16.0, PEAK_S, 0.0, GIVEN)
    assert found.prompt_s == pytest.approx(RATIO * TOKEN_S, rel=0.05)
    assert found.output_s == pytest.approx((TOKEN_S, TOKEN_S), rel=0.02)
    assert found.decode_s == pytest.approx([TOKEN_S * 16**POWER] * 2, rel=0.05)
    whole_s = 16.0 * TOKENS * found.prompt_s + LATER * np.array(found.decode_s)
    assert whole_s == pytest.approx(RUNS.busy_s[:, 2], rel=1e-9)


def test_no_prompt_is_faster_than_the_cores_and_no_batch_decodes_faster_than_one():
    found = taken_apart(RUNS, 16.0, 20 * PEAK_S, 20 * PEAK_S, GIVEN)
    assert found.prompt_s == pytest.approx(20 * PEAK_S)
    assert found.decode_s == found.output_s


def test_busy_runs_tell_of_prompts_what_alone_ones_do_not():
    # The guess is a fourth of the truth, and noise hides the prompts of requests alone.
    told, band = split(RUNS, RATIO / 4, GIVEN)
    alone = np.outer(RUNS.alone_s, np.ones(5))
    blind = msgspec.structs.replace(RUNS, loads=np.ones((2, 5)), busy_s=alone)
    unsure, wide = split(blind, RATIO / 4, GIVEN)
    assert unsure < told < 1.05 * RATIO
    assert band < wide <= 1.645 * GIVEN["first_token_spread"] * 1.01
    # With no more than noise to go by, the guess stands.
    deaf = dict(GIVEN) | {"same_run_noise": 100.0}
    assert split(RUNS, RATIO, deaf)[0] == pytest.approx(RATIO, rel=0.05)


def test_longer_contexts_read_more_the_more_at_once():
    runs = msgspec.structs.replace(RUNS, weight_bytes=10.0, context_bytes=np.array([1.0, 2.0]))
    assert runs.longer(1.0) == pytest.approx([1.0, 12 / 11])
    assert runs.longer(np.array([1.0, 10.0]))[:, 1] == pytest.approx([12 / 11, 30 / 20])


def test_more_requests_never_make_one_faster():
    slower = np.array([9.0, 2.0, 3.0, 1.5, 1.0])
    loads = (1.0, 2.0, 4.0, 8.0, 16.0, 40.0, 64.0, 128.0)
    found = [crowded(b, LOADS, slower, GIVEN) for b in loads]
    assert found == sorted(found)
    assert found[4] == pytest.approx(3.0)
    assert found[7] == pytest.approx(2 * found[6])

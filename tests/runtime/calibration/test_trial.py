from __future__ import annotations

import numpy as np

from polysilicon.cost.llm.iterations import Engine, EngineSteps, play
from polysilicon.cost.llm.local import rates_of
from polysilicon.runtime.calibration.requests import Reply
from polysilicon.runtime.calibration.trial import score
from profiles import llm_profile


def replies(slower: float = 1.0, count: int = 20) -> list[Reply]:
    """Replies as the profile's rates make them, or all of them slower."""
    rng = np.random.default_rng(1)
    start_s = 100.0 + np.sort(rng.uniform(0, 4, count))
    new, output = rng.integers(20, 300, count) * 1.0, rng.integers(1, 30, count) * 1.0
    given = EngineSteps(start_s=start_s, new=new, cached=np.zeros(count), output=output)
    engine = Engine(rates=rates_of(llm_profile()), slots=8, batch_tokens=2048)
    ran = play(given, engine)
    return [
        Reply(
            start_s=s,
            token_s=(s + (f - s) * slower,),
            end_s=s + (e - s) * slower,
            new=int(n),
            cached=0,
            output=int(o),
        )
        for s, f, e, n, o in zip(
            start_s.tolist(),
            ran.first_token_s.tolist(),
            ran.end_s.tolist(),
            new,
            output,
            strict=True,
        )
    ]


def test_replies_as_predicted_score_without_error():
    found = score(llm_profile(), [replies(), replies()])
    assert found.steps == 40
    assert found.median_error < 0.03
    assert 0.85 < found.service_low <= found.service_high < 1.15
    assert found.ttft_low <= 1 <= found.ttft_high


def test_a_slower_engine_shows_in_all_of_it():
    found = score(llm_profile(), [replies(1.25)])
    as_said = score(llm_profile(), [replies()])
    assert found.median_error > as_said.median_error + 0.05
    assert found.service_high > as_said.service_high


def test_answers_of_one_token_take_the_band_of_the_whole():
    short = [
        Reply(start_s=r.start_s, token_s=r.token_s, end_s=r.end_s, new=r.new, cached=0, output=1)
        for r in replies()
    ]
    found = score(llm_profile(), [short])
    assert found.tpot_low == found.service_low

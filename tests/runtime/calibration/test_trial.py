from __future__ import annotations

import numpy as np

from polysilicon.cost.llm.iterations import Engine, EngineSteps, play
from polysilicon.cost.llm.local import rates_of
from polysilicon.runtime.calibration.requests import Reply
from polysilicon.runtime.calibration.trial import Served, score
from polysilicon.runtime.executor import CallResult
from profiles import llm_profile


def served(replies: list[Reply], *tools: CallResult) -> Served:
    return Served(replies=replies, tools=list(tools))


def replies(slower: float = 1.0, count: int = 24) -> list[Reply]:
    """Replies as the profile's rates make them, or all of them slower; eight lines of steps."""
    rng = np.random.default_rng(1)
    new, output = rng.integers(20, 300, count) * 1.0, rng.integers(1, 30, count) * 1.0
    engine = Engine(rates=rates_of(llm_profile()), slots=8, batch_tokens=2048)
    start_s = np.arange(8) * 1e-3
    open_steps = list(range(8))
    while True:
        n = len(start_s)
        given = EngineSteps(start_s=start_s, new=new[:n], cached=np.zeros(n), output=output[:n])
        ran = play(given, engine)
        if n == count:
            break
        # Nothing that begins later can move the earliest end.
        ended = min(open_steps, key=lambda step: ran.end_s[step])
        open_steps[open_steps.index(ended)] = n
        start_s = np.append(start_s, ran.end_s[ended])
    return [
        Reply(
            start_s=s * slower,
            token_s=(f * slower,),
            end_s=e * slower,
            new=int(n),
            cached=0,
            output=int(o),
            waited_s=float(place >= 8),
        )
        for place, (s, f, e, n, o) in enumerate(
            zip(
                start_s.tolist(),
                ran.first_token_s.tolist(),
                ran.end_s.tolist(),
                new,
                output,
                strict=True,
            )
        )
    ]


def test_replies_as_predicted_score_nearly_without_error():
    found = score(llm_profile(), [served(replies()), served(replies())])
    assert found.steps == 48
    assert found.median_error < 0.03
    assert 0.85 < found.service_low <= found.service_high < 1.15
    assert found.ttft_low <= 1 <= found.ttft_high


def test_a_slower_engine_shows_in_all_of_it():
    found = score(llm_profile(), [served(replies(1.25))])
    as_said = score(llm_profile(), [served(replies())])
    assert found.median_error > as_said.median_error + 0.03
    assert found.service_high > as_said.service_high + 0.1


def test_answers_of_one_token_take_the_band_of_the_whole():
    short = [
        Reply(start_s=r.start_s, token_s=r.token_s, end_s=r.end_s, new=r.new, cached=0, output=1)
        for r in replies()
    ]
    found = score(llm_profile(), [served(short)])
    assert found.tpot_low == found.service_low


def test_cores_that_tools_had_are_no_error_of_the_prediction():
    slow = replies(1.3)
    # Two tools that had as much of the cores as beside the engine when it was measured.
    end_s = max(reply.end_s for reply in slow)
    tool = CallResult(data=b"", cpu_s=end_s / 3, wait_s=0.0, begin_s=0.0, end_s=2 * end_s)
    told = score(llm_profile(), [served(slow, tool, tool)])
    blind = score(llm_profile(), [served(slow)])
    assert told.median_error < 0.05 < blind.median_error

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from polysilicon.cost.beside import Predicted, busy_tools, llm_steps, predict_run
from polysilicon.cost.llm.iterations import Engine, EngineSteps, play
from polysilicon.cost.llm.local import rates_of
from polysilicon.workload.record import StepRecord
from profiles import llm_profile, profile


def tool(task: int, seconds: float, **fields) -> StepRecord:
    given = {"task_id": f"t{task}", "step_id": f"s{task}", "name": "code", "kind": "tool"}
    given |= {"agent": "coder", "start_s": 1.0, "end_s": 1.0 + seconds, "outcome": "ok"}
    return StepRecord(**(given | fields))


def chats(count: int = 12, seed: int = 4) -> list[StepRecord]:
    """Chats that took exactly what the profile's rates make of them."""
    rng = np.random.default_rng(seed)
    start_s = np.sort(rng.uniform(0, 15, count))
    new, cached = rng.integers(10, 300, count) * 1.0, rng.integers(0, 50, count) * 1.0
    output = rng.integers(1, 40, count) * 1.0
    given = EngineSteps(start_s=start_s, new=new, cached=cached, output=output)
    engine = Engine(rates=rates_of(llm_profile()), slots=8, batch_tokens=2048)
    ran = play(given, engine)
    return [
        StepRecord(
            task_id=f"c{n}",
            step_id="chat",
            name="chat",
            kind="llm",
            model="tiny",
            agent="coder",
            start_s=float(start_s[n]),
            first_token_s=float(ran.first_token_s[n]),
            end_s=float(ran.end_s[n]),
            prompt_tokens=int(new[n] + cached[n]),
            cached_tokens=int(cached[n]),
            output_tokens=int(output[n]),
            outcome="ok",
        )
        for n in range(count)
    ]


def test_chats_that_follow_the_rates_are_predicted():
    run = predict_run(chats(), profile())
    assert len(run.steps) == 12
    assert not run.refused
    for found in run.steps:
        assert found.error == pytest.approx(0, abs=0.1)
        assert found.inside
        true_s = found.step.first_token_s - found.step.start_s
        assert found.first_s == pytest.approx(true_s, rel=0.2)


def test_a_step_s_own_end_is_no_input():
    told = chats()
    honest = {p.step.task_id: p.service_s for p in predict_run(told, profile()).steps}
    for place, step in enumerate(told):
        lie = msgspec.structs.replace(step, end_s=step.end_s * 3, first_token_s=step.end_s)
        lying = [*told[:place], lie, *told[place + 1 :]]
        found = {p.step.task_id: p.service_s for p in predict_run(lying, profile()).steps}
        assert found[step.task_id] == honest[step.task_id]


def tool_run(*steps: StepRecord) -> dict[str, Predicted]:
    return {p.step.task_id: p for p in predict_run(steps, profile()).steps}


def test_a_tool_alone_takes_its_work_its_waits_and_its_start_up():
    found = tool_run(tool(1, 9.0, cpu_s=0.5, wait_s=0.25, startup_s=0.125))["t1"]
    assert found.service_s == pytest.approx(0.875)
    assert found.low_s < 0.875 < found.high_s
    assert not found.inside


def test_a_tool_s_own_end_is_no_input():
    short, long = tool(1, 0.2, cpu_s=0.1), tool(1, 0.9, cpu_s=0.1)
    beside = tool(2, 3.0, cpu_s=3.0, start_s=0.5)
    assert tool_run(short, beside)["t1"].service_s == tool_run(long, beside)["t1"].service_s


def test_a_long_tool_waits_behind_the_engine_and_a_short_one_does_not():
    chat = tool(9, 5.0, kind="llm", name="chat", model="tiny", start_s=0.0)
    stretch = 4.0  # of the profile, beside one tool
    found = tool_run(tool(1, 4.0, cpu_s=0.5), chat)["t1"]
    assert found.service_s == pytest.approx(0.5 * stretch, rel=0.01)
    found = tool_run(tool(1, 0.004, cpu_s=0.0003), chat)["t1"]
    assert found.service_s == pytest.approx(0.0003)
    assert found.high_s < 0.0004


def test_tools_share_the_cores():
    alone = tool_run(tool(1, 1.0, cpu_s=1.0))["t1"]
    four = tool_run(
        *(tool(n, 2.0, cpu_s=2.0, start_s=0.9) for n in range(2, 6)), tool(1, 1.0, cpu_s=1.0)
    )
    assert alone.service_s == pytest.approx(1.0)
    # No more tools compute at once than there are cores, however many there are.
    assert four["t1"].service_s == pytest.approx(1.0)


def test_what_cannot_be_known_is_refused_and_counted():
    steps = [
        tool(1, 1.0),
        tool(2, 1.0, kind="embed", name="embed"),
        tool(3, 1.0, outcome="timeout"),
        tool(4, 1.0, start_s=None, end_s=None),
        tool(5, 1.0, kind="llm", name="chat", model="tiny"),
        tool(6, 1.0, kind="llm", name="chat", model="huge", prompt_tokens=5, output_tokens=5),
        tool(7, 1.0, kind="train", name="train"),
    ]
    run = predict_run(steps, profile())
    assert run.steps == ()
    assert run.refused == {
        "its core-seconds are not known": 2,
        "it did not end well": 1,
        "it has no start and end": 1,
        "its tokens are not known": 1,
        "its model was not measured here": 1,
        "training was not measured here": 1,
    }


def test_tools_that_compute_make_chats_slower():
    working = [tool(n, 4.0, start_s=0.0, end_s=4.0, cpu_s=4.0) for n in range(4)]
    waiting = [tool(n, 4.0, start_s=0.0, end_s=4.0, cpu_s=0.0) for n in range(4)]
    slow = predict_run([*chats(), *working], profile()).steps
    fast = predict_run([*chats(), *waiting], profile()).steps
    assert sum(p.service_s for p in slow) > sum(p.service_s for p in fast)


def test_busy_tools_are_no_more_than_the_cores():
    busy = busy_tools([tool(n, 4.0, cpu_s=4.0) for n in range(9)], profile())
    assert busy(0.5) == 0.0
    assert busy(2.0) == 2.0
    assert busy(6.0) == 0.0
    on_its_way = busy_tools([tool(1, 4.0, cpu_s=0.1)], profile())
    assert on_its_way(2.0) == pytest.approx(0.1 * 6.0 / 4.0)


def test_no_steps_need_no_engine():
    assert llm_steps([], llm_profile()) == []


def test_bands_without_a_trial_are_wide():
    narrow = llm_steps(chats(), llm_profile())[0]
    wide = llm_steps(chats(), llm_profile(trial=None))[0]
    assert wide.low_s < narrow.low_s < narrow.high_s < wide.high_s


def test_a_band_holds_the_trial_and_the_same_about_its_middle():
    """A run follows the pace of the machine, which was another one in the trial."""
    trial = msgspec.structs.replace(llm_profile().trial, service_low=1.0, service_high=1.69)
    (found,) = llm_steps(chats(1), llm_profile(trial=trial))
    assert found.low_s / found.service_s == pytest.approx(1 / 1.3)
    assert found.high_s / found.service_s == pytest.approx(1.69)


def test_steps_that_were_over_tell_the_pace_of_the_machine():
    """All of them took equally long, and longer than the profile says of the first."""
    alone = [
        msgspec.structs.replace(
            step,
            start_s=20.0 * n,
            first_token_s=20.0 * n + 2 * (step.first_token_s - step.start_s),
            end_s=20.0 * n + 2 * (step.end_s - step.start_s),
            prompt_tokens=100,
            cached_tokens=0,
            output_tokens=10,
        )
        for n, step in enumerate(chats(1) * 10)
    ]
    found = [predicted.service_s for predicted in llm_steps(alone, llm_profile())]
    assert found == sorted(found)
    assert found[-1] > 1.6 * found[0]

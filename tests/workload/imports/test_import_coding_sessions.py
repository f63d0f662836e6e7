from __future__ import annotations

import pytest

from imported import imported
from polysilicon.errors import InputError

HEADER = (
    "trace_id,agent_id,req_index,t_s,stream_type,model,input_tokens,output_tokens,n_hash_blocks,"
    "shared_prefix_blocks,block_size,input_types,output_types,stop,api_time_s,think_time_s,ttft_s,"
    "tool_tokens,system_tokens\n"
)


def call(
    agent: str, index: int, t_s: float, stop: str, api_s: object, gap_s: object, **more: object
) -> str:
    known = {"trace": "t1", "prompt": 1000, "shared": 10, "ttft": "", "input": "text"} | more
    return (
        f"{known['trace']},{agent},{index},{t_s},n,m,{known['prompt']},20,16,{known['shared']},64,"
        f"{known['input']},text,{stop},{api_s},{gap_s},{known['ttft']},5,6\n"
    )


def steps(*calls: str) -> dict[str, dict[str, object]]:
    _, rows = imported(HEADER + "".join(calls), "coding-sessions")
    return {row["step_id"]: row for row in rows}


def test_a_gap_after_a_tool_call_is_the_clients_and_one_after_a_turn_a_persons() -> None:
    found = steps(
        call("main", 0, 0.0, "tool_use", 7.5, 0.0, ttft=2.0),
        call("main", 1, 19.0, "end_turn", 4.0, 12.0),
        call("main", 2, 600.0, "end_turn", 1.0, 577.0),
    )
    assert found["main/0"] == {
        "task_id": "t1", "step_id": "main/0", "agent": "main", "name": "chat", "kind": "llm",
        "model": "m", "arrival_s": 0.0, "ready_s": 0.0, "start_s": 0.0, "first_token_s": 2.0,
        "end_s": 7.5, "prompt_tokens": 1000, "cached_tokens": 640, "output_tokens": 20,
    }  # fmt: skip
    assert found["main/0/client"] == {
        "task_id": "t1", "step_id": "main/0/client", "parent_ids": ["main/0"], "agent": "main",
        "name": "client", "kind": "tool", "arrival_s": 0.0, "ready_s": 7.5, "start_s": 7.5,
        "end_s": 19.0, "wait_s": 11.5,
    }  # fmt: skip
    assert found["main/1"]["parent_ids"] == ["main/0/client"]
    assert found["main/2"]["parent_ids"] == ["main/1"]
    assert found["main/2"]["ready_s"] == 600.0
    assert len(found) == 4


def test_sub_agents_that_are_awaited_are_no_part_of_the_clients_time() -> None:
    found = steps(
        call("main", 0, 10.0, "tool_use", 5.0, 0.0),
        call("main/sub1", 0, 0.0, "tool_use", 2.0, 0.0),
        call("main/sub1", 1, 4.0, "end_turn", 6.0, 2.0),
        call("main/sub2", 0, 0.0, "end_turn", 100.0, 0.0),
        call("main", 1, 40.0, "end_turn", 1.0, 25.0),
    )
    # The times of a sub-agent count from its own start: the end of the call before it.
    assert found["main/sub1/0"]["start_s"] == 15.0
    assert found["main/sub1/0"]["parent_ids"] == ["main/0"]
    assert found["main/sub2/0"]["parent_ids"] == ["main/0"]
    assert found["main/sub1/0/client"]["wait_s"] == 2.0
    # The first ended at 25 s; the second went on in the background until 115 s.
    assert found["main/0/client"]["parent_ids"] == ["main/sub1/1"]
    assert found["main/0/client"]["wait_s"] == 15.0
    assert found["main/1"]["parent_ids"] == ["main/0/client"]


def test_thousands_of_sub_agents_are_awaited_in_the_order_of_their_last_calls() -> None:
    subs = [f"main/sub{i}" for i in range(5000)]
    found = steps(
        call("main", 0, 0.0, "end_turn", 1.0, 0.0),
        *(call(sub, 0, 0.0, "end_turn", 1.0, 0.0) for sub in subs),
        call(subs[0], 1, 2.0, "end_turn", 1.0, 0.0),
        call("main", 1, 9.0, "end_turn", 1.0, 0.0),
    )
    ended = [f"{sub}/0" for sub in subs[1:]] + [f"{subs[0]}/1"]
    assert found["main/1"]["parent_ids"] == ended


def test_calls_without_seconds_keep_what_is_told() -> None:
    found = steps(
        call("main", 0, 0.0, "", "", 0.0),
        call("main", 1, 30.0, "", "", 20.0, input="tool_result"),
        call("main", 2, 90.0, "", "", 20.0, input="text"),
    )
    assert "start_s" not in found["main/0"]
    assert found["main/0/client"]["wait_s"] == 20.0
    assert "main/1/client" not in found
    assert found["main/2"]["parent_ids"] == ["main/1"]


def test_calls_that_overlap_do_not_wait_for_each_other() -> None:
    found = steps(
        call("main", 0, 0.0, "end_turn", 60.0, 0.0), call("main", 1, 5.0, "end_turn", 1.0, 0.0)
    )
    assert "parent_ids" not in found["main/1"]


def test_sessions_that_lie_apart_are_gathered() -> None:
    said, rows = imported(
        HEADER
        + call("main", 0, 0.0, "end_turn", 1.0, 0.0, trace="a")
        + call("main", 0, 0.0, "end_turn", 1.0, 0.0, trace="b")
        + call("main", 1, 9.0, "end_turn", 1.0, 0.0, trace="a"),
        "coding-sessions",
    )
    assert [(row["task_id"], row["step_id"]) for row in rows] == [
        ("a", "main/0"),
        ("a", "main/1"),
        ("b", "main/0"),
    ]
    assert said.tasks == 2
    assert any("not told apart" in note for note in said.notes)


def test_a_call_that_is_there_twice_is_a_task_that_cannot_be_used() -> None:
    text = HEADER + call("main", 0, 0.0, "end_turn", 1.0, 0.0) * 2
    twice = "task t1: step_id: step 'main/0' of task 't1' is already there"
    with pytest.raises(InputError, match=twice):
        imported(text, "coding-sessions")
    said, rows = imported(text, "coding-sessions", skip_bad=True)
    assert rows == []
    assert said.skipped[0].count == 2
    assert said.skipped[0].reason.startswith("steps of a task that is left out: step_id: ")

"""Random rows come back with the same tokens, and random bytes raise nothing but `InputError`."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imported import TABLES, imported
from polysilicon.errors import InputError
from polysilicon.workload.imports.commands import program

tokens = st.integers(0, 2**53)
seconds = st.floats(0, 1e6, allow_nan=False)
words = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=8)
pairs = st.lists(st.tuples(tokens, tokens), min_size=1, max_size=20)


def written(names: list[str], rows: list[list[Any]], **dialect: Any) -> str:
    file = io.StringIO()
    writer = csv.writer(file, **dialect)
    writer.writerows([names, *rows])
    return file.getvalue()


def sums(rows: list[dict[str, Any]]) -> tuple[int, int, int]:
    prompt = sum(row.get("prompt_tokens", 0) for row in rows)
    return len(rows), prompt, sum(row.get("output_tokens", 0) for row in rows)


def expected(found: list[tuple[int, int]]) -> tuple[int, int, int]:
    return len(found), sum(p for p, _ in found), sum(o for _, o in found)


@settings(max_examples=25, deadline=None)
@given(found=pairs, mark=st.sampled_from("\n\t;,"))
def test_csv_keeps_tokens(found: list[tuple[int, int]], mark: str) -> None:
    rows = [["2024-05-10 00:00:00.5", p, o] for p, o in found]
    names = ["TIMESTAMP", "ContextTokens", "GeneratedTokens"]
    assert sums(imported(written(names, rows), "azure-llm")[1]) == expected(found)
    rows = [[i, f"text{mark}\"'{mark}", p, o] for i, (p, o) in enumerate(found)]
    names = ["time", "prompt", "prompt_tokens", "output_tokens"]
    for delimiter in ",;\t":
        text = written(names, rows, delimiter=delimiter, lineterminator="\n")
        assert sums(imported(text, "table")[1]) == expected(found)


@settings(max_examples=25, deadline=None)
@given(
    found=st.lists(
        st.tuples(tokens, tokens, seconds, words | st.none(), st.none() | seconds),
        min_size=1,
        max_size=20,
    )
)
def test_sessions_keep_tokens_and_requests(found: list[tuple[Any, ...]]) -> None:
    rows = [["m", p, o, at, "log", s, took] for p, o, at, s, took in found]
    names = ["Model", "Request tokens", "Response tokens", "Timestamp", "Log Type",
             "Session ID", "Elapsed time"]  # fmt: skip
    said, back = imported(written(names, rows), "burstgpt")
    assert sums(back) == expected([(p, o) for p, o, *_ in found])
    assert said.steps == len(found)
    ended = {(row["task_id"], row["step_id"]): row.get("end_s") for row in back}
    for row in back:
        for parent in row.get("parent_ids", ()):
            end_s = ended[row["task_id"], parent]
            assert end_s is None or end_s <= row["ready_s"]


@settings(max_examples=25, deadline=None)
@given(
    found=st.lists(
        st.tuples(st.lists(st.integers(0, 9), max_size=5), tokens), min_size=1, max_size=12
    )
)
def test_blocks_are_cached_as_a_plain_replay_says(found: list[tuple[list[int], int]]) -> None:
    lines = [
        {"timestamp": i, "input_length": 512 * len(b), "output_length": o, "hash_ids": b}
        for i, (b, o) in enumerate(found)
    ]
    _, rows = imported("".join(json.dumps(line) + "\n" for line in lines), "mooncake")
    before: set[int] = set()
    for (blocks, output), row in zip(found, rows, strict=True):
        known = 0
        while known < len(blocks) and blocks[known] in before:
            known += 1
        before |= set(blocks)
        assert (row["cached_tokens"], row["output_tokens"]) == (512 * known, output)


@settings(max_examples=25, deadline=None)
@given(found=pairs, indent=st.none() | st.integers(0, 2))
def test_json_keeps_tokens(found: list[tuple[int, int]], indent: int | None) -> None:
    bench = {"input_lens": [p for p, _ in found], "output_lens": [o for _, o in found]}
    text = json.dumps({"request_rate": float("inf"), **bench}, indent=indent)
    assert sums(imported(text, "vllm-bench")[1]) == expected(found)
    steps = [
        {"source": "agent", "metrics": {"prompt_tokens": p, "completion_tokens": o}}
        for p, o in found
    ]
    text = json.dumps({"schema_version": "ATIF-v1.4", "steps": steps}, indent=indent)
    assert sums(imported(text, "atif")[1]) == expected(found)


SEEDS = st.sampled_from(
    [
        "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.68,374,44\n",
        "Timestamp,Model,Request tokens,Response tokens,Session ID\n5,m,4,1,7\n",
        '{"timestamp": 27, "input_length": 600, "output_length": 500, "hash_ids": [0, 1]}\n',
        '{"schema_version": "ATIF-v1.4", "steps": [{"source": "agent", "tool_calls": [{}]}]}',
        '{"trajectory": [{"action": "ls", "execution_time": 1.5}], "info": {}}',
        '{"messages": [{"role": "assistant", "extra": {"timestamp": 1.5, "actions": [{}]}}]}',
        '{"input_lens": [1], "output_lens": [2], "ttfts": [0.1], "itls": [[0.2]]}',
        "trace_id,agent_id,req_index,t_s,input_tokens,output_tokens,stop\na,m,0,1,2,3,tool_use\n",
        "time,session_id,prompt_tokens,parent_ids\n2024-01-01 00:00,a,5,x;y\n",
        '{"time": 1700000000000, "prompt_tokens": 5, "task_id": "t", "parent_ids": ["a"]}\n',
    ]
)


@pytest.mark.parametrize("named", TABLES)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_nothing_but_an_input_error_is_raised(named: str, data: st.DataObject) -> None:
    seed = bytearray(data.draw(SEEDS | st.just("")).encode())
    cut = data.draw(st.integers(0, len(seed)))
    seed[cut : cut + data.draw(st.integers(0, 9))] = data.draw(st.binary(max_size=40))
    refused, tasks, ids = "one line", 0, set()
    try:
        said, rows = imported(bytes(seed), named, skip_bad=data.draw(st.booleans()))
        tasks, ids = said.tasks, {row["task_id"] for row in rows}
    except InputError as error:
        refused = str(error)
    assert len(refused.splitlines()) == 1
    assert len(ids) == tasks


@given(st.text(max_size=200))
def test_the_name_of_a_program_is_short_and_plain(command: str) -> None:
    name = program(command)
    assert 0 < len(name) <= 24
    assert name == name.lower()
    assert name.isascii()

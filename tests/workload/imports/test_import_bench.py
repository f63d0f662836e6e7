from __future__ import annotations

import json

import pytest

from imported import imported
from polysilicon.errors import InputError
from polysilicon.workload.imports.source import HEAD_BYTES

SUMS = {"duration": 3.0, "completed": 2, "total_input_tokens": 300, "total_output_tokens": 12}
DETAILS = {
    "input_lens": [100, 200, 50],
    "output_lens": [3, 9, 0],
    "ttfts": [0.5, 0.25, 0.0],
    "itls": [[0.125, 0.125], [0.5], []],
    "generated_texts": ['NaN " Infinity', "kept nowhere", ""],
    "errors": ["", "", "Traceback"],
}
VLLM = {"date": "20250101-101010", "model_id": "m", "request_rate": "inf", **SUMS}
SGLANG = {"backend": "sglang", "dataset_name": "random", "request_rate": float("inf"), **SUMS}


def test_vllm_tells_starts() -> None:
    text = json.dumps(VLLM | DETAILS | {"start_times": [1005.5, 1004.0, 1006.0]})
    said, rows = imported(text, "vllm-bench", name="b.json")
    common = {"step_id": "0", "name": "chat", "kind": "llm", "model": "m"}
    assert rows == [
        {"task_id": "0", **common, "arrival_s": 1.5, "ready_s": 1.5, "start_s": 1.5,
         "first_token_s": 2.0, "end_s": 2.25, "prompt_tokens": 100, "output_tokens": 3,
         "outcome": "ok"},
        {"task_id": "1", **common, "arrival_s": 0.0, "ready_s": 0.0, "start_s": 0.0,
         "first_token_s": 0.25, "end_s": 0.75, "prompt_tokens": 200, "output_tokens": 9,
         "outcome": "ok"},
        {"task_id": "2", **common, "arrival_s": 2.0, "ready_s": 2.0, "start_s": 2.0,
         "prompt_tokens": 50, "output_tokens": 0, "outcome": "error"},
    ]  # fmt: skip
    assert said.tasks == 3


def test_without_starts_only_durations_are_kept() -> None:
    for named, sums in (("vllm-bench", VLLM), ("sglang-bench", SGLANG)):
        said, rows = imported(json.dumps(sums | DETAILS) + "\n", named)
        assert [row["start_s"] for row in rows] == [0.0, 0.0, 0.0]
        assert not any("arrival_s" in row or "ready_s" in row for row in rows)
        assert any("when requests began is not told" in note for note in said.notes)


def test_runs_that_were_added_to_a_file_follow_one_another() -> None:
    text = json.dumps(SGLANG | DETAILS) + "\n"
    for runs in (2, HEAD_BYTES // len(text) + 2):  # within the head of the file, and beyond
        said, rows = imported(text * runs, "sglang-bench")
        assert said.tasks == 3 * runs
        assert rows[-1]["task_id"] == str(3 * runs - 1)


def test_failures_are_told_by_no_output_where_there_are_no_errors() -> None:
    details = {name: DETAILS[name] for name in ("input_lens", "output_lens", "ttfts", "itls")}
    _, rows = imported(json.dumps(VLLM | details), "vllm-bench")
    assert [row["outcome"] for row in rows] == ["ok", "ok", "error"]


def test_a_time_that_is_not_told_is_left_out() -> None:
    details = DETAILS | {"ttfts": [float("nan"), 0.25, 0.0]}
    _, rows = imported(json.dumps(VLLM | details), "vllm-bench")
    assert "end_s" not in rows[0]
    assert "first_token_s" not in rows[0]


def test_sums_alone_are_refused_with_the_flag_to_use() -> None:
    with pytest.raises(
        InputError, match="only the sums .*again with --save-result --save-detailed"
    ):
        imported(json.dumps(VLLM), "vllm-bench")
    with pytest.raises(InputError, match="only the sums .*again with --output-details"):
        imported(json.dumps(SGLANG), "sglang-bench")


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"output_lens": [3, -9, 0]}, "output_lens is no whole number from 0 to 2^53"),
        ({"input_lens": [3, 1e30, 0]}, "input_lens is no whole number from 0 to 2^53"),
        ({"ttfts": [0.5, -0.25, 0.0]}, "ttfts is no number of seconds from 0"),
        ({"itls": [[], [1e300], []]}, "itls is no number of seconds from 0"),
        ({"start_times": [0, 1e300, 0]}, "start_times is no number of seconds"),
    ],
)
def test_a_bad_request_is_named_or_left_out(more: dict[str, object], reason: str) -> None:
    text = json.dumps(VLLM | DETAILS | more)
    with pytest.raises(InputError) as caught:
        imported(text, "vllm-bench")
    assert caught.value.where.endswith("trace.csv, row 2")
    assert caught.value.what == reason
    said, rows = imported(text, "vllm-bench", skip_bad=True)
    assert [row["task_id"] for row in rows] == ["0", "2"]
    assert [(s.reason, s.count) for s in said.skipped] == [(reason, 1)]


def test_lists_of_different_length_are_refused() -> None:
    text = json.dumps(VLLM | DETAILS | {"ttfts": [0.1]})
    with pytest.raises(InputError, match="lists of requests differ in length"):
        imported(text, "vllm-bench")

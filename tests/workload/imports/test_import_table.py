from __future__ import annotations

import io
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from imported import imported
from polysilicon.errors import InputError
from polysilicon.workload.files import read, write
from polysilicon.workload.imports.run import import_files
from polysilicon.workload.imports.types import Options
from polysilicon.workload.record import StepRecord
from polysilicon.workload.workload import Workload


def parquet(**columns: Any) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table(columns), file)
    return file.getvalue()


def test_common_names_are_known() -> None:
    text = (
        "timestamp_ms,session_id,input_tokens,output_tokens,latency,ttft_ms,model,tool,foo,status\n"
        "1700000000000,a,10,2,0.5,100,m,,z,200\n"
        "1700000000700,a,,,0.25,,,grep,z,weird\n"
        '1700000002000,b,10,2,0.5,100,m,,"z\ny",failed\n'
    )
    said, rows = imported(text, "table")
    common = {"name": "chat", "kind": "llm", "model": "m", "prompt_tokens": 10, "output_tokens": 2}
    assert rows == [
        {"task_id": "a", "step_id": "0", **common, "arrival_s": 0.0, "ready_s": 0.0,
         "start_s": 0.0, "first_token_s": 0.1, "end_s": 0.5, "outcome": "ok"},
        {"task_id": "a", "step_id": "1", "parent_ids": ["0"], "name": "grep", "kind": "tool",
         "arrival_s": 0.0, "ready_s": 0.7, "start_s": 0.7, "end_s": 0.95},
        {"task_id": "b", "step_id": "0", **common, "arrival_s": 2.0, "ready_s": 2.0,
         "start_s": 2.0, "first_token_s": 2.1, "end_s": 2.5, "outcome": "error"},
    ]  # fmt: skip
    assert said.notes == [
        "columns that were not read: foo",
        "the steps of a task are taken to follow one another",
        "latency is taken to be in s, as nothing says so",
        "words of status that are not known are left out: 1",
    ]


@pytest.mark.parametrize(
    ("first", "second", "note"),
    [
        ("1700000000", "1700000002.5", "time is taken to be in s, by its size"),
        ("1700000000000", "1700000002500", "time is taken to be in ms, by its size"),
        ("1700000000000000", "1700000002500000", "time is taken to be in us, by its size"),
        ("1700000000000000000", "1700000002500000000", "time is taken to be in ns, by its size"),
        ("2023-11-16 18:15:46", "2023-11-16T18:15:48.5", ""),
        ("2023-11-16 18:15:46Z", "2023-11-16T19:15:48.5+01:00", ""),
    ],
)
def test_units_of_times_are_told_by_their_size(first: str, second: str, note: str) -> None:
    said, rows = imported(f"time,prompt_tokens\n{first},1\n{second},2\n", "table")
    assert [row["arrival_s"] for row in rows] == [0.0, 2.5]
    assert [n for n in said.notes if n.startswith("time is")] == ([note] if note else [])


def test_small_times_count_from_the_start_in_the_unit_that_the_user_says() -> None:
    text = "time,prompt_tokens\n500,1\n2500,2\n"
    assert [r["ready_s"] for r in imported(text, "table")[1]] == [500.0, 2500.0]
    options = Options(time_unit="ms")
    assert [r["ready_s"] for r in imported(text, "table", options=options)[1]] == [0.5, 2.5]
    with pytest.raises(InputError, match="unknown unit 'h'; known: s, ms, us, ns"):
        imported(text, "table", options=Options(time_unit="h"))


def test_the_user_says_which_column_is_which() -> None:
    text = "a;b;c;prompt_tokens\n5;7;x;9\n"
    options = Options(columns={"prompt_tokens": "b", "model": "c"}, agent="me")
    _, rows = imported(text, "table", options=options)
    assert [(r["prompt_tokens"], r["model"], r["agent"]) for r in rows] == [(7, "x", "me")]
    for columns, reason in (
        ({"prompt_token": "b"}, "no column 'prompt_token'; did you mean prompt_tokens"),
        ({"prompt_tokens": "z"}, "the file has no column 'z'; it has: a, b, c"),
    ):
        with pytest.raises(InputError, match=reason):
            imported(text, "table", options=Options(columns=columns))


def test_json_lines_need_not_be_alike() -> None:
    lines = [
        {"time": "2024-01-01T00:00:01Z", "prompt_tokens": 5, "session": 12},
        {"time": "2024-01-01T00:00:03.5Z", "prompt_tokens": "7", "session": "12", "x": [1]},
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    said, rows = imported(text, "table")
    assert [(r["task_id"], r["ready_s"], r["prompt_tokens"]) for r in rows] == [
        ("12", 0.0, 5),
        ("12", 2.5, 7),
    ]
    assert "columns that were not read: x" in said.notes


def test_ids_that_look_like_dates_stay_texts() -> None:
    text = (
        '{"session":"2024-01-01","prompt_tokens":1}\n{"session":"2024-01-02","prompt_tokens":2}\n'
    )
    assert [r["task_id"] for r in imported(text, "table")[1]] == ["2024-01-01", "2024-01-02"]


def test_parquet_has_types_of_its_own() -> None:
    content = parquet(
        start_time=pa.array(
            [datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 1, 0, 0, 2, tzinfo=UTC)],
            pa.timestamp("us", "UTC"),
        ),
        duration_ms=pa.array([500, None], pa.int32()),
        prompt_tokens=pa.array([5.0, float("nan")], pa.float32()),
        success=pa.array([True, False]),
        model=pa.array(["m", "m"]).dictionary_encode(),
        prompt=pa.array(["kept", "nowhere"]),
    )
    said, rows = imported(content, "table", name="t.parquet")
    assert rows == [
        {"task_id": "0", "step_id": "0", "name": "chat", "kind": "llm", "model": "m",
         "arrival_s": 0.0, "start_s": 0.0, "end_s": 0.5, "prompt_tokens": 5, "outcome": "ok"},
        {"task_id": "1", "step_id": "0", "name": "chat", "kind": "llm", "model": "m",
         "arrival_s": 2.0, "start_s": 2.0, "outcome": "error"},
    ]  # fmt: skip
    assert "columns that were not read: prompt" in said.notes


def test_our_own_files_pass_as_they_are(tmp_path: Path) -> None:
    steps = [
        StepRecord(task_id="b", step_id="x", name="chat", kind="llm", start_s=5.0, end_s=6.0),
        StepRecord(
            task_id="b",
            step_id="a",
            parent_ids=("x",),
            name="code",
            kind="tool",
            arrival_s=4.0,
            start_s=6.5,
            end_s=7.0,
            wait_s=0.25,
            memory_bytes=2**40,
            outcome="cancelled",
        ),
        StepRecord(task_id="a", step_id="x", name="y", kind="embed", start_s=2e9, cost_usd=0.1),
    ]
    for suffix in (".parquet", ".jsonl"):
        path, again = tmp_path / f"w{suffix}", tmp_path / f"again{suffix}"
        write(Workload.from_records(steps), path)
        said = import_files([path], again, named="table")
        assert list(read(again).steps()) == steps
        assert said.notes == []


def test_parents_of_csv_have_semicolons_between_them() -> None:
    text = "task_id,step_id,parent_ids,name,kind\nt,a,,x,llm\nt,b,a,x,llm\nt,c,a;b,x,llm\n"
    _, rows = imported(text, "table")
    assert [row.get("parent_ids") for row in rows] == [None, ["a"], ["a", "b"]]


def test_files_of_one_import_have_ids_of_their_own(tmp_path: Path) -> None:
    paths = [tmp_path / "a" / "t.csv", tmp_path / "b" / "t.csv"]
    for path in paths:
        path.parent.mkdir()
        path.write_text("time,prompt_tokens\n0,1\n1,2\n")
    said = import_files(paths, tmp_path / "w.parquet", named="table")
    ids = [row["task_id"] for row in read(tmp_path / "w.parquet").rows()]
    assert ids == ["t/0", "t/1", "t-2/0", "t-2/1"]
    assert said.tasks == 4


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("prompt_tokens,output_tokens\n1\n", "row 1: a row has not 2 cells"),
        ("prompt_tokens,output_tokens\n1,-2\n", "row 1: output_tokens is no whole number"),
        ("time,output_tokens\n-1,2\n", "row 1: time is no number from 0"),
        ("time,output_tokens\n0,2\nx,2\n", "row 2: time is no number from 0"),
        ("time,output_tokens\n2024-01-01,2\nx,2\n", "row 2: time is no time of ISO 8601"),
        ("prompt_tokens,prompt_tokens\n1,2\n", "column 'prompt_tokens' is there twice"),
        ("a,b\n1,2\n", "is known among: a, b"),
        ("one\n1\n", "no table"),
        ("", "no table"),
        ('prompt_tokens,model\n1,"x\n', "a quote is not closed"),
        ('{"prompt_tokens": 1}\n{"prompt_t', "byte 21: a line is no JSON object"),
        ('{"prompt_tokens": 1}\n' + '{"a":' * 50_000, "byte 21: a line is no JSON object"),
        ("PAR1 is no Parquet", "not a Parquet file"),
        ("task_id,step_id,kind,name\nt,a,magic,x\n", "task t: kind: unknown value"),
    ],
)
def test_what_is_no_table_is_refused(text: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        imported(text, "table")


def test_broken_parquet_is_refused() -> None:
    whole = parquet(prompt_tokens=list(range(5000)))
    middle = bytearray(whole)
    middle[8:200] = b"\xff" * 192
    for content in (whole[:-20], bytes(middle)):
        with pytest.raises(InputError, match="Parquet"):
            imported(content, "table", name="t.parquet")


def test_a_column_of_another_type_is_refused() -> None:
    for content in (
        parquet(prompt_tokens=[{"a": 1}]),
        parquet(prompt_tokens=[True]),
        parquet(prompt_tokens=[1], time=[[1.0]]),
        parquet(prompt_tokens=[1], parent_ids=[[{"a": 1}]]),
        parquet(prompt_tokens=[1], task_id=[[1]]),
    ):
        with pytest.raises(InputError, match="row 0: "):
            imported(content, "table", name="t.parquet")


def test_a_table_that_tells_nothing_is_refused() -> None:
    text = "InstanceType,vCPUs,Price,Region\nc6g,8,0.27,us\n"
    reason = "is known among: InstanceType, vCPUs, Price, Region; say which .* --column"
    with pytest.raises(InputError, match=reason):
        imported(text, "table")
    for told in ("model", "kind", "tool", "time", "prompt_tokens", "duration"):
        values = {"kind": "llm", "model": "m", "tool": "t"}
        said, _ = imported(f"Region,{told}\nus,{values.get(told, '1')}\n", "table")
        assert said.steps == 1


def test_columns_that_are_named_make_a_table_of_it() -> None:
    options = Options(columns={"duration_s": "took ms", "ttft_s": "first (ms)", "tool": "did"})
    said, rows = imported("took ms,first (ms),did\n500,100,grep\n", "", options=options)
    assert said.format == "table"
    assert [(r["end_s"], r["first_token_s"], r["name"]) for r in rows] == [(0.5, 0.1, "grep")]


@pytest.mark.parametrize(
    "names",
    [
        "SessionId,createdAt,LatencyMs,TTFTms,ModelName,toolName,InputTokens,HTTPStatus",
        "session id,created.at,latency (ms),ttft-ms,model name,tool.name,input tokens,http.status",
        "SESSION_ID,CREATED_AT,LATENCY_MILLISECONDS,ttftMs,model_name,tool_name,inputTokens,status",
    ],
)
def test_words_of_names_are_parted_in_any_way(names: str) -> None:
    said, rows = imported(f"{names}\na,2024-01-01,500,100,m,grep,7,200\n", "table")
    assert rows == [
        {"task_id": "a", "step_id": "0", "name": "grep", "kind": "tool", "model": "m",
         "arrival_s": 0.0, "ready_s": 0.0, "start_s": 0.0, "first_token_s": 0.1, "end_s": 0.5,
         "prompt_tokens": 7, "outcome": "ok"}
    ]  # fmt: skip
    assert said.notes == ["the steps of a task are taken to follow one another"]


def test_a_plural_is_no_unit_and_our_own_names_come_first() -> None:
    said, rows = imported("starts,times,id,step_id,prompt_tokens\n1,2,x,s,3\n", "table")
    assert rows[0]["step_id"] == "s"
    assert "columns that were not read: starts, times, id" in said.notes


def test_codes_of_http_are_outcomes() -> None:
    codes = {"200": "ok", "204.0": "ok", "404": "error", "500": "error", "408": "timeout"}
    codes |= {"504": "timeout", "429": "refused", "499": "cancelled"}
    unknown = ["301", "x"]
    text = "status,prompt_tokens\n" + "".join(f"{code},1\n" for code in (*codes, *unknown))
    said, rows = imported(text, "table")
    assert [row.get("outcome") for row in rows] == [*codes.values(), None, None]
    assert "words of status that are not known are left out: 2" in said.notes


def test_what_is_left_out_is_counted() -> None:
    content = parquet(
        duration_s=[1.0, float("nan"), float("nan"), 2.0],
        start_s=[0.0, 1.0, 2.0, None],
        prompt_tokens=[1.0, 2.0, 3.0, float("nan")],
    )
    said, rows = imported(content, "table", name="t.parquet")
    assert [row.get("end_s") for row in rows] == [1.0, None, None, None]
    assert {
        "values of duration_s that are NaN are not told: 2",
        "values of prompt_tokens that are NaN are not told: 1",
        "durations left out, as no start is told: 1",
    } <= set(said.notes)
    said, rows = imported('{"ttft":"0.5"}\n{"ttft":"NaN"}\n', "table")
    assert "values of ttft that are NaN are not told: 1" in said.notes
    assert "times to the first token left out, as no start is told: 1" in said.notes
    said, _ = imported("prompt_tokens,model\n-1,m\n-2,m\n3,m\n", "table", skip_bad=True)
    assert [(s.reason, s.count) for s in said.skipped] == [
        ("prompt_tokens is no whole number from 0 to 2^53", 2)
    ]


def test_a_duration_ends_steps_whose_end_is_not_told() -> None:
    said, rows = imported("start_s,end_s,duration_s\n0,3,1\n1,,1\n", "table")
    assert [row["end_s"] for row in rows] == [3.0, 2.0]
    assert "end_s is read as told, not made of a duration: 1" in said.notes


def test_rows_are_counted_as_the_documentation_says() -> None:
    whole = pa.array([1] * 70_000 + [-1])
    lines = '{"prompt_tokens": 1}\n\n' + '{"prompt_tokens": 1}\n' * 2
    for content, place in (
        (parquet(prompt_tokens=whole), "row 70000: prompt_tokens is no whole"),
        ("prompt_tokens,model\n1,m\n-1,m\n", "row 2: prompt_tokens is no whole"),
        (lines + '{"prompt_tokens": -1}\n', "line 5, byte 64: prompt_tokens is no whole"),
        (lines + '{"prompt_tokens": "x"}\n', "line 5, byte 64: prompt_tokens is no whole"),
        (lines + "[1]\n", "line 5, byte 64: a line is no JSON object"),
    ):
        with pytest.raises(InputError, match=place):
            imported(content, "table")
    bad = "[1]\n" + lines + '{"prompt_tokens": -1}\n[2]\n'
    said, _ = imported(lines + bad, "table", skip_bad=True)
    assert [(s.reason, s.count) for s in said.skipped] == [
        ("a line is no JSON object", 2),
        ("prompt_tokens is no whole number from 0 to 2^53", 1),
    ]
    assert said.steps == 6


def test_a_line_that_is_nested_without_end_is_counted(tmp_path) -> None:
    path = tmp_path / "deep.jsonl"
    good = '{"prompt_tokens": 5, "timestamp": 1}\n' * 3
    path.write_text(good + '{"prompt_tokens": 1, "z": ' + "[" * 200_000 + "}\n")
    done = import_files([path], tmp_path / "w.parquet", named="table", skip_bad=True)
    assert done.steps == 3
    assert [skip.count for skip in done.skipped] == [1]


@pytest.mark.parametrize("name", ["trace.csv", "trace.jsonl"])
def test_what_is_skipped_and_what_is_imported_add_up(name: str) -> None:
    """Of ten lines three are bad, and a task of two sound lines breaks a rule."""
    columns = ("task_id", "step_id", "kind", "prompt_tokens", "cached_tokens")
    rows = [(f"t{n // 2}", str(n % 2), "llm", 10, 20 if n == 5 else 0) for n in range(10)]
    bad = {1: (*rows[1][:3], "x", 0), 8: (*rows[8][:3], -3, 0)}
    rows = [bad.get(n, row) for n, row in enumerate(rows)]
    if name.endswith("csv"):
        lines = [",".join(columns), *(",".join(map(str, row)) for row in rows)]
        lines[4] += ",0"
    else:
        lines = [json.dumps(dict(zip(columns, row, strict=True))) for row in rows]
        lines[3] += "}"
    said, steps = imported("\n".join(lines) + "\n", "table", name=name, skip_bad=True)
    assert (said.tasks, said.steps, len(steps)) == (4, 5, 5)
    counts = {skip.reason: skip.count for skip in said.skipped}
    assert sum(counts.values()) + said.steps == 10
    whole = [reason for reason in counts if reason.startswith("steps of a task that is left out: ")]
    assert [counts[reason] for reason in whole] == [2]
    assert "tasks that are left out with all their steps: 1" in said.notes

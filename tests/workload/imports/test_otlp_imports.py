from __future__ import annotations

import base64
import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from polysilicon.errors import InputError
from polysilicon.workload.files import read
from polysilicon.workload.imports import (
    json_text,
    langfuse,
    otlp_groups,
    otlp_json,
    otlp_proto,
    pieces,
)
from polysilicon.workload.imports.findings import Findings
from polysilicon.workload.imports.run import Imported, import_files
from polysilicon.workload.imports.source import Source
from polysilicon.workload.imports.spans import store
from polysilicon.workload.imports.spans.traces import read_spans
from polysilicon.workload.imports.types import Clock, Options
from polysilicon.workload.record import StepRecord

BASE = 1_770_000_000
TRACE = "00112233445566778899aabbccddeeff"


def attributes(**told: Any) -> list[dict[str, Any]]:
    return [
        {"key": key, "value": {"intValue": str(v)} if isinstance(v, int) else {"stringValue": v}}
        for key, v in told.items()
    ]


def span(number: int, start_s: float, end_s: float | None, **more: Any) -> dict[str, Any]:
    """A tool span; times are seconds after a base, in nanoseconds as text."""
    found: dict[str, Any] = {
        "traceId": TRACE,
        "spanId": f"{number:016x}",
        "name": "search",
        "startTimeUnixNano": str(round((BASE + start_s) * 1e3) * 10**6),
        "attributes": attributes(**{"gen_ai.operation.name": "execute_tool"}),
    }
    if end_s is not None:
        found["endTimeUnixNano"] = str(round((BASE + end_s) * 1e3) * 10**6)
    return {**found, **more}


def llm(number: int, start_s: float, end_s: float | None, told: dict[str, Any], **more: Any) -> Any:
    known = attributes(**{"gen_ai.operation.name": "chat", **told})
    return span(number, start_s, end_s, attributes=known, **more)


def request(*spans: Any) -> dict[str, Any]:
    return {"resourceSpans": [{"resource": {}, "scopeSpans": [{"spans": list(spans)}]}]}


def protobuf(*spans: Any) -> bytes:
    message = ExportTraceServiceRequest()
    scope = message.resource_spans.add().scope_spans.add()
    for told in spans:
        made = scope.spans.add()
        made.trace_id = bytes.fromhex(told["traceId"])
        made.span_id = bytes.fromhex(told["spanId"])
        made.parent_span_id = bytes.fromhex(told.get("parentSpanId", ""))
        made.name = told["name"]
        made.start_time_unix_nano = int(told["startTimeUnixNano"])
        made.end_time_unix_nano = int(told.get("endTimeUnixNano", 0))
        for pair in told["attributes"]:
            value = made.attributes.add()
            value.key = pair["key"]
            if "intValue" in pair["value"]:
                value.value.int_value = int(pair["value"]["intValue"])
            else:
                value.value.string_value = pair["value"]["stringValue"]
    return bytes(message.SerializeToString())


def done(
    folder: Path, *contents: bytes, named: str = "otlp-json", skip_bad: bool = False, unit: str = ""
) -> tuple[Imported, list[StepRecord]]:
    paths = []
    for number, content in enumerate(contents):
        paths.append(folder / f"trace{number}")
        paths[-1].write_bytes(content)
    options = Options(time_unit=unit)
    output = folder / "w.parquet"
    result = import_files(paths, output, named=named, skip_bad=skip_bad, options=options)
    return result, list(read(output).steps())


def skipped(result: Imported) -> dict[str, int]:
    return {skip.reason: skip.count for skip in result.skipped}


TWO = [span(1, 0.0, 1.0), span(2, 1.5, 2.0)]


@pytest.mark.parametrize(
    "content",
    [
        json.dumps(request(*TWO)),
        json.dumps(request(*TWO), indent=2),
        "\ufeff" + json.dumps(request(*TWO)),
        json.dumps(request(TWO[1])) + "\n" + json.dumps(request(TWO[0])) + "\n",
        json.dumps(request(TWO[1])) + "\r\n\r\n" + json.dumps(request(TWO[0])),
        json.dumps([request(TWO[0]), request(TWO[1])]),
        json.dumps(request(TWO[0])) + json.dumps(request(TWO[1])),
        json.dumps(request(TWO[0]), indent=1) + "\n" + json.dumps(request(TWO[1]), indent=1),
        json.dumps({"batches": request(*TWO)["resourceSpans"]}),
    ],
)
def test_every_layout_of_json_gives_the_same_steps(content: str, tmp_path: Path) -> None:
    result, steps = done(tmp_path, content.encode())
    assert (result.tasks, result.steps, result.skipped) == (1, 2, [])
    assert [s.parent_ids for s in steps] == [(), (f"{1:016x}",)]
    assert [(s.start_s, s.end_s, s.ready_s) for s in steps] == [(0.0, 1.0, 0.0), (1.5, 2.0, 1.0)]


def _framed(head: int, *messages: bytes) -> bytes:
    if head:
        return b"".join(len(m).to_bytes(head, "big") + m for m in messages)
    framed = b""
    for message in messages:
        size, length = b"", len(message)
        while length >= 0x80:
            size += bytes([length & 0x7F | 0x80])
            length >>= 7
        framed += size + bytes([length]) + message
    return framed


@pytest.mark.parametrize(
    "content",
    [
        protobuf(*TWO),
        _framed(4, protobuf(TWO[0]), protobuf(TWO[1])),
        _framed(0, protobuf(TWO[0]), protobuf(TWO[1])),
        protobuf(TWO[0]) + protobuf(TWO[1]),
    ],
    ids=["bare", "fixed", "varint", "joined"],
)
def test_every_layout_of_protobuf_gives_the_steps_of_json(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "t").write_bytes(content)
    assert otlp_proto.recognise(Source(tmp_path / "t"))
    assert not otlp_json.recognise(Source(tmp_path / "t"))
    _, steps = done(tmp_path, content, named="otlp-proto")
    _, same = done(tmp_path, json.dumps(request(*TWO)).encode())
    assert steps == same


def test_protobuf_that_ends_early_or_is_none_says_where(tmp_path: Path) -> None:
    whole = _framed(4, protobuf(TWO[0]))
    with pytest.raises(InputError, match=r"trace0, byte \d+: the file ends within a message"):
        done(tmp_path, whole + whole[:-3], named="otlp-proto")
    result, steps = done(tmp_path, whole + whole[:-3], named="otlp-proto", skip_bad=True)
    assert len(steps) == 1
    assert skipped(result) == {"the file ends within a message": 1}
    bad = _framed(4, protobuf(TWO[0]), b"\x0a\x05\xff\xff\xff\xff\xff", protobuf(TWO[1]))
    result, steps = done(tmp_path, bad, named="otlp-proto", skip_bad=True)
    assert (len(steps), skipped(result)) == (2, {"no protobuf of OTLP": 1})


def test_a_trace_may_lie_in_several_files_of_several_formats(tmp_path: Path) -> None:
    """Identifiers are hexadecimal in one file and base64 in the other."""
    second = dict(TWO[1])
    second["traceId"] = base64.b64encode(bytes.fromhex(TRACE)).decode()
    second["spanId"] = base64.b64encode(bytes.fromhex(f"{2:016x}")).decode()
    result, steps = done(
        tmp_path, json.dumps(request(second)).encode(), json.dumps(request(TWO[0])).encode()
    )
    assert result.tasks == 1
    assert [s.parent_ids for s in steps] == [(), (f"{1:016x}",)]


def test_broken_json_says_where_and_the_rest_can_be_kept(tmp_path: Path) -> None:
    lines = json.dumps(request(TWO[0])) + "\n{]\n" + json.dumps(request(TWO[1])) + "\n"
    at = lines.index("{]")
    with pytest.raises(InputError, match=rf"trace0, byte {at + 1}: JSON is malformed"):
        done(tmp_path, lines.encode())
    result, steps = done(tmp_path, lines.encode(), skip_bad=True)
    assert len(steps) == 2
    assert sum(skipped(result).values()) == 1
    for indent in (None, 1):
        early = json.dumps(request(*TWO), indent=indent)[:-40]
        with pytest.raises(InputError, match=f"byte {len(early)}: JSON ends early"):
            done(tmp_path, early.encode())
        result, steps = done(tmp_path, early.encode(), skip_bad=True)
        assert [s.step_id for s in steps] == [f"{1:016x}"]
        assert skipped(result) == {"JSON ends early": 1}


def test_values_of_wrong_types_are_bad_spans_not_bad_files(tmp_path: Path) -> None:
    odd = json.dumps(request(TWO[0], {**TWO[1], "name": [1]}, {**TWO[1], "traceId": 7}))
    with pytest.raises(InputError, match="Expected"):
        done(tmp_path, odd.encode())
    result, steps = done(tmp_path, odd.encode(), skip_bad=True)
    assert len(steps) == 1
    assert sum(skipped(result).values()) == 2


@pytest.mark.parametrize(
    ("scale", "kind"),
    [(1, int), (10**3, int), (10**6, int), (10**9, int), (1, float), (10**3, str), (10**9, str)],
)
def test_times_are_told_by_their_size(scale: int, kind: type, tmp_path: Path) -> None:
    moved = [
        {**s, **{k: kind(int(s[k]) * scale // 10**9) for k in ("startTimeUnixNano",)}}
        for s in [span(1, 0.0, None), span(2, 3.0, None)]
    ]
    _, steps = done(tmp_path, json.dumps(request(*moved)).encode())
    assert [s.start_s for s in steps] == [0.0, 3.0]


def test_the_unit_of_times_can_be_said(tmp_path: Path) -> None:
    early = [{**span(1, 0, None), "startTimeUnixNano": 5, "endTimeUnixNano": 7}]
    _, steps = done(tmp_path, json.dumps(request(*early)).encode(), unit="s")
    assert steps[0].end_s == 2.0


def test_missing_and_impossible_ends_are_noted(tmp_path: Path) -> None:
    open_ended, backward = span(1, 0.0, None), span(2, 5.0, 4.0)
    result, steps = done(tmp_path, json.dumps(request(open_ended, backward)).encode())
    assert [s.end_s for s in steps] == [None, None]
    assert [s.parent_ids for s in steps] == [(), ()]
    assert "1 spans have no end" in result.notes
    assert any("end before they begin" in note for note in result.notes)


def test_of_spans_that_are_there_twice_the_more_complete_stays(tmp_path: Path) -> None:
    result, steps = done(
        tmp_path,
        json.dumps(
            request(llm(1, 0.0, None, {}), llm(1, 0.0, 2.0, {"llm.model_name": "m"}))
        ).encode(),
    )
    assert [(s.end_s, s.model) for s in steps] == [(2.0, "m")]
    assert skipped(result) == {"span that is there twice": 1}


def test_clocks_that_differ_and_parents_that_are_missing_are_noted(tmp_path: Path) -> None:
    child = span(2, -1.0, 0.5, parentSpanId=f"{1:016x}")
    lost = span(3, 2.0, 3.0, parentSpanId=f"{9:016x}")
    holder = {**span(1, 0.0, 1.0), "attributes": []}
    result, steps = done(tmp_path, json.dumps(request(child, lost, holder)).encode())
    assert len(steps) == 2
    assert "1 spans begin before the span that holds them: clocks differ" in result.notes
    assert "1 spans name a parent that is not there" in result.notes


def test_what_a_wrapper_alone_tells_goes_to_the_call(tmp_path: Path) -> None:
    outer = llm(1, 0.0, 3.0, {"gen_ai.usage.input_tokens": 9, "llm.model_name": "outer"})
    inner = llm(2, 0.5, 2.5, {"llm.model_name": "inner"}, parentSpanId=f"{1:016x}")
    result, (step,) = done(tmp_path, json.dumps(request(inner, outer)).encode())
    assert (step.step_id, step.model, step.prompt_tokens) == (f"{2:016x}", "inner", 9)
    assert skipped(result) == {"call around another one of the same call": 1}


def test_an_agent_called_as_a_tool_inside_a_call_is_no_wrapper(tmp_path: Path) -> None:
    call = llm(1, 0.0, 9.0, {})
    tool = span(2, 2.0, 8.0, parentSpanId=f"{1:016x}")
    nested = llm(3, 3.0, 6.0, {}, parentSpanId=f"{2:016x}")
    result, steps = done(tmp_path, json.dumps(request(call, tool, nested)).encode())
    assert [(s.step_id[-1], s.start_s, s.end_s, len(s.parent_ids)) for s in steps] == [
        ("1", 0.0, 2.0, 0),
        ("3", 3.0, 6.0, 1),
    ]
    assert skipped(result) == {"tool that holds steps": 1}
    assert any("3.000 s of their own" in note for note in result.notes)


def test_a_span_too_deep_or_too_wide_is_no_trouble(tmp_path: Path) -> None:
    """A chain of 20,000 spans, the last of which are two steps, and 20,000 parallel steps."""
    chain = [
        {**span(n, 0.0, 9.0, parentSpanId=f"{n - 1:016x}"), "attributes": []}
        for n in range(1, 20_001)
    ]
    steps = [span(30_000 + n, 1.0 + n, 1.5 + n, parentSpanId=f"{20_000:016x}") for n in range(2)]
    wide = [span(50_000 + n, 10.0, 11.0) for n in range(20_000)]
    after = span(90_000, 12.0, 13.0)
    body = json.dumps(request(*chain, *steps, *wide, after)).encode()
    findings = Findings()
    (table,) = read_spans(
        [otlp_json.spans_of_request(body, findings)], Clock(), findings, Options()
    )
    parents = dict(zip(table["step_id"].to_pylist(), table["parent_ids"].to_pylist(), strict=True))
    assert parents[f"{30_001:016x}"] == [f"{30_000:016x}"]
    assert parents[f"{50_000:016x}"] == [f"{30_001:016x}"]
    assert len(parents[f"{90_000:016x}"]) == 64


def test_large_documents_are_cut_between_spans(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pieces, "PIECE_BYTES", 600)
    monkeypatch.setattr(json_text, "LINE_BYTES", 2_000)
    monkeypatch.setattr("polysilicon.workload.imports.source.CHUNK_BYTES", 250)
    many = [span(n, float(n), n + 0.5, name='a "brace} [\\\\" here') for n in range(1, 60)]
    whole = request(*many)
    whole["resourceSpans"][0]["resource"] = {"attributes": attributes(**{"service.name": "svc"})}
    for content in (json.dumps(whole, indent=1), json.dumps(whole), json.dumps([whole, whole])):
        _, steps = done(tmp_path, content.encode())
        assert len(steps) == 59
        assert all(step.agent == "svc" for step in steps)
        assert [len(step.parent_ids) for step in steps] == [0] + [1] * 58
        cut = list(pieces.pieces(Source(tmp_path / "trace0").chunks(), otlp_json.ARRAYS))
        assert all(len(piece.data) < 2_500 for piece in cut)
        assert len(cut) > 10


def test_an_element_that_is_too_large_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pieces, "PIECE_BYTES", 1_000)
    monkeypatch.setattr(pieces, "LONGEST_ELEMENT", 20_000)
    monkeypatch.setattr("polysilicon.workload.imports.source.CHUNK_BYTES", 500)
    big = json.dumps(request(span(1, 0, 1, name="x" * 30_000)), indent=1)
    with pytest.raises(InputError, match="an element of more than 20,000 bytes"):
        done(tmp_path, big.encode())


@pytest.mark.parametrize("end", ["", "\n"])
def test_empty_spans_are_cut_finely_and_make_no_rows(
    end: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("pieces", "json_text"):
        monkeypatch.setattr(f"polysilicon.workload.imports.{name}.PIECE_BYTES", 1_000)
    monkeypatch.setattr(json_text, "CHUNK_BYTES", 500)
    monkeypatch.setattr("polysilicon.workload.imports.source.CHUNK_BYTES", 500)
    rows = []
    plain = otlp_groups.batch_of
    monkeypatch.setattr(
        otlp_groups, "batch_of", lambda f, *a, **k: rows.append(f) or plain(f, *a, **k)
    )
    lines = [
        json.dumps(request(*some)) for some in (TWO[:1], [{}] * 2000, [{"spanId": "a"}, TWO[1]])
    ]
    result, steps = done(tmp_path, ("\n".join(lines) + end).encode())
    assert len(steps) == 2
    assert skipped(result) == {"span without trace or span identifier": 2001}
    assert sum(len(found[0]) for found in rows) == 2
    source = Source(tmp_path / "trace0")
    texts = json_text.documents(source, Findings(), otlp_json.ARRAYS, otlp_json.KEPT)
    assert max(len(text.data) for text in texts) < 2_500
    empty = b"".join(b"\x12\x00" for _ in range(50))
    message = protobuf(*TWO) + b"\x0a" + bytes([len(empty) + 2, 0x12, len(empty)]) + empty
    result, steps = done(tmp_path, message, named="otlp-proto")
    assert (len(steps), skipped(result)) == (2, {"span without trace or span identifier": 50})


def test_spans_spill_to_a_folder_that_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [
        json.dumps(request({**span(n, float(n % 7), n % 7 + 0.5), "traceId": f"{n % 90 + 1:032x}"}))
        for n in range(1, 900)
    ]
    content = "\n".join(lines).encode()
    plain = done(tmp_path, content)
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    for module in (otlp_groups, otlp_json):
        monkeypatch.setattr(module, "BATCH_ROWS", 50)
    monkeypatch.setattr(store, "MEMORY_ROWS", 200)
    monkeypatch.setattr(store, "TABLE_ROWS", 20)
    result, steps = done(tmp_path, content)
    assert result.tasks == plain[0].tasks == 90
    assert sorted(steps, key=lambda s: s.step_id) == sorted(plain[1], key=lambda s: s.step_id)
    assert list(temporary.iterdir()) == []
    with pytest.raises(InputError):
        done(tmp_path, content + b"\n{]")
    assert list(temporary.iterdir()) == []


def test_a_request_in_memory_is_read(tmp_path: Path) -> None:
    for spans in (
        otlp_json.spans_of_request(json.dumps(request(*TWO)).encode(), Findings()),
        otlp_proto.spans_of_request(protobuf(*TWO), Findings()),
    ):
        (table,) = read_spans([spans], Clock(), Findings(), Options(agent="me"))
        assert table["agent"].to_pylist() == ["me", "me"]
    with pytest.raises(InputError, match="request"):
        otlp_proto.spans_of_request(b"\xff\xff", Findings())


def test_compressed_files_are_read(tmp_path: Path) -> None:
    _, steps = done(tmp_path, gzip.compress(json.dumps(request(*TWO)).encode()))
    assert len(steps) == 2


def test_langfuse_lines_and_lists_are_read(tmp_path: Path) -> None:
    observations = [
        {"id": "a", "trace_id": "t", "type": "GENERATION", "start_time": "2026-01-01 10:00:00.5",
         "latency": 2.5, "usage_details": {"input": 5, "output": 2}, "model": "m"},
        {"id": "b", "trace_id": "t", "type": "EMBEDDING", "start_time": "2026-01-01T10:00:04Z",
         "end_time": "2026-01-01T10:00:05+00:00", "name": "e"},
    ]  # fmt: skip
    lines = "\n".join(json.dumps(o) for o in observations)
    for content in (lines, json.dumps(observations), json.dumps({"data": observations})):
        (tmp_path / "l").write_text(content)
        assert langfuse.recognise(Source(tmp_path / "l"))
        _, (first, second) = done(tmp_path, content.encode(), named="langfuse")
        assert (first.start_s, first.end_s, first.prompt_tokens) == (0.0, 2.5, 5)
        assert (second.kind, second.parent_ids) == ("embed", ("a",))
    with pytest.raises(InputError, match="observation without id"):
        done(tmp_path, b'[{"id": "x"}]', named="langfuse")

"""OTLP in at `/v1/traces`, and out to an endpoint."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from polysilicon.errors import InputError
from polysilicon.gateway.traces import routes
from polysilicon.gateway.traces.outgoing import endpoint
from polysilicon.workload.files import read
from polysilicon.workload.imports.run import import_files
from served_gateway import Served, endpoint_pool, serving

POOL = endpoint_pool("http://127.0.0.1:9/v1")
AGENTS = Path(__file__).parents[1] / "agent_samples.py"
TRACE = "00112233445566778899aabbccddeeff"
PROTOBUF_HEADERS = {"content_type": "application/x-protobuf"}
SECRET = "what the user said"


def span(number: int, **more: Any) -> dict[str, Any]:
    told = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m", "gen_ai.prompt": SECRET}
    attributes = [{"key": k, "value": {"stringValue": v}} for k, v in told.items()]
    tokens = {"key": "gen_ai.usage.output_tokens", "value": {"intValue": "7"}}
    start_ns = 1_770_000_000_000_000_000 + number * 10**9
    return {
        "traceId": TRACE, "spanId": f"{number:016x}", "name": "chat m",
        "startTimeUnixNano": str(start_ns), "endTimeUnixNano": str(start_ns + 10**8),
        "attributes": [*attributes, tokens],
    } | more  # fmt: skip


def as_json(*spans: Any) -> bytes:
    return json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": list(spans)}]}]}).encode()


def as_protobuf(*numbers: int, named: bool = True) -> bytes:
    request = ExportTraceServiceRequest()
    scope = request.resource_spans.add().scope_spans.add()
    for number in numbers:
        made = scope.spans.add(name="chat m")
        made.trace_id = bytes.fromhex(TRACE)
        made.span_id = number.to_bytes(8) if named else b""
        made.start_time_unix_nano = 1_770_000_000_000_000_000 + number * 10**9
        made.end_time_unix_nano = made.start_time_unix_nano + 10**8
        made.attributes.add(key="gen_ai.operation.name").value.string_value = "chat"
    return request.SerializeToString()


def soon(told: Callable[[], Any]) -> Any:
    soon_s = time.monotonic() + 60
    while not (found := told()):
        assert time.monotonic() < soon_s
        time.sleep(0.05)
    return found


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with serving(tmp_path_factory.mktemp("traces"), POOL) as found:
        yield found


def send(served: Served, body: bytes, **headers: str) -> httpx.Response:
    head = {"content-type": "application/json"} | {
        k.replace("_", "-"): v for k, v in headers.items()
    }
    return served.client.post("/v1/traces", content=body, headers=head)


def test_traces_become_a_workload_without_what_was_said(served: Served) -> None:
    assert send(served, as_json(span(1), span(2))).json() == {}
    packed = gzip.compress(as_protobuf(3, 4))
    answer = send(served, packed, content_encoding="gzip", **PROTOBUF_HEADERS)
    told = ExportTraceServiceResponse.FromString(answer.content)
    assert not told.HasField("partial_success")
    folder = served.gateway.folder / "traces"
    workload = soon(lambda: _whole(folder / "workload.parquet", 4))
    steps = list(workload.steps())
    assert {step.task_id for step in steps} == {TRACE}
    assert [step.output_tokens for step in steps].count(7) == 2
    held = b"".join(path.read_bytes() for path in folder.iterdir())
    assert SECRET.encode() not in held
    # The command line reads the same files, also one whose writer was killed within a batch.
    cut = folder.parent / "cut.spans"
    cut.write_bytes(next(folder.glob("*.spans")).read_bytes()[:-40])
    done = import_files([cut], folder.parent / "w.parquet", skip_bad=True)
    assert (done.format, done.steps) == ("spans", 2)
    assert any("last whole batch" in note for note in done.notes)


def _whole(path: Path, steps: int) -> Any:
    found = read(path) if path.is_file() else ()
    return found if len(found) == steps else None


def test_what_is_rejected_is_counted_by_reason(served: Served) -> None:
    told = send(served, as_json(span(9), span(9, spanId=""), "no span")).json()["partialSuccess"]
    assert told["rejectedSpans"] == "2"
    assert "1: span without trace or span identifier" in told["errorMessage"]
    answer = send(served, as_protobuf(1, 2, named=False), **PROTOBUF_HEADERS)
    partial = ExportTraceServiceResponse.FromString(answer.content).partial_success
    assert (partial.rejected_spans, answer.status_code) == (2, 200)
    assert served.gateway.traces is not None
    assert served.gateway.traces.rejected["span without trace or span identifier"] == 3
    reason = 'polysilicon_spans_rejected_total{reason="span without trace or span identifier"} 3.0'
    assert reason in served.client.get("/metrics").text


def test_a_large_request_is_read_elsewhere(served: Served) -> None:
    store = served.gateway.traces
    assert store is not None
    before = store.accepted
    body = as_json(*(span(n) for n in range(100, 400)), span(9, spanId=""))
    assert len(body) > 2**16
    assert send(served, body).json()["partialSuccess"]["rejectedSpans"] == "1"
    assert store.accepted == before + 300
    assert send(served, b"[" + body).status_code == 400


def test_what_is_no_request_is_refused_for_good(served: Served) -> None:
    for body in (b"{", b"[1]", b'"x"', b'{"resourceSpans": ' + b"[" * 100_000):
        answer = send(served, body)
        assert answer.status_code == 400, body[:30]
        assert answer.json()["code"] == 3
    refused = send(served, b"\xff\xff", **PROTOBUF_HEADERS)
    assert refused.status_code == 400
    assert refused.content[:3] == b"\x08\x03\x12"  # google.rpc.Status: code and message
    bomb = gzip.compress(b"\0" * (80 * 2**20))
    for body, encoding, kind, status in (
        (bomb, "gzip", "application/json", 413),
        (bomb[:1000], "gzip", "application/json", 400),
        (b"x", "gzip", "application/json", 400),
        (b"x", "br", "application/json", 415),
        (b"x", "", "text/plain", 415),
    ):
        assert (
            send(served, body, content_encoding=encoding, content_type=kind).status_code == status
        )
    assert send(served, b"{}").json() == {}
    assert send(served, b"", **PROTOBUF_HEADERS).status_code == 200


def test_steps_of_one_gateway_come_in_at_another(served: Served, tmp_path: Path) -> None:
    agent = f"{AGENTS}:count"
    before = served.gateway.traces.accepted if served.gateway.traces else 0
    with serving(tmp_path, POOL, agents=(agent,), otlp=served.address) as sender:
        body = {"agent": "count", "input": {"path": str(tmp_path / "notes")}}
        sender.client.post("/v1/tasks", json=body)
        exporter = sender.gateway.exporter
        assert exporter is not None
        soon(lambda: exporter.sent == 5)  # four steps and their task
    assert exporter.dropped == 0
    assert served.gateway.traces is not None
    assert served.gateway.traces.accepted == before + 5


def test_what_no_endpoint_takes_is_counted(tmp_path: Path) -> None:
    agent = f"{AGENTS}:count"
    refusing = "http://127.0.0.1:1"
    with serving(tmp_path, POOL, agents=(agent,), otlp=refusing) as sender:
        body = {"agent": "count", "input": {"path": str(tmp_path / "notes")}}
        task_id = sender.client.post("/v1/tasks", json=body).json()["id"]
        soon(lambda: sender.client.get(f"/v1/tasks/{task_id}").json()["status"] == "completed")
        exporter = sender.gateway.exporter
    assert exporter is not None
    assert (exporter.sent, exporter.dropped) == (0, 5)


def test_addresses_of_endpoints() -> None:
    assert endpoint("http://h:4318") == "http://h:4318/v1/traces"
    assert endpoint("https://h/otel/v1/traces") == "https://h/otel/v1/traces"
    with pytest.raises(InputError, match="no address"):
        endpoint("ftp://h")


def test_a_body_of_protobuf_holds_so_many_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    def nested(inner: bytes, *tags: int) -> bytes:
        for tag in tags:
            size = len(inner)
            inner = bytes((tag, size & 0x7F | 0x80, size >> 7 & 0x7F | 0x80, size >> 14)) + inner
        return inner

    def told(body: bytes) -> tuple[int, str]:
        found = routes.spans_told(body, routes.PROTOBUF)
        return found.status, found.fault

    spans = nested(b"\x12\x00" * 500, 0x12, 0x0A)
    attributes = nested(b"\x4a\x00" * 500, 0x12, 0x12, 0x0A)
    unknown = nested(b"\x1b\x1c" + b"\x4a\x00" * 500, 0x12, 0x12, 0x0A)
    deep = b""
    for _ in range(150):
        deep = nested(deep, 0x0A, 0x2A)  # a value, in a list, which is a value
    deep = nested(deep, 0x12, 0x4A, 0x12, 0x12, 0x0A)
    ExportTraceServiceRequest.FromString(spans + attributes + unknown)
    monkeypatch.setattr(routes, "_MOST_PARTS", 520)
    assert told(spans)[0] == told(attributes)[0] == 0
    monkeypatch.setattr(routes, "_MOST_PARTS", 400)
    assert told(spans) == told(attributes) == (413, "the body holds more than 400 fields")
    assert told(unknown) == told(deep) == (0, routes._NO_REQUEST)

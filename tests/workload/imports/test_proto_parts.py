from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans

from polysilicon.errors import InputError
from polysilicon.workload.imports import otlp_proto, proto_parts
from polysilicon.workload.imports.proto_parts import parts_of, resources_of
from polysilicon.workload.imports.run import import_files

START_NS = 1_770_000_000 * 10**9


def request(scopes: int, spans: int, resources: int = 1) -> ExportTraceServiceRequest:
    """A request of tools, one a trace, with resources of different services."""
    made = ExportTraceServiceRequest()
    numbers = itertools.count(1)
    for service in range(resources):
        resource = made.resource_spans.add()
        told = resource.resource.attributes.add(key="service.name")
        told.value.string_value = f"service {service}"
        for _ in range(scopes):
            scope = resource.scope_spans.add()
            scope.scope.name = "library"
            for _ in range(spans):
                number = next(numbers)
                span = scope.spans.add(name="tool", start_time_unix_nano=START_NS + number)
                span.trace_id, span.span_id = number.to_bytes(16, "big"), number.to_bytes(8, "big")
                span.end_time_unix_nano = START_NS + number + 10**9
                operation = span.attributes.add(key="gen_ai.operation.name")
                operation.value.string_value = "execute_tool"
    return made


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (proto_parts, otlp_proto):
        monkeypatch.setattr(module, "CUT_BYTES", 600)
    monkeypatch.setattr(proto_parts, "_CUT_FIELDS", 5)


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize(("scopes", "spans"), [(1, 40), (40, 1), (3, 30), (1, 2), (30, 0)])
def test_parts_hold_the_spans_of_the_whole_each_once(scopes: int, spans: int) -> None:
    whole = request(scopes, spans, resources=2)
    cut = list(resources_of(whole.SerializeToString()))
    assert cut == [resource.SerializeToString() for resource in whole.resource_spans]
    for content, resource in zip(cut, whole.resource_spans, strict=True):
        parts = [ResourceSpans.FromString(part) for part in parts_of(content)]
        assert all(part.resource == resource.resource for part in parts)
        found = [span for part in parts for scope in part.scope_spans for span in scope.spans]
        assert found == [span for scope in resource.scope_spans for span in scope.spans]
        if len(content) > 600:
            assert len(parts) > 1
            assert max(part.ByteSize() for part in parts) < 2 * 600


@pytest.mark.usefixtures("small_parts")
def test_a_large_resource_is_not_said_again_in_every_part() -> None:
    made = request(1, 40).resource_spans[0]
    made.resource.attributes.add(key="x" * 700)
    content = made.SerializeToString()
    assert list(parts_of(content)) == [content]


@pytest.mark.usefixtures("small_parts")
def test_lengths_and_tags_in_more_bytes_than_they_need_are_read() -> None:
    made = request(1, 40).resource_spans[0]
    scope = made.scope_spans[0].SerializeToString()
    length = bytes([len(scope) & 0x7F | 0x80, len(scope) >> 7 | 0x80, 0])
    content = b"\x92\x00" + length + scope + b"\x08\x07\x11" + bytes(8) + b"\x1d" + bytes(4)
    parts = [ResourceSpans.FromString(part) for part in parts_of(content)]
    found = [span for part in parts for some in part.scope_spans for span in some.spans]
    assert found == list(made.scope_spans[0].spans)


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize(
    "tail", [b"\x12\x05", b"\x12\xff", b"\x00", b"\x0b", b"\x09", b"\xff" * 11]
)
def test_what_is_no_message_is_refused(tail: bytes) -> None:
    content = request(1, 40).resource_spans[0].SerializeToString() + tail
    with pytest.raises(DecodeError):
        list(parts_of(content))


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("framed", [True, False])
def test_a_large_message_is_imported_like_its_parts(framed: bool, tmp_path: Path) -> None:
    body = request(3, 30, resources=2).SerializeToString()
    path = tmp_path / "t.otlp"
    path.write_bytes(len(body).to_bytes(4, "big") + body if framed else body)
    done = import_files([path], tmp_path / "w.parquet", named="otlp-proto")
    assert (done.tasks, done.steps, done.skipped) == (180, 180, [])
    path.write_bytes(path.read_bytes()[:-1] + b"\xff")  # the last attribute is no text
    with pytest.raises(InputError, match="no protobuf of OTLP"):
        import_files([path], tmp_path / "w.parquet", named="otlp-proto")
    done = import_files([path], tmp_path / "w.parquet", named="otlp-proto", skip_bad=True)
    assert 150 <= done.steps < 180
    assert [(skip.reason, skip.count) for skip in done.skipped] == [("no protobuf of OTLP", 1)]

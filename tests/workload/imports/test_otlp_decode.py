from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from polysilicon.workload.files import read
from polysilicon.workload.imports import otlp_decode
from polysilicon.workload.imports.otlp_decode import Decoder, Span
from polysilicon.workload.imports.run import Imported, import_files

START_NS = 1_770_000_000 * 10**9


def chat(number: int, told: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A model call, and what its attributes hold as OTLP writes it."""
    named = {"gen_ai.operation.name": {"stringValue": "chat"}, **told}
    return {
        "traceId": f"{number // 7 + 1:032x}",
        "spanId": f"{number + 1:016x}",
        "startTimeUnixNano": str(START_NS + number * 10**9),
        "endTimeUnixNano": str(START_NS + (number + 1) * 10**9),
        "attributes": [{"key": key, "value": value} for key, value in named.items()],
        **more,
    }


def document(*spans: Any) -> bytes:
    return json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]}).encode()


def spans_of(decoder: Decoder, content: bytes) -> list[Span]:
    (request,) = decoder.requests(content, several=False)
    assert request.resourceSpans is not None
    return [
        span
        for resource in request.resourceSpans
        for scope in resource.scopeSpans or ()
        for span in scope.spans or ()
    ]


def imported(folder: Path, *documents: bytes, skip_bad: bool = False) -> tuple[Imported, Any]:
    path = folder / "t.jsonl"
    path.write_bytes(b"\n".join(documents))
    done = import_files([path], folder / "w.parquet", named="otlp-json", skip_bad=skip_bad)
    return done, read(folder / "w.parquet").table


TOLD = {
    "gen_ai.request.model": {"stringValue": "m"},
    "gen_ai.usage.input_tokens": {"intValue": "9"},
    "notes": {"stringValue": "x" * 99},
}


def test_values_are_made_only_of_names_that_tell_something_once_they_were_seen() -> None:
    decoder = Decoder()
    content = document(chat(0, TOLD))
    (first,), (second,) = spans_of(decoder, content), spans_of(decoder, content)
    for span in (first, second):
        assert [a.key for a in span.attributes or ()] == ["gen_ai.operation.name", *TOLD]
        told = {a.key: a.value for a in span.attributes or () if a.key != "notes"}
        assert told["gen_ai.usage.input_tokens"] == otlp_decode.Value(intValue="9")
        assert told["gen_ai.request.model"] == otlp_decode.Value(stringValue="m")
    assert hasattr((first.attributes or [])[-1], "value")
    assert not hasattr((second.attributes or [])[-1], "value")
    assert [getattr(first, name) for name in Span.__struct_fields__ if name != "attributes"] == [
        getattr(second, name) for name in Span.__struct_fields__ if name != "attributes"
    ]


def test_documents_with_other_names_or_odd_attributes_are_decoded_in_general() -> None:
    decoder = Decoder()
    odd = [{"value": {"stringValue": "no name"}}, {"key": "a", "value": None, "key2": 1}, {}]
    contents = [
        document(chat(0, TOLD)),
        document(chat(1, {"other": {"stringValue": "y"}})),
        document(chat(2, {}, attributes=odd)),
        document(chat(3, {}, attributes=None), chat(4, {}, attributes=[])),
        document({"attributes": "@"}).replace(
            b'"@"',
            b'[{"value":{"intValue":3},"key":"gen_ai.usage.input_tokens"},{"key":"b","key":"a"}]',
        ),
    ]
    keys = [
        [["gen_ai.operation.name", *TOLD]],
        [["gen_ai.operation.name", "other"]],
        [["", "a", ""]],
        [[], []],
        [["gen_ai.usage.input_tokens", "a"]],
    ]
    for _ in range(3):
        for content, wanted in zip(contents, keys, strict=True):
            found = spans_of(decoder, content)
            assert [[a.key for a in span.attributes or ()] for span in found] == wanted
    assert (found[0].attributes or [])[0].value == otlp_decode.Value(intValue=3)


def test_a_list_of_requests_and_older_ones_are_decoded_by_names_too() -> None:
    decoder = Decoder()
    old = {"batches": [{"instrumentationLibrarySpans": [{"spans": [chat(0, TOLD)]}]}]}
    content = json.dumps([old, old]).encode()
    for _ in range(2):
        requests = decoder.requests(content, several=True)
        scopes = [(r.batches or [])[0].instrumentationLibrarySpans or [] for r in requests]
        spans = [(scope[0].spans or [])[0] for scope in scopes]
        assert [[a.key for a in s.attributes or ()][-1] for s in spans] == ["notes", "notes"]
    assert not hasattr((spans[0].attributes or [])[-1], "value")


@pytest.mark.parametrize("first", [True, False])
def test_what_is_no_json_or_of_a_wrong_type_is_told_apart_whatever_was_learnt(first: bool) -> None:
    decoder = Decoder()
    if not first:
        spans_of(decoder, document(chat(0, TOLD)))
    with pytest.raises(msgspec.ValidationError):
        decoder.requests(document(chat(1, TOLD, name=5)), several=False)
    with pytest.raises(msgspec.ValidationError):
        model = {"gen_ai.request.model": {"stringValue": 5}}
        decoder.requests(document(chat(1, model)), several=False)
    with pytest.raises(msgspec.DecodeError) as caught:
        decoder.requests(document(chat(1, TOLD))[:-9], several=False)
    assert not isinstance(caught.value, msgspec.ValidationError)


def test_files_with_ever_new_names_are_read_without_learning_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    documents = [
        document(*(chat(8 * n + at, {**TOLD, f"k{n}": {"intValue": 1}}) for at in range(8)))
        for n in range(12)
    ]
    done, table = imported(tmp_path, *documents)
    assert done.steps == 96
    for name, value in (("_TRIES", 3), ("_MOST_NAMES", 6), ("_LONGEST_NAME", 2)):
        with monkeypatch.context() as patch:
            patch.setattr(otlp_decode, name, value)
            again, other = imported(tmp_path, *documents)
        assert again == done
        assert other.equals(table)


def test_values_of_attributes_that_tell_nothing_are_no_matter_in_any_document(
    tmp_path: Path,
) -> None:
    sound = document(chat(0, TOLD))
    odd = document(chat(1, {**TOLD, "notes": {"stringValue": ["no text"]}}))
    bad = document(chat(2, {**TOLD, "gen_ai.request.model": {"stringValue": 5}}))
    for documents in ((odd, sound, bad), (sound, bad, odd), (bad, sound, odd)):
        done, table = imported(tmp_path, *documents, skip_bad=True)
        assert done.steps == 2
        assert [(s.count, "expected `str" in s.reason.lower()) for s in done.skipped] == [(1, True)]
        assert table["prompt_tokens"].to_pylist() == [9, 9]

"""Any bytes end in an import or in one line of what is wrong; documents survive any cutting."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polysilicon.errors import InputError
from polysilicon.workload.checks import find_fault, normalise
from polysilicon.workload.imports import langfuse, otlp_json, otlp_own, otlp_proto, pieces
from polysilicon.workload.imports.findings import Findings
from polysilicon.workload.imports.run import _sound, shifted
from polysilicon.workload.imports.source import Source
from polysilicon.workload.imports.types import Clock, Options

REPLAYED = Path(__file__).parents[1] / "golden" / "fuzz"
IMPORTERS = {"otlp_json": otlp_json, "otlp_proto": otlp_proto, "langfuse": langfuse}


class Bytes(Source):
    """A source in memory, in chunks of some size."""

    def __init__(self, content: bytes, size: int = 2**20) -> None:
        self.path, self.prefix = Path("trace"), ""
        self._content, self._size = content, size

    def chunks(self) -> Iterator[bytes]:
        for at in range(0, len(self._content), self._size):
            yield self._content[at : at + self._size]


def fault_of(importer: Any, content: bytes, *, skip_bad: bool) -> str | None:
    """What is wrong with what an import made of bytes, or with how it refused them."""
    importer.recognise(Bytes(content))
    findings = Findings(skip_bad=skip_bad)
    try:
        for table in importer.read(Bytes(content), Clock(), findings, Options()):
            good = normalise(_sound(table, "trace", Findings(skip_bad=True)), "trace")
            if (fault := find_fault(shifted(good, 0.0))) is not None:
                return f"rows that are not sound: {fault}"
    except InputError as error:
        if skip_bad:
            return f"refused though bad records are to be skipped: {error}"
        if len(str(error).splitlines()) != 1:
            return f"refused in more than one line: {error}"
    return None


def mutated(draw: st.DrawFn, content: bytes) -> bytes:
    """A file with a few bytes changed, left out or put in."""
    made = bytearray(content)
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(made)))
        made[at : at + draw(st.integers(0, 30))] = draw(st.binary(max_size=8))
    return bytes(made)


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)
moments = (
    st.sampled_from(["1770000000000000000", 1.77e9, "2026-01-01T00:00:00Z", "0", "", -1]) | values
)
identifiers = st.sampled_from(["00" * 16, "ab" * 16, "cd" * 8, "q83vq83vq80=", "", "x"]) | values


def objects(keys: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=keys)


told = st.lists(
    objects(
        {
            "key": st.sampled_from(
                ["gen_ai.operation.name", "gen_ai.usage.input_tokens", "target", "error.type",
                 "gen_ai.server.time_to_first_token", "gen_ai.usage.cached_tokens", "http.method"]
            ),
            "value": objects(
                {"stringValue": st.sampled_from(["chat", "execute_tool", "x", "3"]),
                 "intValue": values,
                 "doubleValue": values}
            ) | values,
        }
    ),
    max_size=4,
)  # fmt: skip
otlp_spans = objects(
    {
        "traceId": identifiers, "spanId": identifiers, "parentSpanId": identifiers,
        "startTimeUnixNano": moments, "endTimeUnixNano": moments, "attributes": told,
        "name": values, "kind": values, "status": values,
        "events": st.lists(objects({"name": st.just("first_token"), "timeUnixNano": moments})),
    }
)  # fmt: skip
observations = objects(
    {
        "id": identifiers, "traceId": identifiers, "parentObservationId": identifiers,
        "type": st.sampled_from(["GENERATION", "TOOL", "SPAN", "EVENT", 3]), "name": values,
        "startTime": moments, "endTime": moments, "latency": values, "metadata": values,
        "usageDetails": st.dictionaries(st.sampled_from(["input", "output", "total"]), values),
        "completionStartTime": moments,
    }
)  # fmt: skip


def text_of(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=True).encode()


@settings(max_examples=50, deadline=None)
@given(st.data(), st.booleans())
def test_odd_otlp_is_told_or_imported(data: st.DataObject, skip_bad: bool) -> None:
    listed = data.draw(st.lists(otlp_spans, max_size=4))
    body = text_of({"resourceSpans": [{"scopeSpans": [{"spans": listed}]}]})
    content = data.draw(st.composite(lambda draw: mutated(draw, body))())
    assert fault_of(otlp_json, content, skip_bad=skip_bad) is None


@settings(max_examples=40, deadline=None)
@given(st.lists(observations, max_size=4), st.booleans())
def test_odd_observations_are_told_or_imported(listed: list[Any], skip_bad: bool) -> None:
    content = text_of({"trace": {"id": "t"}, "observations": listed})
    assert fault_of(langfuse, content, skip_bad=skip_bad) is None


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=120), st.sampled_from(sorted(IMPORTERS)), st.booleans())
def test_any_bytes_are_told_or_imported(content: bytes, name: str, skip_bad: bool) -> None:
    assert fault_of(IMPORTERS[name], content, skip_bad=skip_bad) is None
    assert fault_of(IMPORTERS[name], b"\x0a" + content, skip_bad=skip_bad) is None


@pytest.mark.parametrize("path", sorted(REPLAYED.glob("*")), ids=lambda path: path.name)
def test_what_once_broke_is_mended(path: Path) -> None:
    """Files that broke an importer, or nearly; the name begins with the importer's."""
    importer = {**IMPORTERS, "otlp_own": otlp_own}[path.name.partition("-")[0]]
    for skip_bad in (False, True):
        assert fault_of(importer, path.read_bytes(), skip_bad=skip_bad) is None


texts = st.text(st.sampled_from('ab"\\{}[],: \n'), max_size=12)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.lists(texts, max_size=6), min_size=1, max_size=4),
    st.integers(1, 60),
    st.integers(1, 120),
    st.sampled_from([None, 1]),
)
def test_cut_documents_hold_the_same_elements(
    documents: list[list[str]], chunk: int, most: int, indent: int | None
) -> None:
    made = [
        {
            "resourceSpans": [
                {"resource": {"r": n}, "scopeSpans": [{"spans": [{"t": t} for t in ts]}]}
            ]
        }
        for n, ts in enumerate(documents)
    ]
    content = "\n".join(json.dumps(d, indent=indent) for d in made).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pieces, "PIECE_BYTES", most)
        found = list(
            pieces.pieces(Bytes(content, chunk).chunks(), otlp_json.ARRAYS, otlp_json.KEPT)
        )
    elements = []
    for piece in found:
        for resource in msgspec.json.decode(piece.data)["resourceSpans"]:
            for scope in resource.get("scopeSpans", []):
                elements += [(resource["resource"]["r"], s["t"]) for s in scope.get("spans", [])]
    assert elements == [(n, text) for n, ts in enumerate(documents) for text in ts]

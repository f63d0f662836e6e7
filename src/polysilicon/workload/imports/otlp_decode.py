"""OTLP requests in JSON as objects; of attributes that tell nothing only that they are there.

Most attributes of a span are of no use for a step, and prompts are the largest of them. So each is
decoded as one of a union of types, one for each name, which msgspec tells apart by the name: no
text is made of the name, and of the value only where the vocabulary knows the name. The names are
those of the documents before. A document with another one is decoded in general, and its names are
learnt, unless a file has too many for that.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache, reduce
from operator import or_
from typing import Any, Literal

import msgspec

from polysilicon.workload.imports.spans.vocabulary import KNOWN

Time = str | int | float | None

_KINDS = Literal[
    "SPAN_KIND_UNSPECIFIED",
    "SPAN_KIND_INTERNAL",
    "SPAN_KIND_SERVER",
    "SPAN_KIND_CLIENT",
    "SPAN_KIND_PRODUCER",
    "SPAN_KIND_CONSUMER",
]
_MOST_NAMES = 512
_LONGEST_NAME = 128
_TRIES = 32
"""Documents with names that were not known, beyond those without, after which none is expected."""


class Value(msgspec.Struct, gc=False):
    """The value of an attribute, where it is none of several."""

    stringValue: str | None = None  # noqa: N815
    intValue: str | int | None = None  # noqa: N815
    doubleValue: float | str | None = None  # noqa: N815
    boolValue: bool | None = None  # noqa: N815


class Attribute(msgspec.Struct, gc=False):
    """An attribute of any name."""

    key: str = ""
    value: Value | None = None


class Event(msgspec.Struct, gc=False):
    """An event of a span."""

    name: str | None = ""
    timeUnixNano: Time = None  # noqa: N815


class Status(msgspec.Struct, gc=False):
    """How a span ended."""

    code: str | int | None = 0


class Span(msgspec.Struct, gc=False):
    """What is read of a span."""

    traceId: str = ""  # noqa: N815
    spanId: str = ""  # noqa: N815
    parentSpanId: str | None = None  # noqa: N815
    name: str | None = ""
    kind: str | int | None = None
    startTimeUnixNano: Time = None  # noqa: N815
    endTimeUnixNano: Time = None  # noqa: N815
    attributes: list[Attribute] | None = None
    events: list[Event] | None = None
    status: Status | None = None


class Resource(msgspec.Struct, gc=False):
    """What spans come from."""

    attributes: list[Attribute] | None = None


class ScopeSpans(msgspec.Struct, gc=False):
    """Spans of one library."""

    spans: list[Span] | None = None


class ResourceSpans(msgspec.Struct, gc=False):
    """Spans of one resource."""

    resource: Resource | None = None
    scopeSpans: list[ScopeSpans] | None = None  # noqa: N815
    instrumentationLibrarySpans: list[ScopeSpans] | None = None  # noqa: N815


class Request(msgspec.Struct, gc=False):
    """A request; older ones say `batches`."""

    resourceSpans: list[ResourceSpans] | None = None  # noqa: N815
    batches: list[ResourceSpans] | None = None


class _Decoders:
    """Decoders of one request and of a list of them."""

    def __init__(self, kind: Any) -> None:
        self._one = msgspec.json.Decoder(kind)
        self._several = msgspec.json.Decoder(list[kind])

    def requests(self, data: bytes | memoryview, *, several: bool) -> list[Request]:
        found: Any = self._several.decode(data) if several else [self._one.decode(data)]
        return list(found)


_GENERAL = _Decoders(Request)


class Decoder:
    """Decodes the documents of a file."""

    def __init__(self) -> None:
        self._names: dict[str, None] = {}
        self._special: _Decoders | None = None
        self._left = _TRIES

    def requests(self, data: bytes | memoryview, *, several: bool) -> list[Request]:
        """Return the requests of a document.

        Args:
            data: the document.
            several: it is a list of requests.

        Raises:
            msgspec.DecodeError: it is no JSON; its subclass if a value is of a wrong type.
            UnicodeDecodeError: it is not UTF-8.
            RecursionError: it is nested too deeply.
        """
        if self._names and self._left > 0:
            if self._special is None:
                self._special = _Decoders(_request_of(self._names))
            try:
                found = self._special.requests(data, several=several)
            except msgspec.ValidationError:
                self._left -= 1
            else:
                self._left += 1
                return found
        found = _GENERAL.requests(data, several=several)
        if self._left > 0:
            self._learn(found)
        return found

    def _learn(self, requests: list[Request]) -> None:
        """Note the names of the attributes of spans."""
        known = len(self._names)
        for request in requests:
            for resource in (*(request.resourceSpans or ()), *(request.batches or ())):
                for scope in (
                    *(resource.scopeSpans or ()),
                    *(resource.instrumentationLibrarySpans or ()),
                ):
                    for span in scope.spans or ():
                        self._names.update((a.key, None) for a in span.attributes or ())
        self._names = {name: None for name in self._names if len(name) <= _LONGEST_NAME}
        if len(self._names) > _MOST_NAMES:
            self._left = 0
        if len(self._names) != known:
            self._special = None


def _request_of(names: Iterable[str]) -> Any:
    """Return the type of requests whose attributes have some names."""
    some = reduce(or_, map(_attribute_of, names))
    span = _variant(Span, attributes=_lists_of(some), kind=_KINDS | int | None)
    scopes = _lists_of(_variant(ScopeSpans, spans=_lists_of(span)))
    resources = _lists_of(
        _variant(ResourceSpans, scopeSpans=scopes, instrumentationLibrarySpans=scopes)
    )
    return _variant(Request, resourceSpans=resources, batches=resources)


def _lists_of(kind: Any) -> Any:
    return list[kind] | None


def _variant(base: Any, **kinds: Any) -> Any:
    """Return a type like another one with other types of some fields, None by default."""
    fields = [(name, kind, None) for name, kind in kinds.items()]
    return msgspec.defstruct(base.__name__, fields, bases=(base,), gc=False)


@lru_cache(maxsize=2 * _MOST_NAMES)
def _attribute_of(name: str) -> Any:
    """Return the type of attributes of a name, which has this as `key`."""
    fields: list[Any] = [("value", Value | None, None)] if name in KNOWN else []
    return msgspec.defstruct(
        "Attribute", fields, namespace={"key": name}, tag_field="key", tag=name, gc=False
    )

"""Large OTLP messages in protobuf in parts that are messages too.

A span takes two hundred bytes in memory, and as few as two in a file. A message is therefore cut
between fields, which needs no more than their lengths, before it is decoded.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

from google.protobuf.descriptor import Descriptor
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

CUT_BYTES = 2**20
"""Messages that are larger are cut into parts that are not, unless a field of theirs is."""

_CUT_FIELDS = 8192
_RESOURCE = 0x0A  # field 1 of ResourceSpans; of a request, its resources
_SCOPE = 0x12  # field 2 of ResourceSpans
_SIZES = {1: 8, 5: 4}
"""Bytes of a value by the wire type of its field, where these are fixed."""


_MOST_DEPTH = 100  # what is nested deeper is not decoded
_DELIMITED = 2


def varint(data: bytes, at: int) -> tuple[int, int]:
    """Return the whole number at a place and the place after it; 0 and 0 where there is none."""
    value = 0
    for shift, byte in enumerate(data[at : at + 10]):
        value |= (byte & 0x7F) << (7 * shift)
        if byte < 0x80:
            return value, at + shift + 1
    return 0, 0


def resources_of(request: bytes) -> Iterator[bytes]:
    """Yield the `ResourceSpans` of an `ExportTraceServiceRequest`, not decoded.

    Raises:
        DecodeError: it is none.
    """
    return (request[low:high] for tag, _, low, high in _fields(request) if tag == _RESOURCE)


def parts_of(resource: bytes) -> Iterator[bytes]:
    """Yield a `ResourceSpans`, not decoded, in parts that are such messages with few spans each.

    Raises:
        DecodeError: it is none.
    """
    small = len(resource) <= CUT_BYTES
    above = b"" if small else b"".join(resource[a:b] for a, b in _runs(resource, _RESOURCE))
    # What is said of the resource is said in each part.
    if small or len(above) > CUT_BYTES:
        yield resource
        return
    for begin, end in _runs(resource, _SCOPE):
        if end - begin <= CUT_BYTES:
            yield above + resource[begin:end]
            continue
        _, _, low, _ = next(_fields(resource, begin))  # a run that large is one field
        scope = resource[low:end]
        for first, last in _runs(scope):
            yield above + bytes([_SCOPE]) + _length(last - first) + scope[first:last]


def has_more_fields(request: bytes, most: int) -> bool:
    """Tell whether an `ExportTraceServiceRequest` has more fields, at all depths, without decoding.

    Raises:
        DecodeError: it is none.
    """
    inner = _inner(ExportTraceServiceRequest.DESCRIPTOR)
    count, levels = 0, [(request, _fields(request), inner)]
    while levels:
        data, fields, inner = levels[-1]
        for tag, _, low, high in fields:
            count += 1
            if tag in inner:
                if len(levels) == _MOST_DEPTH:
                    raise DecodeError("nested too deeply")
                held = data[low:high]
                levels.append((held, _fields(held), _inner(inner[tag])))
                break
        else:
            levels.pop()
        if count > most:
            return True
    return False


@cache
def _inner(kind: Descriptor) -> dict[int, Descriptor]:
    """Return the types of a message's fields that are messages, by tag."""
    typed = ((field.number, field.message_type) for field in kind.fields)
    return {number << 3 | _DELIMITED: inner for number, inner in typed if inner is not None}


def _runs(data: bytes, wanted: int = 0) -> Iterator[tuple[int, int]]:
    """Yield the bounds of runs of fields: as many as make a part, or one that is larger.

    Args:
        data: a message.
        wanted: the tag of the fields; all of them by default.
    """
    first = last = count = 0
    for tag, begin, _, end in _fields(data):
        if wanted and tag != wanted:
            continue
        if count and (begin != last or count == _CUT_FIELDS or end - first > CUT_BYTES):
            yield first, last
            count = 0
        if not count:
            first = begin
        last, count = end, count + 1
    if count:
        yield first, last


def _fields(data: bytes, at: int = 0) -> Iterator[tuple[int, int, int, int]]:
    """Yield tag, beginning, beginning of the value and end of each field from a place on.

    Raises:
        DecodeError: it is none.
    """
    size = len(data)
    while at < size:
        begin = at
        tag, at = varint(data, at) if data[at] >= 0x80 else (data[at], at + 1)
        kind = tag & 7
        low = at
        if kind in (0, 2):
            value, at = varint(data, at)
            low, end = (low, at) if kind == 0 else (at, at + value)
        else:
            end = at + _SIZES.get(kind, size)
        if not tag >> 3 or not at or end > size:
            raise DecodeError("no message")
        at = end
        yield tag, begin, low, end


def _length(size: int) -> bytes:
    """Return a length as a varint."""
    found = bytearray()
    while size >= 0x80:
        found.append(size & 0x7F | 0x80)
        size >>= 7
    found.append(size)
    return bytes(found)

"""JSON schemas of callers, for engines that are held to a grammar.

The engine writes freely where it cannot read a grammar, and says nothing of that; so what it could
not read is refused here.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import msgspec
from jsonschema import Draft7Validator, Draft202012Validator
from jsonschema.exceptions import SchemaError

from polysilicon.gateway.errors import ApiError
from polysilicon.runtime.engines.llamacpp import compact_grammar

Json = dict[str, Any]

_MOST_DEPTH = 64
_MOST_BYTES = 128 * 2**10  # the time for a grammar grows with the square of its schema
_MOST_OPTIONAL = 400  # the engine has 2,000 items in a row of its parser, and such a field takes 4
_MOST_COUNT = 10_000
_MOST_PATTERN_CHARS = 500
_COUNTS = ("minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties")


def grammar(schema: Json) -> str:
    """Return a schema as a grammar of compact JSON.

    Raises:
        ApiError: 400; it is too deep or too large, or says what no grammar can.
    """
    check_depth(schema, "response_format")
    text = msgspec.json.encode(schema)
    if len(text) > _MOST_BYTES:
        raise _refused(f"a schema has up to {_MOST_BYTES // 1024} KiB")
    return _grammar(text)


@lru_cache(maxsize=64)
def _grammar(text: bytes) -> str:
    """Return the grammar of a schema that is written as JSON.

    Raises:
        ApiError: 400; it says what no grammar can.
    """
    schema: Json = msgspec.json.decode(text)
    for part in _parts(schema):
        _check_bounds(part)
        _check_reference(schema, part)
    draft = Draft7Validator if "draft-07" in str(schema.get("$schema")) else Draft202012Validator
    try:
        draft.check_schema(schema, format_checker=None)  # Python's patterns are not JSON schema's
        return compact_grammar(schema)
    except SchemaError as error:
        raise _refused(f"this is no JSON schema: {error.message}") from error
    except (RuntimeError, ValueError) as error:
        raise _refused(f"the schema cannot be held to: {error}") from error


def check_depth(schema: Json, param: str) -> None:
    """Raise `ApiError` where a schema, which stands in a field, is nested too deeply."""
    if _depth(schema) > _MOST_DEPTH:
        raise ApiError(400, f"the schema is nested deeper than {_MOST_DEPTH}", param=param)


def _refused(text: str) -> ApiError:
    return ApiError(400, " ".join(text.split())[:300], param="response_format")


def _parts(schema: Json) -> Iterator[Json]:
    """Yield a schema and all objects in it."""
    left: list[Any] = [schema]
    while left:
        part = left.pop()
        if isinstance(part, list):
            left += part
        elif isinstance(part, dict):
            left += part.values()
            yield part


def _check_bounds(part: Json) -> None:
    """Raise `ApiError` where a schema asks for more than a grammar can hold to in bounded time."""
    counts = [part[key] for key in _COUNTS if isinstance(part.get(key), int | float)]
    pattern = part.get("pattern")
    long = isinstance(pattern, str) and len(pattern) > _MOST_PATTERN_CHARS
    if long or any(count > _MOST_COUNT for count in counts):
        text = f"counts in a schema go up to {_MOST_COUNT:,}, patterns to "
        raise _refused(f"{text}{_MOST_PATTERN_CHARS} characters")
    properties, required = part.get("properties"), part.get("required")
    needed = len(required) if isinstance(required, list) else 0
    if isinstance(properties, dict) and len(properties) - needed > _MOST_OPTIONAL:
        raise _refused(f"an object has up to {_MOST_OPTIONAL} properties that are not required")


def _check_reference(schema: Json, part: Json) -> None:
    """Raise `ApiError` where a reference is to nothing within the schema, or to itself."""
    seen: set[str] = set()
    found: Any = part
    while isinstance(found, dict) and isinstance(reference := found.get("$ref"), str):
        if reference in seen:
            raise _refused(f"the reference {reference!r} is to itself")
        seen.add(reference)
        found = _resolved(schema, reference)
        if found is None:
            raise _refused(f"the reference {reference!r} is to no part of the schema")


def _resolved(schema: Json, reference: str) -> Any:
    """Return what a JSON pointer (RFC 6901) points to; None where that is nothing."""
    if not reference.startswith("#"):
        return None
    found: Any = schema
    for step in reference[1:].split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        if isinstance(found, list) and name.isdecimal() and int(name) < len(found):
            found = found[int(name)]
        elif isinstance(found, dict):
            found = found.get(name)
        else:
            return None
    return found


def _depth(value: Any) -> int:
    """Return how deeply a value is nested, counted no further than is needed."""
    level, depth = [value], 0
    while level and depth <= _MOST_DEPTH:
        depth += 1
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
    return depth

"""JSON schemas of callers, for engines that are held to a grammar.

The engine writes freely where it cannot hold to a grammar, and says nothing of that; so such a
schema is refused here, with the place in it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import msgspec
from jsonschema import Draft7Validator, Draft202012Validator
from jsonschema.exceptions import SchemaError

from polysilicon.gateway.errors import ApiError
from polysilicon.gateway.places import place_of, resolved
from polysilicon.runtime.engines.llamacpp import compact_grammar

Json = dict[str, Any]

_MOST_DEPTH = 64
_MOST_BYTES = 128 * 2**10  # the time for a grammar grows with the square of its schema
_MOST_OBJECTS = 2000
_MOST_LISTED = 1000
_MOST_OPTIONAL = 400  # the engine has 2,000 items in a row of its parser, and such a field takes 4
_MOST_COUNT = 10_000
_MOST_PATTERN_CHARS = 500
_MOST_REFERENCES = 50
_COUNTS = ("minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties")

_one_at_a_time = ThreadPoolExecutor(1, thread_name_prefix="schema")
"""Callers with schemas wait for each other, and nobody else for them."""


async def held_to(schema: Json, param: str) -> str:
    """Return a schema as a grammar of compact JSON, while others have their turns.

    Args:
        schema: the caller's.
        param: the field that it stands in.

    Raises:
        ApiError: 400; see `grammar`.
    """
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(_one_at_a_time, grammar, schema, param)


def grammar(schema: Json, param: str = "response_format") -> str:
    """Return a schema as a grammar of compact JSON.

    Raises:
        ApiError: 400; it is too deep or too large, says what no grammar can, or nothing satisfies
            it.
    """
    check_depth(schema, param)
    text = msgspec.json.encode(schema)
    if len(text) > _MOST_BYTES:
        raise _refused(f"a schema has up to {_MOST_BYTES // 1024} KiB", param)
    found, fault = _judged(text)
    if fault:
        raise _refused(fault, param)
    return found


@lru_cache(maxsize=256)
def _judged(text: bytes) -> tuple[str, str]:
    """Return the grammar of a schema, and why there is none; finding either may take seconds."""
    try:
        return _grammar(text), ""
    except SchemaError as error:
        place = "/".join(["#", *map(str, error.absolute_path)])
        return "", _cut(f"this is no JSON schema, at {place}: {error.message}")
    except (RuntimeError, ValueError) as error:
        return "", _cut(f"the schema cannot be held to: {error}")


def _grammar(text: bytes) -> str:
    """Return the grammar of a schema that is written as JSON.

    Raises:
        SchemaError: it is none.
        RuntimeError, ValueError: it cannot be held to.
    """
    schema: Json = msgspec.json.decode(text)
    for number, part in enumerate(_parts(schema)):
        if number >= _MOST_OBJECTS:
            raise ValueError(f"a schema has up to {_MOST_OBJECTS:,} objects")
        _check_bounds(part)
        _check_reference(schema, part)
    draft = Draft7Validator if "draft-07" in str(schema.get("$schema")) else Draft202012Validator
    draft.check_schema(schema, format_checker=None)  # Python's patterns are not JSON schema's
    try:
        return compact_grammar(schema)
    except (RuntimeError, ValueError) as error:
        place, reason = place_of(schema, str(error))
        raise ValueError(f"at {place}: {reason}") from error


def check_depth(schema: Json, param: str) -> None:
    """Raise `ApiError` where a schema, which stands in a field, is nested too deeply."""
    if _depth(schema) > _MOST_DEPTH:
        raise ApiError(400, f"the schema is nested deeper than {_MOST_DEPTH}", param=param)


def _refused(text: str, param: str) -> ApiError:
    return ApiError(400, _cut(text), param=param, code="invalid_schema")


def _cut(text: str) -> str:
    return " ".join(text.split())[:300]


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
    """Raise `ValueError` where a schema asks for more than can be held to in bounded time."""
    counts = [part[key] for key in _COUNTS if isinstance(part.get(key), int | float)]
    pattern = part.get("pattern")
    long = isinstance(pattern, str) and len(pattern) > _MOST_PATTERN_CHARS
    if long or any(count > _MOST_COUNT for count in counts):
        text = f"counts in a schema go up to {_MOST_COUNT:,}, patterns to "
        raise ValueError(f"{text}{_MOST_PATTERN_CHARS} characters")
    listed = (key for key, value in part.items() if isinstance(value, list) and key != "enum")
    long_one = next((key for key in listed if len(part[key]) > _MOST_LISTED), None)
    if long_one is not None:
        raise ValueError(f"{long_one[:50]!r} has up to {_MOST_LISTED:,} entries")
    properties, required = part.get("properties"), part.get("required")
    needed = len(required) if isinstance(required, list) else 0
    if isinstance(properties, dict) and len(properties) - needed > _MOST_OPTIONAL:
        raise ValueError(f"an object has up to {_MOST_OPTIONAL} properties that are not required")


def _check_reference(schema: Json, part: Json) -> None:
    """Raise `ValueError` where a reference is to nothing within the schema, or to itself."""
    seen: set[str] = set()
    found: Any = part
    while isinstance(found, dict) and isinstance(reference := found.get("$ref"), str):
        if reference in seen:
            raise ValueError(f"the reference {reference!r} is to itself")
        if len(seen) >= _MOST_REFERENCES:
            raise ValueError(f"more than {_MOST_REFERENCES} references lead to each other")
        seen.add(reference)
        found = resolved(schema, reference)
        if found is None:
            raise ValueError(f"the reference {reference!r} is to no part of the schema")


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

"""Where in a JSON schema it is that nothing can be held to: the innermost part that fails alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from polysilicon.runtime.engines.llamacpp import compact_grammar

Json = dict[str, Any]

_MOST_TRIED = 1000
_EFFORT = 20
"""Of a part with references, for which the whole schema is read; in those that have none."""

_OF_NAMES = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
_OF_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems", "items")
_OF_ONE = ("items", "additionalProperties", "contains", "not", "if", "then", "else")
_WHOLE = "whole"


def place_of(schema: Json, reason: str) -> tuple[str, str]:
    """Return a JSON pointer to the part of a schema that is at fault, and what is wrong with it.

    Args:
        schema: which cannot be held to.
        reason: what is wrong with it as a whole.
    """
    part: Any = schema
    place, left, seen = "#", _MOST_TRIED, {"#"}
    while left > 0:
        inner = None
        for name, step, child in sorted(_children(part), key=lambda found: _refers(found[2])):
            fault, effort = _fault(schema, child)
            # A part that fails may be one that need not be there; then it is not the cause.
            if fault and (fault == reason or f"'{name}'" in reason):
                inner = (f"{place}/{step}", child, fault)
            left -= effort
            if inner is not None or left <= 0:
                break
        reference = part.get("$ref")
        if inner is None and isinstance(reference, str):
            inner = (reference, resolved(schema, reference), reason)
        if inner is None or inner[0] in seen:
            break
        place, part, reason = inner
        seen.add(place)
        if not isinstance(part, dict):
            break
    return place, reason


def resolved(schema: Json, reference: str) -> Any:
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


def _fault(schema: Json, part: Any) -> tuple[str, int]:
    """Return what is wrong with a part of a schema alone, if anything, and what it took to know."""
    alone, effort = part, 1
    if _refers(part):
        alone = {"allOf": [_moved(part)], "$defs": {_WHOLE: _moved(schema)}}
        effort = _EFFORT
    try:
        compact_grammar(alone if isinstance(alone, dict) else {"allOf": [alone]})
    except (RuntimeError, ValueError) as error:
        return str(error), effort
    return "", effort


def _refers(part: Any) -> bool:
    """Tell whether there are references in a part."""
    if isinstance(part, list):
        return any(map(_refers, part))
    return isinstance(part, dict) and ("$ref" in part or any(map(_refers, part.values())))


def _moved(part: Any) -> Any:
    """Return a part of a schema whose references are to where the whole of it is put."""
    if isinstance(part, list):
        return [_moved(item) for item in part]
    if not isinstance(part, dict):
        return part
    found = {key: _moved(value) for key, value in part.items()}
    if isinstance(reference := part.get("$ref"), str) and reference.startswith("#"):
        found["$ref"] = f"#/$defs/{_WHOLE}{reference[1:]}"
    return found


def _children(part: Json) -> Iterator[tuple[str, str, Json]]:
    """Yield the schemas within a schema: name, JSON pointer from there, and schema."""
    for key in _OF_NAMES:
        inner = part.get(key)
        for name, child in inner.items() if isinstance(inner, dict) else ():
            yield name, f"{key}/{name.replace('~', '~0').replace('/', '~1')}", child
    for key in _OF_LISTS:
        inner = part.get(key)
        for at, child in enumerate(inner) if isinstance(inner, list) else ():
            yield key, f"{key}/{at}", child
    for key in _OF_ONE:
        if isinstance(part.get(key), dict):
            yield key, key, part[key]

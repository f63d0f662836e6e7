"""What a file may say at the place where it says something else, from the types that read it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from msgspec import inspect

from polysilicon.errors import nearest

_UNKNOWN = re.compile(r"unknown field `([^`]*)`")
_MISSING = re.compile(r"missing required field `([^`]*)`")
_PLACE = re.compile(r" - at `\$([^`]*)`$")
_PART = re.compile(r"\.([^.\[]+)|\[(\d+|\.\.\.)\]")


def known_there(kind: Any, data: Any, told: str) -> str:
    """Return what helps with an error of msgspec's: names near the unknown one, or what is known.

    Args:
        kind: type that the data was read into.
        data: the same without types.
        told: the message.

    Returns:
        Nothing where the place or its type does not tell.
    """
    place, missing = _PLACE.search(told), _MISSING.search(told)
    if place is None:
        return ""
    if missing is not None:
        return f"add {missing[1]} = …"
    at = inspect.type_info(kind)
    for name, number in _PART.findall(place[1]):
        at = _inside(_chosen(at, data), name)
        data = _of(data, name, number)
    unknown = _UNKNOWN.search(told)
    at = _chosen(at, data)
    if unknown is not None and isinstance(at, inspect.StructType):
        names = [field.encode_name for field in at.fields]
        return nearest(unknown[1], names) or f"known: {', '.join(names)}"
    if "nvalid" in told and isinstance(at, inspect.LiteralType | inspect.UnionType):
        return _values(at)
    return ""


def _chosen(at: Any, data: Any) -> Any:
    """Return of several structs that one of which the data bears the tag; others stay."""
    if not isinstance(at, inspect.UnionType):
        return at
    structs = [one for one in at.types if isinstance(one, inspect.StructType)]
    for one in structs:
        if isinstance(data, Mapping) and one.tag is not None:
            if data.get(str(one.tag_field)) == one.tag:
                return one
        elif len(structs) == 1 and isinstance(data, Mapping):
            return one
    return at


def _inside(at: Any, name: str) -> Any:
    """Return the type of a field, or of the entries of a list or table."""
    if isinstance(at, inspect.UnionType):
        if name in {one.tag_field for one in at.types if isinstance(one, inspect.StructType)}:
            return at  # the tag tells which struct it is
        found = [_inside(one, name) for one in at.types]
        return next((one for one in found if one is not None), None)
    if name and isinstance(at, inspect.StructType):
        return next((field.type for field in at.fields if field.encode_name == name), None)
    if isinstance(at, inspect.DictType):
        return at.value_type
    return getattr(at, "item_type", None)


def _of(data: Any, name: str, number: str) -> Any:
    """Return a part of the data; None where there is none, or nobody tells which it is."""
    if name:
        return data.get(name) if isinstance(data, Mapping) else None
    if isinstance(data, list) and number.isdigit() and int(number) < len(data):
        return data[int(number)]
    return None


def _values(at: Any) -> str:
    """Return the words that may stand somewhere, and tags of structs."""
    found: list[str] = []
    for one in at.types if isinstance(at, inspect.UnionType) else [at]:
        if isinstance(one, inspect.LiteralType):
            found += [repr(value) for value in one.values]
        elif isinstance(one, inspect.StructType) and one.tag is not None:
            found.append(repr(one.tag))
    return f"one of {', '.join(found)}" if found else ""

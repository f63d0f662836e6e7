"""YAML in block form, of dicts, lists and scalars; these are JSON, which YAML reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec


def yaml_documents(documents: Sequence[Mapping[str, Any]], notes: Sequence[str]) -> str:
    """Return YAML documents under lines of comment."""
    head = "".join(f"# {_one_line(note)}\n" for note in notes)
    return head + "---\n".join("\n".join([*_lines(one), ""]) for one in documents)


def _one_line(text: str) -> str:
    """Return a comment on one line, without what would end it."""
    return " ".join(text.split())


def _lines(value: Any, indent: str = "") -> list[str]:
    """Return the lines of a value."""
    found = []
    if isinstance(value, Mapping):
        for name, inner in value.items():
            found += _entry(f"{indent}{_key(name)}:", inner, indent + "  ")
        return found
    for inner in value:
        if isinstance(inner, Mapping | list | tuple) and inner:
            first, *rest = _lines(inner, indent + "  ")
            found += [f"{indent}- {first.lstrip()}", *rest]
        else:
            found.append(f"{indent}- {_scalar(inner)}")
    return found


def _entry(head: str, value: Any, indent: str) -> list[str]:
    """Return a name with its value."""
    if isinstance(value, Mapping | list | tuple) and value:
        return [head, *_lines(value, indent)]
    return [f"{head} {_scalar(value)}"]


def _key(name: str) -> str:
    """Return a name, in quotes where it is not plain."""
    plain = name.replace("_", "").replace("-", "").replace(".", "").replace("/", "")
    return name if plain.isalnum() and plain.isascii() else _scalar(name)


def _scalar(value: Any) -> str:
    """Return a value on one line."""
    return msgspec.json.encode(value).decode()

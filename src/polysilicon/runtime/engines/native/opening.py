"""The opening of a JSON object is given to the model with the prompt, and not generated.

Where a schema is of an object with fixed properties the answer can only begin with the brace and
the first key. That is read along with the prompt, in one go, while the model would need a pass for
each of its tokens. It is cut before the space after the key, where tokens begin: what is given is
split into tokens as the model would have written them.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec

from polysilicon.runtime.engines.native.facts import facts_of
from polysilicon.runtime.engines.native.grammars import HEAD

_KEYWORDS = frozenset(
    ("type", "properties", "required", "additionalProperties", "title", "description", "$schema")
)
_KEY = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_MOST_PROPERTIES = 64

_THINKS = re.compile(r"think|reason|channel|thought", re.IGNORECASE)
"""In templates of models whose answers begin with something else than the answer."""


class Seam(msgspec.Struct, frozen=True, kw_only=True):
    """Where a property of an object begins: with `text`, after the properties `before`.

    Attributes:
        text: up to before the space where its value begins.
        before: names of the properties that are there already.
        grammar: of llguidance, of how the answer goes on.
    """

    text: str
    before: tuple[str, ...]
    grammar: str

    def ends_within(self, begun: str, ahead: str) -> int:
        """Return how much of `ahead` is up to and with this seam; 0 where it is not in there.

        Args:
            begun: of the answer.
            ahead: what can only follow.
        """
        at = ahead.find(self.text)
        while at >= 0:
            # A text or an object within would need more than a brace to be complete.
            try:
                found = msgspec.json.decode(f"{begun}{ahead[:at]}}}")
            except msgspec.DecodeError:
                found = None
            if isinstance(found, dict) and tuple(found) == self.before:
                return at + len(self.text)
            at = ahead.find(self.text, at + 1)
        return 0


class Opening(msgspec.Struct, frozen=True, kw_only=True):
    """How an answer begins, llguidance's grammar of how it goes on, and its seams, last first."""

    text: str
    grammar: str
    seams: tuple[Seam, ...] = ()


def opening(schema: dict[str, Any], options: dict[str, Any]) -> Opening | None:
    """Return the opening of a schema's answers; None where it is not known to be fixed.

    Args:
        schema: of the answer.
        options: `x-guidance`, how JSON is written.
    """
    properties = schema.get("properties")
    if not isinstance(properties, dict) or not 1 <= len(properties) <= _MOST_PROPERTIES:
        return None
    required = schema.get("required")
    is_fixed = (
        schema.get("type") == "object"
        and schema.get("additionalProperties") is False
        and isinstance(required, list)
        and all(isinstance(name, str) for name in required)
        and set(required) == set(properties)
        and _KEYWORDS.issuperset(schema)
    )
    is_plain = all(
        _KEY.fullmatch(name) and isinstance(value, dict) for name, value in properties.items()
    )
    if not is_fixed or not is_plain or b'"$' in msgspec.json.encode(properties):
        return None  # a reference is from the whole schema's root
    names = tuple(properties)
    values = [
        f"v{number}: %json {msgspec.json.encode({**value, 'x-guidance': options}).decode()}"
        for number, value in enumerate(properties.values())
    ]
    seams = tuple(
        Seam(text=f', "{name}":', before=names[:number], grammar=_from(number, names, values))
        for number, name in enumerate(names)
    )
    return Opening(text=f'{{"{names[0]}":', grammar=seams[0].grammar, seams=seams[:0:-1])


def _from(first: int, names: tuple[str, ...], values: list[str]) -> str:
    """Return the grammar of an object from the value of a property on."""
    pieces = ['" "', f"v{first}"]
    for number in range(first + 1, len(names)):
        pieces += [msgspec.json.encode(f', "{names[number]}": ').decode(), f"v{number}"]
    rules = "\n".join((f'start: {" ".join(pieces)} "}}"', *values[first:]))
    return f"{HEAD}\n{rules}\n"


def takes_openings(model: Path) -> bool:
    """Tell whether a model answers right away: its template has no place for thoughts."""
    with facts_of(model) as facts:
        template = facts.text("tokenizer.chat_template") if facts is not None else None
    return template is not None and _THINKS.search(template) is None

"""What the researcher asks the model, and the JSON that it must answer with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_PLAN = (
    "You write search queries for the documentation of the Python standard library: two short "
    "queries of technical words that such a page would use."
)
_PLAN_EXAMPLES = (
    (
        "How do I find the biggest number of a list?",
        '{"queries": ["largest item of an iterable", "maximum of sequence"]}',
    ),
    (
        "My program must wait half a second.",
        '{"queries": ["suspend execution seconds", "sleep delay"]}',
    ),
    (
        "How can I send a mail from a script?",
        '{"queries": ["send email message SMTP", "mail client session"]}',
    ),
)
_ANSWER = (
    "You answer a question about Python from the passages. Cite the name of the passage that "
    "answers it, then answer in one short sentence."
)
_SLEEP = """time.ctime: Convert a time to a string in local time.
time.sleep: Delay execution for a given number of seconds.
Question: My program must wait half a second."""
_DIVISOR = """math.floor: Return the floor of x, the largest integer not above it.
math.gcd: Greatest common divisor of the integers.
Question: What is the largest number that divides 12 and 18?"""
_ANSWER_EXAMPLES = (
    (_SLEEP, '{"citations": ["time.sleep"], "answer": "Call time.sleep(0.5) to wait."}'),
    (_DIVISOR, '{"citations": ["math.gcd"], "answer": "Use math.gcd(12, 18)."}'),
)
PLAN_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "queries": {
            "type": "array",
            "items": {"type": "string", "minLength": 3, "maxLength": 40},
            "minItems": 2,
            "maxItems": 2,
        }
    },
    "required": ["queries"],
    "additionalProperties": False,
}
_LONGEST_ANSWER = 80


def _conversation(system: str, turns: Sequence[tuple[str, str]], last: str) -> list[dict[str, str]]:
    messages = [{"role": "system", "content": system}]
    for asked, answered in turns:
        messages.append({"role": "user", "content": asked})
        messages.append({"role": "assistant", "content": answered})
    return [*messages, {"role": "user", "content": last}]


def plan(question: str) -> list[dict[str, str]]:
    """Ask for two search queries."""
    return _conversation(_PLAN, _PLAN_EXAMPLES, question)


def answer(question: str, passages: Sequence[dict[str, Any]]) -> list[dict[str, str]]:
    """Ask for an answer from the passages, given best first.

    The best stands last, next to the question: a small model heeds most what it read last.
    """
    listed = "\n".join(f"{p['title']}: {p['text']}" for p in reversed(passages))
    return _conversation(_ANSWER, _ANSWER_EXAMPLES, f"{listed}\nQuestion: {question}")


def answer_schema(names: Sequence[str]) -> dict[str, Any]:
    """Return the JSON schema of an answer that cites one or two of `names`."""
    cited = {"type": "array", "items": {"enum": list(names)}, "minItems": 1, "maxItems": 2}
    text = {"type": "string", "minLength": 10, "maxLength": _LONGEST_ANSWER}
    return {
        "type": "object",
        "properties": {"citations": cited, "answer": text},
        "required": ["citations", "answer"],
        "additionalProperties": False,
    }

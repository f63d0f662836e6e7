"""What the support agent asks the model, and the JSON that it must answer with.

A small model sorts a message much better when it sees messages like it with their labels, so the
nearest examples (of `data/topics.jsonl` and `data/wishes.jsonl`, none of them a ticket) stand
before it. What the state of the order rules out is not offered at all.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from polysilicon.agents.support.rules import Action, Topic

LABELS: dict[Topic, str] = {
    "broken": "broken product",
    "wrong_item": "wrong or missing product",
    "unwanted": "return or cancel",
    "late": "parcel has not arrived",
    "refund_status": "waiting for refund",
    "payment": "card charged wrongly",
    "danger": "injury, fire or lawyer",
    "question": "asks for information",
}
TOPICS: dict[str, Topic] = {label: topic for topic, label in LABELS.items()}

_ALWAYS: tuple[Topic, ...] = ("payment", "danger", "question")
_POSSIBLE: dict[str, tuple[Topic, ...]] = {
    "processing": ("unwanted", *_ALWAYS),
    "in_transit": ("late", "unwanted", *_ALWAYS),
    "delivered": ("broken", "wrong_item", "unwanted", "late", *_ALWAYS),
    "returned": ("refund_status", *_ALWAYS),
    "cancelled": ("refund_status", *_ALWAYS),
}

WISHES: dict[str, Action] = {"product": "replace", "money": "refund"}

_ORDER_NUMBER = re.compile(r",?\s*\(?\b(?:order\s+)?TT[-\s]?\d{4}\b\)?,?", re.IGNORECASE)
_SPACE_BEFORE_MARK = re.compile(r"\s+([.,!?])")

_CLASSIFY = "You sort messages to a shop by topic: " + ", ".join(LABELS.values()) + "."
_WISH = "Does the customer want money or the product?"
_WISH_QUESTION = "Money or product?"
_PAGE = "You pick the help page of a shop that answers the customer."
_QUOTE = "You pick the sentence of a shop's help page that answers the customer."
_REPLY = (
    "You write one short, friendly sentence to a customer of a shop. It says what was decided and "
    "why, and names the order. It promises nothing else."
)
_REPLY_EXAMPLES: dict[Action, tuple[tuple[str, str], ...]] = {
    "refund": (
        (
            "Order: TT-2014 (Wool Scarf)\nDecision: refund of $21.00\nWhy: delivered 3 days ago",
            "We are refunding $21.00 for order TT-2014, delivered 3 days ago.",
        ),
        (
            "Order: TT-2230 (Ice Axe)\nDecision: refund of $75.00\nWhy: in warranty, no stock",
            "We are refunding $75.00 for order TT-2230: it is in warranty and out of stock.",
        ),
    ),
    "replace": (
        (
            "Order: TT-2093 (Steel Bottle)\nDecision: replacement\nWhy: delivered 2 days ago",
            "We are sending you a replacement for order TT-2093, delivered 2 days ago.",
        ),
        (
            "Order: TT-2351 (Wool Scarf)\nDecision: replacement\nWhy: in warranty, in stock",
            "We are sending you a replacement for order TT-2351, which is still in warranty.",
        ),
    ),
    "escalate": (
        (
            "Order: TT-2120 (Head Net)\nDecision: a colleague takes over\nWhy: worth $730",
            "A colleague is taking over order TT-2120, because it is worth $730.",
        ),
        (
            "Order: TT-2412 (Ice Axe)\nDecision: a colleague takes over\nWhy: 6 refunds this year",
            "A colleague is taking over order TT-2412, because of 6 refunds this year.",
        ),
    ),
    "answer": (
        (
            "Order: TT-2177 (Ice Axe)\nDecision: no refund\nWhy: delivered 51 days ago, limit 30",
            "Order TT-2177 was delivered 51 days ago and the limit is 30 days, sorry.",
        ),
        (
            "Order: TT-2266 (Head Net)\nDecision: no refund\nWhy: already with the carrier",
            "Order TT-2266 is already with the carrier, so it cannot be stopped.",
        ),
    ),
}
"""Of one action each, so that the model does not mix them."""


def without_order_number(text: str) -> str:
    """Return a message without its order number, which says nothing about its topic."""
    return _SPACE_BEFORE_MARK.sub(r"\1", " ".join(_ORDER_NUMBER.sub(" ", text).split()))


def possible_topics(found: Mapping[str, Any]) -> tuple[Topic, ...]:
    """Return the topics that the state of the order leaves; all where no order was found."""
    order = found["order"]
    return _POSSIBLE[order["status"]] if order else tuple(LABELS)


def _conversation(system: str, turns: Sequence[tuple[str, str]], last: str) -> list[dict[str, str]]:
    messages = [{"role": "system", "content": system}]
    for asked, answered in turns:
        messages.append({"role": "user", "content": asked})
        messages.append({"role": "assistant", "content": answered})
    return [*messages, {"role": "user", "content": last}]


def one_of(choices: Sequence[str]) -> dict[str, Any]:
    """Return the JSON schema of one of `choices`."""
    return {"enum": list(choices)}


def classify(text: str, examples: Sequence[tuple[str, Topic]]) -> list[dict[str, str]]:
    """Ask for the topic; `examples` are the nearest labelled messages, the nearest last."""
    turns = [(asked, f'"{LABELS[topic]}"') for asked, topic in examples]
    return _conversation(_CLASSIFY, turns, without_order_number(text))


def wish(text: str, examples: Sequence[tuple[str, str]]) -> list[dict[str, str]]:
    """Ask for the wish (of `WISHES`), where the rules leave it; the nearest example last."""
    turns = [(f"{asked}\n{_WISH_QUESTION}", f'"{answer}"') for asked, answer in examples]
    last = f"{without_order_number(text)}\n{_WISH_QUESTION}"
    return _conversation(_WISH, turns, last)


def page(text: str, titles: Sequence[str]) -> list[dict[str, str]]:
    """Ask which of the pages found answers the message."""
    listed = "\n".join(f"- {title}" for title in titles)
    return _conversation(_PAGE, (), f"{listed}\nCustomer: {text}\nPage:")


def quote(text: str, sentences: Sequence[str]) -> list[dict[str, str]]:
    """Ask which sentence of the page answers the message."""
    listed = "\n".join(f"- {sentence}" for sentence in sentences)
    return _conversation(_QUOTE, (), f"{listed}\nCustomer: {text}\nSentence:")


def reply(action: Action, decision: str) -> list[dict[str, str]]:
    """Ask for the message to the customer; `decision` is `replies.decision_lines`."""
    return _conversation(_REPLY, _REPLY_EXAMPLES[action], decision)

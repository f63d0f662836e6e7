"""What the support agent asks the model, and the JSON that it must answer with.

A small model sorts a message much better when it sees messages like it with their topics, so the
nearest labelled examples (from `data/examples.jsonl`, none of them a ticket) stand before it. What the
state of the order rules out is not offered at all.
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

WISHES: dict[str, Action] = {"a new one": "replace", "money back": "refund"}

_ORDER_NUMBER = re.compile(r",?\s*\(?\b(?:order\s+)?TT[-\s]?\d{4}\b\)?,?", re.IGNORECASE)
_SPACE_BEFORE_MARK = re.compile(r"\s+([.,!?])")

_CLASSIFY = "You sort messages to a shop by topic: " + ", ".join(LABELS.values()) + "."
_WISH = "You read what a customer of a shop wants: a new one, or money back."
_WISH_EXAMPLES = (
    ("My jug leaks. Please send me another jug.", "a new one"),
    ("The lamp is dead on arrival, I want my money back.", "money back"),
    ("The scarf never came, I bought one elsewhere, so refund it.", "money back"),
    ("Wrong size of boots! Can I have the right size?", "a new one"),
    ("It is cracked. No more plates from you, just return what I paid.", "money back"),
    ("One glove is missing. I still need it.", "a new one"),
)
_PAGE = "You pick the help page of a shop that answers the customer."
_QUOTE = "You pick the sentence of a shop's help page that answers the customer."
_REPLY = (
    "You write one short, friendly sentence to a customer of a shop. It says what was decided and "
    "why, and names the order. It promises nothing else."
)
_REPLY_EXAMPLES = (
    (
        "Order: TT-2014 (Wool Scarf)\nDecision: refund of $21.00\nWhy: delivered 3 days ago",
        "We are refunding $21.00 for order TT-2014, as your scarf was delivered only 3 days ago.",
    ),
    (
        "Order: TT-2093 (Steel Bottle)\nDecision: replacement\nWhy: in warranty, in stock",
        "We are sending a replacement bottle for order TT-2093, which is still in warranty.",
    ),
    (
        "Order: TT-2120 (Head Net)\nDecision: a colleague takes over\nWhy: the order is worth $730",
        "A colleague is taking over order TT-2120, because it is worth $730.",
    ),
    (
        "Order: TT-2177 (Ice Axe)\nDecision: nothing more can be done\nWhy: delivered 51 days ago, "
        "the limit is 30",
        "Order TT-2177 was delivered 51 days ago and the limit is 30, so we are sorry that nothing "
        "more can be done.",
    ),
)


def without_order_number(text: str) -> str:
    """Return a message without its order number, which says nothing about its topic."""
    return _SPACE_BEFORE_MARK.sub(r"\1", " ".join(_ORDER_NUMBER.sub(" ", text).split()))


def possible_topics(found: Mapping[str, Any]) -> tuple[Topic, ...]:
    """Return the topics that the state of the order leaves; all of them where no order was found."""
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


def wish(text: str) -> list[dict[str, str]]:
    """Ask whether the customer wants a new one or money, where the rules leave the choice."""
    turns = [(asked, f'"{answer}"') for asked, answer in _WISH_EXAMPLES]
    return _conversation(_WISH, turns, without_order_number(text))


def page(text: str, titles: Sequence[str]) -> list[dict[str, str]]:
    """Ask which of the pages found answers the message."""
    listed = "\n".join(f"- {title}" for title in titles)
    return _conversation(_PAGE, (), f"{listed}\nCustomer: {text}\nPage:")


def quote(text: str, sentences: Sequence[str]) -> list[dict[str, str]]:
    """Ask which sentence of the page answers the message."""
    listed = "\n".join(f"- {sentence}" for sentence in sentences)
    return _conversation(_QUOTE, (), f"{listed}\nCustomer: {text}\nSentence:")


def reply(decision: str) -> list[dict[str, str]]:
    """Ask for the message to the customer; `decision` is `replies.decision_lines`."""
    return _conversation(_REPLY, _REPLY_EXAMPLES, decision)

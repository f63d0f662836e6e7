"""Messages to the customer: what the model is told, the check of what it wrote, and the template."""

from __future__ import annotations

import re
from typing import Any

from polysilicon.agents.support.rules import Action

_MIN_CHARACTERS = 20
_MONEY = re.compile(r"\$\s?(\d[\d,]*(?:\.\d+)?)")
_DENIAL = re.compile(
    r"\b(not|cannot|can't|no|never|unable|unfortunately|without|nor|don't|won't)\b", re.IGNORECASE
)
_PROMISES: dict[str, re.Pattern[str]] = {
    "refund": re.compile(
        r"\b(refund\w*|money back|reimburs\w*|pay(?:ing)? you back)\b", re.IGNORECASE
    ),
    "replace": re.compile(
        r"\b(replac\w*|exchang\w*|new one|re-?send\w*|send\w* (?:you )?(?:a|an|another|the) \w+)\b",
        re.IGNORECASE,
    ),
    "escalate": re.compile(r"\b(colleague|specialist|investigat\w*)\b", re.IGNORECASE),
}
_DECISIONS: dict[str, str] = {
    "replace": "replacement",
    "escalate": "a colleague takes over",
    "answer": "nothing more can be done",
}


def decision_lines(action: Action, found: dict[str, Any], fact: str) -> str:
    """Return the decision as the prompt of the reply states it."""
    order = found["order"]
    decision = f"refund of ${order['amount_usd']:.2f}" if action == "refund" else _DECISIONS[action]
    name = f"{found['order_id']} ({order['product']})" if order else str(found["order_id"])
    return f"Order: {name}\nDecision: {decision}\nWhy: {fact}"


def fault(text: str, action: Action, mention: str, title: str, known: str) -> str | None:
    """Return what is wrong with a reply, or None.

    Args:
        text: the reply.
        action: what was done.
        mention: the order number; empty where the message is about none.
        title: of the policy page.
        known: the decision as it was given; amounts of money must be in it.
    """
    folded = text.casefold()
    if len(text) < _MIN_CHARACTERS:
        return "too short"
    if not any(name and name.casefold() in folded for name in (mention, title)):
        return "names neither the order nor the policy"
    if any(amount.rstrip(".,") not in known for amount in _MONEY.findall(text)):
        return "names another amount"
    if action in ("refund", "replace") and not _PROMISES[action].search(text):
        return f"does not say {action}"
    own = re.sub(re.escape(title), "", text, flags=re.IGNORECASE) if title else text
    for sentence in re.split(r"[.!?](?:\s|$)", own):
        for other in ("refund", "replace", "escalate"):
            promised = other != action and _PROMISES[other].search(sentence)
            if promised and not _DENIAL.search(sentence):
                return f"promises {other}"
    return None


def template(action: Action, found: dict[str, Any], fact: str, title: str) -> str:
    """Return a message that is always right, for when the model's is not."""
    order_id = found["order_id"]
    about = f"order {order_id}" if order_id else "your message"
    if action == "refund":
        amount = f"${found['order']['amount_usd']:.2f}"
        return f"We refund {amount} for {about} ({fact}); see our page “{title}”."
    if action == "replace":
        return f"We send a replacement for {about} ({fact}); see our page “{title}”."
    if action == "escalate":
        return f"A colleague takes over {about} ({fact}); see our page “{title}”."
    return f"About {about}: {fact}. Our page “{title}” has the details."


def sentences(text: str) -> list[str]:
    """Return the sentences of a page, in order, each once."""
    parts = re.split(r"(?<=[.!?])\s+", " ".join(text.split()))
    return list(dict.fromkeys(part for part in parts if part))


def quotation(sentence: str, title: str) -> str:
    """Return an answer in the words of a page."""
    return f"{sentence} See our page “{title}”."


def cut_to_sentences(text: str) -> str:
    """Return `text` up to its last whole sentence, on one line."""
    line = " ".join(text.split())
    end = max(line.rfind(mark) for mark in ".!?")
    return line[: end + 1] if end >= 0 else line

"""Messages to the customer: what the model is told, the check of what it wrote, the template."""

from __future__ import annotations

import re
from typing import Any

from polysilicon.agents.support.rules import Action

_MIN_CHARACTERS = 20
_NUMBER = re.compile(r"\d+(?:[.,-]\d+)*")
_REASON = re.compile(
    r"\b(wait\w*|stop\w*|warranty|stock|late|delivered|lost|carrier|hazardous|approv\w*|limit|worth)\b",
    re.IGNORECASE,
)
_APOLOGY = re.compile(r"\b(sorry|unfortunately|nothing)\b", re.IGNORECASE)
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
    "answer": "no refund",
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
        known: the decision as it was given; every number must be in it.
    """
    named = any(name and name.casefold() in text.casefold() for name in (mention, title))
    missing = action in ("refund", "replace") and not _PROMISES[action].search(text)
    faults = (
        (len(text) < _MIN_CHARACTERS, "too short"),
        (not named, "names neither the order nor the policy"),
        (bool(set(_NUMBER.findall(text)) - set(_NUMBER.findall(known))), "has an unknown number"),
        (action != "answer" and bool(_APOLOGY.search(text)), "regrets what is done"),
        (missing, f"does not say {action}"),
        (bool(_reasons(text) - _reasons(f"{known} {title}")), "gives another reason"),
    )
    found = next((words for is_so, words in faults if is_so), None)
    return found or _other_promise(text, action, title)


def _reasons(text: str) -> set[str]:
    return {word.casefold() for word in _REASON.findall(text)}


def _other_promise(text: str, action: Action, title: str) -> str | None:
    """Return which other action a reply promises; a sentence with a denial promises none."""
    own = re.sub(re.escape(title), "", text, flags=re.IGNORECASE) if title else text
    for sentence in re.split(r"[.!?](?:\s|$)", own):
        for other, words in _PROMISES.items():
            if other != action and words.search(sentence) and not _DENIAL.search(sentence):
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

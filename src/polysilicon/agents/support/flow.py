"""The agent: look up, classify, search, decide, act, reply."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from polysilicon.agents.support import prompts, replies, rules, shop
from polysilicon.errors import InputError
from polysilicon.runtime.context import Context
from polysilicon.runtime.types import Document, Hit, Setup

Label = TypeVar("Label", bound=str)

EXAMPLES = 4
"""Labelled messages before the one to classify."""
OFFERED = 3
"""Topics of so many of them are offered as answers."""
_EXAMPLES_FOUND = 40
_WISH_EXAMPLES = 2
_PAGES = 3
_LABEL_TOKENS = 16
_REPLY_TOKENS = 56


async def prepare(setup: Setup) -> None:
    """Build the orders database and the indexes of the policy pages and the labelled examples."""
    await setup.call(shop.build_database, str(setup.folder))
    await setup.index("policies", shop.read_policies())
    for name in ("topics", "wishes"):
        await setup.index(name, shop.read_examples(name))


async def run(ctx: Context, ticket: dict[str, Any]) -> dict[str, Any]:
    """Work on one ticket.

    Args:
        ctx: makes the steps.
        ticket: `text` (the message), `from` (the sender's address); nothing else is read.

    Returns:
        `action`, `policy` (page), `topic`, `order_id`, `lookup`, `fact` (why), `reply`,
        `reply_by` (`model`, or `template` where the model's text failed the check), and
        `reply_fault` (why it failed).

    Raises:
        InputError: the ticket has no text or no sender.
    """
    text, sender = _fields(ticket)
    facts = shop.read_shop()
    found = await ctx.call(shop.find_order, str(ctx.folder), text, sender, facts.order_prefix)
    topic = await _classify(ctx, text, found)
    pages = await ctx.search("policies", f"{text} {prompts.LABELS[topic]}", k=_PAGES)
    verdict = await ctx.call(rules.eligibility, topic, found, facts.today)
    action, policy = await _decide(ctx, text, verdict, pages)
    row = await ctx.call(shop.act, str(ctx.folder), ctx.task_id, action, found, policy)
    return {
        "action": row["action"],
        "policy": row["policy"],
        "topic": topic,
        "order_id": found["order_id"],
        "lookup": found["lookup"],
        "fact": verdict["fact"],
        **await _reply(ctx, text, topic, found, row, verdict["fact"]),
    }


def _fields(ticket: dict[str, Any]) -> tuple[str, str]:
    for key in ("text", "from"):
        if not isinstance(ticket, dict) or not isinstance(ticket.get(key), str):
            mend = 'a ticket is {"from": "email address", "text": "message"}'
            raise InputError(f"the ticket has no {key!r}", mend=mend)
    return ticket["text"], ticket["from"]


def accept(ticket: dict[str, Any]) -> dict[str, Any]:
    """Return a ticket as it is.

    Raises:
        InputError: it has no text or no sender.
    """
    _fields(ticket)
    return ticket


async def _classify(ctx: Context, text: str, found: dict[str, Any]) -> rules.Topic:
    """Return what the message is about, among what the state of the order leaves possible."""
    possible = prompts.possible_topics(found)
    message = prompts.without_order_number(text)
    hits = await ctx.search("topics", message, k=_EXAMPLES_FOUND, name="examples")
    near = nearest_examples(hits, possible)[:EXAMPLES]
    # Topics that no similar message has are not offered: the model is too small to resist them.
    offered = list(dict.fromkeys(topic for _, topic in near[:OFFERED])) or list(possible)
    labels = [prompts.LABELS[topic] for topic in offered]
    answer = await ctx.chat(
        prompts.classify(text, near[::-1]),
        name="classify",
        schema=prompts.one_of(labels),
        max_tokens=_LABEL_TOKENS,
    )
    return prompts.TOPICS.get(answer.data, offered[0])


def nearest_examples(hits: Sequence[Hit], labels: Sequence[Label]) -> list[tuple[str, Label]]:
    """Return text and label of the hits whose label is among `labels`, best first."""
    by_name: dict[str, Label] = {label: label for label in labels}
    named = ((hit.text, by_name.get(hit.id.partition("/")[0])) for hit in hits)
    return [(text, label) for text, label in named if label is not None]


async def _decide(
    ctx: Context, text: str, verdict: dict[str, Any], pages: Sequence[Hit]
) -> tuple[rules.Action, str]:
    """Choose among what the rules allow; the model is asked only where they leave a choice."""
    action: rules.Action = verdict["actions"][0]
    if len(verdict["actions"]) > 1:
        message = prompts.without_order_number(text)
        hits = await ctx.search("wishes", message, k=_WISH_EXAMPLES, name="examples")
        near = nearest_examples(hits, list(prompts.WISHES))
        answer = await ctx.chat(
            prompts.wish(text, near[::-1]),
            name="decide",
            schema=prompts.one_of(list(prompts.WISHES)),
            max_tokens=_LABEL_TOKENS,
        )
        action = prompts.WISHES.get(answer.data, action)
    if verdict["policy"] is not None or not pages:
        return action, verdict["policy"] or "order-numbers"
    titles = [hit.title for hit in pages]
    answer = await ctx.chat(
        prompts.page(text, titles),
        name="decide",
        schema=prompts.one_of(titles),
        max_tokens=_LABEL_TOKENS,
    )
    picked = titles.index(answer.data) if answer.data in titles else 0
    return action, pages[picked].id


async def _reply(
    ctx: Context,
    text: str,
    topic: rules.Topic,
    found: dict[str, Any],
    row: dict[str, Any],
    fact: str,
) -> dict[str, Any]:
    """Write to the customer; a text that fails the check is replaced by the template."""
    action: rules.Action = row["action"]
    page = next(page for page in shop.read_policies() if page.id == row["policy"])
    if topic == "question":
        return await _quote(ctx, text, page)
    if found["order_id"] is None:
        written = replies.template(action, found, fact, page.title)
        return {"reply": written, "reply_by": "template", "reply_fault": "no order to name"}
    decision = replies.decision_lines(action, found, fact)
    answer = await ctx.chat(
        prompts.reply(action, decision), name="reply", max_tokens=_REPLY_TOKENS, stop=("\n",)
    )
    written = replies.cut_to_sentences(answer.text)
    fault = replies.fault(written, action, found["order_id"] or "", page.title, decision)
    if fault is None:
        return {"reply": written, "reply_by": "model", "reply_fault": None}
    written = replies.template(action, found, fact, page.title)
    return {"reply": written, "reply_by": "template", "reply_fault": fault}


async def _quote(ctx: Context, text: str, page: Document) -> dict[str, Any]:
    """Answer a question with the sentence of the page that the model picks: nothing is invented."""
    sentences = replies.sentences(page.text)
    answer = await ctx.chat(
        prompts.quote(text, sentences),
        name="reply",
        schema=prompts.one_of(sentences),
        max_tokens=_REPLY_TOKENS,
    )
    known = answer.data in sentences
    written = replies.quotation(answer.data if known else sentences[0], page.title)
    fault = None if known else "no sentence of the page"
    return {"reply": written, "reply_by": "model" if known else "template", "reply_fault": fault}


def grade(ticket: dict[str, Any], output: Any) -> float | None:
    """Return 1.0 where the action taken is the ticket's right one, None where it names none."""
    expected = ticket.get("expected")
    if not isinstance(expected, dict) or "action" not in expected:
        return None
    return float(isinstance(output, dict) and output.get("action") == expected["action"])

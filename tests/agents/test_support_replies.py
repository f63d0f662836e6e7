from __future__ import annotations

from typing import Any

import pytest

from polysilicon.agents.support import prompts, replies

FOUND: dict[str, Any] = {
    "order_id": "TT-1002",
    "order": {"amount_usd": 32.0, "product": "Mugs", "status": "delivered"},
}
REFUND = replies.decision_lines("refund", FOUND, "delivered 5 days ago")


def test_decision_lines() -> None:
    assert REFUND == "Order: TT-1002 (Mugs)\nDecision: refund of $32.00\nWhy: delivered 5 days ago"
    unknown = {"order_id": "TT-9", "order": None}
    lines = replies.decision_lines("answer", unknown, "no order has that number")
    assert lines == "Order: TT-9\nDecision: no refund\nWhy: no order has that number"


@pytest.mark.parametrize(
    ("text", "action", "fault"),
    [
        ("We are refunding $32.00 for order TT-1002.", "refund", None),
        ("We refund TT-1002, see Returns.", "refund", None),
        ("Refund!", "refund", "too short"),
        ("We are refunding $32.00 to you.", "refund", "names neither the order nor the policy"),
        ("We are refunding $33.00 for order TT-1002.", "refund", "has an unknown number"),
        ("Order TT-1002 was delivered 5 days ago, thank you.", "refund", "does not say refund"),
        ("We refund TT-1002, which is in warranty.", "refund", "gives another reason"),
        ("We refund TT-1002, sorry that nothing can be done.", "refund", "regrets what is done"),
        ("We refund TT-1002. We will send you another one.", "refund", "promises replace"),
        ("We replace the mugs of TT-1002 and give your money back.", "replace", "promises refund"),
        ("A replacement for TT-1002 is on its way.", "replace", None),
        ("A colleague looks at TT-1002 and pays a refund.", "escalate", "promises refund"),
        ("A colleague is taking over order TT-1002.", "escalate", None),
        ("Order TT-1002 cannot be refunded, sorry.", "answer", None),
        ("Order TT-1002 will be refunded soon.", "answer", "promises refund"),
        ("A specialist calls you about TT-1002.", "answer", "promises escalate"),
    ],
)  # fmt: skip
def test_fault(text: str, action: Any, fault: str | None) -> None:
    assert replies.fault(text, action, "TT-1002", "Returns", REFUND) == fault


def test_the_title_of_a_page_is_no_promise() -> None:
    text = "See our page When your refund arrives for what comes next."
    assert replies.fault(text, "answer", "", "When your refund arrives", "") is None


@pytest.mark.parametrize("action", ["refund", "replace", "escalate", "answer"])
def test_templates_pass_the_check(action: Any) -> None:
    fact = "delivered 5 days ago"
    known = replies.decision_lines(action, FOUND, fact)
    text = replies.template(action, FOUND, fact, "Returns")
    assert replies.fault(text, action, "TT-1002", "Returns", known) is None


def test_template_without_an_order() -> None:
    missing = {"order_id": None, "order": None}
    text = replies.template("escalate", missing, "a fact", "A page")
    assert text == "A colleague takes over your message (a fact); see our page “A page”."


def test_sentences_and_quotation() -> None:
    assert replies.sentences("One two. Three!  Four? One two.") == ["One two.", "Three!", "Four?"]
    assert replies.quotation("It is free.", "Prices") == "It is free. See our page “Prices”."


@pytest.mark.parametrize(
    ("text", "cut"), [("A b. C d", "A b."), ("A\nb. C!", "A b. C!"), ("no end", "no end"), ("", "")]
)
def test_cut_to_sentences(text: str, cut: str) -> None:
    assert replies.cut_to_sentences(text) == cut


def test_order_numbers_do_not_reach_the_classifier() -> None:
    text = prompts.without_order_number("Hi, the tent from order TT-1001 broke (TT-1001).")
    assert text == "Hi, the tent from broke."


def test_the_state_of_an_order_limits_the_topics() -> None:
    returned = prompts.possible_topics({"order": {"status": "returned"}})
    assert returned == ("refund_status", "payment", "danger", "question")
    assert prompts.possible_topics({"order": None}) == tuple(prompts.LABELS)


def test_what_varies_stands_last() -> None:
    first, second = (prompts.classify(text, [("It leaks.", "broken")]) for text in ("a", "b"))
    assert first[:-1] == second[:-1]
    assert first[1:3] == [
        {"role": "user", "content": "It leaks."},
        {"role": "assistant", "content": '"broken product"'},
    ]
    assert prompts.reply("refund", "x")[:-1] == prompts.reply("refund", "y")[:-1]

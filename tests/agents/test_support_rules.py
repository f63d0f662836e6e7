from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polysilicon.agents.support import rules, shop
from polysilicon.agents.support.rules import Order, eligible

TODAY = date(2025, 6, 16)
BASE = Order(
    order_id="TT-1", email="a@example.com", product="Tent", goods_class="normal",
    warranty_months=24, stock=3, quantity=1, amount_usd=100.0, ordered_on=date(2025, 6, 1),
    promised_on=date(2025, 6, 10), status="delivered", delivered_on=date(2025, 6, 9),
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    topic: rules.Topic
    changes: dict[str, Any]
    actions: tuple[str, ...]
    policy: str


def ago(days: int) -> date:
    return TODAY - timedelta(days=days)


IN_TRANSIT = {"status": "in_transit", "delivered_on": None}
LATE = {**IN_TRANSIT, "promised_on": ago(10)}
LOST = {**IN_TRANSIT, "promised_on": ago(11)}
BACK = {"status": "returned", "returned_on": ago(14)}
LONG_BACK = {"status": "returned", "returned_on": ago(15)}
REFURBISHED = {"delivered_on": ago(60), "goods_class": "refurbished"}
CASES = [
    Case("broken", {"delivered_on": ago(14)}, ("replace", "refund"), "damaged-on-arrival"),
    Case("broken", {"delivered_on": ago(14), "stock": 0}, ("refund",), "damaged-on-arrival"),
    Case("broken", {"quantity": 4}, ("refund",), "damaged-on-arrival"),
    Case("broken", {"delivered_on": ago(15)}, ("replace",), "warranty"),
    Case("broken", {"delivered_on": ago(15), "stock": 0}, ("refund",), "warranty"),
    Case("broken", {"delivered_on": date(2023, 6, 16)}, ("replace",), "warranty"),
    Case("broken", {"delivered_on": date(2023, 6, 15)}, ("answer",), "warranty-expired"),
    Case("broken", REFURBISHED, ("replace",), "refurbished"),
    Case("broken", {"goods_class": "hazardous"}, ("escalate",), "hazardous-goods"),
    Case("broken", {"goods_class": "digital"}, ("answer",), "gift-cards"),
    Case("wrong_item", {"delivered_on": ago(30)}, ("replace", "refund"), "wrong-or-missing-item"),
    Case("wrong_item", {"delivered_on": ago(31)}, ("answer",), "wrong-or-missing-item"),
    Case("unwanted", {"delivered_on": ago(30)}, ("refund",), "returns"),
    Case("unwanted", {"delivered_on": ago(31)}, ("answer",), "returns"),
    Case("unwanted", {"goods_class": "clearance"}, ("answer",), "clearance"),
    Case("unwanted", {"goods_class": "hygiene"}, ("answer",), "hygiene-goods"),
    Case("unwanted", {"status": "processing"}, ("refund",), "cancellations"),
    Case("unwanted", LATE, ("answer",), "cancellations"),
    Case("unwanted", LOST, ("replace", "refund"), "lost-in-transit"),
    Case("late", LOST, ("replace", "refund"), "lost-in-transit"),
    Case("late", LATE, ("answer",), "late-delivery"),
    Case("late", {**IN_TRANSIT, "promised_on": ago(-3)}, ("answer",), "late-delivery"),
    Case("late", {}, ("escalate",), "delivered-not-received"),
    Case("refund_status", {}, ("answer",), "refund-timing"),
    Case("refund_status", BACK, ("answer",), "refund-timing"),
    Case("refund_status", LONG_BACK, ("escalate",), "refund-timing"),
    Case(
        "late", {"status": "returned", "returned_on": ago(40), "refunded_usd": 9.0},
        ("answer",), "refund-timing",
    ),
    Case("refund_status", {"status": "cancelled"}, ("answer",), "refund-timing"),
    Case("broken", {"amount_usd": 500.01}, ("escalate",), "high-value"),
    Case("broken", {"amount_usd": 500.0}, ("replace", "refund"), "damaged-on-arrival"),
    Case("unwanted", {"refunds_12m": 3}, ("escalate",), "repeat-refunds"),
    Case("unwanted", {"refunds_12m": 2}, ("refund",), "returns"),
    Case("unwanted", {"refunds_12m": 3, "goods_class": "clearance"}, ("answer",), "clearance"),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c.topic}-{c.policy}-{c.actions[0]}")
def test_rule(case: Case) -> None:
    order = msgspec.structs.replace(BASE, **case.changes)
    verdict = eligible(case.topic, "found", order, TODAY)
    assert (verdict.actions, verdict.policy) == (case.actions, case.policy)
    assert verdict.fact


@pytest.mark.parametrize(
    ("topic", "lookup", "actions", "policy"),
    [
        ("danger", "no_id", ("escalate",), "safety-incidents"),
        ("payment", "found", ("escalate",), "payment-problems"),
        ("question", "unknown_id", ("answer",), None),
        ("broken", "no_id", ("answer",), "order-numbers"),
        ("late", "unknown_id", ("answer",), "order-numbers"),
        ("unwanted", "other_customer", ("escalate",), "identity-check"),
    ],
)
def test_rules_that_need_no_order(
    topic: rules.Topic, lookup: rules.Lookup, actions: tuple[str, ...], policy: str | None
) -> None:
    verdict = eligible(topic, lookup, None, TODAY)
    assert (verdict.actions, verdict.policy) == (actions, policy)


def test_every_page_that_a_rule_names_exists() -> None:
    pages = {page.id for page in shop.read_policies()}
    assert {case.policy for case in CASES} <= pages


@pytest.mark.parametrize(
    ("day", "months", "expected"),
    [
        (date(2024, 1, 31), 1, date(2024, 2, 29)),
        (date(2024, 8, 31), 6, date(2025, 2, 28)),
        (date(2024, 12, 5), 12, date(2025, 12, 5)),
        (date(2024, 11, 30), 1, date(2024, 12, 30)),
        (date(2024, 3, 1), 0, date(2024, 3, 1)),
    ],
)
def test_add_months(day: date, months: int, expected: date) -> None:
    assert rules.add_months(day, months) == expected


@given(
    topic=st.sampled_from(sorted(rules._DELIVERED)),
    goods=st.sampled_from(
        ["normal", "clearance", "hygiene", "hazardous", "digital", "refurbished"]
    ),
    status=st.sampled_from(["processing", "in_transit", "delivered", "returned", "cancelled"]),
    stock=st.integers(0, 3),
    amount_usd=st.floats(1, 1000),
    refunds=st.integers(0, 5),
    days=st.integers(0, 2000),
)
def test_money_and_goods_are_never_given_against_the_rules(
    topic: rules.Topic,
    goods: str,
    status: Any,
    stock: int,
    amount_usd: float,
    refunds: int,
    days: int,
) -> None:
    order = msgspec.structs.replace(
        BASE, goods_class=goods, status=status, stock=stock, amount_usd=amount_usd,
        refunds_12m=refunds, promised_on=ago(days), delivered_on=ago(days), returned_on=ago(days),
    )  # fmt: skip
    given_out = {"refund", "replace"} & set(eligible(topic, "found", order, TODAY).actions)
    if amount_usd > rules.HIGH_VALUE_USD or refunds >= rules.MANY_REFUNDS:
        assert not given_out
    if stock == 0:
        assert "replace" not in given_out
    if status in ("returned", "cancelled"):
        assert not given_out

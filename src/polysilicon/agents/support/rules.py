"""The shop's rules as code: what may be done about an order, given what the message is about.

A language model never decides what is allowed. It says what a message is about and what the
customer wants; dates, amounts and stock are compared here. Each rule names its policy page.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from typing import Any, Literal

import msgspec

Action = Literal["refund", "replace", "escalate", "answer"]
Topic = Literal[
    "broken", "wrong_item", "unwanted", "late", "refund_status", "payment", "danger", "question"
]
Lookup = Literal["found", "unknown_id", "no_id", "other_customer"]

RETURN_DAYS = 30
"""Pages `returns` and `wrong-or-missing-item`."""
DAMAGE_DAYS = 14
"""Page `damaged-on-arrival`."""
LOST_DAYS = 10
"""Page `lost-in-transit`."""
PAYOUT_DAYS = 14
"""Page `refund-timing`."""
HIGH_VALUE_USD = 500.0
"""Page `high-value`."""
MANY_REFUNDS = 3
"""Page `repeat-refunds`."""

_EXCEPTED = {
    "clearance": "clearance",
    "hygiene": "hygiene-goods",
    "hazardous": "hazardous-goods",
    "digital": "gift-cards",
}


class Order(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An order with its product and the customer's history; dates are blank until they happen."""

    order_id: str
    email: str
    product: str
    goods_class: str
    warranty_months: int
    stock: int
    quantity: int
    amount_usd: float
    ordered_on: date
    promised_on: date
    status: Literal["processing", "in_transit", "delivered", "returned", "cancelled"]
    delivered_on: date | None = None
    returned_on: date | None = None
    refunded_usd: float = 0.0
    refunds_12m: int = 0


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What the rules allow: the actions to choose from, the page that rules it, and why."""

    actions: tuple[Action, ...]
    policy: str | None
    fact: str


def _only(action: Action, policy: str, fact: str) -> Verdict:
    return Verdict(actions=(action,), policy=policy, fact=fact)


_WITHOUT_ORDER: dict[str, Verdict] = {
    "danger": _only("escalate", "safety-incidents", "somebody may have been hurt"),
    "payment": _only("escalate", "payment-problems", "card payments are checked by accounting"),
    "question": Verdict(actions=("answer",), policy=None, fact="a general question"),
}
_NOT_FOUND: dict[str, Verdict] = {
    "no_id": _only("answer", "order-numbers", "the message names no order"),
    "unknown_id": _only("answer", "order-numbers", "no order has that number"),
    "other_customer": _only("escalate", "identity-check", "the order is of another email address"),
}


def add_months(day: date, months: int) -> date:
    """Return the same day `months` later, or the last of that month where it has no such day."""
    year, month = divmod(day.year * 12 + day.month - 1 + months, 12)
    after = date(year + (month == 11), (month + 1) % 12 + 1, 1)
    return min(date(year, month + 1, 1) + timedelta(days=day.day - 1), after - timedelta(days=1))


def eligible(topic: Topic, lookup: Lookup, order: Order | None, today: date) -> Verdict:
    """Return what the rules allow.

    Args:
        topic: what the message is about.
        lookup: how the search for the order ended.
        order: the order, where it was found.
        today: the date that rules count from.
    """
    if topic in _WITHOUT_ORDER:
        return _WITHOUT_ORDER[topic]
    if lookup in _NOT_FOUND:
        return _NOT_FOUND[lookup]
    assert order is not None
    return _guard(_order_rule(topic, order, today), order)


def _order_rule(topic: Topic, order: Order, today: date) -> Verdict:
    """Return what the rule for the order's state says, before the checks on value and customer."""
    if order.status == "returned":
        return _refund_status(order, today)
    if order.status == "cancelled":
        return _only("answer", "refund-timing", "the order was cancelled and refunded")
    if order.status == "delivered":
        return _DELIVERED[topic](order, today)
    # A customer who gives up on a lost parcel gets what a lost parcel gets.
    lost = order.status == "in_transit" and (today - order.promised_on).days > LOST_DAYS
    return _cancel(order) if topic == "unwanted" and not lost else _late(order, today)


def _guard(verdict: Verdict, order: Order) -> Verdict:
    """Send to a person what a person must approve."""
    if not {"refund", "replace"} & set(verdict.actions):
        return verdict
    if order.refunds_12m >= MANY_REFUNDS:
        return _only("escalate", "repeat-refunds", f"{order.refunds_12m} refunds in 12 months")
    if order.amount_usd > HIGH_VALUE_USD:
        return _only("escalate", "high-value", f"the order is worth ${order.amount_usd:.0f}")
    return verdict


def _days(count: int) -> str:
    return "1 day" if count == 1 else f"{count} days"


def _new_or_money(order: Order, policy: str, fact: str) -> Verdict:
    """The customer chooses, where there is stock to choose from."""
    if order.stock < order.quantity:
        return _only("refund", policy, f"{fact}, out of stock")
    return Verdict(actions=("replace", "refund"), policy=policy, fact=fact)


def _broken(order: Order, today: date) -> Verdict:
    assert order.delivered_on is not None
    if order.goods_class == "hazardous":
        return _only("escalate", "hazardous-goods", "hazardous goods need a safe pickup")
    if order.goods_class == "digital":
        return _only("answer", "gift-cards", "gift cards can be sent again")
    days = (today - order.delivered_on).days
    if days <= DAMAGE_DAYS:
        return _new_or_money(order, "damaged-on-arrival", f"delivered {_days(days)} ago")
    if today > add_months(order.delivered_on, order.warranty_months):
        months = order.warranty_months
        return _only("answer", "warranty-expired", f"the warranty of {months} months has ended")
    page = "refurbished" if order.goods_class == "refurbished" else "warranty"
    if order.stock < order.quantity:
        return _only("refund", page, "in warranty, out of stock")
    return _only("replace", page, "in warranty, in stock")


def _wrong_item(order: Order, today: date) -> Verdict:
    assert order.delivered_on is not None
    days = (today - order.delivered_on).days
    page = "wrong-or-missing-item"
    if days > RETURN_DAYS:
        return _only("answer", page, f"delivered {_days(days)} ago, the limit is {RETURN_DAYS}")
    return _new_or_money(order, page, f"delivered {_days(days)} ago")


def _unwanted(order: Order, today: date) -> Verdict:
    assert order.delivered_on is not None
    if order.goods_class in _EXCEPTED:
        page = _EXCEPTED[order.goods_class]
        return _only("answer", page, f"{order.goods_class} goods cannot be returned")
    days = (today - order.delivered_on).days
    if days > RETURN_DAYS:
        return _only(
            "answer", "returns", f"delivered {_days(days)} ago, the limit is {RETURN_DAYS}"
        )
    return _only("refund", "returns", f"delivered {_days(days)} ago, returns are open")


def _not_received(_order: Order, _today: date) -> Verdict:
    return _only("escalate", "delivered-not-received", "the carrier shows it as delivered")


def _refund_status(order: Order, today: date) -> Verdict:
    page = "refund-timing"
    if order.status != "returned" or order.returned_on is None:
        return _only("answer", page, "we have not received the goods back")
    days = (today - order.returned_on).days
    if order.refunded_usd > 0:
        return _only("answer", page, f"${order.refunded_usd:.0f} were paid, the bank needs 5 days")
    if days <= PAYOUT_DAYS:
        return _only("answer", page, f"received {_days(days)} ago, paid within {PAYOUT_DAYS}")
    return _only("escalate", page, f"received {_days(days)} ago and not paid")


def _cancel(order: Order) -> Verdict:
    if order.status == "processing":
        return _only("refund", "cancellations", "not shipped yet")
    return _only("answer", "cancellations", "already with the carrier")


def _late(order: Order, today: date) -> Verdict:
    days = (today - order.promised_on).days
    if order.status == "in_transit" and days > LOST_DAYS:
        return _new_or_money(order, "lost-in-transit", f"{_days(days)} late, counts as lost")
    fact = (
        f"{_days(days)} late, lost after {LOST_DAYS}"
        if days > 0
        else f"promised for {order.promised_on.isoformat()}"
    )
    return _only("answer", "late-delivery", fact)


_DELIVERED: dict[str, Callable[[Order, date], Verdict]] = {
    "broken": _broken,
    "wrong_item": _wrong_item,
    "unwanted": _unwanted,
    "late": _not_received,
    "refund_status": _refund_status,
}


def eligibility(topic: Topic, found: dict[str, Any], today: str) -> dict[str, Any]:
    """Return `eligible` for JSON arguments, as the tool step that the agent calls.

    Args:
        topic: what the message is about.
        found: what `shop.find_order` returned.
        today: ISO date.

    Returns:
        The fields of `Verdict`.
    """
    order = None if found["order"] is None else msgspec.convert(found["order"], Order)
    verdict = eligible(topic, found["lookup"], order, date.fromisoformat(today))
    result: dict[str, Any] = msgspec.to_builtins(verdict)
    return result

from __future__ import annotations

import sqlite3
from collections import Counter
from pathlib import Path
from typing import get_args

import pytest

from polysilicon.agents.support import AGENT, rules, shop

TODAY = shop.read_shop().today


@pytest.fixture
def folder(tmp_path: Path) -> str:
    shop.build_database(str(tmp_path))
    return str(tmp_path)


def rows(folder: str, query: str) -> list[tuple]:
    with shop.connect(Path(folder) / shop.DATABASE) as connection:
        return [tuple(row) for row in connection.execute(query)]


def test_the_shop_is_as_large_as_promised(folder: str) -> None:
    assert len(rows(folder, "select * from orders")) == 66
    assert len(shop.read_policies()) == 30
    tickets = shop.read_tickets()
    assert len(tickets) == 76
    assert len({ticket["id"] for ticket in tickets}) == 76
    assert sum(ticket["expected"].get("held_out", False) for ticket in tickets) == 22
    statuses = {status for (status,) in rows(folder, "select distinct status from orders")}
    assert statuses == {"processing", "in_transit", "delivered", "returned", "cancelled"}


def test_orders_refer_to_what_exists_and_their_dates_are_in_order(folder: str) -> None:
    lost = """select order_id from orders where sku not in (select sku from products)
        or email not in (select email from customers)"""
    assert rows(folder, lost) == []
    times = "select ordered_on, delivered_on, returned_on, status from orders"
    for ordered, delivered, returned, status in rows(folder, times):
        known = [day for day in (ordered, delivered, returned, TODAY) if day is not None]
        assert known == sorted(known)
        assert (delivered is not None) == (status in ("delivered", "returned"))
        assert (returned is not None) == (status == "returned")
    priced = (
        "select o.amount_usd, o.quantity * p.price_usd from orders o join products p using (sku)"
    )
    assert all(paid == price for paid, price in rows(folder, priced))


def test_pages_have_titles_and_bodies() -> None:
    for page in shop.read_policies():
        assert page.title
        assert not page.title.startswith("#")
        assert 20 <= len(page.text.split()) <= 120


@pytest.mark.parametrize("ticket", shop.read_tickets(), ids=lambda t: t["id"])
def test_the_right_outcome_follows_from_the_rules(ticket: dict, folder: str) -> None:
    expected = ticket["expected"]
    found = shop.find_order(folder, ticket["text"], ticket["from"], "TT-")
    assert found["order_id"] == expected["order_id"]
    assert (found["lookup"] == "unknown_id") == expected.get("missing", False)
    assert expected["topic"] in get_args(rules.Topic)
    verdict = rules.eligibility(expected["topic"], found, TODAY)
    assert expected["action"] in verdict["actions"]
    assert verdict["policy"] in (expected["policy"], None)
    assert expected["policy"] in {page.id for page in shop.read_policies()}
    if len(verdict["actions"]) > 1:
        assert expected["action"] == {"new": "replace", "money": "refund"}[expected["wish"]]


def test_no_example_for_the_model_is_a_ticket() -> None:
    tickets = {" ".join(t["text"].casefold().split()) for t in shop.read_tickets()}
    for name, labels in (("topics", set(get_args(rules.Topic))), ("wishes", {"product", "money"})):
        examples = shop.read_examples(name)
        assert {example.id.partition("/")[0] for example in examples} == labels
        assert len({example.id for example in examples}) == len(examples)
        assert not tickets & {example.text.casefold() for example in examples}


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("about TT-1001.", "TT-1001"),
        ("order tt1005 is", "TT-1005"),
        ("TT 1006", "TT-1006"),
        ("from order 1009 and", "TT-1009"),
        ("see #1010!", "TT-1010"),
        ("I paid 1500 dollars", None),
        ("TT-10011", None),
        ("", None),
    ],
)
def test_order_number(text: str, number: str | None) -> None:
    assert shop.order_number(text, "TT-") == number


def test_find_order(folder: str) -> None:
    found = shop.find_order(folder, "TT-1001 please", "ada@example.com", "TT-")
    assert found["lookup"] == "found"
    assert found["order"]["product"] == "Fell 2 Tent"
    assert found["order"]["delivered_on"] == "2025-06-09"
    assert shop.find_order(folder, "TT-1001", "ben@example.com", "TT-") == {
        "lookup": "other_customer", "order_id": "TT-1001", "order": None,
    }  # fmt: skip
    assert shop.find_order(folder, "TT-9999", "ada@example.com", "TT-")["lookup"] == "unknown_id"
    assert shop.find_order(folder, "hello", "ada@example.com", "TT-")["lookup"] == "no_id"
    only = shop.find_order(folder, "hello", "gus@example.com", "TT-")
    assert (only["lookup"], only["order_id"]) == ("found", "TT-1030")


def test_acting_twice_for_a_task_writes_one_row(folder: str) -> None:
    found = shop.find_order(folder, "TT-1002", "ben@example.com", "TT-")
    first = shop.act(folder, "t1", "refund", found, "returns")
    assert first == {
        "action": "refund", "order_id": "TT-1002", "amount_usd": 32.0, "policy": "returns",
    }  # fmt: skip
    assert shop.act(folder, "t1", "replace", found, "warranty") == first
    missing = {"lookup": "no_id", "order_id": None, "order": None}
    assert shop.act(folder, "t2", "answer", missing, "account")["amount_usd"] == 0.0
    assert rows(folder, "select task_id from actions order by task_id") == [("t1",), ("t2",)]


def test_building_again_keeps_what_was_done(folder: str) -> None:
    found = shop.find_order(folder, "TT-1002", "ben@example.com", "TT-")
    shop.act(folder, "t1", "escalate", found, "returns")
    assert shop.build_database(folder) == 66
    assert len(rows(folder, "select * from actions")) == 1


def test_a_build_that_broke_off_is_no_database(tmp_path: Path) -> None:
    part = tmp_path / "shop.part"
    sqlite3.connect(part).close()
    part.write_bytes(b"half of something")
    assert shop.build_database(str(tmp_path)) == 66
    assert not part.exists()


def test_inputs_are_the_tickets_and_no_class_is_most_of_them() -> None:
    assert AGENT.inputs is not None
    actions = Counter(ticket["expected"]["action"] for ticket in AGENT.inputs())
    assert set(actions) == set(get_args(rules.Action))
    assert max(actions.values()) / actions.total() < 0.4

"""The shop's database, pages and tickets, and the tools that read and write them.

Order, policy and ticket data lie in `data/`; its README says what each file is.
"""

from __future__ import annotations

import csv
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib.resources import as_file, files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import msgspec

from polysilicon.runtime.types import Document

DATABASE = "shop.db"
_DATA = "data"
_BUSY_TIMEOUT_S = 30.0
_ORDER_ID = re.compile(r"(?:\bTT[-\s]?|\border\s*#?\s*|#)(\d{4})\b", re.IGNORECASE)

_SCHEMA = """
create table products (sku text primary key, name text not null, goods_class text not null,
    price_usd real not null, warranty_months integer not null, stock integer not null);
create table customers (email text primary key, name text not null, refunds_12m integer not null);
create table orders (order_id text primary key, email text not null references customers,
    sku text not null references products, quantity integer not null, amount_usd real not null,
    ordered_on text not null, promised_on text not null, status text not null,
    delivered_on text, returned_on text, refunded_usd real not null);
create table actions (task_id text primary key, action text not null, order_id text,
    amount_usd real not null, policy text);
"""

_FIND = """
select o.order_id, o.email, p.name as product, p.goods_class, p.warranty_months, p.stock,
    o.quantity, o.amount_usd, o.ordered_on, o.promised_on, o.status, o.delivered_on, o.returned_on,
    o.refunded_usd, c.refunds_12m
from orders o join products p using (sku) join customers c using (email)
"""


class Shop(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The shop's name, its fixed date (ISO), and how order numbers begin."""

    name: str
    today: str
    order_prefix: str


def _folder() -> Traversable:
    return files(__package__).joinpath(_DATA)


def _text(name: str) -> str:
    return _folder().joinpath(name).read_text(encoding="utf-8")


def read_shop() -> Shop:
    """Return the shop's facts."""
    return msgspec.json.decode(_text("shop.json"), type=Shop)


def read_tickets() -> list[dict[str, Any]]:
    """Return the bundled tickets; their key `expected` is for grading alone."""
    return [msgspec.json.decode(line) for line in _text("tickets.jsonl").splitlines()]


def read_examples(name: str) -> list[Document]:
    """Return labelled messages to show to the model; no ticket is among them.

    Args:
        name: `topics` or `wishes`.

    Returns:
        Documents whose id begins with the label and a slash.
    """
    rows = [msgspec.json.decode(line) for line in _text(f"{name}.jsonl").splitlines()]
    return [
        Document(id=f"{row['label']}/{number}", text=row["text"]) for number, row in enumerate(rows)
    ]


def read_policies() -> list[Document]:
    """Return the policy pages: id is the file's name, title its first line."""
    with as_file(_folder().joinpath("policies")) as folder:
        pages = sorted(folder.glob("*.md"))
        texts = [(page.stem, page.read_text(encoding="utf-8")) for page in pages]
    documents = []
    for name, text in texts:
        head, _, body = text.partition("\n")
        words = " ".join(body.split())
        documents.append(Document(id=name, title=head.removeprefix("# ").strip(), text=words))
    return documents


def _rows(name: str) -> list[dict[str, str | None]]:
    rows = csv.DictReader(_text(f"{name}.csv").splitlines())
    return [{key: value or None for key, value in row.items()} for row in rows]


@contextmanager
def connect(path: Path) -> Iterator[sqlite3.Connection]:
    """Open the database for one transaction, and close it."""
    with closing(sqlite3.connect(path, timeout=_BUSY_TIMEOUT_S)) as connection:
        connection.row_factory = sqlite3.Row
        with connection:
            yield connection


def build_database(folder: str) -> int:
    """Write the shop's database into `folder`, unless an interrupted run wrote it already.

    Returns:
        How many orders it holds.
    """
    path = Path(folder) / DATABASE
    if not path.exists():
        part = path.with_suffix(".part")
        part.unlink(missing_ok=True)
        with connect(part) as connection:
            connection.executescript(_SCHEMA)
            for table in ("products", "customers", "orders"):
                rows = _rows(table)
                marks = ", ".join(f":{column}" for column in rows[0])
                connection.executemany(f"insert into {table} values ({marks})", rows)  # noqa: S608 - own names
        part.replace(path)
    with connect(path) as connection:
        return int(connection.execute("select count(*) from orders").fetchone()[0])


def order_number(text: str, prefix: str) -> str | None:
    """Return the first order number in `text`, in the shop's spelling, or None."""
    match = _ORDER_ID.search(text)
    return f"{prefix}{match[1]}" if match else None


def find_order(folder: str, text: str, sender: str, prefix: str) -> dict[str, Any]:
    """Look up the order that a message is about.

    The number that the message names is taken; where it names none, the sender's order, provided
    that there is exactly one.

    Args:
        folder: where the database lies.
        text: the message.
        sender: its email address.
        prefix: how order numbers begin.

    Returns:
        `lookup` (as `rules.Lookup`), `order_id` and `order` (fields of `rules.Order`). An order of
        somebody else is never returned.
    """
    order_id = order_number(text, prefix)
    with connect(Path(folder) / DATABASE) as connection:
        if order_id is None:
            rows = connection.execute(f"{_FIND} where o.email = ?", (sender,)).fetchall()
            if len(rows) != 1:
                return {"lookup": "no_id", "order_id": None, "order": None}
            order_id = rows[0]["order_id"]
        else:
            rows = connection.execute(f"{_FIND} where o.order_id = ?", (order_id,)).fetchall()
    if not rows:
        return {"lookup": "unknown_id", "order_id": order_id, "order": None}
    if rows[0]["email"] != sender:
        return {"lookup": "other_customer", "order_id": order_id, "order": None}
    return {"lookup": "found", "order_id": order_id, "order": dict(rows[0])}


def act(
    folder: str, task_id: str, action: str, found: dict[str, Any], policy: str
) -> dict[str, Any]:
    """Write down the action of a task; a second call for the same task changes nothing.

    Args:
        folder: where the database lies.
        task_id: whose action it is.
        action: as `rules.Action`.
        found: what `find_order` returned.
        policy: the page that rules it.

    Returns:
        The row that stands in the database after the call.
    """
    order = found["order"]
    amount_usd = order["amount_usd"] if action == "refund" and order else 0.0
    row = (task_id, action, found["order_id"], amount_usd, policy)
    with connect(Path(folder) / DATABASE) as connection:
        connection.execute(
            "insert into actions values (?, ?, ?, ?, ?) on conflict (task_id) do nothing", row
        )
        stored = connection.execute(
            "select action, order_id, amount_usd, policy from actions where task_id = ?", (task_id,)
        ).fetchone()
    return dict(stored)

"""Customer service of an invented shop: orders in SQLite, policies as documents, rules as code."""

from __future__ import annotations

from polysilicon.agents.support.flow import accept, grade, prepare, run
from polysilicon.agents.support.shop import read_tickets
from polysilicon.runtime.types import Agent

AGENT = Agent(
    name="support",
    run=run,
    prepare=prepare,
    accept=accept,
    inputs=read_tickets,
    grade=grade,
    help="customer service of a shop: refund, replace, escalate or answer",
)

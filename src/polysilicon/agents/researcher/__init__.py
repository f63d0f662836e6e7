"""Questions about the Python standard library, answered from its docstrings with citations."""

from __future__ import annotations

from polysilicon.agents.researcher.corpus import read_questions
from polysilicon.agents.researcher.flow import accept, grade, prepare, run
from polysilicon.runtime.types import Agent

AGENT = Agent(
    name="researcher",
    run=run,
    prepare=prepare,
    accept=accept,
    inputs=read_questions,
    grade=grade,
    help="questions about the Python standard library: search, read, answer with citations",
)

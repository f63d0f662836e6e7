"""The agent: plan queries, search, read, answer with citations that are checked."""

from __future__ import annotations

from typing import Any

import msgspec

from polysilicon.agents.researcher import corpus, prompts, reading
from polysilicon.errors import InputError
from polysilicon.runtime.context import Context
from polysilicon.runtime.types import Document, Hit, Setup

HITS = 12
"""Hits of one query."""
TOP = 5
"""The retrieval hit rate counts the right module among so many."""
_PLAN_TOKENS = 40
_ANSWER_TOKENS = 110
_LONGEST_QUESTION = 400


async def prepare(setup: Setup) -> None:
    """Read the docstrings of the standard library and index them."""
    rows = await setup.call(corpus.read_library)
    await setup.index("stdlib", (msgspec.convert(row, Document) for row in rows))


async def run(ctx: Context, task: dict[str, Any]) -> dict[str, Any]:
    """Answer one question.

    Args:
        ctx: makes the steps.
        task: `question`; `id` is not read, and `expected` only once the answer stands.

    Returns:
        `answer`, `citations` (qualified names, valid ones), `dropped_citations` (how many were
        invented), `unsupported_names` (names in the answer that no passage has), `queries`, `hits`
        (ids, best first), `retrieval_hit` (the right module is among the first `TOP`; None where
        the task names none).

    Raises:
        InputError: the task has no question.
    """
    question = _question(task)
    queries = await _plan(ctx, question)
    found = await ctx.map(_search, [reading.keywords(question), *queries])
    rankings = [[msgspec.to_builtins(hit) for hit in hits] for hits in found]
    page = await ctx.call(reading.read, rankings)
    passages = page["passages"]
    output: dict[str, Any] = {
        "answer": None, "citations": [], "dropped_citations": 0, "unsupported_names": [],
    }  # fmt: skip
    if passages:
        output |= await _answer(ctx, question, passages)
    top = page["hits"][:TOP]
    return output | {"queries": queries, "hits": top, "retrieval_hit": retrieval_hit(task, top)}


def _question(task: dict[str, Any]) -> str:
    question = task.get("question") if isinstance(task, dict) else None
    if not isinstance(question, str) or not question.strip():
        raise InputError("the task has no 'question'", mend='a task is {"question": "text"}')
    return " ".join(question.split())[:_LONGEST_QUESTION]


def accept(task: dict[str, Any]) -> dict[str, Any]:
    """Return a task as it is.

    Raises:
        InputError: it has no question.
    """
    _question(task)
    return task


async def _search(ctx: Context, query: str) -> list[Hit]:
    return await ctx.search("stdlib", query, k=HITS)


async def _plan(ctx: Context, question: str) -> list[str]:
    """Return the queries that the model plans; none where its answer was cut."""
    answer = await ctx.chat(
        prompts.plan(question), name="plan", schema=prompts.PLAN_SCHEMA, max_tokens=_PLAN_TOKENS
    )
    planned = answer.data["queries"] if isinstance(answer.data, dict) else []
    return list(dict.fromkeys(planned))


async def _answer(ctx: Context, question: str, passages: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the answer with its citations checked; an answer that was cut has neither."""
    result = await ctx.chat(
        prompts.answer(question, passages),
        name="answer",
        schema=prompts.answer_schema([passage["id"] for passage in passages]),
        max_tokens=_ANSWER_TOKENS,
    )
    data = result.data if isinstance(result.data, dict) else {}
    text = data.get("answer")
    checked = reading.check_citations(data.get("citations", ()), passages)
    return {
        "answer": text,
        "citations": checked["citations"],
        "dropped_citations": checked["dropped"],
        "unsupported_names": reading.unsupported_names(text or "", passages),
    }


def retrieval_hit(task: dict[str, Any], hits: list[str]) -> bool | None:
    """Tell whether the right module is among `hits`; None where the task names none."""
    module = _expected_module(task)
    return None if module is None else any(reading.is_of_module(hit, module) for hit in hits)


def grade(task: dict[str, Any], output: Any) -> float | None:
    """Return 1.0 where a valid citation is of the right module, None where the task names none."""
    module = _expected_module(task)
    if module is None:
        return None
    cited = output.get("citations", ()) if isinstance(output, dict) else ()
    return float(any(reading.is_of_module(name, module) for name in cited))


def _expected_module(task: dict[str, Any]) -> str | None:
    expected = task.get("expected")
    return expected.get("module") if isinstance(expected, dict) else None

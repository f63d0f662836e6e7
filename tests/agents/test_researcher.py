"""The researcher: its flow, answers scripted, over a real index; the demo's test has the model."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from polysilicon.agents.researcher import AGENT, corpus
from polysilicon.errors import InputError
from polysilicon.runtime import search
from polysilicon.runtime.types import ChatResult, Document, Hit

QUESTION = {
    "question": "How do I insert a value into a sorted list so that it stays sorted?",
    "expected": {"module": "bisect", "name": "bisect.insort_right"},
}


class Desk:
    """Calls tools and searches as the runtime does, in this process; answers come from a script."""

    def __init__(self, folder: Path, answers: dict[str, Any]) -> None:
        self.folder = folder
        self.answers = answers
        self.asked: list[tuple[str, list[dict[str, str]], dict[str, Any]]] = []
        self.queries: list[str] = []

    async def index(self, name: str, documents: list[Document]) -> None:
        await asyncio.to_thread(search.build, self.folder / "indexes" / name, documents)

    async def call(self, fn: Callable[..., Any], /, *args: Any) -> Any:
        return fn(*args)

    async def map(self, fn: Callable[[Any, str], Awaitable[Any]], items: list[str]) -> list[Any]:
        return [await fn(self, item) for item in items]

    async def search(self, index: str, query: str, *, k: int) -> list[Hit]:
        self.queries.append(query)
        return search.open_index(self.folder / "indexes" / index).search(query, k)

    async def chat(
        self, messages: list[dict[str, str]], *, name: str, **options: Any
    ) -> ChatResult:
        self.asked.append((name, messages, options))
        return ChatResult(text="", data=self.answers[name])


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("library")
    assert AGENT.prepare is not None
    asyncio.run(AGENT.prepare(Desk(folder, {})))  # type: ignore[arg-type]
    return folder


def ask(folder: Path, task: Any, **answers: Any) -> tuple[dict[str, Any], Desk]:
    desk = Desk(folder, answers)
    return asyncio.run(AGENT.run(desk, task)), desk  # type: ignore[arg-type]


def grade(task: dict[str, Any], output: Any) -> float | None:
    assert AGENT.grade is not None
    return AGENT.grade(task, output)


PLAN = {"queries": ["insert into sorted list", "insert into sorted list"]}


def test_an_answer_with_a_good_and_an_invented_citation(library: Path) -> None:
    answer = {
        "citations": ["bisect.insort_right", "list.insort"],
        "answer": "Use bisect.insort_right, not list.insort.",
    }
    output, desk = ask(library, QUESTION, plan=PLAN, answer=answer)
    assert output["citations"] == ["bisect.insort_right"]
    assert output["dropped_citations"] == 1
    assert output["unsupported_names"] == ["list.insort"]
    assert output["queries"] == ["insert into sorted list"]
    assert desk.queries == ["insert value sorted list stays sorted", "insert into sorted list"]
    assert output["retrieval_hit"] is True
    assert len(output["hits"]) == 5
    assert grade(QUESTION, output) == 1.0
    assert grade({"expected": {"module": "heapq"}}, output) == 0.0


def test_the_model_may_cite_only_what_it_read(library: Path) -> None:
    _, desk = ask(library, QUESTION, plan=PLAN, answer={"citations": [], "answer": "none at all"})
    schema = desk.asked[1][2]["schema"]
    names = schema["properties"]["citations"]["items"]["enum"]
    assert len(names) == 3
    prompt = desk.asked[1][1][-1]["content"]
    assert all(f"{name}: " in prompt for name in names)
    assert prompt.index(f"{names[0]}: ") > prompt.index(f"{names[1]}: ")


def test_answers_that_were_cut_are_no_answers(library: Path) -> None:
    output, _ = ask(library, QUESTION, plan=None, answer=None)
    assert output["queries"] == []
    assert (output["answer"], output["citations"]) == (None, [])
    assert output["retrieval_hit"] is True
    assert grade(QUESTION, output) == 0.0


def test_nothing_found_is_nothing_asked(library: Path) -> None:
    output, desk = ask(library, {"question": "qwxzy?"}, plan={"queries": []})
    assert [name for name, _, _ in desk.asked] == ["plan"]
    assert output["hits"] == []
    assert output["retrieval_hit"] is None
    assert grade({"question": "qwxzy?"}, output) is None


def test_the_expected_module_is_never_shown_to_the_model(library: Path) -> None:
    changed = QUESTION | {"id": "secret-id", "expected": {"module": "secret", "name": "secret"}}
    output, desk = ask(library, changed, plan=PLAN, answer={"citations": [], "answer": "something"})
    assert "secret" not in str(desk.asked)
    assert output["retrieval_hit"] is False


@pytest.mark.parametrize("bad", [{}, {"question": " "}, {"question": 3}, "what"])
def test_a_task_without_a_question(library: Path, bad: Any) -> None:
    with pytest.raises(InputError, match="the task has no 'question'"):
        ask(library, bad)


def test_questions_are_many_and_their_answers_are_documented() -> None:
    questions = corpus.read_questions()
    assert len(questions) == 56
    assert len({question["id"] for question in questions}) == 56
    known = {row["id"] for row in corpus.read_library()}
    for question in questions:
        expected = question["expected"]
        assert expected["name"] in known
        assert corpus.module_of(expected["name"]).split(".")[0] == expected["module"].split(".")[0]
        assert f"{expected['module']}." not in question["question"]

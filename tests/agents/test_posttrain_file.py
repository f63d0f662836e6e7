"""Problems of a file: asked for, verified and held back like the generated ones."""

from __future__ import annotations

import asyncio
import json
import os
import random
import threading
from pathlib import Path
from typing import Any

import pytest

from polysilicon.agents.posttrain import AGENT, asking, problems_file
from polysilicon.agents.posttrain.problems_file import read_problems
from polysilicon.errors import InputError
from polysilicon.runtime.run import Job, Run, RunOptions
from polysilicon.runtime.sandboxes import open_sandbox
from polysilicon.runtime.types import ChatResult

BODIES = {
    "longest": "    best = ''\n    for w in words:\n        if len(w) > len(best):\n"
    "            best = w\n    return best",
    "total": "    return sum(xs)",
    "halved": "    return [x // 2 for x in xs]",
}
ROWS = [
    {"task_id": "own/1", "entry_point": "longest",
     "prompt": 'def longest(words):\n    """Return the first of the longest words."""\n',
     "test": "def check(candidate):\n    assert candidate(['a', 'bcd', 'efg']) == 'bcd'\n"},
    {"task_id": "own/2", "entry_point": "total", "canonical_solution": "    return sum(xs)\n",
     "prompt": 'from typing import List\n\ndef total(xs: List[int]) -> int:\n    """Sum."""\n',
     "test": "def check(candidate):\n    assert candidate([]) == 0\n"
     "    assert candidate([1, 2]) == 3\n"},
    {"entry_point": "halved", "prompt": 'def halved(xs):\n    """Return halves, rounded down."""\n',
     "test": "def check(candidate):\n    assert candidate([5, 4]) == [2, 2]\n"},
]  # fmt: skip


def file_of(folder: Path, rows: list[Any]) -> Path:
    path = folder / "problems.jsonl"
    path.write_text("".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in rows))
    return path


class Knowing:
    """A context whose model knows the bodies of two of the three functions."""

    task_id = "posttrain-00000"

    def __init__(self, folder: Path, knows: tuple[str, ...]) -> None:
        self.folder, self.knows = folder, knows
        self.rng = random.Random(1)
        self.asked: list[dict[str, Any]] = []
        self.box: Any = None

    async def chat(self, messages: list[dict[str, str]], **options: Any) -> ChatResult:
        self.asked.append({"messages": messages, **options})
        name = next(name for name in BODIES if f"def {name}(" in messages[-1]["content"])
        # What follows the open indentation of three spaces.
        return ChatResult(text=BODIES[name][3:] if name in self.knows else " pass")

    async def run_code(self, code: str, *, name: str, limits: Any) -> Any:
        return await self.box.run(code, {}, limits)

    async def map(self, fn: Any, items: Any, **_options: Any) -> list[Any]:
        return list(await asyncio.gather(*(fn(self, item) for item in items)))


def test_own_problems_are_evaluated(tmp_path: Path) -> None:
    rows = [{**row, "held_back": number != 1} for number, row in enumerate(ROWS)]
    value = {"iterations": 0, "problems_file": str(file_of(tmp_path, rows))}

    async def main() -> tuple[dict[str, Any], Knowing]:
        ctx = Knowing(tmp_path, ("longest", "total"))
        ctx.box = open_sandbox("monty", 1)
        try:
            return await AGENT.run(ctx, value), ctx  # type: ignore[arg-type]
        finally:
            await ctx.box.close()

    output, ctx = asyncio.run(main())
    assert output["before"] == 0.5  # of the two held back it knows one
    assert {asked["stop"][0] for asked in ctx.asked} == {"\n```"}
    assert all(asked["messages"][-1]["content"].endswith('"""\n   ') for asked in ctx.asked)
    problem = read_problems(tmp_path / "problems.jsonl").draw(random.Random(1), 9, held_back=False)
    assert [p.name for p in problem] == ["own/2"]
    answer = asking.Answer(text=" return 1", ended=True, tokens=3)
    assert asking.example(problem[0], answer, 0.0).answer == " return 1\n```"


def test_where_no_row_says_so_one_in_three_is_held_back_whatever_their_order(
    tmp_path: Path,
) -> None:
    rows = [{**ROWS[0], "prompt": f"{ROWS[0]['prompt']}# {n}\n"} for n in range(30)]
    found = []
    for order in (rows, rows[::-1]):
        read = read_problems(file_of(tmp_path, order))
        held_back = read.draw(random.Random(1), 99, held_back=True)
        found.append({problem.prompt for problem in held_back})
        learnt = read.draw(random.Random(1), 99, held_back=False)
        assert len(learnt) == 20
        assert not found[-1] & {problem.prompt for problem in learnt}
    assert found[0] == found[1]
    assert len(found[0]) == 10


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([*ROWS, "{"], "line 4: not a problem"),
        ([ROWS[0], {**ROWS[1], "answer": 1}], "line 2: not a problem: .*answer"),
        ([ROWS[0], {**ROWS[1], "prompt": ""}], "line 2: not a problem: .*prompt"),
        ([{**ROWS[0], "entry_point": "a b"}], "line 1: not a problem: .*entry_point"),
        ([{**ROWS[0], "entry_point": "other"}], r"line 1: the prompt has no `def other\(`"),
        ([{**ROWS[0], "test": "assert True"}], r"line 1: the test has no `def check\(`"),
        ([ROWS[0], "", ROWS[0]], "line 3: the same prompt as in line 1"),
        ([ROWS[0], {**ROWS[0], "prompt": ROWS[0]["prompt"] + "\n"}], "line 2: the same prompt"),
        (["[" * 5000], "line 1: not a problem"),
        (ROWS[:2], "no problem is left to evaluate with"),
        ([{**ROWS[0], "held_back": True}], "no problem is left to learn from"),
    ],
)
def test_a_bad_row_is_told_with_its_line(tmp_path: Path, rows: list[Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        read_problems(file_of(tmp_path, rows))


def test_tasks_go_on_while_a_file_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    went_on = threading.Event()

    def slow(path: Path) -> Any:
        assert went_on.wait(60)
        raise InputError("read", where=str(path))

    monkeypatch.setattr(problems_file, "read_problems", slow)

    async def main() -> None:
        asyncio.get_running_loop().call_soon(went_on.set)
        value = {"iterations": 0, "problems_file": "own.jsonl"}
        with pytest.raises(InputError, match="read"):
            await AGENT.run(Knowing(tmp_path, ()), value)  # type: ignore[arg-type]

    asyncio.run(main())


def test_a_file_that_cannot_be_read_ends_the_task(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    told = set()
    for name in ("none.jsonl", "a\0b", "pipe", "/dev/ptmx", ".", "n" * 300):
        with pytest.raises(InputError) as caught:
            read_problems(tmp_path / name)
        told.add(caught.value.what)
    assert told == {"cannot read the problems"}  # not what else is there
    value = {"iterations": 0, "problems_file": str(tmp_path / "none.jsonl")}
    fleet = tmp_path / "tools.toml"
    fleet.write_text('[[pool]]\nname = "local"\noffer = "local"\nserves = ["tool:*"]\n')
    (tmp_path / "run").mkdir()
    job = Job(agent=AGENT, given_as="posttrain", inputs=[value])
    run = Run(tmp_path / "run", [job], RunOptions(fleet=str(fleet)))
    (task,) = asyncio.run(run.execute()).tasks()
    assert not task.ok
    assert "cannot read the problems" in str(task.error)

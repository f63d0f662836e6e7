from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polysilicon.agents.coder.program import extract, header, test_program
from polysilicon.runtime.sandboxes import open_sandbox
from polysilicon.runtime.types import CodeResult, Limits

test_program.__test__ = False  # type: ignore[attr-defined]

PROMPT = '''from typing import List

def helper(n):
    return n + 1

def add(a: int, b: int) -> int:
    """ Add two numbers.
    >>> add(1, 2)
    3
    """
'''
TEST = "def check(candidate):\n    assert candidate(1, 2) == 3\n    assert candidate(-1, 1) == 0\n"
MARKER = "5f3759df"


def outcome(program: str, test: str = TEST, sandbox: str = "monty") -> CodeResult:
    async def run() -> CodeResult:
        box = open_sandbox(sandbox, 1)
        try:
            code = test_program(program, test, "add", MARKER)
            return await box.run(code, {}, Limits(time_s=1.0))
        finally:
            await box.close()

    return asyncio.run(run())


def passes(program: str) -> bool:
    result = outcome(program)
    return result.ok and result.value == MARKER


RIGHT = [
    "    return a + b",
    "return a + b",
    "  return a + b\n",
    "    c = a\n    c += b\n    return c\n```\nThis adds two numbers.",
    " c = a\n    c += b\n    return c\n",
    "c = a\nc += b\nreturn c",
    "```python\ndef add(a, b):\n    return a + b\n```",
    "Sure! Here is it:\n\n```python\ndef add(a, b):\n    return a + b\n```\nIt works.",
    "```py\nimport math\n\ndef add(a, b):\n    return math.trunc(a + b)\n\nprint(add(1, 2))\n```",
    "```\ndef add(a, b):\n    return a + b",
    "def add(a, b):\n    return a + b\n\nassert add(1, 1) == 3",
    "    return a + b\n\ndef main():\n    print(add(1, 2)\n",
    "```python\n    return a + b\n```",
    "    return helper(a) + b - 1",
    "```python\ndef add(a: List, b):\n    return helper(a) + b - 1\n```",
    "```python\nx = add\n```\nor rather\n```python\ndef add(a, b):\n    return a + b\n```",
]


@pytest.mark.parametrize("answer", RIGHT)
def test_forms_of_a_right_answer(answer: str) -> None:
    assert passes(extract(PROMPT, "add", answer))


@pytest.mark.parametrize(
    "answer", ["    return a - b", "", "I cannot do that.", "    pass", "```\n```"]
)
def test_wrong_answers_fail(answer: str) -> None:
    assert not passes(extract(PROMPT, "add", answer))


CHEATS = [
    "raise SystemExit(0)",
    "import sys\nsys.exit(0)",
    "exit()",
    "def check(candidate):\n    pass",
    "def add(a, b):\n    raise SystemExit(0)",
    f"print({MARKER!r})\n{MARKER!r}",
    "return 1",
    f"def add(a, b):\n    return a\n{MARKER!r}",
    'x = """',
    "x = '''",
    'def add(a, b):\n    """',
    "if True:",
    "(",
    "def add(a, b):\n    return a + b\ndel check",
    "class check:\n    def __init__(self, candidate): pass",
]


@pytest.mark.parametrize("program", CHEATS)
def test_a_program_cannot_fake_success(program: str) -> None:
    # Not through `extract`, which would leave most of these out.
    assert outcome(program).value != MARKER or not outcome(program).ok


def test_a_string_left_open_does_not_swallow_the_tests() -> None:
    documented = 'def check(candidate):\n    """Checks."""\n    assert candidate(1, 2) == 3\n'
    assert not passes('def add(a, b):\n    return 0\n"""')
    assert outcome('def add(a, b):\n    return 0\n"""', documented).value != MARKER


def test_calls_and_prints_at_the_top_level_are_left_out() -> None:
    program = extract(
        PROMPT, "add", "    return a + b\n\nprint(add(1, 2))\nimport os\nos.abort()\nX = 1\n"
    )
    assert "print" not in program
    assert "abort" not in program
    assert "X = 1" in program


def test_an_end_that_was_cut_off_is_left_out() -> None:
    assert passes(
        extract(PROMPT, "add", "    return a + b\n\ndef other(x):\n    return [x for x in")
    )


def test_what_is_no_python_stays_as_it_is() -> None:
    assert extract("def add(a, b):", "add", "    return (((").endswith("return (((\n")


def test_header() -> None:
    assert header(PROMPT, "add").endswith("def add(a: int, b: int) -> int:")
    assert "def helper" in header(PROMPT, "add")
    assert header("no function here", "add") == "no function here"
    assert header("def add(a, b)", "add") == "def add(a, b)"


def test_functions_are_told_apart_by_their_whole_name() -> None:
    program = extract(
        "def add(a, b):\n", "add", "    return a + b\n\ndef add_all(x):\n    return x\n"
    )
    assert passes(program)


@settings(max_examples=200, deadline=None)
@given(answer=st.text(alphabet="ab `\n\t\"'#()[]:=+defrtun\\", max_size=80))
def test_any_answer_gives_a_program(answer: str) -> None:
    program = extract(PROMPT, "add", answer)
    assert isinstance(program, str)
    assert test_program(program, TEST, "add", MARKER)

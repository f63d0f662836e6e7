"""Write, test, repair.

The tests that grade a problem are also the tests that the agent runs, as the task asks. So both
rates are told: `passed_first` is HumanEval's pass@1, `passed` counts repairs that saw the error of
a failing test.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from polysilicon.agents.coder import problems, program
from polysilicon.errors import InputError
from polysilicon.runtime.types import Agent, CodeResult, Limits

if TYPE_CHECKING:
    from polysilicon.runtime.context import Context

REPAIRS = 1
_LIMITS = Limits(time_s=3.0, memory_bytes=128 * 2**20)
_MAX_TOKENS = 200
_STOP = ("\ndef ", "\nclass ", "\nprint(", "\nif __name__", "\nassert", "\n```", "\n#")
_ASK = "Complete this Python function."
_REPAIR_TEMPERATURE = 0.4


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """An input: a function's beginning, its name, and its tests, where there are any."""

    prompt: str
    entry_point: str
    task_id: str = ""
    expected: dict[str, str] = {}


async def run(ctx: Context, value: Any) -> dict[str, Any]:
    """Write the function, and repair it up to `REPAIRS` times where a test fails.

    Returns:
        `code`, `attempts` (versions written), `passed_first` and `passed` (None without tests), and
        `error`, the last error's last line.

    Raises:
        InputError: the input has no prompt or no entry point.
    """
    task = _task(value)
    opening = _opened(task.prompt)
    messages = [{"role": "user", "content": _ASK}]
    answer = await ctx.chat([*messages, opening], name="write", max_tokens=_MAX_TOKENS, stop=_STOP)
    code = program.extract(task.prompt, task.entry_point, answer.text)
    error = await _test(ctx, task, code)
    passed_first, attempts = error is None, 1
    while error is not None and attempts <= REPAIRS:
        messages = [
            {"role": "user", "content": _ASK},
            {"role": "assistant", "content": opening["content"] + answer.text + "\n```"},
            {"role": "user", "content": f"It fails: {error}\nCorrect the function."},
        ]
        # The docstring stands above; a word in its place keeps the model from writing it again.
        header = program.header(task.prompt, task.entry_point)
        again = await ctx.chat(
            [*messages, _opened(f'{header}\n    """Corrected."""')],
            name="repair",
            max_tokens=_MAX_TOKENS,
            stop=_STOP,
            temperature=_REPAIR_TEMPERATURE,
            seed=attempts,
        )
        code = program.extract(task.prompt, task.entry_point, again.text)
        error = await _test(ctx, task, code)
        attempts += 1
    known = "test" in task.expected
    return {
        "task_id": task.task_id,
        "code": code,
        "attempts": attempts,
        "passed_first": passed_first if known else None,
        "passed": error is None if known else None,
        "error": error,
    }


def _task(value: Any) -> Task:
    try:
        return msgspec.convert(value, Task)
    except msgspec.ValidationError as wrong:
        mend = "give prompt, entry_point and expected.test"
        raise InputError(f"input of coder: {wrong}", mend=mend) from wrong


def accept(value: dict[str, Any]) -> dict[str, Any]:
    """Return an input as it is.

    Raises:
        InputError: it has no prompt or no entry point.
    """
    _task(value)
    return value


def _opened(beginning: str) -> dict[str, str]:
    """Return the beginning of an answer that the model goes on with, inside the function's body.

    The open indentation matters: without it a small model ends the function after its docstring.
    """
    return {"role": "assistant", "content": f"```python\n{beginning.strip()}\n   "}


async def _test(ctx: Context, task: Task, code: str) -> str | None:
    """Run the tests on `code`; return the last line of the error, or None where all passed."""
    marker = f"{ctx.rng.getrandbits(64):016x}"
    test = task.expected.get("test")
    if test is None:
        return None
    tested = program.test_program(code, test, task.entry_point, marker)
    result = await ctx.run_code(tested, name="test", limits=_LIMITS)
    return None if result.ok and result.value == marker else _reason(result)


def _reason(result: CodeResult) -> str:
    return result.error or "the tests did not run to their end"


def grade(value: dict[str, Any], output: Any) -> float | None:
    """Return 1.0 where the tests passed in the end, 0.0 where not, None where there are none."""
    if "test" not in value.get("expected", {}) or not isinstance(output, dict):
        return None
    return float(bool(output.get("passed")))


AGENT = Agent(
    name="coder",
    run=run,
    accept=accept,
    inputs=problems.inputs,
    grade=grade,
    help="Writes Python functions (HumanEval), tests them in the sandbox, repairs them.",
)

"""How the model is asked for the answer to a problem, and how that is verified."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from polysilicon.agents.coder import program
from polysilicon.agents.posttrain.problems import Problem
from polysilicon.agents.posttrain.step import Example
from polysilicon.runtime.types import Limits

if TYPE_CHECKING:
    from polysilicon.runtime.context import Context

_ASK = "Complete this Python function."
_EXPRESSION = "    return"
_EXPRESSION_TOKENS, _BODY_TOKENS = 48, 384
_END, _FENCE = "\n", "\n```"
_LIMITS = Limits(time_s=2.0, memory_bytes=64 * 2**20)
AT_ONCE = 64


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What the model wrote, whether it came to an end, and its tokens."""

    text: str
    ended: bool
    tokens: int


def messages(problem: Problem) -> list[dict[str, str]]:
    """Return the conversation whose last message the model goes on with."""
    # Without the open indentation a small model ends a function after its docstring.
    begun = problem.prompt.rstrip() + "\n   " if problem.whole else problem.prompt + _EXPRESSION
    opening = f"```python\n{begun}"
    return [{"role": "user", "content": _ASK}, {"role": "assistant", "content": opening}]


async def ask(
    ctx: Context,
    problem: Problem,
    adapter: str | None,
    temperature: float,
    seed: int,
    *,
    name: str = "answer",
) -> Answer:
    """Return the model's answer: an expression, or a function's body."""
    end, most = (_FENCE, _BODY_TOKENS) if problem.whole else (_END, _EXPRESSION_TOKENS)
    answer = await ctx.chat(
        messages(problem), name=name, max_tokens=most, stop=[end],
        temperature=temperature, seed=seed, adapter=adapter,
    )  # fmt: skip
    ended = answer.finish_reason != "length"
    return Answer(text=answer.text, ended=ended, tokens=answer.output_tokens)


def example(problem: Problem, answer: Answer, reward: float) -> Example:
    """Return an answer as something to learn from, with what ended it."""
    end = _FENCE if problem.whole else _END
    text = f"{answer.text}{end}" if answer.ended else answer.text
    return Example(messages=messages(problem), answer=text, reward=reward)


async def passes(ctx: Context, problem: Problem, text: str) -> bool:
    """Tell whether an answer passes its problem's tests, in the sandbox."""
    marker = f"{ctx.rng.getrandbits(64):016x}"
    if problem.whole:
        code = program.extract(problem.prompt, problem.entry_point, f"    {text.lstrip(' ')}")
    else:
        code = f"{problem.prompt}{_EXPRESSION}{text}\n"
    tested = program.test_program(code, problem.test, problem.entry_point, marker)
    result = await ctx.run_code(tested, name="verify", limits=_LIMITS)
    return result.ok and result.value == marker


async def evaluate(ctx: Context, problems: Sequence[Problem], adapter: str | None) -> list[bool]:
    """Return which problems are solved greedily."""

    async def solve(ctx: Context, problem: Problem) -> bool:
        answer = await ask(ctx, problem, adapter, 0.0, 0, name="evaluate")
        return await passes(ctx, problem, answer.text)

    return await ctx.map(solve, problems, limit=AT_ONCE)

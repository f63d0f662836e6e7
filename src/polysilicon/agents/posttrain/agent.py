"""Rejection-sampling fine-tuning: answer, verify, train on what passed, evaluate, again.

One task is one loop with one seed. Overlapped, the answers of iteration i + 1 are sampled while
iteration i trains, hence with the adapter of iteration i - 1: one update staler than strictly in
turns, never more. Evaluations are always of the newest adapter.

Source: rejection-sampling fine-tuning, Z. Yuan et al., arXiv 2308.01825.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Meta

from polysilicon.agents.coder import program
from polysilicon.agents.posttrain import problems
from polysilicon.agents.posttrain.problems import ENTRY_POINT, Problem
from polysilicon.agents.posttrain.step import Recipe, check_extra, train
from polysilicon.errors import InputError
from polysilicon.runtime import models
from polysilicon.runtime.types import Agent, Limits

if TYPE_CHECKING:
    from polysilicon.runtime.context import Context

STALENESS = 1
"""Updates by which the adapter that samples may lag behind when phases overlap."""

_ASK = "Complete this Python function."
_OPENING = "    return"
_MAX_TOKENS = 48
_LIMITS = Limits(time_s=2.0, memory_bytes=64 * 2**20)
_AT_ONCE = 64
_KEPT_PER_PROBLEM = 2


Count = Annotated[int, Meta(ge=1, le=10_000)]


class Task(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An input.

    Attributes:
        seed: of problems, sampling and training.
        iterations: of the loop; 0 only evaluates.
        problems: to answer in each iteration.
        samples: answers for each.
        held_back: problems of compositions that are never trained on, to evaluate with.
        temperature: of the samples; evaluation is greedy.
        overlap: sample for the next iteration while this one trains.
        model: whose weights are trained, which must be the one that is served.
        adapter: a GGUF file to evaluate in place of a new adapter; needs `iterations` 0.
        recipe: how to train.
        expected: `gain`, by which the held-back pass rate is to rise, as a share: for `grade`.
    """

    seed: Annotated[int, Meta(ge=0, le=2000)] = 1
    iterations: Annotated[int, Meta(ge=0, le=999)] = 3
    problems: Count = 48
    samples: Annotated[int, Meta(ge=1, le=256)] = 8
    held_back: Count = 96
    temperature: Annotated[float, Meta(ge=0, le=10)] = 0.8
    overlap: bool = True
    model: str = models.DEFAULT_MODEL
    adapter: str | None = None
    recipe: Recipe = Recipe()
    expected: dict[str, float] = {}


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """Verified answers of one iteration: what to learn, their mean reward, tokens made."""

    examples: list[dict[str, Any]]
    reward: float
    tokens: int


async def run(ctx: Context, value: Any) -> dict[str, Any]:
    """Post-train an adapter from nothing, and tell how it went.

    Returns:
        `curve` (a row for each evaluation), `adapter` (path of the last one), `before` and `after`
        (shares of the held-back problems solved), `outcomes` (before and after for each problem)
        and `staleness`.

    Raises:
        InputError: the input is wrong, or the extra `train` is not installed.
    """
    task = _task(value)
    if task.iterations:
        check_extra()
    # It is part of what names a step, so it must not depend on where the run is resumed from.
    folder = str((ctx.folder / "checkpoints" / ctx.task_id).resolve())
    held_back = problems.draw(
        random.Random(f"evaluate {task.seed}"),  # noqa: S311 - no secret
        task.held_back,
        held_back=True,
    )
    first = await _evaluate(ctx, held_back, task.adapter)
    rows = [{"iteration": 0, "pass_rate": _rate(first)}]
    outcomes, adapter = first, task.adapter
    if task.iterations:
        loop = _Loop(task, folder, held_back)
        adapter, outcomes = await (loop.overlapped(ctx) if task.overlap else loop.in_turns(ctx))
        rows += loop.rows
    return {
        "seed": task.seed,
        "curve": rows,
        "adapter": adapter,
        "before": _rate(first),
        "after": _rate(outcomes),
        "outcomes": [list(pair) for pair in zip(first, outcomes, strict=True)],
        "staleness": STALENESS if task.overlap else 0,
    }


class _Loop:
    """The iterations of one task; `rows` is the curve so far."""

    def __init__(self, task: Task, folder: str, held_back: list[Problem]) -> None:
        self._task, self._folder, self._held_back = task, folder, held_back
        self._kept: dict[tuple[str, str], dict[str, Any]] = {}
        self.rows: list[dict[str, Any]] = []

    async def in_turns(self, ctx: Context) -> tuple[str, list[bool]]:
        """Alternate strictly: no phase begins before the one before it ended."""
        adapter: str | None = None
        outcomes: list[bool] = []
        for number in range(1, self._task.iterations + 1):
            batch = await self._sample(ctx, number, adapter)
            adapter, outcomes = await self._learn(ctx, number, batch)
        assert adapter is not None
        return adapter, outcomes

    async def overlapped(self, ctx: Context) -> tuple[str, list[bool]]:
        """Sample for the next iteration while this one trains and is evaluated."""
        adapter: str | None = None
        outcomes: list[bool] = []
        batch = await self._sample(ctx, 1, adapter)
        for number in range(1, self._task.iterations + 1):
            before = adapter

            async def branch(
                ctx: Context, what: str, number: int = number, batch: Batch = batch,
                before: str | None = before,
            ) -> Any:  # fmt: skip
                if what == "learn":
                    return await self._learn(ctx, number, batch)
                return await self._sample(ctx, number + 1, before)

            both = ("learn", "sample") if number < self._task.iterations else ("learn",)
            (adapter, outcomes), *following = await ctx.map(branch, both)
            if following:
                batch = following[0]
        assert adapter is not None
        return adapter, outcomes

    async def _sample(self, ctx: Context, number: int, adapter: str | None) -> Batch:
        """Answer new problems, and verify the answers: each as it comes, or all in the end."""
        task = self._task
        drawn = problems.draw(
            random.Random(f"sample {task.seed} {number}"),  # noqa: S311 - no secret
            task.problems,
            held_back=False,
        )
        asked = [(problem, sample) for problem in drawn for sample in range(task.samples)]

        async def answer(ctx: Context, item: tuple[Problem, int]) -> tuple[str, int]:
            # Unlike in all rounds of all seeds, and within the 32 bits that llama.cpp takes.
            seed = (task.seed * 1000 + number) * 1000 + item[1]
            return await _answer(ctx, item[0], adapter, task.temperature, seed)

        async def verify(ctx: Context, item: tuple[Problem, str]) -> bool:
            return await _passes(ctx, *item)

        async def both(ctx: Context, item: tuple[Problem, int]) -> tuple[str, int, bool]:
            text, tokens = await answer(ctx, item)
            return text, tokens, await verify(ctx, (item[0], text))

        if task.overlap:
            results = await ctx.map(both, asked, limit=_AT_ONCE)
        else:
            texts = await ctx.map(answer, asked, limit=_AT_ONCE)
            pairs = [(item[0], text) for item, (text, _) in zip(asked, texts, strict=True)]
            passed = await ctx.map(verify, pairs, limit=_AT_ONCE)
            results = [(*text, ok) for text, ok in zip(texts, passed, strict=True)]
        return Batch(
            examples=_kept(asked, results),
            reward=sum(ok for *_, ok in results) / len(results),
            tokens=sum(tokens for _, tokens, _ in results),
        )

    async def _learn(self, ctx: Context, number: int, batch: Batch) -> tuple[str, list[bool]]:
        """Train on all that passed so far, and evaluate."""
        task = self._task
        for example in batch.examples:
            prompt = example["messages"][-1]["content"]
            self._kept[prompt, example["answer"]] = example
        if not self._kept:
            raise InputError(
                "no answer passed, so there is nothing to learn from",
                mend="give more problems, more samples or a better model",
            )
        examples = list(self._kept.values())
        trained = await ctx.train(
            train, task.model, self._folder, number, task.seed, examples,
            msgspec.to_builtins(task.recipe), model=task.model, threads=task.recipe.threads,
        )  # fmt: skip
        outcomes = await _evaluate(ctx, self._held_back, trained["adapter"])
        self.rows.append(
            {
                "iteration": number,
                "pass_rate": _rate(outcomes),
                "reward": batch.reward,
                "kept": len(examples),
                "loss": trained["loss"],
                "last_loss": trained["last_loss"],
                "sampled_tokens": batch.tokens,
                "trained_tokens": trained["tokens"],
            }
        )
        return trained["adapter"], outcomes


def _kept(
    asked: list[tuple[Problem, int]], results: list[tuple[str, int, bool]]
) -> list[dict[str, Any]]:
    """Return what to learn: of each problem the first few different answers that passed."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for (problem, _), (text, _, passed) in zip(asked, results, strict=True):
        answers = found.setdefault(problem.prompt, {})
        if passed and len(answers) < _KEPT_PER_PROBLEM:
            answers[text.strip()] = {"messages": _messages(problem), "answer": f"{text}\n"}
    return [example for answers in found.values() for example in answers.values()]


async def _evaluate(ctx: Context, held_back: list[Problem], adapter: str | None) -> list[bool]:
    """Return which of the held-back problems are solved greedily."""

    async def solve(ctx: Context, problem: Problem) -> bool:
        text, _ = await _answer(ctx, problem, adapter, 0.0, 0, name="evaluate")
        return await _passes(ctx, problem, text)

    return await ctx.map(solve, held_back, limit=_AT_ONCE)


def _messages(problem: Problem) -> list[dict[str, str]]:
    """Return the conversation whose last message the model goes on with: an expression."""
    opening = f"```python\n{problem.prompt}{_OPENING}"
    return [{"role": "user", "content": _ASK}, {"role": "assistant", "content": opening}]


async def _answer(
    ctx: Context,
    problem: Problem,
    adapter: str | None,
    temperature: float,
    seed: int,
    *,
    name: str = "answer",
) -> tuple[str, int]:
    """Return the model's expression, and its tokens."""
    answer = await ctx.chat(
        _messages(problem), name=name, max_tokens=_MAX_TOKENS, stop=["\n"],
        temperature=temperature, seed=seed, adapter=adapter,
    )  # fmt: skip
    return answer.text, answer.output_tokens


async def _passes(ctx: Context, problem: Problem, text: str) -> bool:
    """Tell whether an answer passes its problem's tests, in the sandbox."""
    marker = f"{ctx.rng.getrandbits(64):016x}"
    code = f"{problem.prompt}{_OPENING}{text}\n"
    tested = program.test_program(code, problem.test, ENTRY_POINT, marker)
    result = await ctx.run_code(tested, name="verify", limits=_LIMITS)
    return result.ok and result.value == marker


def _rate(outcomes: list[bool]) -> float:
    return sum(outcomes) / len(outcomes)


def _task(value: Any) -> Task:
    try:
        task = msgspec.convert(value, Task)
    except msgspec.ValidationError as error:
        raise InputError(f"input of posttrain: {error}", mend='give {"seed": NUMBER}') from error
    models.check_no_url(task.model, "posttrain")
    if task.adapter is not None and task.iterations:
        mend = "give iterations 0"
        raise InputError("input of posttrain: an adapter is only evaluated", mend=mend)
    return task


def inputs() -> Iterator[dict[str, Any]]:
    """Yield three loops that differ in their seeds."""
    for seed in (1, 2, 3):
        yield {"seed": seed, "expected": {"gain": 0.1}}


def grade(value: dict[str, Any], output: Any) -> float | None:
    """Return 1.0 where the held-back pass rate rose as much as is expected, else 0.0."""
    gain = value.get("expected", {}).get("gain")
    if gain is None:
        return None
    return float(isinstance(output, dict) and output["after"] - output["before"] >= gain)


AGENT = Agent(
    name="posttrain",
    run=run,
    inputs=inputs,
    grade=grade,
    help="Post-trains a small model on answers that passed their tests (needs polysilicon[train]).",
)

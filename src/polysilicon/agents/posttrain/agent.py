"""Post-training: answer, verify, train on that, evaluate, again.

One task is one loop with one seed. Overlapped, while iteration i trains, the adapter of iteration
i - 1 is evaluated, and samples the answers of iteration i + 1: one update staler than strictly in
turns, never more. Each adapter is evaluated, as in turns, only later. That pays where answers come
from other cores than those that train: an engine whose threads wait for each other loses by
sharing its cores (docs/posttrain.md).

What is learnt is either the answers that passed, of all iterations so far (rejection sampling), or
how answers of this iteration compare with others to the same problem (GRPO, see `grpo`).

Source: rejection-sampling fine-tuning, Z. Yuan et al., arXiv 2308.01825.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Meta

from polysilicon.agents.posttrain import asking, problems, problems_file
from polysilicon.agents.posttrain.asking import AT_ONCE, Answer
from polysilicon.agents.posttrain.problems import Problem
from polysilicon.agents.posttrain.step import Example, Lesson, Recipe, check_extra, train
from polysilicon.catalog.fleet import LOCAL, Pool
from polysilicon.errors import InputError, nearest
from polysilicon.fields import known_there
from polysilicon.runtime import models
from polysilicon.runtime.types import Agent

if TYPE_CHECKING:
    from polysilicon.runtime.context import Context

STALENESS = 1
"""Updates by which the adapter that samples may lag behind when phases overlap."""

_KEPT_PER_PROBLEM = 2

Count = Annotated[int, Meta(ge=1, le=10_000)]
Draw = Callable[..., list[Problem]]


class Task(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An input.

    Attributes:
        seed: of problems, sampling and training.
        iterations: of the loop; 0 only evaluates.
        problems: to answer in each iteration.
        samples: answers for each.
        at_once: problems that are answered at the same time, best as many as the pool has slots:
            the answers to one problem follow each other, so that each finds its prompt in its slot.
        held_back: problems that are never trained on, to evaluate with.
        problems_file: problems of your own in place of the generated ones; see `problems_file`.
        temperature: of the samples; evaluation is greedy.
        overlap: evaluate, and sample for the next iteration, while this one trains.
        model: whose weights are trained, which must be the one that is served.
        adapter: a GGUF file to evaluate in place of a new adapter; needs `iterations` 0. Its path
            is part of what names steps, so that it is made whole once, as the input is accepted.
        recipe: how to train.
        expected: `gain`, by which the held-back pass rate is to rise, as a share: for `grade`.
    """

    seed: Annotated[int, Meta(ge=0, le=2000)] = 1
    iterations: Annotated[int, Meta(ge=0, le=999)] = 3
    problems: Count = 40
    samples: Annotated[int, Meta(ge=1, le=256)] = 6
    at_once: Annotated[int, Meta(ge=1, le=4096)] = Pool(name=LOCAL).concurrency
    held_back: Count = 96
    problems_file: Annotated[str, Meta(max_length=4096)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=10)] = 0.8
    overlap: bool = False
    model: str = models.DEFAULT_MODEL
    adapter: str | None = None
    recipe: Recipe = Recipe()
    expected: dict[str, float] = {}


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """Verified answers of one iteration.

    Attributes:
        answers: of each problem all of them, with their rewards.
        tokens: made.
        sampled_by: number of the checkpoint whose adapter gave them.
    """

    answers: list[list[Example]]
    tokens: int
    sampled_by: int

    def reward(self) -> float:
        """Return the mean reward."""
        rewards = [example.reward for group in self.answers for example in group]
        return sum(rewards) / len(rewards)


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
    draw = problems.draw
    if task.problems_file is not None:
        path = Path(task.problems_file)
        draw = (await asyncio.to_thread(problems_file.read_problems, path)).draw
    if task.iterations:
        check_extra()
    held_back = draw(
        random.Random(f"evaluate {task.seed}"),  # noqa: S311 - no secret
        task.held_back,
        held_back=True,
    )
    # Neighbours in this order begin alike, so that slots find more of each in their caches.
    held_back.sort(key=lambda problem: problem.prompt)
    loop = _Loop(task, draw, held_back, f"checkpoints/{ctx.task_id}")
    overlap = task.overlap and task.iterations > 0
    await (loop.overlapped(ctx) if overlap else loop.in_turns(ctx))
    first, last = loop.outcomes[0], loop.outcomes[-1]
    adapter = task.adapter
    if task.iterations:
        adapter = str((ctx.folder / loop.adapters[-1]).absolute())
    return {
        "seed": task.seed,
        "method": task.recipe.method,
        "curve": loop.rows,
        "adapter": adapter,
        "before": _rate(first),
        "after": _rate(last),
        "outcomes": [list(pair) for pair in zip(first, last, strict=True)],
        "staleness": STALENESS if task.overlap else 0,
    }


class _Loop:
    """The iterations of one task.

    Attributes:
        adapters: paths from the agent's folder, by iteration; the first is what the task begins
            with, None for the model without one.
        outcomes: of the evaluation of each: which problems were solved.
        rows: the curve, a row for each evaluation.
    """

    def __init__(self, task: Task, draw: Draw, held_back: list[Problem], checkpoints: str) -> None:
        self._task, self._draw, self._held_back = task, draw, held_back
        self._checkpoints = checkpoints
        self._kept: dict[tuple[str, str], Example] = {}
        self._trained: dict[int, dict[str, Any]] = {}
        self.adapters: list[Any] = [task.adapter]
        self.outcomes: list[list[bool]] = []
        self.rows: list[dict[str, Any]] = []

    async def in_turns(self, ctx: Context) -> None:
        """Alternate strictly: no phase begins before the one before it ended."""
        await self._evaluate(ctx, 0)
        for number in range(1, self._task.iterations + 1):
            batch = await self._sample(ctx, number, number - 1)
            await self._train(ctx, number, batch)
            await self._evaluate(ctx, number)

    async def overlapped(self, ctx: Context) -> None:
        """Train beside all that the engine does; both wait for each other once an iteration.

        So the engine has one adapter at a time, and training waits for no evaluation.
        """
        last = self._task.iterations
        batch = await self._sample(ctx, 1, 0)
        for number in range(1, last + 1):

            async def branch(
                ctx: Context, what: str, number: int = number, batch: Batch = batch
            ) -> Batch | None:
                if what == "train":
                    await self._train(ctx, number, batch)
                    return None
                if what == "evaluate":
                    await self._evaluate(ctx, number - STALENESS)
                    return None
                return await self._sample(ctx, number + 1, number - STALENESS)

            whats = ("train", "evaluate", "answer") if number < last else ("train", "evaluate")
            batch = (await ctx.map(branch, whats))[-1] or batch
        await self._evaluate(ctx, last)

    async def _sample(self, ctx: Context, number: int, by: int) -> Batch:
        """Answer new problems, and verify the answers: each as it comes, or all in the end.

        Args:
            ctx: of the task.
            number: of the iteration.
            by: number of the adapter that answers.
        """
        task, adapter = self._task, self.adapters[by]
        drawn = self._draw(
            random.Random(f"sample {task.seed} {number}"),  # noqa: S311 - no secret
            task.problems,
            held_back=False,
        )

        async def answer(ctx: Context, problem: Problem) -> list[tuple[Answer, bool]]:
            """Return the answers to a problem; overlapped, each is verified as it comes."""
            given = []
            for sample in range(task.samples):
                # Unlike in all rounds of all seeds, and within the 32 bits that llama.cpp takes.
                seed = (task.seed * 1000 + number) * 1000 + sample
                one = await asking.ask(ctx, problem, adapter, task.temperature, seed)
                ok = task.overlap and await asking.passes(ctx, problem, one.text)
                given.append((one, ok))
            return given

        async def verify(ctx: Context, item: tuple[Problem, Answer]) -> bool:
            return await asking.passes(ctx, item[0], item[1].text)

        lines = await ctx.map(answer, drawn, limit=task.at_once)
        asked = [problem for problem in drawn for _ in range(task.samples)]
        results = [pair for line in lines for pair in line]
        if not task.overlap:
            answers = [given for given, _ in results]
            pairs = zip(asked, answers, strict=True)
            passed = await ctx.map(verify, pairs, limit=AT_ONCE)
            results = list(zip(answers, passed, strict=True))
        examples = [
            asking.example(problem, given, float(ok))
            for problem, (given, ok) in zip(asked, results, strict=True)
        ]
        groups = [examples[n : n + task.samples] for n in range(0, len(examples), task.samples)]
        tokens = sum(given.tokens for given, _ in results)
        return Batch(answers=groups, tokens=tokens, sampled_by=by)

    async def _train(self, ctx: Context, number: int, batch: Batch) -> None:
        """Train on what an iteration's answers tell."""
        task = self._task
        grpo = task.recipe.method == "grpo"
        examples = _compared(batch) if grpo else self._passed(batch)
        lesson = Lesson(
            checkpoints=self._checkpoints,
            number=number,
            seed=task.seed,
            examples=examples,
            sampled_by=batch.sampled_by,
            temperature=task.temperature if grpo else 1.0,
        )
        trained = await ctx.train(
            train, task.model, msgspec.to_builtins(lesson), msgspec.to_builtins(task.recipe),
            model=task.model, threads=task.recipe.threads,
        )  # fmt: skip
        self.adapters.append(trained["adapter"])
        self._trained[number] = {
            "reward": batch.reward(),
            "kept": len(examples),
            "loss": trained["loss"],
            "last_loss": trained["last_loss"],
            "sampled_tokens": batch.tokens,
            "trained_tokens": trained["tokens"],
        }

    async def _evaluate(self, ctx: Context, number: int) -> None:
        """Evaluate the adapter of an iteration, and tell how the iteration went."""
        outcomes = await asking.evaluate(ctx, self._held_back, self.adapters[number])
        self.outcomes.append(outcomes)
        told = {"iteration": number, "pass_rate": _rate(outcomes)}
        self.rows.append(told | self._trained.get(number, {}))

    def _passed(self, batch: Batch) -> list[Example]:
        """Return the first few different answers to each problem that passed, of all iterations.

        Raises:
            InputError: none did.
        """
        for group in batch.answers:
            answers: dict[str, Example] = {}
            for example in group:
                if example.reward and len(answers) < _KEPT_PER_PROBLEM:
                    answers[example.answer.strip()] = example
            for example in answers.values():
                self._kept[example.messages[-1]["content"], example.answer] = example
        if not self._kept:
            raise InputError(
                "no answer passed, so there is nothing to learn from",
                mend="give more problems, more samples or a better model",
            )
        return list(self._kept.values())


def _compared(batch: Batch) -> list[Example]:
    """Return the answers to problems that some but not all answers solve."""
    return [
        example
        for group in batch.answers
        if len({example.reward for example in group}) > 1
        for example in group
    ]


def _rate(outcomes: list[bool]) -> float:
    return sum(outcomes) / len(outcomes)


def _task(value: Any) -> Task:
    try:
        task = msgspec.convert(value, Task)
    except msgspec.ValidationError as error:
        mend = known_there(Task, value, str(error)) or _near(value) or 'give {"seed": NUMBER}'
        raise InputError(f"input of posttrain: {error}", mend=mend) from error
    models.check_no_url(task.model, "posttrain")
    if task.adapter is not None and task.iterations:
        mend = "give iterations 0"
        raise InputError("input of posttrain: an adapter is only evaluated", mend=mend)
    if task.recipe.method == "grpo" and (task.samples < 2 or task.temperature == 0.0):
        mend = "give samples of at least 2 and a temperature above 0"
        raise InputError("input of posttrain: grpo compares answers that differ", mend=mend)
    return task


def _near(value: Any) -> str:
    """Return what the first unknown field of an input may stand for."""
    known = Task.__struct_fields__
    unknown = [name for name in value if name not in known] if isinstance(value, dict) else []
    return nearest(unknown[0], known, 1) if unknown else ""


def accept(value: dict[str, Any]) -> dict[str, Any]:
    """Return an input with whole paths, so that a run goes on alike from any folder.

    Raises:
        InputError: it is wrong.
    """
    task = _task(value)
    paths = {"adapter": task.adapter, "problems_file": task.problems_file}
    return value | {name: str(Path(p).absolute()) for name, p in paths.items() if p is not None}


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
    accept=accept,
    inputs=inputs,
    grade=grade,
    help="Post-trains a small model on answers that passed their tests (needs polysilicon[train]).",
)

"""Ways to run the phases of post-training on the same cores.

Each phase a program of its own, which starts what it needs and verifies one answer after the
other; phases in turns with engine, sandbox and trainer kept, as the agent is by default; and those
in turns and overlapped with half of the cores for the engine and half for training, as in a fleet
where those that answer cannot train. The method is GRPO, which trains on about as much in each
round, at a rate so small that all rounds of all ways are sampled from the same model: all do the
same work.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import psutil

import posttrain_page
from polysilicon import Context
from polysilicon.agents.posttrain import AGENT, asking, problems
from polysilicon.agents.posttrain.agent import Task
from polysilicon.agents.posttrain.step import Lesson, Recipe, train
from polysilicon.runtime import models
from polysilicon.runtime.machine import cores
from polysilicon.runtime.run import Job, Run, RunOptions
from polysilicon.runtime.types import Agent
from polysilicon.workload.run_folder import RunFolder

ROUNDS, PROBLEMS, SAMPLES, HELD_BACK, EPOCHS = 8, 12, 8, 54, 2
"""With so many problems held back the engine's side takes about as long as training, by a thread
each; the agent's own are 96."""

PROGRAMS_ROUNDS = 2
"""Of programs of their own: all are alike, as each begins from nothing."""

RATE = 1e-7
TEMPERATURE = 0.8
HALF = max(cores() // 2, 1)
LOCAL = '[[pool]]\nname = "local"\noffer = "local"\n'
HALVES = f"{LOCAL}threads = {HALF}\n"
TOOLS = f'{LOCAL}serves = ["tool:*", "train:*"]\n'
WAYS = ("each phase a program", "in turns", "halves in turns", "halves overlapped")
TIMEOUT_S = 7200.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Took:
    """What a way to run the phases took.

    Attributes:
        way: how it is called.
        seconds: by the clock.
        idle_s: core-seconds of the machine that nothing used.
        sampled: tokens of the answers.
        trained: tokens trained on.
        phases: of a run in turns.
    """

    way: str
    seconds: float
    idle_s: float
    sampled: int
    trained: int
    phases: Sequence[posttrain_page.Phase] = ()


def output_of(agent: Agent, value: dict[str, Any], folder: Path, options: RunOptions) -> Any:
    """Run one task in a folder of its own; return its output."""
    folder.mkdir(parents=True)
    job = Job(agent=agent, given_as=agent.name, inputs=[value])
    (task,) = asyncio.run(Run(folder, [job], options).execute()).tasks()
    if not task.ok:
        raise SystemExit(task.error)
    return task.output


def recipe(threads: int) -> dict[str, Any]:
    """Return how all ways train, but for the threads."""
    how = Recipe(method="grpo", epochs=EPOCHS, learning_rate=RATE, threads=threads)
    told: dict[str, Any] = msgspec.to_builtins(how)
    return told


def drawn(number: int) -> list[problems.Problem]:
    """Return the problems of a round, as the agent draws them."""
    return problems.draw(random.Random(f"sample 1 {number}"), PROBLEMS, held_back=False)


async def phase(ctx: Context, value: dict[str, Any]) -> Any:
    """Do one phase alone: `answer`, `verify`, `train` or `evaluate`."""
    what, number, adapter = value["what"], value["number"], value["adapter"]
    if what == "answer":

        async def answer(ctx: Context, problem: problems.Problem) -> list[asking.Answer]:
            # One after the other, as the agent has them, so that each finds its prompt cached.
            seeds = [(1000 + number) * 1000 + sample for sample in range(SAMPLES)]
            return [await asking.ask(ctx, problem, adapter, TEMPERATURE, seed) for seed in seeds]

        lines = await ctx.map(answer, drawn(number), limit=Task().at_once)
        return msgspec.to_builtins([one for line in lines for one in line])
    if what == "verify":
        asked = [problem for problem in drawn(number) for _ in range(SAMPLES)]
        pairs = zip(asked, value["texts"], strict=True)
        return [await asking.passes(ctx, problem, text) for problem, text in pairs]
    if what == "train":
        lesson = {**value["lesson"], "checkpoints": value["checkpoints"], "number": number}
        return await ctx.train(train, models.DEFAULT_MODEL, lesson, recipe(cores()),
                               model=models.DEFAULT_MODEL, threads=cores())  # fmt: skip
    held_back = problems.draw(random.Random("evaluate 1"), HELD_BACK, held_back=True)
    held_back.sort(key=lambda problem: problem.prompt)  # as the agent does
    return await asking.evaluate(ctx, held_back, adapter)


def programs_of_their_own(place: Path) -> tuple[int, int]:
    """Run some rounds with each phase a run of its own; return tokens sampled and trained on."""
    agent, sampled, learnt = Agent(name="phase", run=phase), 0, 0
    adapter: str | None = None
    tools = place / "tools.toml"
    tools.write_text(TOOLS)

    def do(what: str, number: int, **more: Any) -> Any:
        value = {"what": what, "number": number, "adapter": adapter, **more}
        fleet = None if what in ("answer", "evaluate") else str(tools)
        options = RunOptions(task_timeout_s=TIMEOUT_S, fleet=fleet)
        return output_of(agent, value, place / f"{number}-{what}", options)

    do("evaluate", 0)
    for number in range(1, PROGRAMS_ROUNDS + 1):
        answers = [msgspec.convert(answer, asking.Answer) for answer in do("answer", number)]
        sampled += sum(answer.tokens for answer in answers)
        passed = do("verify", number, texts=[answer.text for answer in answers])
        asked = [problem for problem in drawn(number) for _ in range(SAMPLES)]
        examples = [
            asking.example(problem, answer, float(ok))
            for problem, answer, ok in zip(asked, answers, passed, strict=True)
        ]
        groups = (examples[n : n + SAMPLES] for n in range(0, len(examples), SAMPLES))
        told = [one for group in groups if len({e.reward for e in group}) > 1 for one in group]
        lesson = Lesson(checkpoints="", number=0, seed=1, examples=told, sampled_by=number - 1,
                        temperature=TEMPERATURE)  # fmt: skip
        more = {"lesson": msgspec.to_builtins(lesson), "checkpoints": str(place / "checkpoints")}
        trained = do("train", number, **more)
        learnt += trained["tokens"]
        adapter = str(trained["adapter"])
        do("evaluate", number)
    return sampled, learnt


def agent_s_loop(place: Path, way: str) -> tuple[int, int]:
    """Run the loop by the agent in one of `WAYS`; return tokens sampled and trained on."""
    halves = way.startswith("halves")
    value = {"iterations": ROUNDS, "problems": PROBLEMS, "samples": SAMPLES,
             "held_back": HELD_BACK, "temperature": TEMPERATURE, "overlap": way.endswith("lapped"),
             "recipe": recipe(HALF if halves else cores())}  # fmt: skip
    fleet = place.with_suffix(".toml")
    fleet.write_text(HALVES if halves else LOCAL)
    options = RunOptions(task_timeout_s=TIMEOUT_S, fleet=str(fleet))
    rows = output_of(AGENT, value, place, options)["curve"][1:]
    return sum(row["sampled_tokens"] for row in rows), sum(row["trained_tokens"] for row in rows)


def took(place: Path, way: str) -> Took:
    """Run the loop in one of `WAYS`, in a folder that there is not yet."""
    begin_s, idle_s = time.perf_counter(), psutil.cpu_times().idle
    if way == WAYS[0]:
        place.mkdir()
        sampled, trained = programs_of_their_own(place)
    else:
        sampled, trained = agent_s_loop(place, way)
    seconds, idle_s = time.perf_counter() - begin_s, psutil.cpu_times().idle - idle_s
    return Took(way=way, seconds=seconds, idle_s=idle_s, sampled=sampled, trained=trained,
                phases=list(cut_of(place)) if way.endswith("turns") else ())  # fmt: skip


def cut_of(path: Path) -> Iterator[posttrain_page.Phase]:
    """Yield the phases of the tasks of a run that did them in turns."""
    folder = RunFolder(path)
    steps = list(folder.workload().steps())
    for task in folder.tasks():
        if task.ok and not task.output["staleness"]:
            mine = [step for step in steps if step.task_id == task.task_id]
            yield from posttrain_page.phases(task.task_id, task.start_s or 0.0, mine)


def overlapped_s(took_s: dict[tuple[str, int], float]) -> float:
    """Return the seconds of a loop whose phases take as long overlapped as they do in turns.

    A round is trained on beside the evaluation of the round before, the answers of the next one and
    their verification; both sides wait for each other.

    Args:
        took_s: (phase, round) → seconds.
    """
    rounds = max(number for _, number in took_s)
    sampled = [
        took_s.get(("answer", number), 0.0) + took_s.get(("verify", number), 0.0)
        for number in range(rounds + 2)
    ]
    beside = (
        max(took_s["train", number], took_s["evaluate", number - 1] + sampled[number + 1])
        for number in range(1, rounds + 1)
    )
    return sampled[1] + math.fsum(beside) + took_s["evaluate", rounds]


def foretold_s(turns: Took) -> float:
    """Return what a loop takes overlapped, told from one in turns with as many threads.

    What no phase covers, such as starting the engine, stays as it is.
    """
    took_s = {(phase.name, phase.number): phase.seconds for phase in turns.phases}
    return turns.seconds - math.fsum(took_s.values()) + overlapped_s(took_s)


_HEADS = ("phases", "seconds", "sampled tokens", "trained tokens", "sampled a second", "times",
          "idle core-seconds")  # fmt: skip


def line(cells: Sequence[str]) -> str:
    """Return a line of a table."""
    return f"| {' | '.join(cells)} |"


def row_of(took: Took, first: Took) -> str:
    """Return a row of the table; throughput is told beside that of the first way."""
    rate, beside = took.sampled / took.seconds, first.sampled / first.seconds
    whole_s = cores() * took.seconds
    idle = f"{took.idle_s:.1f} of {whole_s:.1f} ({took.idle_s / whole_s:.0%})"
    tokens = f"{took.sampled:,}", f"{took.trained:,}"
    return line(
        (took.way, f"{took.seconds:.1f}", *tokens, f"{rate:.1f}", f"{rate / beside:.2f}", idle)
    )


def show(place: Path) -> None:
    """Run all ways, and print each as it ends: a table as Markdown, and what it tells.

    Args:
        place: an empty folder.
    """
    print(
        f"{ROUNDS} rounds of {PROBLEMS} problems, {SAMPLES} answers to each, {HELD_BACK} held "
        f"back, {EPOCHS} epochs; {PROGRAMS_ROUNDS} rounds where each phase is a program; halves "
        f"are of {HALF} of {cores()} cores\n"
    )
    print(line(_HEADS), line(["---"] * len(_HEADS)), sep="\n", flush=True)
    found: list[Took] = []
    for number, way in enumerate(WAYS):
        found.append(took(place / str(number), way))
        print(row_of(found[-1], found[0]), flush=True)
    _, whole, turns, over = found
    rate = {one.way: one.sampled / one.seconds for one in found}
    told_s = foretold_s(turns)
    print(
        f"\nHalves overlapped: {rate[over.way] / rate[turns.way]:.2f} times as fast as halves in "
        f"turns, {rate[over.way] / rate[whole.way]:.2f} times as all cores in turns.\n"
        f"Foretold from the phases of halves in turns: {told_s:.1f} s, so "
        f"{turns.seconds / told_s:.2f} times; the seconds are {told_s / over.seconds - 1:+.0%} off."
    )
    for one in (whole, turns):
        print(f"\n{one.way}:\n\n{posttrain_page.where_time_went(one.phases, cores())}")

"""Post-training: programs verified a second; ways to run its phases; what a run took.

Programs are real answers to the agent's problems with their tests, each a durable step in the
sandbox. The ways are loops with the same seed on the same cores, with the fleet's engine and
PyTorch (extra `train`): each phase a program of its own, which starts what it needs and verifies
one answer after the other; phases in turns with engine, sandbox and trainer kept, as the agent is
by default; and overlapped. The machine should be quiet.

    python benchmarks/posttrain.py
    python benchmarks/posttrain.py RUN

The second prints, as Markdown, what a run of `make posttrain` on this machine reached, where its
time went, and how long each round was predicted to take by the machine's profile (`polysilicon
calibrate` with the extra, when nothing else runs).
"""

from __future__ import annotations

import asyncio
import math
import random
import re
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec
import psutil

import posttrain_page
from polysilicon import Context
from polysilicon.agents.coder import program
from polysilicon.agents.posttrain import AGENT, asking, curves, problems
from polysilicon.agents.posttrain.agent import Task
from polysilicon.agents.posttrain.step import Example, Lesson, Recipe, train
from polysilicon.catalog.machine import detect
from polysilicon.cost.profile_found import find_profile
from polysilicon.runtime import models
from polysilicon.runtime.machine import cores
from polysilicon.runtime.run import Job, Run, RunOptions
from polysilicon.runtime.types import Agent, Limits
from polysilicon.workload.run_folder import RunFolder

PROGRAMS = 4000
AT_ONCE = 64
ROUNDS, PROBLEMS, SAMPLES, HELD_BACK = 2, 24, 8, 48
TOOLS = '[[pool]]\nname = "local"\noffer = "local"\nserves = ["tool:*", "train:*"]\n'


def right_body(problem: problems.Problem) -> str:
    """Return a body that passes, by looking up what the tests ask: as long as a short program."""
    asked = re.findall(r"assert candidate\((.*)\) == (.*)", problem.test)
    argument = problem.prompt.partition("(")[2].partition(")")[0]
    known = ", ".join(f"({given}, {right})" for given, right in asked)
    return f"    return [right for given, right in [{known}] if given == {argument}][0]\n"


async def verify(ctx: Context, value: dict[str, Any]) -> dict[str, Any]:
    """Run programs with their tests; return how many passed, and what that took.

    Returns:
        `passed`, `seconds`, and core-seconds of this process (`core_s`) and of the sandbox's
        (`sandbox_core_s`).
    """
    drawn = problems.draw(random.Random(1), 64, held_back=False)
    tested = [
        program.test_program(problem.prompt + body, problem.test, "solve", "passed")
        for number, problem in enumerate(drawn)
        for body in ("    return None\n" if number % 2 else right_body(problem),)
    ]

    async def one(ctx: Context, number: int) -> tuple[bool, float]:
        code = tested[number % len(tested)]
        result = await ctx.run_code(code, name="verify", limits=Limits(time_s=2.0))
        return result.value == "passed", result.cpu_s

    await ctx.map(one, range(AT_ONCE), limit=AT_ONCE)  # starts the sandbox's processes
    begin_s, core_begin_s = time.perf_counter(), time.process_time()
    done = await ctx.map(one, range(value["programs"]), limit=AT_ONCE)
    return {
        "passed": sum(ok for ok, _ in done),
        "seconds": time.perf_counter() - begin_s,
        "core_s": time.process_time() - core_begin_s,
        "sandbox_core_s": math.fsum(core_s for _, core_s in done),
    }


def rate_of(found: dict[str, Any], programs: int) -> str:
    """Return how fast programs were verified: by the clock, and by core-seconds.

    The rate by the clock is that of a machine that nobody else uses; core-seconds vary less.
    """
    rate = programs / found["seconds"]
    mine_s, sandbox_s = found["core_s"] / programs, found["sandbox_core_s"] / programs
    return (
        f"verified on {cores()} cores: {rate:,.0f} programs/s, each a durable step; "
        f"{1000 * mine_s:.2f} ms of a core in this process and {1000 * sandbox_s:.2f} ms in the "
        f"sandbox for each, {1 / (mine_s + sandbox_s):,.0f} programs a core-second"
    )


def output_of(agent: Agent, value: dict[str, Any], folder: Path, options: RunOptions) -> Any:
    """Run one task in a folder of its own; return its output."""
    folder.mkdir(parents=True)
    job = Job(agent=agent, given_as=agent.name, inputs=[value])
    (task,) = asyncio.run(Run(folder, [job], options).execute()).tasks()
    if not task.ok:
        raise SystemExit(task.error)
    return task.output


async def phase(ctx: Context, value: dict[str, Any]) -> Any:
    """Do one phase alone: `answer`, `verify`, `train` or `evaluate`."""
    what, number, adapter = value["what"], value["number"], value["adapter"]
    drawn = problems.draw(random.Random(f"sample 1 {number}"), PROBLEMS, held_back=False)
    if what == "answer":

        async def answer(ctx: Context, problem: problems.Problem) -> list[asking.Answer]:
            # One after the other, as the agent has them, so that each finds its prompt cached.
            seeds = [(1000 + number) * 1000 + sample for sample in range(SAMPLES)]
            return [await asking.ask(ctx, problem, adapter, 0.8, seed) for seed in seeds]

        lines = await ctx.map(answer, drawn, limit=Task().at_once)
        return msgspec.to_builtins([one for line in lines for one in line])
    if what == "verify":
        asked = [problem for problem in drawn for _ in range(SAMPLES)]
        pairs = zip(asked, value["texts"], strict=True)
        return [await asking.passes(ctx, problem, text) for problem, text in pairs]
    if what == "train":
        lesson = {**value["lesson"], "checkpoints": value["checkpoints"], "number": number}
        recipe = msgspec.to_builtins(Recipe(threads=cores()))
        return await ctx.train(train, models.DEFAULT_MODEL, lesson, recipe,
                               model=models.DEFAULT_MODEL, threads=cores())  # fmt: skip
    held_back = problems.draw(random.Random("evaluate 1"), HELD_BACK, held_back=True)
    held_back.sort(key=lambda problem: problem.prompt)  # as the agent does
    return await asking.evaluate(ctx, held_back, adapter)


def programs_of_their_own(place: Path, tools: str) -> int:
    """Run the loop with each phase a run of its own; return the tokens of its answers.

    Args:
        place: for the folders of its runs.
        tools: fleet file without an engine, for phases that need none.
    """
    agent, kept, tokens = Agent(name="phase", run=phase), list[Example](), 0
    adapter: str | None = None

    def do(what: str, number: int, **more: Any) -> Any:
        value = {"what": what, "number": number, "adapter": adapter, **more}
        fleet = None if what in ("answer", "evaluate") else tools
        options = RunOptions(task_timeout_s=7200.0, fleet=fleet)
        return output_of(agent, value, place / f"{number}-{what}", options)

    do("evaluate", 0)
    for number in range(1, ROUNDS + 1):
        answers = [msgspec.convert(answer, asking.Answer) for answer in do("answer", number)]
        tokens += sum(answer.tokens for answer in answers)
        passed = do("verify", number, texts=[answer.text for answer in answers])
        drawn = problems.draw(random.Random(f"sample 1 {number}"), PROBLEMS, held_back=False)
        for place_of, (answer, ok) in enumerate(zip(answers, passed, strict=True)):
            example = asking.example(drawn[place_of // SAMPLES], answer, float(ok))
            alike = [one for one in kept if one.messages == example.messages]
            if ok and len(alike) < 2 and example not in alike:
                kept.append(example)
        lesson = msgspec.to_builtins(Lesson(checkpoints="", number=0, seed=1, examples=kept))
        trained = do("train", number, lesson=lesson, checkpoints=str(place / "checkpoints"))
        adapter = str(trained["adapter"])
        do("evaluate", number)
    return tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Took:
    """What a way to run the phases took, and core-seconds of the machine that nothing used."""

    way: str
    seconds: float
    idle_s: float
    tokens: int


def ways(place: Path, tools: str) -> list[Took]:
    """Run the same loop in three ways; see `programs_of_their_own`."""
    found = []
    value = {"iterations": ROUNDS, "problems": PROBLEMS, "samples": SAMPLES,
             "held_back": HELD_BACK, "recipe": {"threads": cores()}}  # fmt: skip
    for way in ("each phase a program", "in turns", "overlapped"):
        begin_s, idle_s = time.perf_counter(), psutil.cpu_times().idle
        folder = place / way.replace(" ", "-")
        if way == "each phase a program":
            tokens = programs_of_their_own(folder, tools)
        else:
            overlap = way == "overlapped"
            options = RunOptions(task_timeout_s=7200.0)
            output = output_of(AGENT, {**value, "overlap": overlap}, folder, options)
            tokens = sum(row.get("sampled_tokens", 0) for row in output["curve"])
        seconds = time.perf_counter() - begin_s
        idle_s = psutil.cpu_times().idle - idle_s
        found.append(Took(way=way, seconds=seconds, idle_s=idle_s, tokens=tokens))
    return found


def table(found: list[Took]) -> str:
    """Return the ways as Markdown; throughput is told beside that of the first."""
    rows = [
        "| phases | seconds | sampled tokens a second | times | idle core-seconds |",
        "|---|---|---|---|---|",
    ]
    first = found[0].tokens / found[0].seconds
    for took in found:
        rate, share = took.tokens / took.seconds, took.idle_s / (cores() * took.seconds)
        rows.append(
            f"| {took.way} | {took.seconds:.1f} | {rate:.1f} | {rate / first:.2f} "
            f"| {took.idle_s:.1f} of {cores() * took.seconds:.1f} ({share:.0%}) |"
        )
    return "\n".join(rows)


def of_run(folder: RunFolder) -> None:
    """Print the tables of a run."""
    found = curves.curves_of(folder)
    print(curves.markdown(found))
    steps = list(folder.workload().steps())
    cut = [
        phase
        for task in folder.tasks()
        if task.ok and not task.output["staleness"]
        for phase in posttrain_page.phases(
            task.task_id, task.start_s or 0.0, [s for s in steps if s.task_id == task.task_id]
        )
    ]
    if not cut:
        raise SystemExit("its phases overlap, so that no time is that of one")
    print(f"\n{posttrain_page.where_time_went(cut, cores())}")
    profile = find_profile(detect()).profile
    if profile is None:
        raise SystemExit("no profile of this machine; run `polysilicon calibrate`")
    print(f"\n{posttrain_page.predicted(cut, profile)}")


def main() -> None:
    """Print the tables."""
    if len(sys.argv) > 1:
        of_run(RunFolder(Path(sys.argv[1])))
        return
    with tempfile.TemporaryDirectory(prefix="polysilicon-") as name:
        place = Path(name)
        (place / "tools.toml").write_text(TOOLS)
        options = RunOptions(fleet=str(place / "tools.toml"))
        checks = Agent(name="verify", run=verify)
        found = output_of(checks, {"programs": PROGRAMS}, place / "verify", options)
        print(rate_of(found, PROGRAMS))
        if find_spec("torch") is None:
            raise SystemExit("the phases need polysilicon[train]")
        print(table(ways(place / "ways", str(place / "tools.toml"))))


if __name__ == "__main__":
    main()

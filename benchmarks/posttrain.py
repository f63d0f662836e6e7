"""Post-training: programs verified a second; overlapped phases against alternating ones.

Programs are real answers to the agent's problems with their tests, each a durable step in the
sandbox. The phases are two small loops with the same seed on the same cores, with the fleet's
engine and PyTorch (extra `train`); the machine should be quiet.

    python benchmarks/posttrain.py
    python benchmarks/posttrain.py RUN

The second compares seconds of each iteration of a run in turns on this machine with those that its
profile predicts (`polysilicon calibrate`, with the extra, when nothing else runs).
"""

from __future__ import annotations

import asyncio
import random
import re
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from polysilicon import Context
from polysilicon.agents.coder import program
from polysilicon.agents.posttrain import AGENT, problems
from polysilicon.catalog.machine import detect
from polysilicon.cost.beside import Predicted, predict_run
from polysilicon.cost.profile import find_profile
from polysilicon.runtime.machine import cores
from polysilicon.runtime.run import Job, Run, RunOptions
from polysilicon.runtime.types import Agent, Limits
from polysilicon.workload.run_folder import open_workload

PROGRAMS = 4000
AT_ONCE = 64
PHASES = ("answer", "verify", "lora", "evaluate")
SMALL = {"iterations": 3, "problems": 24, "samples": 4, "held_back": 24}
TOOLS = '[[pool]]\nname = "local"\noffer = "local"\nserves = ["tool:*"]\n'


def right_body(problem: problems.Problem) -> str:
    """Return a body that passes, by looking up what the tests ask: as long as a short program."""
    asked = re.findall(r"assert candidate\((.*)\) == (.*)", problem.test)
    argument = problem.prompt.partition("(")[2].partition(")")[0]
    known = ", ".join(f"({given}, {right})" for given, right in asked)
    return f"    return [right for given, right in [{known}] if given == {argument}][0]\n"


async def verify(ctx: Context, value: dict[str, Any]) -> dict[str, Any]:
    """Run programs with their tests; return how many passed, and seconds."""
    drawn = problems.draw(random.Random(1), 64, held_back=False)
    tested = [
        program.test_program(problem.prompt + body, problem.test, "solve", "passed")
        for number, problem in enumerate(drawn)
        for body in ("    return None\n" if number % 2 else right_body(problem),)
    ]

    async def one(ctx: Context, number: int) -> bool:
        code = tested[number % len(tested)]
        result = await ctx.run_code(code, name="verify", limits=Limits(time_s=2.0))
        return result.value == "passed"

    await ctx.map(one, range(AT_ONCE), limit=AT_ONCE)  # starts the sandbox's processes
    begin_s = time.perf_counter()
    passed = await ctx.map(one, range(value["programs"]), limit=AT_ONCE)
    return {"passed": sum(passed), "seconds": time.perf_counter() - begin_s}


def output_of(agent: Agent, value: dict[str, Any], folder: Path, options: RunOptions) -> Any:
    """Run one task in a folder of its own; return its output."""
    folder.mkdir()
    job = Job(agent=agent, given_as=agent.name, inputs=[value])
    (task,) = asyncio.run(Run(folder, [job], options).execute()).tasks()
    if not task.ok:
        raise SystemExit(task.error)
    return task.output


def predicted(folder: Path) -> None:
    """Print measured and predicted seconds of each iteration of each task of a run, by phase.

    A phase lasts as long as its steps together over how many run at once, so it is predicted to
    last as much longer as its steps are. Between phases nothing is predicted, and nothing counts.
    """
    profile = find_profile(detect()).profile
    if profile is None:
        raise SystemExit("no profile of this machine; run `polysilicon calibrate`")
    told = predict_run(list(open_workload(folder).steps()), profile)
    for reason, count in told.refused.items():
        print(f"not predicted: {count} steps: {reason}")
    tasks: dict[str, list[Predicted]] = {}
    for step in sorted(told.steps, key=lambda one: one.step.start_s or 0.0):
        tasks.setdefault(step.step.task_id, []).append(step)
    for task, steps in tasks.items():
        for number, iteration in enumerate(iterations(steps)):
            whole = made = 0.0
            words = []
            for name in PHASES:
                mine = [one for one in iteration if one.step.name == name]
                wall_s = covered_s([(one.step.start_s, one.step.end_s) for one in mine])
                if not mine or wall_s == 0.0:
                    continue
                ratio = sum(one.service_s for one in mine) / sum(one.measured_s for one in mine)
                whole, made = whole + wall_s, made + wall_s * ratio
                words.append(f"{name} {wall_s:.1f} s ({wall_s * ratio:.1f})")
            off = f"{made / whole - 1:+.0%}"
            print(
                f"{task} {number}: {whole:.1f} s, predicted {made:.1f} s, {off}: {', '.join(words)}"
            )


def iterations(steps: Sequence[Predicted]) -> list[list[Predicted]]:
    """Return the steps before the first answer, and those from each iteration's first one on."""
    found: list[list[Predicted]] = [[]]
    last = ""
    for one in steps:
        if one.step.name == "answer" and last in ("evaluate", ""):
            found.append([])
        if one.step.name in ("answer", "evaluate"):
            last = one.step.name
        found[-1].append(one)
    return [part for part in found if part]


def covered_s(spans: Sequence[tuple[float | None, float | None]]) -> float:
    """Return how many seconds some spans cover."""
    covered = until = 0.0
    for begin, end in sorted((begin or 0.0, end or 0.0) for begin, end in spans):
        covered += max(end - max(begin, until), 0.0)
        until = max(until, end)
    return covered


def main() -> None:
    """Print both tables."""
    if len(sys.argv) > 1:
        predicted(Path(sys.argv[1]))
        return
    with tempfile.TemporaryDirectory(prefix="polysilicon-") as name:
        place = Path(name)
        (place / "tools.toml").write_text(TOOLS)
        options = RunOptions(fleet=str(place / "tools.toml"))
        checks = Agent(name="verify", run=verify)
        found = output_of(checks, {"programs": PROGRAMS}, place / "verify", options)
        rate = PROGRAMS / found["seconds"]
        print(f"verified on {cores()} cores: {rate:,.0f} programs/s, each a durable step")
        if find_spec("torch") is None:
            raise SystemExit("the phases need polysilicon[train]")
        took = {}
        for way, overlap in (("alternating", False), ("overlapped", True)):
            begin_s = time.perf_counter()
            value = {**SMALL, "overlap": overlap, "recipe": {"threads": cores()}}
            output = output_of(AGENT, value, place / way, RunOptions(task_timeout_s=7200.0))
            took[way] = time.perf_counter() - begin_s
            tokens = sum(row.get("sampled_tokens", 0) for row in output["curve"])
            print(f"{way}: {took[way]:.1f} s, {tokens / took[way]:.1f} sampled tokens/s")
        print(f"overlapped is {took['alternating'] / took['overlapped']:.2f} times as fast")


if __name__ == "__main__":
    main()

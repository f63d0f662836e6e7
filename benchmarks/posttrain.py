"""Post-training: programs verified a second; overlapped phases against alternating ones.

Programs are real answers to the agent's problems with their tests, each a durable step in the
sandbox. The phases are two small loops with the same seed on the same cores, with the fleet's
engine and PyTorch (extra `train`); the machine should be quiet.

    python benchmarks/posttrain.py
"""

from __future__ import annotations

import asyncio
import random
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from polysilicon import Context
from polysilicon.agents.coder import program
from polysilicon.agents.posttrain import AGENT, problems
from polysilicon.runtime.machine import cores
from polysilicon.runtime.run import Job, Run, RunOptions
from polysilicon.runtime.types import Agent, Limits

PROGRAMS = 4000
AT_ONCE = 64
SMALL = {"iterations": 3, "problems": 24, "samples": 4, "held_back": 24}
TOOLS = '[[pool]]\nname = "local"\noffer = "local"\nserves = ["tool:*"]\n'


async def verify(ctx: Context, value: dict[str, Any]) -> dict[str, Any]:
    """Run programs with their tests; return how many passed, and seconds."""
    drawn = problems.draw(random.Random(1), 64, held_back=False)
    body = "    return sorted(x * x for x in xs if x % 2 == 0)\n"
    tested = [
        program.test_program(problem.prompt + body, problem.test, "solve", "passed")
        for problem in drawn
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


def main() -> None:
    """Print both tables."""
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

"""Post-training: programs verified a second; ways to run its phases; what a run took.

Programs are real answers to the agent's problems with their tests, each a durable step in the
sandbox. The ways are loops with the same seed on the same cores, with the local engine and PyTorch
(extra `train`); see `posttrain_ways`. The machine should be quiet.

    python benchmarks/posttrain.py
    python benchmarks/posttrain.py RUN

The second prints, as Markdown, what a run of `make posttrain` on this machine reached, where its
time went, and how long each round was predicted to take by the machine's profile (`polysilicon
calibrate` with the extra, when nothing else runs).
"""

from __future__ import annotations

import math
import random
import re
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import posttrain_page
import posttrain_ways
from polysilicon import Context
from polysilicon.agents.coder import program
from polysilicon.agents.posttrain import curves, problems
from polysilicon.catalog.machine import detect
from polysilicon.cost.profile_found import find_profile
from polysilicon.runtime.machine import cores
from polysilicon.runtime.run import RunOptions
from polysilicon.runtime.types import Agent, Limits
from polysilicon.workload.run_folder import RunFolder

PROGRAMS = 4000
AT_ONCE = 64


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


def of_run(folder: RunFolder) -> None:
    """Print the tables of a run."""
    found = curves.curves_of(folder)
    print(curves.markdown(found))
    cut = list(posttrain_ways.cut_of(folder.path))
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
        (place / "tools.toml").write_text(posttrain_ways.TOOLS)
        options = RunOptions(fleet=str(place / "tools.toml"))
        checks = Agent(name="verify", run=verify)
        found = posttrain_ways.output_of(checks, {"programs": PROGRAMS}, place / "verify", options)
        print(rate_of(found, PROGRAMS))
        if find_spec("torch") is None:
            raise SystemExit("the phases need polysilicon[train]")
        (place / "ways").mkdir()
        posttrain_ways.show(place / "ways")


if __name__ == "__main__":
    main()

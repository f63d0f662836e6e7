"""Agents whose runs are broken: what they change in the world, they leave a line about."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

from polysilicon import Context
from polysilicon.errors import ToolError

NOTES = "CHAOS_NOTES"
"""Names the file of the lines."""


async def effect(label: str, seconds: float, idempotency_key: str) -> str:
    """Change the world: leave a line that says who did what, in which start of the run."""
    note(label, idempotency_key)
    await asyncio.sleep(seconds)
    return label


def note(label: str, idempotency_key: str) -> str:
    """The same, as it is done in a worker process."""
    with Path(os.environ[NOTES]).open("a") as stream:
        stream.write(f"{os.environ['CHAOS_START']} {label} {idempotency_key}\n")
    return label


def large(size: int) -> str:
    """Return more than the journal keeps in a row."""
    return "x" * size


def fails() -> None:
    """Fail, which is a result too."""
    raise ValueError("as it should")


async def light(ctx: Context, value: dict[str, Any]) -> list[Any]:
    """Branches, a map, and a tail of steps with effects, all in the run's own process."""

    async def change(within: Context, name: str, seconds: float) -> str:
        return str(await within.call(effect, f"{ctx.task_id}:{name}", seconds, name=name))

    async def item(within: Context, number: int) -> str:
        await change(within, f"map{number}", 0.004)
        return await change(within, f"then{number}", 0.001)

    first = await change(ctx, "first", 0.002)
    mapped = await ctx.map(item, range(value["width"]), limit=3)
    tail = [await change(ctx, f"tail{n}", 0.03 * ctx.rng.random()) for n in range(20)]
    return [first, *mapped, *tail]


async def full(ctx: Context, value: dict[str, Any]) -> list[Any]:
    """Functions in worker processes, sandboxes, large results and failures."""
    before = await ctx.call(note, f"{ctx.task_id}:before", name="before")
    code = await ctx.run_code("sum(range(n))", inputs={"n": value["width"]})
    size = len(await ctx.call(large, 100_000 + value["width"]))
    try:
        await ctx.call(fails)
    except ToolError as error:
        before += str(error)
    after = await ctx.call(note, f"{ctx.task_id}:after", name="after")
    return [before, code.value, size, after]

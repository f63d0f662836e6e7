"""Agents of the tests, run by name as a user's own file would be."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import Any

from polysilicon import Context


def note(path: str, text: str) -> str:
    """Leave a line in a file, so that tests can count how often a step ran."""
    with Path(path).open("a") as stream:
        stream.write(text + "\n")
    return text


def die_at(path: str, limit: int) -> int:
    """Kill the whole run, hard, once `path` has `limit` lines."""
    count = len(Path(path).read_text().split())
    if count >= limit:
        os.kill(int(Path(path).with_suffix(".pid").read_text()), signal.SIGKILL)
        time.sleep(60)
    return count


async def count(ctx: Context, value: dict[str, Any]) -> dict[str, Any]:
    """Take three steps, each of which leaves a line; the run dies where the input says so."""
    for index in range(3):
        await ctx.call(note, value["path"], f"{ctx.task_id}:{index}")
        if value.get("die_at") and Path(value["path"]).with_suffix(".pid").exists():
            await ctx.call(die_at, value["path"], value["die_at"])
    return {"said": await ctx.call(note, value["path"], f"{ctx.task_id}:end")}


async def raises(ctx: Context, value: dict[str, Any]) -> None:
    """Fail after a step that succeeds."""
    await ctx.call(note, value["path"], "before")
    raise KeyError("no such thing")


async def never(_ctx: Context, _value: dict[str, Any]) -> None:
    """Wait for ever."""
    await asyncio.Event().wait()


async def blocks(_ctx: Context, _value: dict[str, Any]) -> None:
    """Keep the event loop for ever."""
    while True:
        pass


async def odd(_ctx: Context, _value: dict[str, Any]) -> object:
    """Return what is not JSON."""
    return object()


async def chatty(ctx: Context, value: dict[str, Any]) -> dict[str, str]:
    """Ask the model twice."""
    first = await ctx.chat([{"role": "user", "content": value["text"]}], max_tokens=8)
    second = await ctx.chat([{"role": "user", "content": first.text}], max_tokens=8)
    return {"text": second.text}


async def slow(ctx: Context, value: dict[str, Any]) -> None:
    """Take a step, then wait, so that a signal finds it waiting."""
    await ctx.call(note, value["path"], ctx.task_id)
    await asyncio.sleep(60)


def blob(size: int, _number: int) -> str:
    """Return a text of `size` characters."""
    return "x" * size


async def large(ctx: Context, _value: dict[str, Any]) -> int:
    """Take forty steps with 40 kB of result each."""
    return sum([len(await ctx.call(blob, 40_000, number)) for number in range(40)])

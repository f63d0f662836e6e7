"""Agents of the tests, run by name as a user's own file would be."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from polysilicon import Agent, Context
from polysilicon.errors import InputError


def note(path: str, text: str) -> str:
    """Leave a line in a file, so that tests can count how often a step ran."""
    with Path(path).open("a") as stream:
        stream.write(text + "\n")
    return text


def die_at(path: str, limit: int) -> int:
    """Kill the whole run, hard, once `path` has `limit` lines."""
    count = len(Path(path).read_text().split())
    if count >= limit:
        while not (pid := Path(path).with_suffix(".pid").read_text()):
            time.sleep(0.01)  # whoever started it tells soon
        os.kill(int(pid), signal.SIGKILL)
        time.sleep(60)
    return count


async def count(ctx: Context, value: dict[str, Any]) -> dict[str, Any]:
    """Take three steps, each of which leaves a line; the run dies where the input says so."""
    for index in range(3):
        await ctx.call(note, value["path"], f"{ctx.task_id}:{index}")
        if value.get("die_at") and Path(value["path"]).with_suffix(".pid").exists():
            await ctx.call(die_at, value["path"], value["die_at"])
    return {"said": await ctx.call(note, value["path"], f"{ctx.task_id}:end")}


def linger(path: str) -> None:
    """Tell the process of a tool that takes a minute."""
    note(path, str(os.getpid()))
    time.sleep(60)


async def lingers(ctx: Context, value: dict[str, Any]) -> None:
    """Take one long step."""
    await ctx.call(linger, value["path"])


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


async def cancels_itself(_ctx: Context, _value: dict[str, Any]) -> None:
    """Raise what cancelling raises."""
    raise asyncio.CancelledError


async def exits(_ctx: Context, _value: dict[str, Any]) -> None:
    """End the program."""
    sys.exit(7)


async def swallows(_ctx: Context, _value: dict[str, Any]) -> None:
    """Go on for three cancellations."""
    for _ in range(4):
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(60)


async def huge(_ctx: Context, _value: dict[str, Any]) -> int:
    """Return a number that does not fit into 64 bits."""
    return 10**30


async def surrogate(_ctx: Context, _value: dict[str, Any]) -> None:
    """Fail with a text that UTF-8 cannot hold."""
    raise ValueError("file \udcff")


async def prints(ctx: Context, _value: dict[str, Any]) -> int:
    """Print here and in a worker."""
    print("said by the agent")
    return await ctx.call(say)


def say() -> int:
    """Print in a worker."""
    print("said by a tool", flush=True)
    return 1


async def _fails(_setup: Any) -> None:
    raise LookupError("no data")


def _no_grade(_value: Any, _output: Any) -> float:
    raise ZeroDivisionError


async def _fine(_ctx: Context, _value: Any) -> int:
    return 1


def _whole(value: dict[str, Any]) -> dict[str, Any]:
    """Return an input with a whole path."""
    if "path" not in value:
        raise InputError("the input has no 'path'", mend='give {"path": FILE}')
    return value | {"path": str(Path(value["path"]).resolve())}


PATHED = Agent(name="pathed", run=count, accept=_whole)
UNPREPARED = Agent(name="unprepared", run=_fine, prepare=_fails)
UNGRADED = Agent(name="ungraded", run=_fine, grade=_no_grade)


async def slow(ctx: Context, value: dict[str, Any]) -> None:
    """Take a step, tell that it ended, then wait, so that a signal finds it waiting."""
    await ctx.call(note, value["path"], ctx.task_id)
    note(value["path"] + ".ended", ctx.task_id)
    await asyncio.sleep(60)


def blob(size: int, _number: int) -> str:
    """Return a text of `size` characters."""
    return "x" * size


async def large(ctx: Context, value: dict[str, Any]) -> int:
    """Take forty steps with 40 kB of result each, once a file is there."""
    async with asyncio.timeout(60):
        while not Path(value["begin"]).exists():  # noqa: ASYNC110, ASYNC240 - a test makes it
            await asyncio.sleep(0.01)
    return sum([len(await ctx.call(blob, 40_000, number)) for number in range(40)])

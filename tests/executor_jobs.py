"""What the suite of executors has done: functions that a worker, or another machine, imports."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Any

from polysilicon import Context


def add(a: int, b: int = 0) -> int:
    return a + b


def fail(text: str) -> None:
    raise ValueError(text)


def not_json() -> object:
    return object()


def die() -> None:
    os._exit(3)


def spin(seconds: float) -> int:
    end_s = time.process_time() + seconds
    while time.process_time() < end_s:
        pass
    return os.getpid()


def spin_noted(seconds: float, path: str) -> int:
    """Spin once a file is there that tells of it."""
    Path(path).touch()
    return spin(seconds)


def niceness() -> int:
    return os.nice(0)


def text_of(size: int) -> str:
    return "x" * size


def length(text: str) -> int:
    return len(text)


async def add_later(a: int, b: int = 0) -> int:
    await asyncio.sleep(0.001)
    return a + b


async def fail_later(text: str) -> None:
    raise KeyError(text)


async def sleep_long(path: str) -> None:
    Path(path).write_text("begun")  # noqa: ASYNC240 - a test
    try:
        await asyncio.sleep(60)
    finally:
        Path(path).write_text("ended")  # noqa: ASYNC240 - a test


def note(path: str, label: str, seconds: float, idempotency_key: str) -> bool:
    """Leave a line: what, and in which worker's machine; tell whether to go on."""
    with Path(path).open("a") as stream:
        stream.write(f"{label} {os.getppid()} {idempotency_key}\n")
    time.sleep(seconds)
    return not Path(f"{path}.stop").exists()


async def mark(path: str, label: str, seconds: float, idempotency_key: str) -> bool:
    """Do what `note` does, awaited, in the machine's own process."""
    with Path(path).open("a") as stream:  # noqa: ASYNC230 - a test
        stream.write(f"{label} {os.getpid()} {idempotency_key}\n")
    await asyncio.sleep(seconds)
    return not Path(f"{path}.stop").exists()  # noqa: ASYNC240 - a test


def network() -> str:
    """Name the network namespace of this process."""
    return os.readlink("/proc/self/ns/net")  # noqa: PTH115 - it is no path


async def everything(ctx: Context, value: dict[str, Any]) -> list[Any]:
    """Take steps of all kinds that tools have."""

    async def item(within: Context, number: int) -> int:
        return int(await within.call(add, number, b=await within.call(add_later, number)))

    mapped = await ctx.map(item, range(3))
    code = await ctx.run_code("sum(range(n))", inputs={"n": value["n"]})
    large = await ctx.call(text_of, 600_000)
    words = await ctx.embed(["a cat", "a dog"])
    failed = ""
    try:
        await ctx.call(fail, "as it should")
    except Exception as error:  # noqa: BLE001 - its text is what counts
        failed = str(error)
    answer = await ctx.chat([{"role": "user", "content": f"What is {value['n']}?"}])
    return [mapped, code.value, len(large), len(words[0]), failed, answer.text]


async def notes(ctx: Context, value: dict[str, Any]) -> int:
    """Take steps one after the other, each of which leaves a line, until one tells to stop."""
    number = 0
    while await ctx.call(note, value["path"], f"{ctx.task_id}:{number}", value["seconds"]):
        number += 1
    return number + 1


async def marks(ctx: Context, value: dict[str, Any]) -> int:
    """Take such steps, in turn in a worker process and awaited."""
    number, go_on = 0, True
    while go_on:
        fn = (note, mark)[number % 2]
        label = f"{ctx.task_id}:{number}"
        go_on = await ctx.call(fn, value["path"], label, value["seconds"], name=fn.__name__)
        number += 1
    return number

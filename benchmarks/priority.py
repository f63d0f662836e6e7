"""Why tools run at a lower priority than the engine: LLM steps beside a busy process.

The engine's threads meet at a barrier after every operation; a process that takes the core of one
stops all of them. Prints how long the same LLM steps take beside a busy process of each niceness,
as a ratio to none, and how much of a core that process got.

    python benchmarks/priority.py
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time

import psutil
from rich.console import Console
from rich.table import Table

from polysilicon.runtime.assets import fetch
from polysilicon.runtime.engines.llamacpp import LlamaCpp
from polysilicon.runtime.types import ChatRequest

STEPS = 8
REPEATS = 3
BUSY = "import os, sys\nos.nice(int(sys.argv[1]))\nwhile True: pass"


async def steps(engine: LlamaCpp, salt: str) -> float:
    """Return seconds of STEPS chats at once."""
    begin_s = time.perf_counter()
    text = "Tell a story of the sea. "
    await asyncio.gather(
        *(
            engine.chat(
                ChatRequest(
                    messages=({"role": "user", "content": f"{salt}{n} {text}"},), max_tokens=32
                )
            )
            for n in range(STEPS)
        )
    )
    return time.perf_counter() - begin_s


async def main() -> None:
    """Print the table."""
    engine = LlamaCpp(fetch("smollm2-135m-instruct"))
    await steps(engine, "warm")
    table = Table("busy process", "LLM steps take", "it gets of a core", title="median of 3")
    alone_s = 0.0
    for nice in (None, 0, 10, 19):
        times, shares = [], []
        for repeat in range(REPEATS):
            busy = (
                None if nice is None else subprocess.Popen([sys.executable, "-c", BUSY, str(nice)])
            )
            times.append(await steps(engine, f"{nice}-{repeat}-"))
            if busy is not None:
                shares.append(psutil.Process(busy.pid).cpu_times().user / times[-1])
                busy.kill()
                busy.wait()
        middle_s = sorted(times)[REPEATS // 2]
        alone_s = alone_s or middle_s
        share = f"{sorted(shares)[REPEATS // 2]:.2f}" if shares else ""
        table.add_row(
            "none" if nice is None else f"nice {nice}", f"{middle_s / alone_s:.2f} x", share
        )
    Console(file=sys.stdout).print(table)
    await engine.close()


if __name__ == "__main__":
    asyncio.run(main())

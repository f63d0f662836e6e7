"""Whether the gateway leaks: hours of good, bad and rude clients, and its memory all the while.

python benchmarks/soak.py [MINUTES [RATE]]      1 minute at 200 requests/s, if none are given

First 2,000 streams that say next to nothing and 500 that are busy are held open at once. Then, at
a bounded rate, clients ask, stream, leave in the midst, read slowly, send half a body, or send what
is no request; the memory of the gateway's process is told ten times on the way. At the end nothing
may be under way, and 10,000 bad requests more may not have grown it. It prints rows of a table of
Markdown: when, megabytes of the process, its open files, and requests so far.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import psutil
import uvloop

import gateway as ways
import gateway_load as load
from polysilicon.runtime.engines.forward import Forwarder

IDLE, ACTIVE, RATE_PER_S = 2000, 500, 200.0
_BAD = (
    b"{", b"[]", b"null", b'{"model": 1}', b'{"model": "fast"}', b"[" * 3000, b"\xff\xfe",
    b'{"model": "fast", "messages": []}', b'{"model": "nobody", "messages": [{"role": "user"}]}',
)  # fmt: skip


class Load:
    """Clients of a gateway on a port of loopback."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._way = Forwarder(f"http://127.0.0.1:{port}/v1")
        self.seen: Counter[str] = Counter()

    async def streams(self, count: int, model: str, held: asyncio.Event) -> None:
        """Hold streams open until the event is set."""

        async def line() -> None:
            answer = await self._way.post("chat/completions", load.request(model, stream=True))
            assert answer.status == 200
            self.seen[f"streams of {model}"] += 1
            with contextlib.suppress(TimeoutError):
                while not held.is_set() and await asyncio.wait_for(answer.read(), 5):
                    pass
            answer.close()

        await asyncio.gather(*(line() for _ in range(count)))

    async def bad(self) -> None:
        """Send what is no request."""
        answer = await self._way.post("chat/completions", random.choice(_BAD))
        error = json.loads(await answer.whole(1 << 20))["error"]
        answer.close()
        assert answer.status in {400, 404}, (answer.status, error)
        self.seen["refused"] += 1

    async def good(self) -> None:
        """Ask, and read the answer."""
        answer = await self._way.post("chat/completions", load.request("fast", stream=False))
        await answer.whole(1 << 20)
        answer.close()
        self.seen[f"answered {answer.status}"] += 1

    async def left(self) -> None:
        """Stream, and leave in the midst."""
        answer = await self._way.post("chat/completions", load.request("fast", stream=True))
        await answer.read()
        answer.close()
        self.seen["left"] += 1

    async def slow(self) -> None:
        """Stream, and read slowly."""
        answer = await self._way.post("chat/completions", load.request("fast", stream=True))
        while await answer.read():  # noqa: ASYNC110 - it is slow on purpose
            await asyncio.sleep(0.2)
        answer.close()
        self.seen["slow"] += 1

    async def half(self) -> None:
        """Send half a body and leave, or half a head."""
        _, writer = await asyncio.open_connection("127.0.0.1", self._port)
        head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n"
        writer.write(head + random.choice((b"", b'\r\n{"model"')))
        await writer.drain()
        await asyncio.sleep(random.random())
        writer.close()
        self.seen["half"] += 1


def told(when: str, child: psutil.Process, sent: int) -> None:
    """Print a row: the process' own pages in megabytes, its open files, requests so far."""
    memory_mb = child.memory_full_info().uss / 1e6
    print(f"| {when} | {memory_mb:.1f} | {child.num_fds():,} | {sent:,} |", flush=True)


async def soak(port: int, child: psutil.Process, minutes: float, rate_per_s: float) -> None:
    """Load a gateway, and print its memory."""
    clients, held = Load(port), asyncio.Event()
    print("| when | MB | files open | requests |\n|---|---|---|---|")
    told("at the start", child, 0)
    open_ = [clients.streams(IDLE, "idle", held), clients.streams(ACTIVE, "fast", held)]
    both = asyncio.gather(*open_)
    while clients.seen["streams of idle"] < IDLE or clients.seen["streams of fast"] < ACTIVE:  # noqa: ASYNC110
        await asyncio.sleep(0.1)
    told(f"{IDLE:,} idle streams and {ACTIVE} active", child, IDLE + ACTIVE)
    held.set()
    await both
    await mixed(clients, child, minutes, rate_per_s)
    for _ in range(100):
        await asyncio.gather(*(clients.bad() for _ in range(100)))
    told("after 10,000 bad requests more", child, clients.seen.total())
    print(f"\n{dict(clients.seen)}; {child.num_threads()} threads")


async def mixed(clients: Load, child: psutil.Process, minutes: float, rate_per_s: float) -> None:
    """Send requests of all kinds at a rate, and wait for the last of them."""
    tasks: set[asyncio.Task[None]] = set()
    begin_s, rows = time.monotonic(), 0
    kinds = (clients.good,) * 6 + (clients.bad,) * 2 + (clients.left, clients.half, clients.slow)
    while (past_s := time.monotonic() - begin_s) < minutes * 60:
        if past_s >= rows * minutes * 6:
            told(f"{past_s / 60:.1f} min", child, clients.seen.total())
            rows += 1
        task = asyncio.create_task(random.choice(kinds)())
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        await asyncio.sleep(1 / rate_per_s)
    await asyncio.gather(*tasks)
    told(f"{minutes:.1f} min, nothing under way", child, clients.seen.total())


def main() -> None:
    """Serve two endpoints through a gateway, and load it."""
    minutes = float(sys.argv[1]) if len(sys.argv) > 1 else 1.0
    rate_per_s = float(sys.argv[2]) if len(sys.argv) > 2 else RATE_PER_S
    port, here = ways.free_port(), Path(__file__).resolve().parent
    endpoint = f"http://127.0.0.1:{port}/v1"
    command = [sys.executable, str(here / "gateway_load.py"), "endpoint", str(port)]
    idle = ways.POOL.format(name="idle", endpoint=endpoint, model="idle", more="")
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        stack.enter_context(ways.process(command, endpoint, folder / "endpoint.log"))
        served = stack.enter_context(ways.gateway(folder, endpoint, "fast", more=idle))
        uvloop.run(soak(served.port, psutil.Process(served.pid), minutes, rate_per_s))


if __name__ == "__main__":
    main()

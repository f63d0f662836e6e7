"""A gateway on a loopback port of this process, for tests, and the fleets that it serves."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx
import uvloop

from polysilicon.gateway.server import serve
from polysilicon.gateway.settings import Settings
from polysilicon.gateway.state import Gateway
from polysilicon.runtime.scope import CHECK
from polysilicon.workload.record import StepRecord

Found = TypeVar("Found")
TOOLS_HERE = '[[pool]]\nname = "here"\noffer = "local"\nserves = ["tool:*", "embed:lexical*"]\n'


class Served:
    """A gateway at work: its address, its state, and a client that raises nothing."""

    def __init__(self, gateway: Gateway, address: str, loop: asyncio.AbstractEventLoop) -> None:
        self.gateway, self.address, self._loop = gateway, address, loop
        self.base_url = f"{address}/v1"
        self.client = httpx.Client(base_url=address, timeout=60)

    def call(self, work: Callable[[], Any]) -> Any:
        """Do something in the gateway's event loop, and return what comes of it."""

        async def done() -> Any:
            result = work()
            return await result if asyncio.iscoroutine(result) else result

        return asyncio.run_coroutine_threadsafe(done(), self._loop).result(60)

    def asked_steps(self) -> list[StepRecord]:
        """Return the steps that ended, without those by which the gateway looks after engines."""
        steps = self.call(lambda: list(self.gateway.journal.steps()))
        return [step for step in steps if step.name != CHECK]

    def chat(self, text: str = "hi", *, model: str = "scripted", **fields: Any) -> httpx.Response:
        """Ask for a chat completion."""
        headers = fields.pop("headers", {})
        body = {"model": model, "messages": [{"role": "user", "content": text}], **fields}
        return self.client.post("/v1/chat/completions", json=body, headers=headers)


def until(told: Callable[[], Found], what: str = "") -> Found:
    """Ask until what is told is true, a minute at most, and return that; `what` it is to be."""
    soon_s = time.monotonic() + 60
    while not (found := told()):
        assert time.monotonic() < soon_s, what
        time.sleep(0.02)
    return found


def endpoint_pool(address: str, name: str = "far", **fields: Any) -> str:
    """Return a pool of a fleet file: an endpoint that serves the model `scripted`."""
    given = {
        "offer": "own/box", "region": "us-east-1", "serves": ["llm:*", "embed:*"],
        "engine": "openai", "endpoint": address, "model": "scripted", "concurrency": 64,
    } | fields  # fmt: skip
    price = given.pop("usd_per_hour", 3.6)
    lines = [f"{key} = {_toml(value)}" for key, value in given.items()]
    return "\n".join(["[[pool]]", f'name = "{name}"', *lines,
                      f"price = {{ usd_per_hour = {price} }}", ""])  # fmt: skip


def _toml(value: Any) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    return f'"{value}"' if isinstance(value, str) else str(value).lower()


@contextmanager
def serving(folder: Path, *pools: str, **options: Any) -> Iterator[Served]:
    """Serve pools of a fleet file, beside this machine's for tools, on a free port.

    Without pools this machine serves its own model.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if pools:
        options["fleet"] = folder / "fleet.toml"
        options["fleet"].write_text("\n".join([TOOLS_HERE, *pools]))
    settings = Settings(folder=folder / "gateway", port=0, **{"drain_s": 5.0} | options)
    loop = uvloop.new_event_loop()
    stop, ready, found = asyncio.Event(), threading.Event(), []

    def started(gateway: Gateway, address: str) -> None:
        found.append(Served(gateway, address, loop))
        ready.set()

    def run() -> None:
        try:
            loop.run_until_complete(serve(settings, started, stop))
        except BaseException as error:  # noqa: BLE001 - raised in the test
            found.append(error)
        finally:
            ready.set()
            loop.run_until_complete(loop.shutdown_default_executor())
            loop.close()

    thread = threading.Thread(target=run)
    thread.start()
    ready.wait()
    if isinstance(found[0], BaseException):
        thread.join()
        raise found[0]
    try:
        yield found[0]
    finally:
        found[0].client.close()
        if not loop.is_closed():
            loop.call_soon_threadsafe(stop.set)
        thread.join()
    if len(found) > 1:
        raise found[1]

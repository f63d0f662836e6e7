"""An engine in a process of its own that answers at once, always the same; it can be killed."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import socket
import time
from pathlib import Path
from typing import Any, Self

from chaos_forks import context
from scripted_endpoint import Endpoint, Reply

MODEL = "scripted"
_POOL = """
[[pool]]
name = "engine"
offer = "elsewhere/engine"
serves = ["llm:*"]
engine = "openai"
endpoint = "{address}"
model = "{model}"
concurrency = 4
price = {{ usd_per_hour = 1.0 }}
"""
_PROSE = "    return None  # I looked into it. You will hear from us, and your order stands."


def pool_of(address: str) -> str:
    """Return the part of a fleet file that has the engine at an address as a pool."""
    return _POOL.format(address=address, model=MODEL)


def answer(asked: Reply) -> Reply:
    """Answer by what was asked: of its schema, drawn with the request as the seed."""
    form = (asked.get("response_format") or {}).get("json_schema")
    rng = random.Random(json.dumps(asked["messages"], sort_keys=True))
    return {"content": json.dumps(_instance(form["schema"], rng)) if form else _PROSE}


def _instance(schema: dict[str, Any], rng: random.Random) -> Any:
    """Return a value of a schema, of the kinds that the bundled agents use."""
    if "enum" in schema:
        return rng.choice(schema["enum"])
    kind = schema["type"]
    if kind == "object":
        return {name: _instance(of, rng) for name, of in schema["properties"].items()}
    if kind == "array":
        return [_instance(schema["items"], rng) for _ in range(max(1, schema.get("minItems", 1)))]
    assert kind == "string", schema
    return f"word {rng.randrange(1000)}"


class Engine:
    """The endpoint at `address`; `answered` tells how many requests it has had in all.

    Args:
        folder: where it counts.
    """

    def __init__(self, folder: Path) -> None:
        self._count = folder / "requests"
        self._count.touch()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self.address = f"http://127.0.0.1:{self._port}/v1"
        self._context = context()
        self._process: Any = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def answered(self) -> int:
        """How many requests came."""
        return self._count.stat().st_size

    def start(self) -> None:
        """Start it, and wait until it listens."""
        self._process = self._context.Process(target=_serve, args=(self._port, str(self._count)))
        self._process.start()
        for _ in range(1200):
            with socket.socket() as asked:
                if asked.connect_ex(("127.0.0.1", self._port)) == 0:
                    return
            assert self._process.is_alive()
            time.sleep(0.05)
        raise AssertionError("the engine does not answer")

    def kill(self) -> None:
        """End it as a crash would."""
        self._process.kill()
        self._process.join()


def _serve(port: int, count: str) -> None:
    file = os.open(count, os.O_WRONLY | os.O_APPEND)

    def counted(asked: Reply) -> Reply:
        os.write(file, b".")
        return answer(asked)

    with Endpoint(counted).served(port):
        parent = multiprocessing.parent_process()
        assert parent is not None
        parent.join()  # whoever started it ended, however that came about

"""Several gateways on one database, each a process that may be killed or paused at any moment.

They are forked from one that has all modules loaded, so that a new one costs little.
"""

from __future__ import annotations

import asyncio
import itertools
import multiprocessing
import os
import random
import signal
import threading
import time
from collections import Counter
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit, urlunsplit

import httpx
import msgspec
import psycopg

from polysilicon import Context
from polysilicon.gateway.server import serve
from polysilicon.gateway.settings import Settings
from polysilicon.workload.record import StepRecord
from postgres_server import Server
from served_gateway import TOOLS_HERE

_NOTES = "GATEWAY_NOTES"
_NAME = "GATEWAY_NAME"
STEPS = 2 + 4
_PATIENCE_S = 300.0  # of machines that have much else to do
_LOADED = [
    "polysilicon.gateway.server", "polysilicon.gateway.shared", "polysilicon.gateway.tasks.shared",
    *(f"polysilicon.agents.{name}" for name in ("coder", "pipeline", "researcher", "support")),
]  # fmt: skip
_numbers = itertools.count()


async def effect(label: str, seconds: float, idempotency_key: str) -> str:
    """Change the world: leave a line that says which gateway did what.

    One whose step is held ends when it no longer is; see `Group.hold`.
    """
    _note(f"{os.environ[_NAME]} {label} {idempotency_key}\n")
    await asyncio.sleep(seconds)
    held = _held(Path(os.environ[_NOTES]).parent, label.partition(":")[2])
    while held.exists():  # noqa: ASYNC110 - another process removes it
        await asyncio.sleep(0.01)
    return label


def _held(folder: Path, step: str) -> Path:
    return folder / f"{step}.held"


def _note(line: str) -> None:
    with Path(os.environ[_NOTES]).open("a") as stream:
        stream.write(line)


async def errands(ctx: Context, value: dict[str, Any]) -> list[str]:
    """Two effects one after the other, then four at once; each is a step."""

    async def change(within: Context, name: str) -> str:
        label = f"{ctx.task_id}:{name}"
        return str(await within.call(effect, label, value["seconds"], name=name))

    async def item(within: Context, number: int) -> str:
        return await change(within, f"map{number}")

    first = [await change(ctx, "first"), await change(ctx, "second")]
    return first + list(await ctx.map(item, range(4)))


AGENT = f"{Path(__file__).resolve()}:errands"


def database(server: Server) -> str:
    """Make a database of its own, and return its address."""
    name = f"gateways_{os.getpid()}_{next(_numbers)}"
    with psycopg.connect(server.address(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return urlunsplit(urlsplit(server.address())._replace(path=f"/{name}"))


def _serve(settings: Settings, notes: str, name: str, told: Connection) -> None:
    """Serve; the whole of a process."""
    log = os.open(settings.folder.parent / "log", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.environ |= {_NOTES: notes, _NAME: name}
    asyncio.run(serve(settings, lambda _gateway, address: told.send(address)))


class Member:
    """A gateway's process."""

    def __init__(self, group: Group, number: int, **options: Any) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(_LOADED)
        self.name = f"g{number}"
        self._told, telling = context.Pipe(duplex=False)
        settings = Settings(
            folder=group.folder / self.name, port=0, fleet=group.folder / "fleet.toml",
            agents=(AGENT,), journal=group.address, lease_s=group.term_s, drain_s=1.0, **options,
        )  # fmt: skip
        given = (settings, str(group.notes), self.name, telling)
        self.process = context.Process(target=_serve, args=given, daemon=True)
        self.process.start()
        telling.close()
        self._client: httpx.Client | None = None
        self._lock = threading.Lock()

    @property
    def client(self) -> httpx.Client:
        """A client of it, once it serves."""
        assert self.serves(_PATIENCE_S), "it does not serve"
        assert self._client is not None
        return self._client

    def serves(self, within_s: float) -> bool:
        """Tell whether it takes requests."""
        with self._lock:
            try:
                if self._client is None and self._told.poll(within_s):
                    self._client = httpx.Client(base_url=self._told.recv(), timeout=60)
            except (OSError, EOFError):  # it was killed before
                return False
            return self._client is not None

    def signal(self, number: int) -> None:
        """Send it a signal."""
        assert self.process.pid is not None
        os.kill(self.process.pid, number)

    def kill(self) -> None:
        """End it as a crash would."""
        self.process.kill()
        self.process.join()
        if self._client is not None:
            self._client.close()
        self._told.close()


class Group:
    """Gateways that share a database, and what must hold of their tasks.

    Args:
        folder: in which they have folders of their own.
        address: of the database.
        term_s: of their leases.
    """

    def __init__(self, folder: Path, address: str, term_s: float) -> None:
        self.folder, self.address, self.term_s = folder, address, term_s
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "fleet.toml").write_text(TOOLS_HERE)
        self.notes = folder / "notes"
        self.notes.touch()
        self.members: list[Member] = []
        self.accepted: dict[str, str] = {}
        self._started = 0
        self._looked: tuple[set[str], int] = set(), 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for member in self.members:
            member.kill()

    def start(self, **options: Any) -> Member:
        """Start one more."""
        self._started += 1
        self.members.append(Member(self, self._started, **options))
        return self.members[-1]

    def submit(self, key: str, seconds: float, members: list[Member] | None = None) -> str:
        """Ask for a task, at one after the other until one has answered; return its id."""
        body = {"agent": "errands", "input": {"seconds": seconds}}
        given: Any = {"json": body, "headers": {"idempotency-key": key}, "timeout": 1}
        soon_s, said = time.monotonic() + 60.0, "no gateway serves"
        for member in itertools.cycle(members or self.members):
            assert time.monotonic() < soon_s, f"nobody takes {key}: {said}"
            try:
                if not member.serves(0.05):
                    continue
                answer = member.client.post("/v1/tasks", **given)
            except (httpx.TransportError, RuntimeError) as error:  # paused, or killed just now
                said = repr(error)
                continue
            if answer.status_code in {200, 202}:
                found = self.accepted.setdefault(key, answer.json()["id"])
                assert found == answer.json()["id"], "one key, two tasks"
                return found
            said = answer.text
            time.sleep(0.05)
        raise AssertionError("there are no gateways")

    def hold(self, step: str) -> Path:
        """Let no step of a name end until the file returned is removed."""
        held = _held(self.folder, step)
        held.touch()
        return held

    def begun(self, step: str) -> list[str]:
        """Return the names of the gateways that began a step, in their order."""
        lines = [line.split() for line in self.notes.read_text().splitlines()]
        return [name for name, label, _ in lines if label.endswith(f":{step}")]

    def journaled(self) -> list[StepRecord]:
        """Return the steps that ended."""
        with psycopg.connect(self.address) as connection:
            rows = connection.execute(
                "SELECT record FROM polysilicon_step WHERE result IS NOT NULL ORDER BY seq"
            ).fetchall()
        return [msgspec.msgpack.decode(record, type=StepRecord) for (record,) in rows]

    def look(self) -> int:
        """Check that nothing which had ended at the last look has been done again.

        Returns:
            How many steps have ended.
        """
        ended, at = self._looked
        lines = self.notes.read_text().splitlines()
        again = [line for line in lines[at:] if line.split()[1] in ended]
        assert not again, f"done again, though they had ended: {again}"
        now = {f"{step.task_id}:{step.name}" for step in self.journaled()}
        assert ended <= now, "steps that ended are gone"
        self._looked = now, len(self.notes.read_text().splitlines())
        return len(now)

    def finished(self, within_s: float) -> int:
        """Wait until all tasks that were accepted have ended, and check them.

        Returns:
            How many steps have ended.
        """
        soon_s = time.monotonic() + within_s
        open_ids = set(self.accepted.values())
        while open_ids:
            self.look()
            with psycopg.connect(self.address) as connection:
                rows = connection.execute(
                    "SELECT task_id, status FROM polysilicon_asked WHERE ended IS NOT NULL"
                ).fetchall()
            ended = dict(rows)
            open_ids -= ended.keys()
            log = (self.folder / "log").read_text()
            assert time.monotonic() < soon_s, f"{len(open_ids)} did not end: {log[-3000:]}"
            time.sleep(0.05)
        wrong = Counter(ended[task_id] for task_id in self.accepted.values())
        assert wrong.keys() <= {"completed"}, wrong
        steps = Counter(step.task_id for step in self.journaled())
        assert all(steps[task_id] == STEPS for task_id in self.accepted.values()), steps
        keys: dict[str, str] = {}
        for line in self.notes.read_text().splitlines():
            _, label, key = line.split()
            assert keys.setdefault(label, key) == key, "one step, two keys"
        return steps.total()


def mishap(group: Group, rng: random.Random, kind: str) -> None:
    """Let something happen to one of the gateways; a killed one is replaced.

    Now and then it comes while one has not yet begun to serve.
    """
    if rng.random() < 0.9:
        for member in group.members:
            serves = member.serves(_PATIENCE_S)
            assert serves, f"{member.name} does not serve: {(group.folder / 'log').read_text()}"
    victim = rng.choice(group.members)
    time.sleep(rng.uniform(0.0, group.term_s))
    if kind == "kill":
        group.members.remove(victim)
        victim.kill()
        group.start()
        return
    victim.signal(signal.SIGSTOP)
    time.sleep(group.term_s * rng.uniform(1.5, 3.0))
    victim.signal(signal.SIGCONT)

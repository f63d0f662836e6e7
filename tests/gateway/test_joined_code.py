"""Sandboxed code on machines that joined: who may have it run, where it goes, and what is lost."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import msgspec
import pytest

from polysilicon.catalog.chips.found import Chip
from polysilicon.catalog.chips.hardware import Hardware
from polysilicon.errors import EngineError, InputError, LostError, PolicyError
from polysilicon.gateway.access import add_key
from polysilicon.gateway.joined.far import FarSandboxes
from polysilicon.gateway.joined.types import JoinRequest
from polysilicon.runtime.cluster.wire import Ended, Failed, encode, message_of
from polysilicon.runtime.context import Context
from polysilicon.runtime.here import Here
from polysilicon.runtime.jobs import Code, Words
from polysilicon.runtime.scope import Scope, TaskState
from polysilicon.runtime.types import CodeResult, Limits
from polysilicon.schedule import INTERACTIVE
from served_gateway import TOOLS_HERE, Served, serving, until

ENDLESS = "n = 0\nwhile True:\n    n += 1"
DEEP = b"\x91" * 100_000 + b"\xc0"
HARDWARE = Hardware(cpu=Chip(kind="cpu", processor="AWS Graviton5"), arch="aarch64",
                    isa_class="arm", cores=2, memory_bytes=2**35)  # fmt: skip


@contextmanager
def machine(folder: Path) -> Iterator[tuple[Served, str]]:
    """Serve a machine's sandboxes, and give its key."""
    folder.mkdir(parents=True)
    (folder / "fleet.toml").write_text(TOOLS_HERE)
    key = add_key(folder / "keys.toml", "gateway", code=True)
    options = {"fleet": folder / "fleet.toml", "keys": folder / "keys.toml", "drain_s": 0.2}
    with serving(folder, **options) as served:
        yield served, key


def join(gateway: Served, far: Served | str, key: str, name: str = "node-7", **more: Any) -> Any:
    endpoint = far if isinstance(far, str) else far.base_url
    told = JoinRequest(id=name * 6, endpoint=endpoint, key=key, sandboxes=("monty",),
                       usd_per_hour=0.0, hardware=HARDWARE)  # fmt: skip
    body = msgspec.to_builtins(msgspec.structs.replace(told, **more))
    return gateway.client.put(f"/v1/pools/{name}", json=body)


def ran(gateway: Served, code: str, limits: Limits | None = None, **task: Any) -> Any:
    """Run code as a step of a task."""

    async def work() -> Any:
        rng = random.Random(1)
        state = TaskState(f"task-{code[:5]}-{time.monotonic()}", "a", 0.0, rng, **task)
        ctx = Context(gateway.gateway.resources, Scope(state), gateway.gateway.folder)
        return await ctx.run_code(code, limits=limits)

    return gateway.call(work)


@contextmanager
def gateway_of(folder: Path, **options: Any) -> Iterator[Served]:
    folder.mkdir()
    (folder / "fleet.toml").write_text(TOOLS_HERE)
    with serving(folder, fleet=folder / "fleet.toml", **options) as served:
        yield served


def test_code_goes_where_it_is_cheapest_and_is_kept_once(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("POLYSILICON_LOCAL_USD_PER_HOUR", "3.6")
    with machine(tmp_path / "far") as (far, key), gateway_of(tmp_path / "here") as gateway:
        assert join(gateway, far, key).status_code == 200
        assert ran(gateway, "6 * 7").value == 42
        limited = ran(gateway, ENDLESS, Limits(time_s=0.3))
        assert (limited.ok, limited.error_kind) == (False, "timeout")
        (shown,) = [p for p in gateway.client.get("/v1/pools").json()["pools"] if p["joined"]]
        assert (shown["sandboxes"], shown["concurrency"], shown["up"]) == (["monty"], 2, True)
        # Another price: by its core-seconds, of which an hour of two cores costs this.
        assert join(gateway, far, key, usd_per_hour=0.72).status_code == 200
        assert ran(gateway, "1 + 1").value == 2
        steps = gateway.asked_steps()
    assert [(s.pool, s.offer, s.outcome) for s in steps] == [("node-7", "own/node-7", "ok")] * 3
    assert steps[0].cost_usd == 0
    assert steps[2].cost_usd == pytest.approx(steps[2].cpu_s * 0.72 / 3600 / 2)
    assert all(step.startup_s > 0 for step in steps)


def test_other_tools_stay_where_the_gateway_is(tmp_path: Path) -> None:
    with machine(tmp_path / "far") as (far, key), gateway_of(tmp_path / "here") as gateway:
        assert join(gateway, far, key).status_code == 200
        (pool,) = gateway.gateway.joined
        assert pool.serves("tool", "code", "cpu", "monty")
        waited_for = TaskState("t", "a", 0.0, random.Random(1), klass=INTERACTIVE)
        assert pool.gates["cpu"].has_room(waited_for, 2)  # its cores
        pool.gates["cpu"].running = 2
        assert not pool.gates["cpu"].has_room(waited_for)
        pool.gates["cpu"].running = 0
        for kind, what, resource, sandbox in (
            ("tool", "note", "cpu", None), ("tool", "code", "cpu", "bubblewrap"),
            ("tool", "fetch", "wait", None), ("embed", "lexical-256", "cpu", None),
        ):  # fmt: skip
            assert not pool.serves(kind, what, resource, sandbox)
        embedded = gateway.client.post(
            "/v1/embeddings", json={"model": "lexical-256", "input": "a cat"}
        )
        assert embedded.headers["x-polysilicon-pool"] == "here"


def test_data_that_may_not_be_there_does_not_go_there(tmp_path: Path) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text('[[residency]]\ndata_class = "personal"\nregions = ["local"]\n')
    with (
        machine(tmp_path / "far") as (far, key),
        gateway_of(tmp_path / "here", policy=policy) as gateway,
    ):
        assert join(gateway, far, key, region="us-east-1").status_code == 200
        assert ran(gateway, "1", data_class="personal").value == 1
        assert ran(gateway, "2").value == 2
        with pytest.raises(PolicyError, match="may not use it|may not be in region"):
            ran(gateway, "3", data_class="personal", only=frozenset(["node-7"]))
        pools = [step.pool for step in gateway.asked_steps()][:2]
    assert pools == ["here", "node-7"]


def endless_at(far: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a machine compute without end whatever it is asked."""
    run = Here._code

    async def endless(here: Here, job: Code, *, front: bool) -> Any:
        if here is far.gateway.machine.here:
            job = Code(job.sandbox, ENDLESS, {}, Limits(time_s=600.0))
        return await run(here, job, front=front)

    monkeypatch.setattr(Here, "_code", endless)


def running(far: Served) -> set[int]:
    """Return the processes of sandboxes that run something now."""
    sandboxes = far.gateway.machine.here.sandboxes.values()
    return set().union(*(getattr(box, "processes", ()) for box in sandboxes))


def test_a_machine_that_goes_leaves_its_steps_to_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes away with code under way, and later says nothing any more."""
    with ExitStack() as stack:
        gateway = stack.enter_context(gateway_of(tmp_path / "here"))
        found: list[Any] = []
        with machine(tmp_path / "far") as (far, key):
            assert join(gateway, far, key).status_code == 200
            endless_at(far, monkeypatch)
            asking = threading.Thread(target=lambda: found.append(ran(gateway, "6 * 7")))
            asking.start()
            until(lambda: running(far))
        asking.join(60)
        assert found[0].value == 42
        (step,) = gateway.asked_steps()
        assert (step.pool, step.outcome) == ("here", "ok")
        # A connection that nobody takes any more: the next one goes elsewhere, too.
        assert ran(gateway, "5").value == 5
        asked = threading.Event()
        silent = stack.enter_context(answering(200, b"", threading.Event(), asked))
        executor = FarSandboxes("node-8", silent, None, 2)

        def lost() -> Any:
            async def work() -> Any:
                asking = asyncio.create_task(executor.run(Code("monty", "1", {}, Limits())))
                while not asked.is_set():  # noqa: ASYNC110 - a thread sets it
                    await asyncio.sleep(0.01)
                executor.lose()
                with pytest.raises(LostError, match="node-8' is lost"):
                    await asking
                await executor.close()

            return work()

        gateway.call(lost)


def test_who_asks_no_more_has_the_code_killed(tmp_path: Path) -> None:
    with machine(tmp_path / "far") as (far, key):

        async def asked() -> None:
            executor = FarSandboxes("node", far.base_url, key, 2)
            job = Code("monty", ENDLESS, {}, Limits(time_s=60.0))
            asking = asyncio.create_task(executor.run(job))
            while not running(far):  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.02)
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
            await executor.close()

        asyncio.run(asyncio.wait_for(asked(), 60))
        until(lambda: not running(far))


def test_only_the_key_that_was_made_for_it_runs_code(tmp_path: Path) -> None:
    body = encode(message_of(0, Code("monty", "1", {}, Limits()), front=False))
    with machine(tmp_path / "far") as (far, key):
        keys = tmp_path / "far" / "keys.toml"
        boss = add_key(keys, "boss", admin=True, join=True)
        far.call(far.gateway.reload)

        def post(data: bytes, key: str) -> Any:
            headers = {"authorization": f"Bearer {key}"}
            return far.client.post("/v1/code", content=data, headers=headers)

        assert post(body, "none").status_code == 401
        assert post(body, boss).json()["error"]["code"] == "code_not_allowed"
        deep = body.replace(b"\x80", b"\x81\xa1x" + DEEP, 1)  # in place of no inputs
        for wrong in (b"", b"\xc1", encode({"code": "1"}), b'{"code": "1"}', deep):
            assert post(wrong, key).status_code == 400
        assert post(body, key).status_code == 200
    with gateway_of(tmp_path / "open") as gateway:  # without keys, too
        refused = gateway.client.post("/v1/code", content=body)
        assert refused.json()["error"]["code"] == "code_not_allowed"


def test_a_machine_that_runs_no_code_does_not_join(tmp_path: Path) -> None:
    with machine(tmp_path / "far") as (far, key), gateway_of(tmp_path / "here") as gateway:
        for changes, code in (
            ({"key": "wrong"}, "endpoint_failed"),
            ({"sandboxes": ("mounty",)}, "endpoint_failed"),
            ({"endpoint": "http://127.0.0.1:1/v1"}, "endpoint_failed"),
            ({"sandboxes": ()}, "pool_refused"),
            ({"serves": ("llm:m",)}, "pool_refused"),
        ):
            given = {"far": far, "key": key} | {k: v for k, v in changes.items() if k == "key"}
            rest = {k: v for k, v in changes.items() if k != "key"}
            refused = join(gateway, given["far"], given["key"], **rest).json()["error"]
            assert refused["code"] == code, changes
        assert gateway.gateway.joined == []


@pytest.mark.parametrize(
    ("status", "body", "text"),
    [
        (200, b"nonsense", "told nonsense"),
        (200, encode(Ended(0, encode(CodeResult(ok=True, cpu_s=-1.0)))), "seconds and bytes"),
        (200, encode(Ended(0, encode(CodeResult(ok=True, cpu_s=float("inf"))))), "seconds"),
        (200, encode(Ended(0, encode([1]))), "told nonsense"),
        (200, encode(Ended(0, b"\x82\xa2ok\xc3\xa5value" + DEEP)), "told nonsense"),
        (200, encode(Failed(0, "EngineError", "gone", flags=("args",))), "gone"),
        (500, b"{}", "HTTP 500"),
    ],
)
def test_what_a_machine_tells_is_looked_at(status: int, body: bytes, text: str) -> None:
    async def asked(address: str) -> None:
        executor = FarSandboxes("node", address, None, 2)
        with pytest.raises(EngineError, match=text):
            await executor.run(Code("monty", "1", {}, Limits()))
        await executor.close()

    with answering(status, body) as address:
        asyncio.run(asked(address))


def test_core_seconds_are_no_more_than_there_were() -> None:
    async def asked(address: str) -> Any:
        executor = FarSandboxes("node", address, None, 2)
        begin_s = time.monotonic()
        try:
            done = await executor.run(Code("monty", "1", {}, Limits()))
            return done.cpu_s, done.result.cpu_s, time.monotonic() - begin_s
        except EngineError as error:
            return error.cpu_s, error.cpu_s, time.monotonic() - begin_s
        finally:
            await executor.close()

    well = Ended(0, encode(CodeResult(ok=True, cpu_s=1e9)))
    for event in (well, Failed(0, "EngineError", "gone", cpu_s=1e9)):
        with answering(200, encode(event)) as address:
            told_s, kept_s, most_s = asyncio.run(asked(address))
        assert 0 < told_s == kept_s <= 2 * most_s


def test_what_cannot_be_sent_is_for_other_pools() -> None:
    async def asked() -> None:
        executor = FarSandboxes("node", "http://127.0.0.1:1/v1", None, 2)
        large = Code("monty", "1", {"x": "y" * (17 * 2**20)}, Limits())
        with pytest.raises(LostError, match="of 16 MiB"):
            await executor.run(large)
        with pytest.raises(InputError, match="no other tools"):
            await executor.run(Words(["a"]))
        with pytest.raises(EngineError) as unreached:
            await executor.run(Code("monty", "1", {}, Limits()))
        assert (unreached.value.down, unreached.value.broke) == (True, False)
        await executor.close()

    asyncio.run(asked())


@contextmanager
def answering(
    status: int,
    body: bytes,
    wait: threading.Event | None = None,
    asked: threading.Event | None = None,
) -> Iterator[str]:
    """Serve one answer to everybody, once `wait` is set; `asked` is set by the first request."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            if asked is not None:
                asked.set()
            if wait is not None:
                wait.wait()
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1"
        finally:
            if wait is not None:
                wait.set()
            server.shutdown()
            thread.join()

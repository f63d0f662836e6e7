"""Machines that join a gateway: who may, what they are held to, and when they get no more steps.

They run on uvloop here as by the command: a server of asyncio (3.11) that closes while a connection
comes in leaves that unclosed, for a test that runs later to stumble over.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import msgspec
import pytest
import uvloop

from polysilicon import catalog
from polysilicon.catalog.chips.found import Chip
from polysilicon.catalog.chips.hardware import Hardware
from polysilicon.catalog.machine import detect
from polysilicon.errors import InputError, PolysiliconError
from polysilicon.gateway.access import add_key
from polysilicon.gateway.errors import ApiError
from polysilicon.gateway.joined import asking, register
from polysilicon.gateway.joined import serving as joining
from polysilicon.gateway.joined.asking import Wanted, ask
from polysilicon.gateway.joined.joiner import (
    Place,
    check_gateway,
    pool_name,
    shown_address,
    stay,
    try_out,
)
from polysilicon.gateway.joined.types import JoinAnswer, JoinRequest
from polysilicon.gateway.settings import Settings
from scripted_endpoint import Endpoint
from served_gateway import Served, endpoint_pool, serving, until

GIB = 2**30
GRAVITON = Hardware(
    cpu=Chip(kind="cpu", chip="Neoverse V3", processor="AWS Graviton5"), arch="aarch64",
    isa_class="arm", cores=8, memory_bytes=31 * GIB,
)  # fmt: skip
OFFER = "aws/m9g.2xlarge"


class Silent(BaseHTTPRequestHandler):
    """A gateway that writes no log."""

    def log_message(self, *_: Any) -> None:
        """Write nothing."""


@contextmanager
def answering(gateway: type[Silent]) -> Iterator[Place]:
    """Have a gateway answer on loopback, and tell where a machine joins it."""
    with HTTPServer(("127.0.0.1", 0), gateway) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            yield Place(gateway=f"http://127.0.0.1:{server.server_port}", pool="n")
        finally:
            server.shutdown()


@pytest.fixture
def far() -> Any:
    with Endpoint(lambda _: {"content": "hello there"}, key="its-key").served() as found:
        yield found


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is taken to be gone for saying nothing while the machine is busy with other tests."""
    monkeypatch.setattr(register, "LEASE_S", 600.0)


def request(far: Endpoint, **changes: Any) -> dict[str, Any]:
    told = JoinRequest(
        id="a" * 32, endpoint=far.address, key="its-key", model="scripted",
        serves=("llm:scripted",), usd_per_hour=3.6, hardware=GRAVITON,
    )  # fmt: skip
    return msgspec.to_builtins(msgspec.structs.replace(told, **changes))


def put(served: Served, name: str, body: dict[str, Any], key: str = "") -> Any:
    headers = {"authorization": f"Bearer {key}"} if key else {}
    return served.client.put(f"/v1/pools/{name}", json=body, headers=headers)


def names(served: Served, **headers: str) -> list[str]:
    told = served.client.get("/v1/pools", headers=headers).json()["pools"]
    return [pool["name"] for pool in told]


def test_a_machine_joins_serves_and_leaves(tmp_path: Path, far: Endpoint) -> None:
    with serving(tmp_path, fleet=tools_only(tmp_path)) as served:
        assert served.chat().status_code == 404
        answer = put(served, "node-7", request(far))
        assert answer.json() == {"pool": "node-7", "lease_s": 15.0,
                                 "usd_per_hour": pytest.approx(3.6), "mismatches": []}  # fmt: skip
        (asked,) = far.requests  # one token, before any step is sent there
        assert asked["max_tokens"] == 1
        chat = served.chat()
        assert (chat.status_code, chat.headers["x-polysilicon-pool"]) == (200, "node-7")
        assert chat.headers["x-polysilicon-offer"] == "own/node-7"
        # Saying it again changes nothing: engine, queue and health are kept.
        pool = served.gateway.machine.pools[-1]
        assert put(served, "node-7", request(far)).status_code == 200
        assert served.gateway.machine.pools[-1] is pool
        assert len(far.requests) == 2
        # Whoever has not the name's id neither takes nor ends it; here anybody is an operator.
        other = request(far, id="b" * 32)
        exists = put(served, "node-7", other)
        assert exists.json()["error"]["code"] == "pool_exists"
        # Its machine may come back by then.
        assert 0 < int(exists.headers["retry-after"]) <= register.LEASE_S
        assert put(served, "here", other).json()["error"]["code"] == "pool_exists"
        gone = served.client.delete("/v1/pools/node-7?id=" + "b" * 32)
        assert gone.json()["error"]["code"] == "pool_not_yours"
        # A fleet file that changes leaves it where it is.
        served.call(served.gateway.reload)
        assert served.chat().status_code == 200
        assert served.client.delete("/v1/pools/node-7?id=" + "a" * 32).status_code == 204
        assert served.chat().status_code == 404
        assert served.client.delete("/v1/pools/node-7").status_code == 404
        # Another price or concurrency is another pool of the same name.
        put(served, "node-7", request(far))
        put(served, "node-7", request(far, usd_per_hour=7.2))
        assert served.gateway.machine.pools[-1].usd_per_s == pytest.approx(0.002)
        assert names(served) == ["here", "node-7"]


def test_keys_and_places_of_endpoints(tmp_path: Path, far: Endpoint) -> None:
    keys = tmp_path / "keys.toml"
    plain, node = add_key(keys, "plain"), add_key(keys, "node", join=True, pools=("node-*",))
    with serving(tmp_path, fleet=tools_only(tmp_path), keys=keys) as served:
        assert put(served, "node-1", request(far)).status_code == 401
        assert put(served, "node-1", request(far), plain).json()["error"]["code"] == (
            "join_not_allowed"
        )
        assert put(served, "mine", request(far), node).json()["error"]["code"] == "pool_not_allowed"
        elsewhere = request(far, endpoint="http://169.254.169.254/v1")
        refused = put(served, "node-1", elsewhere, node).json()["error"]
        assert refused["code"] == "endpoint_elsewhere"
        assert put(served, "node-1", request(far), node).status_code == 200
        by = {"authorization": f"Bearer {node}"}
        assert names(served, **by) == ["node-1"]
        assert served.client.delete("/v1/pools/node-1", headers=by).status_code == 403
        audit = (served.gateway.folder / "audit.jsonl").read_text()
    assert "its-key" not in audit
    assert node not in audit


def test_a_machine_that_cannot_serve_is_refused(tmp_path, far):
    with serving(tmp_path, fleet=tools_only(tmp_path)) as served:
        for changes, code in (
            ({"key": "wrong"}, "endpoint_failed"),
            ({"endpoint": "http://127.0.0.1:1/v1"}, "endpoint_failed"),
            ({"endpoint": "ftp://127.0.0.1/v1"}, "pool_refused"),
            ({"endpoint": far.address.replace("//", "//user:sesame@")}, "pool_refused"),
            ({"offer": "aws/none"}, "pool_refused"),
            ({"usd_per_hour": None}, "pool_refused"),
        ):
            refused = put(served, "node", request(far, **changes)).json()["error"]
            assert refused["code"] == code, changes
        bad = request(far) | {"serves": ["tool:*"]}
        assert put(served, "node", bad).status_code == 400
        assert put(served, "No", request(far)).status_code == 400
        assert put(served, "node%0A", request(far)).status_code == 400
        bad_fields = (("region", "a b"), ("region", "a\n"), ("model", "\x1b[2J"), ("id", "short"),
                      ("key", "k\r\nX-Injected: 1"), ("key", "\u2603"))  # fmt: skip
        for field, value in bad_fields:
            assert put(served, "node", request(far) | {field: value}).status_code == 400
        assert put(served, "node", request(far) | {"model": "m" * 70_000}).status_code == 413
        assert names(served) == ["here"]


def test_a_machine_that_is_not_as_its_offer_is_told_or_refused(tmp_path, far):
    offer = catalog.load().offer(OFFER)
    small = msgspec.structs.replace(GRAVITON, cores=4, memory_bytes=16 * GIB)
    told = {"offer": OFFER, "region": offer.region, "usd_per_hour": None, "hardware": small}
    with serving(tmp_path, fleet=tools_only(tmp_path)) as served:
        strict = put(served, "node", request(far, **told, strict=True))
        assert strict.status_code == 409
        assert "cores: 8 declared, 4 found" in strict.json()["error"]["message"]
        found = put(served, "node", request(far, **told)).json()
        assert [one["what"] for one in found["mismatches"]] == ["cores", "memory"]
        assert found["usd_per_hour"] == pytest.approx(offer.usd_per_hour())
        shown = served.client.get("/v1/pools").json()["pools"][-1]
        assert shown["mismatches"] == found["mismatches"]
        assert (shown["processor"], shown["offer"]) == ("AWS Graviton5", OFFER)


def test_a_machine_that_says_nothing_is_drained(tmp_path, far, monkeypatch):
    go = threading.Event()
    slow = Endpoint(lambda a: {"content": "x"} | ({} if a["max_tokens"] == 1 else {"held": go}),
                    key="its-key")  # fmt: skip
    with slow.served(), serving(tmp_path, fleet=tools_only(tmp_path)) as served:
        put(served, "node", request(slow))
        answers: list[Any] = []
        caller = threading.Thread(target=lambda: answers.append(served.chat(max_tokens=9)))
        caller.start()
        until(lambda: any(asked["max_tokens"] == 9 for asked in slow.requests))
        monkeypatch.setattr(register, "LEASE_S", 0.1)
        put(served, "node", request(slow))  # its last word
        until(lambda: names(served) == ["here"])
        assert served.chat().status_code == 404
        assert not answers
        go.set()
        caller.join()
        assert answers[0].status_code == 200  # what was under way is finished


def test_an_engine_that_is_slow_to_answer_keeps_no_other_waiting(tmp_path, far, monkeypatch):
    monkeypatch.setattr(register, "_ASK_S", 600.0)
    answers = threading.Event()
    slow = Endpoint(lambda _: {"content": "x", "held": answers}, key="its-key")
    with slow.served(), serving(tmp_path, fleet=tools_only(tmp_path)) as served:
        arriving = threading.Thread(target=lambda: put(served, "slow", request(slow)))
        arriving.start()
        until(lambda: slow.requests)
        for _ in range(3):
            assert put(served, "node", request(far)).status_code == 200
        assert names(served) == ["here", "node"]
        answers.set()
        arriving.join()
        assert "slow" in names(served)
        assert len(far.requests) == 1


def test_the_machine_says_that_it_is_there_and_leaves(tmp_path, far):
    told = msgspec.convert(request(far), JoinRequest)
    answers: list[JoinAnswer] = []

    async def stayed(address: str) -> list[str]:
        leaving = asyncio.Event()
        place = Place(gateway=address, pool="node")
        staying = asyncio.create_task(stay(place, told, answers.append, leaving, beat_s=0.02))
        await asyncio.to_thread(until, lambda: answers)
        for _ in range(3):  # it is put off again and again
            ends_s = served.gateway.register.members["node"].until_s
            await asyncio.to_thread(
                until,
                lambda: served.gateway.register.members["node"].until_s > ends_s,  # noqa: B023
            )
        there = await asyncio.to_thread(names, served)
        leaving.set()
        await staying
        return there

    with serving(tmp_path, fleet=tools_only(tmp_path)) as served:
        assert uvloop.run(stayed(served.address)) == ["here", "node"]
        assert names(served) == ["here"]
        assert [one.pool for one in answers] == ["node"]
        with pytest.raises(InputError, match="the gateway refuses: HTTP 409"):
            uvloop.run(stay(Place(gateway=served.address, pool="here"), told, answers.append,
                             asyncio.Event()))  # fmt: skip
    with pytest.raises(PolysiliconError, match="cannot be reached"):
        uvloop.run(stay(Place(gateway=served.address, pool="n"), told, print, asyncio.Event()))


def test_a_gateway_that_starts_again_is_waited_for(far):
    answers: list[JoinAnswer] = []
    asked: list[str] = []
    statuses = [409, 200, 503, 404, 500, 405, 200, 409]  # a lease that is not over, an ingress, …

    class Gateway(Silent):
        def do_PUT(self) -> None:
            asked.append(self.rfile.read(int(self.headers["content-length"])).decode())
            status = statuses[len(asked) - 1]
            last = len(asked) == len(statuses)
            answer = JoinAnswer(pool="n", lease_s=1.0, usd_per_hour=1.0, mismatches=[])
            code = "pool_exists" if last else None
            error = {"error": {"message": "another has\nthe name", "code": code}}
            body = msgspec.json.encode(answer if status == 200 else error)
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            if len(asked) == 1:
                self.send_header("retry-after", "3")
            self.end_headers()
            self.wfile.write(body)

        def do_DELETE(self) -> None:
            asked.append(self.path)
            self.send_response(204)
            self.end_headers()

    told = msgspec.convert(request(far), JoinRequest)
    with answering(Gateway) as place, pytest.raises(InputError, match="409: another has the name"):
        uvloop.run(stay(place, told, answers.append, asyncio.Event(), beat_s=0.02))
    assert len(answers) == 1
    assert set(asked[:8]) == {asked[0]}
    assert asked[8] == "/v1/pools/n?id=" + "a" * 32  # it leaves all the same


def test_a_name_that_another_machine_keeps_is_told_soon(far):
    """Its time is put off while the one that waits for it looks on; a killed one's runs out."""
    held = [3, 15, 3, 2]

    class Gateway(Silent):
        def do_PUT(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(409)
            self.send_header("retry-after", str(held.pop(0)))
            self.send_header("content-length", "0")
            self.end_headers()

    told = msgspec.convert(request(far), JoinRequest)
    with answering(Gateway) as place, pytest.raises(InputError, match="HTTP 409"):
        uvloop.run(try_out(place, told, beat_s=0.02))
    assert held == [3, 2]


def test_a_machine_may_ask_before_it_serves(tmp_path: Path, far: Endpoint) -> None:
    offer = catalog.load().offer(OFFER)
    small = msgspec.structs.replace(GRAVITON, cores=4)
    keys, policy = tmp_path / "keys.toml", tmp_path / "policy.toml"
    policy.write_text('[supply_max]\n"aws/m9g.4xlarge" = 0\n')
    boss, plain = add_key(keys, "boss", admin=True, join=True), add_key(keys, "plain")
    by = {"authorization": f"Bearer {boss}"}
    with serving(tmp_path, fleet=tools_only(tmp_path), keys=keys, policy=policy) as served:

        def asked(name: str = "node?trial=true", key: str = boss, **changes: Any) -> Any:
            return put(served, name, request(far, **changes), key)

        declared = {"offer": OFFER, "region": offer.region, "usd_per_hour": None}
        refused = (
            asked(key="none"), asked(key=plain), asked("here?trial=true"),
            asked(**declared, hardware=small, strict=True), asked(offer="aws/none"),
            asked(offer="aws/m9g.4xlarge", usd_per_hour=None),
        )  # fmt: skip
        told = [(one.status_code, one.json()["error"]["code"]) for one in refused]
        assert told == [
            (401, "invalid_api_key"), (403, "join_not_allowed"), (409, "pool_exists"),
            (409, "pool_mismatch"), (400, "pool_refused"), (409, "pool_refused"),
        ]  # fmt: skip
        assert asked("node?trial=maybe").status_code == 400
        found = asked(**declared, hardware=small, endpoint="http://127.0.0.1/v1")
        assert (found.status_code, len(found.json()["mismatches"])) == (200, 1)
        assert far.requests == []
        assert names(served, **by) == ["here"]
        assert asked("node").status_code == 200
        assert asked().status_code == 200  # the same process
        assert asked(id="b" * 32).json()["error"]["code"] == "pool_exists"


def test_nothing_is_measured_for_a_gateway_that_would_refuse(tmp_path, monkeypatch):
    async def measured(*_: Any) -> None:
        pytest.fail("it is measured")

    monkeypatch.setattr(joining, "_speed", measured)

    def refused(gateway: str, **fields: Any) -> None:
        wanted = Wanted(gateway=gateway, folder=tmp_path / "pool", **fields)
        uvloop.run(joins(wanted, lambda _: None))

    with serving(tmp_path, fleet=tools_only(tmp_path)) as served:
        port = int(served.address.rpartition(":")[2])
        for fields, text in (
            ({"name": "here"}, "the fleet has a pool 'here'"),
            ({"name": "node", "port": port}, "cannot listen: Address already in use"),
            ({"name": "node", "offer": "aws/none"}, "unknown offer"),
            (
                {"name": "node", "offer": "aws/g6.48xlarge", "strict": True},
                "is not as aws/g6.48xlarge is",
            ),
        ):
            with pytest.raises(InputError, match=text):
                refused(served.address, **fields)
    with pytest.raises(PolysiliconError, match="cannot be reached.*start it with"):
        refused("http://127.0.0.1:9", name="node")
    assert not (tmp_path / "pool").exists()


def test_this_machine_joins_with_its_own_engine(tmp_path, local_model, monkeypatch):
    """The whole way: it is described, serves its model with a key, gets a step, and leaves."""

    async def no_speed(*_: Any) -> None:
        return None

    monkeypatch.setattr(joining, "_speed", no_speed)  # or it would be measured for minutes
    events: list[asyncio.Event] = []

    def handed(leaving: asyncio.Event) -> Any:
        events.append(leaving)
        return nullcontext()

    monkeypatch.setattr(joining, "_until_signals", handed)

    def joined(found: joining.Joined) -> None:
        answer = []

        def ask() -> None:
            answer.append(served.chat("hi", model=found.model, max_tokens=2))
            listed.extend(served.client.get("/v1/pools").json()["pools"])
            answers.append((found, answer[0]))
            loop.call_soon_threadsafe(events[0].set)

        loop = asyncio.get_running_loop()
        threading.Thread(target=ask).start()

    answers: list[Any] = []
    listed: list[Any] = []
    with serving(tmp_path, fleet=tools_only(tmp_path)) as served:
        wanted = Wanted(gateway=served.address, name="this-one", folder=tmp_path / "pool",
                        model=str(local_model))  # fmt: skip
        uvloop.run(joins(wanted, joined))
        assert names(served) == ["here"]
    ((found, answer),) = answers
    assert answer.headers["x-polysilicon-pool"] == "this-one"
    assert json.loads(answer.content)["usage"]["completion_tokens"] == 2
    assert (found.hardware.cores, found.pool) == (detect().cores, "this-one")
    assert "monty" in found.sandboxes
    assert listed[-1]["sandboxes"] == list(found.sandboxes)


def test_an_engine_on_loopback_is_passed_on_to_a_gateway_elsewhere(tmp_path, far):
    """As for one that `pool start` started: the machine itself asks for a key."""
    open_engine = Endpoint(lambda _: {"content": "hello there"})
    body = {"model": "scripted", "messages": [{"role": "user", "content": "hi"}]}

    async def asked(wanted: Wanted, address: str) -> Any:
        way = joining._endpoint(wanted, "node", address, asyncio.Event())
        async with way as (endpoint, key, model), httpx.AsyncClient(timeout=60) as client:
            here = endpoint.replace(address, "127.0.0.1")
            assert (await client.post(f"{here}/chat/completions", json=body)).status_code == 401
            headers = {"authorization": f"Bearer {key}"}
            answer = await client.post(f"{here}/chat/completions", json=body, headers=headers)
            return answer.json()["choices"][0]["message"]["content"], model

    async def direct(wanted: Wanted) -> Any:
        async with joining._endpoint(wanted, "node", "127.0.0.1", asyncio.Event()) as found:
            return found

    with open_engine.served():
        wanted = Wanted(gateway="http://192.0.2.1:8000", endpoints=(open_engine.address,),
                        model="scripted", folder=tmp_path / "pool")  # fmt: skip
        assert uvloop.run(asked(wanted, "192.0.2.7")) == ("hello there", "scripted")
        assert uvloop.run(direct(wanted)) == (open_engine.address, None, "scripted")
        copies = msgspec.structs.replace(wanted, endpoints=wanted.endpoints * 2)
        assert uvloop.run(asked(copies, "127.0.0.1")) == ("hello there", "scripted")
        assert [pool.concurrency for pool in joining._fleet(copies, "n").pool[1:]] == [4, 4]


def test_the_trial_names_a_model_as_it_will_be_served():
    wanted = Wanted(gateway="http://192.0.2.1:8000", model=f"https://192.0.2.1/{'a' * 300}/M.gguf")
    assert asking._model(wanted) == "m"
    assert asking._model(msgspec.structs.replace(wanted, model=None)) is None
    elsewhere = msgspec.structs.replace(wanted, endpoints=("http://x/v1",), model="org/Model")
    assert asking._model(elsewhere) == "org/Model"


@pytest.mark.parametrize("serves", [None, "models"])
def test_a_key_runs_code_only_where_code_is_served(tmp_path, far, serves):
    wanted = Wanted(gateway="http://192.0.2.1:8000", endpoints=(far.address,), model="scripted",
                    folder=tmp_path / "pool", serves=serves)  # fmt: skip

    async def status() -> int:
        way = joining._endpoint(wanted, "node", "192.0.2.7", asyncio.Event())
        async with way as (endpoint, key, _), httpx.AsyncClient(timeout=60) as client:
            here = endpoint.replace("192.0.2.7", "127.0.0.1")
            headers = {"authorization": f"Bearer {key}"}
            return (await client.post(f"{here}/code", content=b"", headers=headers)).status_code

    assert uvloop.run(status()) == (403 if serves == "models" else 400)


@pytest.mark.parametrize("sandboxes", [(), ("monty",)])
def test_a_step_of_an_engine_costs_its_seconds_whatever_else_it_tells(far, sandboxes):
    told = msgspec.convert(request(far, sandboxes=sandboxes, concurrency=2), JoinRequest)
    pool = register._opened(register._pool_of("node", told), told)
    assert pool.price(None, 4.0)[0] == pytest.approx(0.002)
    at_cores = 0.002 if not sandboxes else 0.25 * 0.001 / 8  # told core-seconds, of eight cores
    assert pool.price(0.25, 4.0)[0] == pytest.approx(at_cores)


async def joins(wanted: Wanted, joined: Any) -> None:
    """Join as the command does."""
    asked = await ask(wanted, lambda _: None)
    await joining.join(asked, lambda _: None, joined, lambda: 0.5)


def test_a_second_process_leaves_the_key_of_the_first(tmp_path):
    wanted = Wanted(gateway="http://192.0.2.1:8000", endpoints=("http://127.0.0.1:9/v1",),
                    model="m", folder=tmp_path)  # fmt: skip

    async def both() -> None:
        async with joining._endpoint(wanted, "node", "192.0.2.7", asyncio.Event()):
            before = {path: path.read_bytes() for path in tmp_path.rglob("*.toml")}
            assert {path.name for path in before} == {"keys.toml", "fleet.toml"}
            with pytest.raises(InputError, match="another process joined from this folder"):
                async with joining._endpoint(wanted, "node", "192.0.2.7", asyncio.Event()):
                    pytest.fail("it serves")
            assert {path: path.read_bytes() for path in before} == before

    uvloop.run(both())


def test_where_an_endpoint_may_be(tmp_path):
    def code(host: str, endpoint: str, address: str) -> str:
        gateway = SimpleNamespace(settings=Settings(folder=tmp_path, host=host))
        try:
            register.Register(gateway)._check_host(endpoint, address)
        except ApiError as error:
            return str(error.code)
        return ""

    assert code("::", "http://192.0.2.7:8000/v1", "::ffff:192.0.2.7") == ""
    assert code("::", "http://192.0.2.8:8000/v1", "::ffff:192.0.2.7") == "endpoint_elsewhere"
    assert code("127.0.0.1", "http://127.0.0.1:9/v1", "127.0.0.1") == ""
    for own in ("127.0.0.1", "[::1]", "[::ffff:127.0.0.1]"):  # a proxy calls for everybody
        assert code("0.0.0.0", f"http://{own}:9/v1", own.strip("[]")) == "endpoint_elsewhere"
    assert code("127.0.0.1", "http://gateway.internal/v1", "127.0.0.1") == "endpoint_elsewhere"


def test_the_log_has_no_more_of_an_endpoint_than_its_port(tmp_path, far, caplog):
    caplog.set_level("INFO", "polysilicon.gateway")
    with serving(tmp_path, fleet=tools_only(tmp_path)) as served:
        secret = far.address + "/?token=sesame"
        assert put(served, "node", request(far, endpoint=secret)).status_code == 200
    assert f"at {far.address.removesuffix('/v1')}" in caplog.text
    assert "sesame" not in caplog.text


def test_what_a_machine_costs_is_told(monkeypatch):
    l4 = Chip(kind="gpu", chip="NVIDIA L4", processor="NVIDIA L4", family="nvidia")
    gpu = msgspec.structs.replace(GRAVITON, accelerators=(l4,))
    monkeypatch.setattr(asking, "hardware_of", lambda *_, **__: gpu)

    def priced(**fields: Any) -> dict[str, Any]:
        wanted = Wanted(gateway="http://127.0.0.1:8000", **fields)
        return asking.known_of(wanted, detect(), lambda _: None).priced

    with pytest.raises(InputError, match="nothing tells what a machine with NVIDIA L4 costs"):
        priced()
    spot = next(o for o in catalog.load().offers if o.spot_usd_per_hour is not None)
    told = priced(offer=spot.name, region=spot.region, price="spot")
    assert told == {"offer": spot.name, "price": "spot"}
    with pytest.raises(InputError, match="not as aws/g6.48xlarge is: accelerators is 1, 8"):
        priced(offer="aws/g6.48xlarge", strict=True)
    with pytest.raises(InputError, match="no 3y price is known"):
        priced(offer="aws/inf2.48xlarge", region="us-east-1", price="3y")
    monkeypatch.setenv("POLYSILICON_LOCAL_USD_PER_HOUR", "2.5")
    assert priced() == {"usd_per_hour": 2.5}


def test_addresses_and_names() -> None:
    assert check_gateway("http://127.0.0.1:8000/v1") == "http://127.0.0.1:8000"
    for wrong in ("ftp://x", "127.0.0.1:8000", "http://[", "http://x:y"):
        with pytest.raises(InputError, match="address begins with"):
            check_gateway(wrong)
    assert shown_address("0.0.0.0", "http://127.0.0.1:8000") == "127.0.0.1"
    assert shown_address("10.0.0.7", "http://127.0.0.1:8000") == "10.0.0.7"
    with pytest.raises(InputError, match="no address"):
        shown_address("node.example", "http://127.0.0.1:8000")
    assert pool_name("Node 7.example_") == "node-7.example"
    assert pool_name("ß") == "machine"


def tools_only(folder: Path) -> Path:
    """Return a fleet file of which nothing answers."""
    path = folder / "fleet.toml"
    path.write_text('[[pool]]\nname = "here"\noffer = "local"\nserves = ["tool:*"]\n')
    return path


def test_a_pool_of_the_fleet_file_takes_a_name_over(tmp_path: Path, far: Endpoint) -> None:
    own = Endpoint(lambda _: {"content": "of the file"})
    with own.served(), serving(tmp_path, fleet=tools_only(tmp_path)) as served:
        put(served, "node", request(far))
        with (tmp_path / "fleet.toml").open("a") as file:
            file.write(endpoint_pool(own.address, "node"))
        served.call(served.gateway.reload)
        assert served.chat().json()["choices"][0]["message"]["content"] == "of the file"
        # It does not come back when other machines come and go, nor when its word is over.
        assert put(served, "node-8", request(far, id="b" * 32)).status_code == 200
        assert names(served) == ["here", "node", "node-8"]
        listed = served.client.get("/v1/pools").json()["pools"]
        assert [pool["joined"] for pool in listed] == [False, False, True]
        assert served.client.delete("/v1/pools/node-8?id=" + "b" * 32).status_code == 204
        assert put(served, "node", request(far)).json()["error"]["code"] == "pool_exists"
        tools_only(tmp_path)
        served.call(served.gateway.reload)
        assert put(served, "node-8", request(far, id="b" * 32)).status_code == 200
        assert names(served) == ["here", "node-8"]

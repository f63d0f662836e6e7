"""The server: reloading, draining, slow and broken clients, TLS."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import httpx
import pytest

from polysilicon.errors import InputError
from polysilicon.gateway import guard, protocol
from polysilicon.gateway.access import add_key
from polysilicon.runtime.journals import open_journal
from scripted_endpoint import Endpoint
from served_gateway import TOOLS_HERE, Served, endpoint_pool, serving, until


def test_a_fleet_file_that_changes_is_taken_up(tmp_path: Path, caplog) -> None:
    go = threading.Event()
    old, new = (
        Endpoint(lambda _a: {"content": "old", "held": go}),
        Endpoint(lambda _a: {"content": "new"}),
    )
    with old.served(), new.served(), serving(tmp_path, endpoint_pool(old.address)) as served:
        answers = []
        slow = threading.Thread(target=lambda: answers.append(served.chat()))
        slow.start()
        until(lambda: old.requests, "the first call is under way")
        fleet = tmp_path / "fleet.toml"
        fleet.write_text("nonsense")
        until(lambda: "not reloaded" in caplog.text, "a wrong file is told")
        fleet.write_text("\n".join([TOOLS_HERE, endpoint_pool(new.address, "near")]))
        names = lambda: [pool.name for pool in served.gateway.machine.pools]  # noqa: E731
        until(lambda: names() == ["here", "near"], "the new pool is there")
        assert served.chat().json()["choices"][0]["message"]["content"] == "new"
        assert not answers
        go.set()
        slow.join()
        assert answers[0].json()["choices"][0]["message"]["content"] == "old"


def test_a_reload_that_the_policy_refuses_leaves_engines_on_their_cores(tmp_path: Path) -> None:
    fleet, policy = tmp_path / "fleet.toml", tmp_path / "policy.toml"
    policy.write_text('objective = "cost"\n')
    far = Endpoint(lambda _a: {"content": "ok"})
    with far.served():
        one, two = (endpoint_pool(far.address, name, offer="local") for name in ("one", "two"))
        with serving(tmp_path, one, policy=policy) as served:

            def beside() -> dict[str, list[str]]:
                pools = served.gateway.machine.pools
                return {pool.name: [other.name for other in pool.beside] for pool in pools}

            policy.write_text("[supply_max]\nlocal = 2\n")
            fleet.write_text(f"{TOOLS_HERE}\n{one}\n{two}")
            with pytest.raises(InputError):
                served.call(served.gateway.reload)
            assert beside() == {"here": [], "one": []}
            assert served.chat().status_code == 200
            policy.write_text('objective = "cost"\n')
            served.call(served.gateway.reload)
            assert beside() == {"here": [], "one": ["two"], "two": ["one"]}
            assert served.chat().status_code == 200


def test_what_is_under_way_is_finished_first(tmp_path: Path) -> None:
    go, texts = threading.Event(), []
    far = Endpoint(lambda _a: {"content": "one two three four", "held": go})
    with far.served():
        asked = {
            "model": "scripted",
            "messages": [{"role": "user", "content": "x"}],
            "stream": True,
        }
        with serving(tmp_path, endpoint_pool(far.address), drain_s=60.0) as served:

            def let_go() -> None:
                until(lambda: served.gateway.draining, "the gateway ends")
                go.set()

            url = f"{served.base_url}/chat/completions"
            reading = threading.Thread(
                target=lambda: texts.append(httpx.post(url, json=asked, timeout=60).text)
            )
            reading.start()
            until(lambda: far.live, "the stream is under way")
            letting = threading.Thread(target=let_go)
            letting.start()
        letting.join()
        reading.join()
    assert texts[0].endswith("data: [DONE]\n\n")
    with pytest.raises(httpx.ConnectError):
        httpx.get(served.address)


def test_a_stream_that_drains_too_slowly_is_told_so(tmp_path: Path) -> None:
    far = Endpoint(lambda _a: {"content": "never ends", "held": threading.Event()})
    texts = []
    asked = {"model": "scripted", "stream": True, "messages": [{"role": "user", "content": "x"}]}
    with far.served():
        with serving(tmp_path, endpoint_pool(far.address), drain_s=0.5) as served:
            url = f"{served.base_url}/chat/completions"
            reading = threading.Thread(
                target=lambda: texts.append(httpx.post(url, json=asked, timeout=60).text)
            )
            reading.start()
            until(lambda: far.live, "the stream is under way")
            folder = served.gateway.folder
        reading.join()
    last = json.loads(texts[0].rstrip().rpartition("data: ")[2])
    assert last["error"]["code"] == "draining"
    journal = open_journal(folder)
    assert [step.outcome for step in journal.steps()] == ["cancelled"]
    journal.close()


def raw(served: Served, sent: bytes, *, close: bool = False) -> bytes:
    """Send bytes, and return what comes until the other end closes."""
    port = int(served.address.rsplit(":", 1)[1])
    with socket.create_connection(("127.0.0.1", port), timeout=60) as link:
        link.sendall(sent)
        if close:
            return b""
        found = b""
        while piece := link.recv(65536):
            found += piece
        return found


def trickled(served: Served, head: bytes) -> bytes:
    """Send a head, then a byte of its body every tenth of a second, and return the answer."""
    with socket.create_connection(("127.0.0.1", served.client.base_url.port), 60) as link:
        link.sendall(head)
        for _ in range(600):
            link.settimeout(0.1)
            try:
                return link.recv(65536)
            except TimeoutError:
                link.sendall(b" ")
    return b""


def test_a_key_that_is_taken_out_is_out_though_the_fleet_file_is_wrong(tmp_path: Path) -> None:
    keys = tmp_path / "keys.toml"
    headers = {"authorization": f"Bearer {add_key(keys, 'a')}"}
    far = Endpoint(lambda _a: {"content": "ok"})
    with far.served(), serving(tmp_path, endpoint_pool(far.address), keys=keys) as served:
        assert served.chat(headers=headers).status_code == 200
        (tmp_path / "fleet.toml").write_text("[[pool")
        keys.write_text("")
        with pytest.raises(InputError):
            served.call(served.gateway.reload)
        assert served.chat(headers=headers).status_code == 401


@contextmanager
def hurried(monkeypatch) -> Iterator[None]:
    """Have whatever is late be so soon; nothing else, as a busy machine makes anything late."""
    with monkeypatch.context() as patch:
        patch.setattr(protocol, "_HEAD_S", 0.3)
        patch.setattr(guard, "_BODY_S", 0.3)
        yield


def test_broken_clients_get_their_errors_and_leave_nothing(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(guard, "MOST_BODY_BYTES", 1000)
    far = Endpoint(lambda _a: {"content": "ok"})
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"
    with far.served(), serving(tmp_path, endpoint_pool(far.address)) as served:
        for sent, status in (
            (b"nonsense\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\nHost: local", 408),
            (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 70_000, 431),
            (head % 50 + b'{"model":', 408),
            (head % 5000 + b"a" * 1001, 413),
            (b"GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n", 421),
        ):
            with hurried(monkeypatch) if status == 408 else nullcontext():
                answer = raw(served, sent)
            first, _, body = answer.partition(b"\r\n\r\n")
            assert first.startswith(b"HTTP/1.1 %d" % status), answer[:200]
            assert set(json.loads(body)["error"]) == {"message", "type", "param", "code"}
        with hurried(monkeypatch):
            answer = trickled(served, head % 50)
        assert answer.startswith(b"HTTP/1.1 408"), answer[:200]
        for _ in range(50):
            raw(served, head % 50 + b"{", close=True)
            raw(served, b"", close=True)
        until(
            lambda: (
                not served.call(
                    lambda: len(served.gateway.machine.pools[1].gates["engine"]._waiting)
                )
            ),
            "",
        )
        assert served.chat().status_code == 200


def test_tls_by_file(tmp_path: Path) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj",
               "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
               "-keyout", str(key), "-out", str(cert)]  # fmt: skip
    try:
        subprocess.run(command, check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("openssl is not there to make a certificate with")
    pool = endpoint_pool("http://127.0.0.1:9/v1")
    with serving(tmp_path, pool, tls_cert=cert, tls_key=key) as served:
        assert served.address.startswith("https://")
        trusted = ssl.create_default_context(cafile=str(cert))
        with httpx.Client(verify=trusted, timeout=60) as client:
            assert client.get(f"{served.address}/healthz").status_code == 200
    for options, text in (
        ({"tls_cert": key, "tls_key": key}, "no certificate"),
        ({"tls_cert": cert}, "go together"),
    ):
        with pytest.raises(InputError, match=text), serving(tmp_path, pool, **options):
            pass

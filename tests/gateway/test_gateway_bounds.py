"""Bodies that hold too much are refused before they are read, and nobody waits for that."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
from pathlib import Path
from typing import Any
from unittest import mock

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polysilicon.gateway import bounds, guard
from polysilicon.gateway.access import add_key
from polysilicon.gateway.errors import ApiError
from scripted_endpoint import Endpoint
from served_gateway import endpoint_pool, serving, until

TEXTS = st.text(st.sampled_from('a"\\{[:,\n'), max_size=8)
VALUES = st.recursive(
    st.none() | st.integers(0, 9) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=20,
)


def _parts(value: Any) -> int:
    """Count objects, arrays and keys by walking through a value."""
    if isinstance(value, dict):
        return 1 + len(value) + sum(_parts(item) for item in value.values())
    return 1 + sum(_parts(item) for item in value) if isinstance(value, list) else 0


@given(VALUES, st.integers(2, 40))
def test_parts_are_counted_whatever_is_in_texts(value: Any, slice_bytes: int) -> None:
    body, parts = json.dumps(value).encode(), _parts(value)
    with mock.patch.object(bounds, "_SLICE_BYTES", slice_bytes):
        for _ in bounds.counted(body, parts, len(body)):
            pass
        if parts:
            with pytest.raises(ApiError, match="objects, arrays and keys"):
                list(bounds.counted(body, parts - 1, len(body)))


def test_numbers_are_counted() -> None:
    body = json.dumps([1] * 1001).encode()
    list(bounds.counted(body, 1, 1000))
    with pytest.raises(ApiError, match="more than 999 values"):
        list(bounds.counted(body, 1, 999))


def test_others_have_their_turns_while_a_body_is_counted() -> None:
    body = json.dumps({"prompt": '[{:,"' * 600_000}).encode()
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    async def main() -> None:
        beside = asyncio.create_task(other())
        await bounds.check(body)
        beside.cancel()

    asyncio.run(main())
    assert turns >= len(body) // (256 * 2**10)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", b'{"model": "scripted", "messages": [%s]}'),
        ("/v1/responses", b'{"model": "scripted", "input": [%s]}'),
        ("/v1/embeddings", b'{"model": "scripted", "input": [%s]}'),
        ("/v1/tasks", b'{"agent": "tool_agent", "input": {"x": [%s]}}'),
        ("/mcp", b'{"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"x": [%s]}}'),
    ],
)
def test_every_way_in_is_bounded(path: str, body: bytes, gateway: Any) -> None:
    headers = {"content-type": "application/json", "accept": "application/json, text/event-stream"}
    refused = gateway.client.post(path, content=body % (b"[]," * 60_000 + b"1"), headers=headers)
    assert refused.status_code == 413
    error = refused.json()["error"]
    assert error["code"] == "request_too_large"
    assert error["type"] == "invalid_request_error"


def test_a_bomb_of_traces_is_refused_by_a_worker(gateway: Any) -> None:
    bomb = gzip.compress(b'{"resourceSpans": [' + b"[]," * 3_000_000 + b"1]}", 1)
    headers = {"content-type": "application/json", "content-encoding": "gzip"}
    refused = gateway.client.post("/v1/traces", content=bomb, headers=headers)
    assert refused.status_code == 413
    assert gateway.chat().status_code == 200


def test_bodies_that_are_large_together_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "MOST_HELD_BYTES", 100_000)
    with serving(tmp_path, endpoint_pool("http://127.0.0.1:9/v1")) as served:

        def answered(status: int) -> httpx.Response | None:
            answer = served.client.post("/v1/chat/completions", content=b" " * 60_000)
            return answer if answer.status_code == status else None

        url = httpx.URL(served.address)
        with socket.create_connection((url.host, url.port)) as half:
            head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
            half.sendall(head + b"Content-Length: 99000\r\n\r\n" + b" " * 60_000)
            refused = until(lambda: answered(503))
            assert refused.json()["error"]["code"] == "overloaded"
            assert refused.headers["retry-after"] == "1"
            assert served.client.get("/v1/models").status_code == 200
        until(lambda: answered(400))  # what has ended counts no more, and these are no JSON


def test_one_key_of_several_holds_no_more_than_its_share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "MOST_HELD_BYTES", 100_000)
    keys, pool = tmp_path / "keys.toml", endpoint_pool("http://127.0.0.1:9/v1")
    a, b = ({"authorization": f"Bearer {add_key(keys, name)}"} for name in "ab")
    with serving(tmp_path, pool, keys=keys) as served:
        for headers, size_bytes, status in ((a, 20_000, 400), (a, 30_000, 429), (b, 20_000, 400)):
            answer = served.client.post(
                "/v1/chat/completions", content=b" " * size_bytes, headers=headers
            )
            assert answer.status_code == status, answer.text


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder: Path = tmp_path_factory.mktemp("gateway")
    told = Endpoint(lambda _: {"content": "yes"})
    with told.served(), serving(folder, endpoint_pool(told.address)) as served:
        yield served

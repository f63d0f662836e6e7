"""The gate before all routes."""

from __future__ import annotations

import json
import socket
from http.client import HTTPResponse
from pathlib import Path

import pytest

from polysilicon.errors import InputError
from polysilicon.gateway.access import add_key
from served_gateway import endpoint_pool, serving

POOL = endpoint_pool("http://127.0.0.1:9/v1")


def test_it_lives_and_is_ready(tmp_path: Path) -> None:
    with serving(tmp_path, POOL) as served:
        assert served.client.get("/healthz").json() == {"status": "ok"}
        assert served.client.get("/readyz").json() == {"status": "ready", "failed": []}
        lost = served.client.get("/nowhere")
        assert lost.status_code == 404
        assert lost.json()["error"]["type"] == "not_found_error"
        assert lost.headers["x-request-id"].startswith("req_")
    log = (tmp_path / "gateway/audit.jsonl").read_text()
    lines = [json.loads(line) for line in log.splitlines()]
    assert [line["status"] for line in lines] == [200, 200, 404]
    assert lines[2]["request"] == lost.headers["x-request-id"]


def test_outside_pages_cannot_drive_it(tmp_path: Path) -> None:
    with serving(tmp_path, POOL) as served:
        for headers, status in (
            ({"host": "evil.example"}, 421),
            ({"host": "evil.example:80"}, 421),
            ({"origin": "https://evil.example"}, 403),
            ({"origin": "null"}, 403),
            ({"sec-fetch-site": "cross-site"}, 403),
            ({"host": "localhost"}, 200),
            ({"host": "[::1]:8000"}, 200),
            ({"origin": served.address}, 200),
        ):
            answer = served.client.get("/readyz", headers=headers)
            assert answer.status_code == status, headers
            assert "access-control-allow-origin" not in answer.headers


def test_trailers_are_no_headers(tmp_path: Path) -> None:
    with serving(tmp_path, endpoint_pool("http://127.0.0.1:1/v1")) as served:
        address = ("127.0.0.1", served.client.base_url.port)
        with socket.create_connection(address, timeout=60) as link:
            link.sendall(b"POST /v1/tasks HTTP/1.1\r\nHost: localhost\r\n"
                         b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n"
                         b"Idempotency-Key: \r\n\r\n")  # fmt: skip
            with HTTPResponse(link) as reply:  # it may come in pieces
                reply.begin()
                answer = reply.read()
    assert b"Object missing required field `agent`" in answer


def test_beyond_loopback_keys_are_needed(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="without keys"), serving(tmp_path, POOL, host="0.0.0.0"):
        pass
    keys = tmp_path / "keys.toml"
    key = add_key(keys, "alice")
    assert key not in keys.read_text()
    with serving(tmp_path, POOL, host="0.0.0.0", keys=keys) as served:
        assert served.client.get("/healthz").status_code == 200
        refused = served.client.get("/nowhere")
        assert refused.status_code == 401
        assert refused.headers["www-authenticate"] == "Bearer"
        wrong = served.client.get("/nowhere", headers={"authorization": "Bearer ps-nope"})
        assert wrong.json()["error"]["code"] == "invalid_api_key"
        right = served.client.get("/nowhere", headers={"authorization": f"Bearer {key}"})
        assert right.status_code == 404
    assert key not in (tmp_path / "gateway/audit.jsonl").read_text()

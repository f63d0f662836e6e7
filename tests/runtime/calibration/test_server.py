"""Another engine on this machine: what it says of itself, and that it is measured as the local."""

from __future__ import annotations

import asyncio
import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from test_engine_bench import EXTENT, Metronome

from polysilicon.errors import InputError
from polysilicon.runtime.calibration import quiet
from polysilicon.runtime.calibration import server as measuring
from polysilicon.runtime.calibration.server import Told, measure_server, told_by

MODELS = {"data": [{"id": "beat", "owned_by": "vllm", "max_model_len": 512}]}


@contextmanager
def answering(answers: dict[str, Any]) -> Iterator[str]:
    """Serve JSON by path on loopback."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = answers.get(self.path)
            self.send_response(404 if found is None else 200)
            self.end_headers()
            self.wfile.write(json.dumps(found).encode())

        def log_message(self, *args: Any) -> None:
            pass

    serving = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=serving.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{serving.server_port}/v1"
    finally:
        serving.shutdown()
        serving.server_close()
        thread.join()


def test_a_server_tells_what_it_is():
    with answering({"/v1/models": MODELS, "/version": {"version": "0.32.0"}}) as endpoint:
        told = told_by(endpoint, None)
        assert told == Told(engine="vllm", version="0.32.0", model="beat", tokens=512)
        with pytest.raises(InputError, match="does not serve 'beet'.*did you mean beat"):
            told_by(endpoint, "beet")
    with answering({"/v1/models": {"data": [{"id": "m", "owned_by": "llamacpp"}]}}) as endpoint:
        told = Told(engine="llamacpp", version="", model="m", tokens=4096)
        assert told_by(endpoint, "m") == told


@pytest.mark.parametrize(
    ("says", "told"),
    [
        ({}, "an engine that does not tell its name is not measured; measure vllm or llamacpp"),
        ({"owned_by": ""}, "does not tell its name"),
        ({"owned_by": "sglang"}, "sglang is not measured; measure vllm or llamacpp"),
        ({"owned_by": "polysilicon"}, "polysilicon is not measured; leave --endpoint out"),
    ],
)
def test_an_engine_that_no_pool_here_could_have_is_refused(says, told):
    models = {"data": [{"id": "m", **says}]}
    with (
        answering({"/v1/models": models}) as endpoint,
        pytest.raises(InputError, match=told),
    ):
        told_by(endpoint, "m")


@pytest.mark.parametrize("models", [None, [], {"data": []}, {"data": "m"}, {"data": [{}]}])
def test_what_is_no_engine_is_refused_in_a_line(models):
    with answering({"/v1/models": models}) as endpoint:
        with pytest.raises(InputError, match="no engine answers: .*pool start vllm-cpu") as refused:
            told_by(endpoint, None)
        assert "\n" not in str(refused.value)
    with pytest.raises(InputError, match="no engine answers"):
        told_by(endpoint, None)
    with pytest.raises(InputError, match="only what shares its cores is measured"):
        told_by("http://10.0.0.9:8000/v1", None)


def test_it_is_measured_with_all_that_it_takes_at_once(monkeypatch):
    engine = Metronome()
    monkeypatch.setattr(measuring, "open_engine", lambda *_, **__: engine)
    told = Told(engine="vllm", version="0.32.0", model="beat", tokens=512)
    said: list[str] = []
    watched = []

    class Calm:
        def __init__(self, cores: int, beside: object) -> None:
            watched.append(beside)

        def elsewhere(self) -> float:
            return 0.04

    monkeypatch.setattr(quiet, "Watch", Calm)
    monkeypatch.setattr(measuring, "listening", {1: frozenset({7})}.get)
    found, elsewhere = asyncio.run(
        measure_server("http://127.0.0.1:1/v1", told, 3, 1, lambda *what: said.append(what), EXTENT)
    )
    assert elsewhere == pytest.approx(0.04)
    assert set(watched) == {frozenset({7})}
    assert (found.engine, found.engine_version, found.precision) == ("vllm", "0.32.0", "bf16")
    assert {point.sequences for point in found.decode} == {1, 2, 3}
    assert found.trial is not None
    assert found.slot_tokens == 512
    assert said[0] == ("vllm", "warming up")


def test_where_its_process_cannot_be_told_that_is_said(monkeypatch):
    monkeypatch.setattr(measuring, "open_engine", lambda *_, **__: Metronome())
    told = Told(engine="vllm", version="0.32.0", model="beat", tokens=512)
    said: list[str] = []
    monkeypatch.setattr(measuring, "listening", lambda port: None)
    _, elsewhere = asyncio.run(
        measure_server("http://127.0.0.1:1/v1", told, 2, 1, lambda *what: said.append(what), EXTENT)
    )
    assert elsewhere == 0.0
    assert said[0] == ("vllm", "its process cannot be told, so other programs are not watched")

"""Chat completions through the gateway: placed, metered, streamed, failed over."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import httpx
import pytest

from polysilicon.workload.run_folder import RunFolder
from scripted_endpoint import Endpoint
from served_gateway import Served, endpoint_pool, serving, until

SECRET = "the-prompt-nobody-may-keep"


def events(text: str) -> list:
    lines = [line[6:] for line in text.splitlines() if line.startswith("data: ")]
    return [json.loads(line) for line in lines if line != "[DONE]"]


def test_an_answer_with_its_place_and_cost(tmp_path: Path) -> None:
    far = Endpoint(lambda _asked: {"content": f"well {SECRET}", "pause_s": 0.1}, key="engine-key")
    with (
        far.served(),
        pytest.MonkeyPatch.context() as patch,
        serving_with_key(patch, tmp_path, far) as served,
    ):
        answer = served.chat(
            SECRET, metadata={"task": "t1", "agent": "clerk", "note": "kept"}, made_up=[1]
        )
        body = answer.json()
        assert body["choices"][0]["message"]["content"] == f"well {SECRET}"
        assert answer.headers["x-polysilicon-task"] == "t1"
        assert answer.headers["x-polysilicon-pool"] == "far"
        assert body["usage"]["completion_tokens"] == 2
        cost = float(answer.headers["x-polysilicon-cost-usd"])
        assert cost == pytest.approx(body["usage"]["cost_usd"], abs=1e-11)
        second = served.chat(
            "again", headers={"x-polysilicon-task": "t1"}, metadata={"agent": "clerk"}
        )
        assert second.status_code == 200
        # What is not for the gateway comes to the engine as it was.
        assert far.requests[0]["metadata"] == {"note": "kept"}
        assert far.requests[0]["made_up"] == [1]
        steps = list(served.call(lambda: list(served.gateway.journal.steps())))
        assert [step.task_id for step in steps] == ["t1", "t1"]
        assert steps[1].parent_ids == (steps[0].step_id,)
        assert steps[0].agent == "clerk"
        assert steps[0].cost_usd == pytest.approx(cost, abs=1e-11)
        assert steps[0].output_tokens == 2
        # A slot of 64 on a machine of $3.6 an hour, for as long as it took.
        assert 0.1 * 1e-3 / 64 < cost <= (steps[0].end_s - steps[0].start_s) * 1e-3 / 64
    for file in (tmp_path / "gateway").rglob("*"):
        assert not file.is_file() or SECRET.encode() not in file.read_bytes(), file
    assert len(RunFolder(tmp_path / "gateway").workload()) == 2


def serving_with_key(patch: pytest.MonkeyPatch, folder: Path, far: Endpoint):
    patch.setenv("FAR_KEY", "engine-key")
    return serving(folder, endpoint_pool(far.address, key_env="FAR_KEY"))


def test_a_stream_comes_as_the_engine_writes_it(tmp_path: Path) -> None:
    go = threading.Event()
    far = Endpoint(lambda _asked: {"content": "one two three", "held": go})
    with far.served(), serving(tmp_path, endpoint_pool(far.address)) as served:
        body = {"model": "scripted", "messages": [{"role": "user", "content": "x"}], "stream": True}
        texts = []
        with served.client.stream("POST", "/v1/chat/completions", json=body) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            assert answer.headers["x-polysilicon-pool"] == "far"
            for line in answer.iter_lines():
                texts.append(line)
                go.set()  # piece by piece, not at its end: the others come once the first is here
        plain = events("\n".join(texts))
        assert (
            "".join(e["choices"][0]["delta"].get("content", "") for e in plain) == "one two three"
        )
        assert all("usage" not in event for event in plain)  # nobody asked for it
        assert texts[-2:] == ["data: [DONE]", ""]
        asked = served.chat(stream=True, stream_options={"include_usage": True})
        last = events(asked.text)[-1]
        assert last["choices"] == []
        assert last["usage"]["prompt_tokens"] == 7
        assert last["usage"]["cost_usd"] > 0
        step = served.call(lambda: list(served.gateway.journal.steps()))[0]
        assert step.output_tokens == 3
        assert step.start_s < step.first_token_s < step.end_s


def test_errors_have_openais_shape(tmp_path: Path, caplog) -> None:
    answers = iter([{"status": 400, "body": {"error": {"message": "too long"}}}, {"status": 500}])
    far = Endpoint(lambda _asked: next(answers))
    with far.served(), serving(tmp_path, endpoint_pool(far.address)) as served:
        post = served.client.post
        cases = [
            (post("/v1/chat/completions", content=b"{"), 400, "no JSON"),
            (post("/v1/chat/completions", content=b"[" * 5000), 400, ""),
            (post("/v1/chat/completions", json={"model": "scripted"}), 400, "messages"),
            (served.chat(temperature="warm"), 400, "temperature"),
            (served.chat(model="scirpted"), 404, "did you mean scripted"),
            (served.chat(headers={"x-polysilicon-deadline": "soon"}), 400, "deadline"),
            (served.chat(headers={"x-polysilicon-region": "eu-*"}), 403, "region"),
            (served.chat("too long"), 400, "too long"),
            (served.chat("breaks"), 502, "engine"),
            (served.client.get("/v1/chat/completions"), 405, ""),
        ]
        for answer, status, text in cases:
            error = answer.json()["error"]
            assert (answer.status_code, set(error)) == (
                status,
                {"message", "type", "param", "code"},
            )
            assert text in error["message"], error
        outcomes = [step.outcome for step in served.asked_steps()]
        assert outcomes == ["error", "error"]  # what came to no pool is no step
        assert "req_" in caplog.text
        assert "the engine answered HTTP 500" in caplog.text
        assert "breaks" not in caplog.text


def test_data_stays_where_its_class_may_be(tmp_path: Path) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text('[[residency]]\ndata_class = "pii"\nregions = ["eu-*"]\n')
    far, near = Endpoint(lambda _a: {"content": "us"}), Endpoint(lambda _a: {"content": "eu"})
    with far.served(), near.served():
        pools = [
            endpoint_pool(far.address),
            endpoint_pool(near.address, "eu", region="eu-west-1", usd_per_hour=360.0),
        ]
        with serving(tmp_path, *pools, policy=policy) as served:
            name = "x-polysilicon-data-class"
            told = {"data_class": "pii"}
            assert served.chat(headers={name: "pii"}).headers["x-polysilicon-pool"] == "eu"
            empty = served.chat(headers={name: b""}, metadata=told)
            assert empty.headers["x-polysilicon-pool"] == "eu"
            for wrong in ("PII", "p.i.i", ["pii"], {"pii": 1}):
                answer = served.chat(metadata={"data_class": wrong})
                assert (answer.status_code, answer.json()["error"]["param"]) == (
                    400,
                    "metadata.data_class",
                )
            assert not far.requests
            assert served.chat(headers={name: "public"}).status_code == 200


def test_another_pool_answers_where_one_fails(tmp_path: Path) -> None:
    bad, good = Endpoint(lambda _a: {"status": 503}), Endpoint(lambda _a: {"content": "ok"})
    with bad.served(), good.served():
        pools = [
            endpoint_pool(bad.address, "bad", usd_per_hour=1),
            endpoint_pool(good.address, "good", usd_per_hour=9, region="eu-west-1"),
            endpoint_pool("http://127.0.0.1:9/v1", "gone", usd_per_hour=1),
        ]
        with serving(tmp_path, *pools) as served:
            answer = served.chat(model="auto")
            assert answer.headers["x-polysilicon-pool"] == "good"
            assert answer.json()["model"] == "scripted"
            assert served.chat(model="auto:cheap").headers["x-polysilicon-pool"] == "good"
            far = served.chat(headers={"x-polysilicon-region": "eu-*"})
            assert far.headers["x-polysilicon-region"] == "eu-west-1"
            told = [e.data for e in served.call(lambda: served.gateway.feed.since(0))]
            assert told[0].pool in {"bad", "gone"}
            assert {
                step.model for step in served.call(lambda: list(served.gateway.journal.steps()))
            } == {"scripted"}


def test_a_stream_that_breaks_off_says_so(tmp_path: Path) -> None:
    far = Endpoint(lambda _asked: {"content": "one two", "cut": True})
    with far.served(), serving(tmp_path, endpoint_pool(far.address)) as served:
        answer = served.chat(stream=True)
        assert answer.status_code == 200
        assert events(answer.text)[-1]["error"]["type"] == "engine_error"
        assert "[DONE]" not in answer.text
        assert [step.outcome for step in served.asked_steps()] == ["error"]


def test_a_caller_that_leaves_frees_the_engine(tmp_path: Path) -> None:
    far = Endpoint(lambda _asked: {"content": "word " * 10_000, "pause_s": 0.02})
    with far.served(), serving(tmp_path, endpoint_pool(far.address)) as served:
        body = {"model": "scripted", "messages": [{"role": "user", "content": "x"}], "stream": True}
        with (
            httpx.Client(base_url=served.address, timeout=60) as client,
            client.stream("POST", "/v1/chat/completions", json=body) as answer,
        ):
            pieces = answer.iter_bytes()
            next(pieces)
            assert far.live == 1
        until(lambda: not far.live)  # the whole answer would take more than three times as long
        step = ended(served)
        assert step.outcome == "cancelled"
        assert step.cost_usd > 0
        until(lambda: served.gateway.access.nobody.spent_usd == step.cost_usd)
        until(lambda: not served.gateway.machine.pools[1].gates["engine"].running)


def ended(served: Served):
    return until(lambda: served.call(lambda: list(served.gateway.journal.steps())))[0]

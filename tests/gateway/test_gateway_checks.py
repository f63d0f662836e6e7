"""An engine loses its health by its own faults only, whatever callers ask of it."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from polysilicon.gateway import calls
from polysilicon.gateway import checks as asking
from polysilicon.runtime.health import FAILURES, Health
from polysilicon.runtime.scope import CHECK, StepCall
from polysilicon.workload.record import StepRecord
from scripted_endpoint import Endpoint, Reply
from served_gateway import Served, endpoint_pool, serving, until

POISON: list[Reply] = [
    {"status": 500},
    {"status": 429},
    {"status": 404},
    {"content": "one two", "cut": True},
    {"content": "late", "held": threading.Event()},
]


def health(served: Served) -> Health:
    pool = next(pool for pool in served.gateway.machine.pools if pool.name == "far")
    return pool.gates["engine"].health


def checks(served: Served) -> list[StepRecord]:
    steps = served.call(lambda: list(served.gateway.journal.steps()))
    return [step for step in steps if step.name == CHECK]


def hurried(**fields: Any) -> StepCall:
    """Return a call that is soon late."""
    return StepCall(**fields | {"timeout_s": 0.3})


@pytest.mark.parametrize("poisoned", POISON, ids=[*["500", "429", "404", "cut", "late"]])
def test_requests_that_make_an_engine_fail_take_it_from_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, poisoned: Reply
) -> None:
    monkeypatch.setattr(asking, "_PAUSE_S", 600.0)  # what fails meanwhile fails together

    def told(asked: Reply) -> Reply:
        return poisoned if asked["messages"][0]["content"] == "poison" else {"content": "ok"}

    far = Endpoint(told)
    with far.served(), serving(tmp_path, endpoint_pool(far.address)) as served:
        with monkeypatch.context() as patch:
            if "held" in poisoned:  # nothing else may be late, however busy the machine is
                patch.setattr(calls, "StepCall", hurried)
            for _ in range(FAILURES + 1):
                answer = served.chat("poison", stream="cut" in poisoned)
                assert answer.status_code >= 500 or "error" in answer.text
        until(lambda: checks(served))
        assert served.call(lambda: health(served).failures) == 0
        assert served.chat().status_code == 200
        (check,) = checks(served)  # one is enough for failures that come together
        assert (check.outcome, check.agent, check.pool) == ("ok", "gateway", "far")
        assert check.cost_usd is not None
        assert check.cost_usd > 0


def test_an_engine_that_fails_whatever_it_is_asked_is_drained(tmp_path: Path) -> None:
    far = Endpoint(lambda _: {"status": 500})
    with far.served(), serving(tmp_path, endpoint_pool(far.address)) as served:
        assert served.chat().status_code == 502
        until(lambda: served.call(lambda: health(served).drained))
        assert [step.outcome for step in checks(served)] == ["error"] * FAILURES
        far.reply = lambda _: {"content": "up again"}
        served.call(lambda: health(served).succeeded())  # as a probe would
        assert served.chat().status_code == 200


def test_nobody_at_the_address_needs_no_second_opinion(tmp_path: Path) -> None:
    with serving(tmp_path, endpoint_pool("http://127.0.0.1:9/v1")) as served:
        for _ in range(FAILURES):
            assert served.chat().status_code == 502
        assert served.call(lambda: health(served).drained)
        assert not checks(served)


def test_doubts_are_about_engines_of_a_fleet_that_was_read_anew(tmp_path: Path) -> None:
    far = Endpoint(lambda _: {"status": 500})
    with far.served(), serving(tmp_path, endpoint_pool("http://127.0.0.1:9/v1")) as served:
        fleet = tmp_path / "fleet.toml"
        fleet.write_text(fleet.read_text().replace("http://127.0.0.1:9/v1", far.address))
        served.call(served.gateway.reload)
        assert served.chat().status_code == 502
        until(lambda: checks(served))


def test_a_check_that_is_refused_is_not_repeated(tmp_path: Path) -> None:
    def told(asked: Reply) -> Reply:
        return {"status": 500 if asked["messages"][0]["content"] == "poison" else 400}

    far = Endpoint(told)
    with far.served(), serving(tmp_path, endpoint_pool(far.address)) as served:
        for _ in range(FAILURES):
            assert served.chat("poison").status_code == 502
            until(lambda: checks(served))
        assert len(checks(served)) == 1
        assert served.call(lambda: health(served).failures) == 0


def test_a_call_that_is_refused_here_tells_nothing_of_an_engine(tmp_path: Path) -> None:
    far = Endpoint(lambda _: {"content": "ok"})
    with far.served(), serving(tmp_path, endpoint_pool(far.address, tools=False)) as served:

        def fail() -> None:
            for _ in range(FAILURES):
                health(served).failed(time.monotonic() - 60)

        served.call(fail)
        assert served.chat(n=2).status_code == 400  # as its probe
        assert served.call(lambda: health(served).drained)
        assert not far.requests
        assert served.chat().status_code == 200
        assert served.call(lambda: health(served).failures) == 0

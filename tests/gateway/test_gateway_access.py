"""Keys: budgets, rates, pools; and what Prometheus sees of it."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from polysilicon.errors import InputError
from polysilicon.gateway.access import Access, Caller, Key, add_key, read_keys
from polysilicon.gateway.errors import ApiError
from scripted_endpoint import Endpoint
from served_gateway import endpoint_pool, serving

GRAFANA = Path(__file__).parents[2] / "docs" / "grafana.json"
UNSEEN = {"polysilicon_first_token_seconds_bucket"}  # streams have it; none was asked for


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_a_rate_lets_so_many_in_and_says_when_to_come_again() -> None:
    clock = Clock()
    caller = Caller(Key(name="a", sha256="", requests_per_min=30), clock)
    for _ in range(30):
        caller.admit()
    with pytest.raises(ApiError, match="30 requests a minute") as refused:
        caller.admit()
    assert (refused.value.status, refused.value.headers["retry-after"]) == (429, "2")
    clock.now_s += 2
    caller.admit()
    with pytest.raises(ApiError):
        caller.admit()
    clock.now_s += 3600  # not more than a minute's worth is saved up
    for _ in range(30):
        caller.admit()
    with pytest.raises(ApiError):
        caller.admit()


def test_files_of_keys_that_cannot_be(tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    add_key(path, "a", budget_usd=1.0, pools=("x-*",))
    add_key(path, "b")
    assert [key.name for key in read_keys(path).key] == ["a", "b"]
    with pytest.raises(InputError, match="there is a key 'a'"):
        add_key(path, "a")
    good = path.read_text()
    for wrong, text in (
        (good.replace('"b"', '"a"'), "two keys"),
        (good.replace("sha256 = ", 'sha256 = "00"\nold = '), "unknown field"),
        (good.replace("1.0", "-1.0"), "limits are numbers"),
        ('[[key]]\nname = "c"\nsha256 = "12"\n', "64 hexadecimal"),
    ):
        path.write_text(wrong)
        with pytest.raises(InputError, match=text):
            Access(path, tmp_path / "spent.json")


def test_budgets_pools_and_metrics(tmp_path: Path) -> None:
    keys = tmp_path / "keys.toml"
    # One second of a slot of this pool is a dollar: the first call spends the budget.
    far = Endpoint(lambda _asked: {"content": "ok", "pause_s": 0.05})
    with far.served():
        pool = endpoint_pool(far.address, "dear", usd_per_hour=3600.0, concurrency=1)
        poor = add_key(keys, "poor", budget_usd=0.01, period="total")
        other = add_key(keys, "other", pools=("cheap-*",))
        boss = add_key(keys, "boss", admin=True)
        by = {name: {"authorization": f"Bearer {key}"}
              for name, key in (("poor", poor), ("other", other), ("boss", boss))}  # fmt: skip
        with serving(tmp_path, pool, keys=keys) as served:
            assert served.chat(headers=by["poor"]).status_code == 200
            spent = served.chat(headers=by["poor"])
            assert spent.status_code == 429
            assert spent.json()["error"]["type"] == "insufficient_quota"
            assert served.chat(headers=by["other"]).json()["error"]["code"] == "pool_not_allowed"
            assert served.client.get("/v1/models", headers=by["other"]).json()["data"] == []
            get = served.client.get
            assert get("/metrics", headers=by["poor"]).status_code == 403
            text = get("/metrics", headers=by["boss"]).text
        lines = dict(line.rsplit(" ", 1) for line in text.splitlines() if line[0] != "#")
        group = '{agent="poor",kind="llm",model="scripted",pool="dear"}'
        assert float(lines[f"polysilicon_steps_total{group}"]) == 1
        cost = float(lines[f"polysilicon_cost_usd_total{group}"])
        assert cost > 0.05
        assert float(lines['polysilicon_key_spent_usd{key="poor"}']) == pytest.approx(cost)
        assert float(lines['polysilicon_requests_total{status="429"}']) == 1
        assert float(lines['polysilicon_pool_slots{pool="dear",resource="engine"}']) == 1
        # What Grafana charts is there.
        charted = set(re.findall(r"(?:polysilicon|process)_\w+", GRAFANA.read_text()))
        assert charted <= {re.split("[{ ]", line)[0] for line in text.splitlines()} | UNSEEN
        # What is spent stays spent over a restart.
        with serving(tmp_path, pool, keys=keys) as served:
            assert served.chat(headers=by["poor"]).status_code == 429
            assert served.chat(headers=by["boss"]).status_code == 200


def test_calls_under_way_hold_what_they_may_cost() -> None:
    caller = Caller(Key(name="a", sha256="", budget_usd=10.0))
    caller.admit()
    caller.spend(4.0)
    caller.running = 1
    caller.admit()
    caller.running = 2
    with pytest.raises(ApiError, match="may cost what its budget has left") as refused:
        caller.admit()
    assert refused.value.headers["retry-after"] == "1"


def test_a_call_that_waited_while_the_budget_was_spent_does_not_run(tmp_path: Path) -> None:
    keys = tmp_path / "keys.toml"
    headers = {"authorization": f"Bearer {add_key(keys, 'poor', budget_usd=0.01)}"}
    far = Endpoint(lambda _asked: {"content": "ok", "pause_s": 0.3})
    with far.served(), ThreadPoolExecutor(8) as threads:
        pool = endpoint_pool(far.address, usd_per_hour=3600.0, concurrency=1)
        with serving(tmp_path, pool, keys=keys) as served:
            calls = [threads.submit(served.chat, headers=headers) for _ in range(8)]
            statuses = sorted(call.result().status_code for call in calls)
    assert statuses == [200] + [429] * 7
    assert len(far.requests) == 1

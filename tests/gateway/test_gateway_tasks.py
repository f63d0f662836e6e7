"""`/v1/tasks`: accepted, followed, cancelled, listed, gone on with after a kill."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from polysilicon import schedule
from polysilicon.gateway.access import add_key
from polysilicon.gateway.errors import ApiError
from polysilicon.gateway.tasks.types import TaskRequest, TaskView
from polysilicon.runtime.journal import JournalError
from polysilicon.runtime.journals.sqlite import SqliteJournal
from polysilicon.runtime.lengths import lengths_path
from polysilicon.runtime.scope import TaskState
from served_gateway import TOOLS_HERE, Served, endpoint_pool, serving, until

AGENTS = Path(__file__).parents[1] / "agent_samples.py"
POOL = endpoint_pool("http://127.0.0.1:9/v1")
COUNT, NEVER, LINGERS, PATHED = (
    f"{AGENTS}:{name}" for name in ("count", "never", "lingers", "PATHED")
)


def submit(served: Served, agent: str, given: Any, **headers: str) -> httpx.Response:
    body = {"agent": agent, "input": given}
    return served.client.post("/v1/tasks", json=body, headers=headers)


def reached(served: Served, task_id: str, *, status: str) -> dict[str, Any]:
    """Wait until a task has a status, and return how it is shown then."""

    def view() -> dict[str, Any]:
        found = served.client.get(f"/v1/tasks/{task_id}").json()
        return found if found["status"] == status else {}

    return until(view, f"{task_id} is {status}")


def events_of(client: httpx.Client, task_id: str, last: str = "") -> list[tuple[str, str, Any]]:
    """Return id, kind and data of the events of a task, up to its end."""
    return list(followed(client, task_id, last))


def followed(client: httpx.Client, task_id: str, last: str = "") -> Iterator[tuple[str, str, Any]]:
    """Yield id, kind and data of each event of a task as it comes, up to its end."""
    headers = {"last-event-id": last} if last else {}
    with client.stream("GET", f"/v1/tasks/{task_id}/events", headers=headers) as stream:
        assert stream.status_code == 200
        told = {"id": "", "event": "", "data": ""}
        for line in stream.iter_lines():
            name, _, value = line.partition(": ")
            if line:
                told[name] = value
            elif told["event"]:
                yield told["id"], told["event"], json.loads(told["data"])
                told = {"id": "", "event": "", "data": ""}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("tasks")
    with serving(folder, POOL, agents=(COUNT, NEVER, LINGERS, PATHED),
                 tasks_at_once=2, tasks_waiting=2) as found:  # fmt: skip
        yield found


def test_a_task_is_accepted_followed_and_fetched(served: Served, tmp_path: Path) -> None:
    answer = submit(served, "count", {"path": str(tmp_path / "notes")})
    assert answer.status_code == 202
    assert answer.headers["location"] == f"/v1/tasks/{answer.json()['id']}"
    task_id = answer.json()["id"]
    events = events_of(served.client, task_id)
    assert events[0][:2] == ("", "task")
    assert events[-1][:2] == ("end", "end")
    steps = [event for event in events if event[1] == "step"]
    assert [data["name"] for _, _, data in steps] == ["note"] * 4
    assert all(data["outcome"] == "ok" and data["task_id"] == task_id for _, _, data in steps)
    view = served.client.get(f"/v1/tasks/{task_id}").json()
    assert view == events[-1][2]
    assert view["status"] == "completed"
    assert view["output"] == {"said": f"{task_id}:end"}
    assert view["steps"] == 4
    # Who looked away goes on after the last event seen, and is told when to stop.
    rest = events_of(served.client, task_id, last=steps[1][0])
    assert rest[1:] == [*steps[2:], events[-1]]
    begun = {data["step_id"] for _, kind, data in events if kind == "begin"}
    assert begun <= {data["step_id"] for _, _, data in steps}
    path = f"/v1/tasks/{task_id}/events"
    assert served.client.get(path, headers={"last-event-id": "end"}).status_code == 204
    assert served.client.get(path, headers={"last-event-id": "-1"}).status_code == 400


def test_an_idempotency_key_names_one_task(served: Served, tmp_path: Path) -> None:
    given = {"path": str(tmp_path / "notes")}
    first = submit(served, "count", given, **{"idempotency-key": "k1"})
    reached(served, first.json()["id"], status="completed")
    again = submit(served, "count", given, **{"idempotency-key": "k1"})
    assert (first.status_code, again.status_code) == (202, 200)
    assert again.json()["id"] == first.json()["id"]
    other = submit(served, "count", {"path": "elsewhere"}, **{"idempotency-key": "k1"})
    assert other.status_code == 422
    assert other.json()["error"]["code"] == "idempotency_mismatch"
    assert len((tmp_path / "notes").read_text().split()) == 4


def test_an_agent_is_asked_whether_it_accepts_an_input(served: Served, tmp_path: Path) -> None:
    before = served.client.get("/v1/tasks").json()
    for agent, given, text in (
        ("pathed", {}, "the input has no 'path'; give {\"path\": FILE}"),
        ("pathed", {"path": 3}, "agent 'pathed' does not accept it: TypeError: "),
        ("support", {"text": "Where is my order?"}, "the ticket has no 'from'; "),
    ):
        refused = submit(served, agent, given)
        error = refused.json()["error"]
        assert (refused.status_code, error["code"]) == (400, "input_refused")
        assert error["message"].startswith(text)
        assert error["param"] == "input"
    assert served.client.get("/v1/tasks").json() == before
    # What the agent makes of an input is kept; the same request still names the same task.
    path, key = tmp_path.resolve() / "notes", {"idempotency-key": "pathed"}
    given = {"path": os.path.relpath(path)}
    first = submit(served, "pathed", given, **key)
    assert first.status_code == 202
    task_id = first.json()["id"]
    assert reached(served, task_id, status="completed")["input"] == {"path": str(path)}
    for same in (given, {"path": str(path)}):
        again = submit(served, "pathed", same, **key)
        assert (again.status_code, again.json()["id"]) == (200, task_id)
    assert submit(served, "pathed", {"path": "elsewhere"}, **key).status_code == 422
    assert len(path.read_text().split()) == 4


VERSIONED = """
from polysilicon import Agent
from polysilicon.errors import InputError

async def run(ctx, value):
    return value

def accept(value):
    {accept}

VERSIONED = Agent(name="versioned", run=run, accept=accept)
"""


def test_a_retry_is_the_same_request_whatever_its_agent_makes_of_it_now(tmp_path: Path) -> None:
    key, given, taken = {"idempotency-key": "k"}, {"n": 1, "text": "a"}, {"text": "a", "n": 1}
    ids = []
    for number, accept in enumerate((
        "return value | {'as': 1}", "return value | {'as': 2}", "raise InputError('not any more')",
    )):  # fmt: skip
        agent = tmp_path / f"agents{number}.py"
        agent.write_text(VERSIONED.format(accept=accept))
        with serving(tmp_path, POOL, agents=(f"{agent}:VERSIONED",)) as s:
            for same in (given, taken, given | {"as": 1}):
                answer = submit(s, "versioned", same, **key)
                assert answer.status_code == (200 if ids else 202)
                ids.append(answer.json()["id"])
            assert reached(s, ids[0], status="completed")["output"] == given | {"as": 1}
            other = submit(s, "versioned", given | {"n": 2}, **key)
            assert other.status_code == (400 if "raise" in accept else 422)
    assert len(set(ids)) == 1


def test_a_retry_is_the_same_request_in_another_folder(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, found = {"idempotency-key": "folders"}, []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        found.append(submit(served, "pathed", {"path": "notes"}, **key))
    assert [answer.status_code for answer in found] == [202, 200]
    view = reached(served, found[1].json()["id"], status="completed")
    assert view["input"] == {"path": str(tmp_path.resolve() / "one" / "notes")}


def test_a_full_queue_refuses_and_cancelling_makes_room(served: Served, tmp_path: Path) -> None:
    ids = []
    for _ in range(2):
        ids.append(submit(served, "never", {}).json()["id"])
        reached(served, ids[-1], status="in_progress")
    ids += [submit(served, "never", {}).json()["id"] for _ in range(2)]
    full = submit(served, "never", {})
    assert full.status_code == 429
    assert int(full.headers["retry-after"]) >= 1
    waiting = served.client.post(f"/v1/tasks/{ids[3]}/cancel").json()
    running = served.client.post(f"/v1/tasks/{ids[0]}/cancel").json()
    for view in (waiting, running):
        assert (view["status"], view["error"]) == ("cancelled", "cancelled")
    assert reached(served, ids[2], status="in_progress")
    for task_id in ids[1:3]:
        served.client.post(f"/v1/tasks/{task_id}/cancel")
    again = served.client.post(f"/v1/tasks/{ids[0]}/cancel").json()
    assert again == running
    done = submit(served, "count", {"path": str(tmp_path / "notes")}).json()["id"]
    reached(served, done, status="completed")
    # The feed tells the dashboard of each change.
    told = [
        (e.data.task_id, e.data.status) for e in served.gateway.feed.since(0) if e.kind == "task"
    ]
    assert [status for task_id, status in told if task_id == ids[0]] == [
        "queued", "in_progress", "cancelled",
    ]  # fmt: skip


def test_no_more_than_may_wait_are_taken_of_those_that_come_at_once(tmp_path: Path) -> None:
    keys = tmp_path / "keys.toml"
    for name in ("a", "b"):
        add_key(keys, name, at_once=3 if name == "b" else None)
    with serving(tmp_path, POOL, agents=(NEVER,), keys=keys,
                 tasks_at_once=1, tasks_waiting=5) as s:  # fmt: skip
        a, b = s.gateway.access.callers
        request = TaskRequest(agent="never", input={})

        async def asked(caller: Any, count: int) -> Counter[str | None]:
            accept = s.gateway.tasks.accept
            works = (accept(request, caller, None) for _ in range(count))
            found = await asyncio.gather(*works, return_exceptions=True)
            return Counter(one.code if isinstance(one, ApiError) else "taken" for one in found)

        assert s.call(lambda: asked(b, 9)) == {"taken": 3, "rate_limit_exceeded": 6}
        until(lambda: (b.running, len(s.gateway.tasks.live)) == (3, 3))
        until(lambda: "in_progress" in [t.entry.status for t in s.gateway.tasks.live.values()])
        assert s.call(lambda: asked(a, 9)) == {"taken": 3, "queue_full": 6}
        assert (a.running, b.running) == (3, 3)
        text = s.client.get("/metrics", headers=as_admin(s, keys)).text
        found = {line for line in text.splitlines() if line.startswith("polysilicon_tasks{")}
        assert found == {
            'polysilicon_tasks{agent="never",status="queued"} 5.0',
            'polysilicon_tasks{agent="never",status="in_progress"} 1.0',
        }


def test_a_cancel_that_cannot_be_kept_is_told_and_no_more_tasks_are_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(*_: Any) -> None:
        raise JournalError("the disk is full")

    with serving(tmp_path, POOL, agents=(NEVER,), tasks_at_once=1) as served:
        ids = [submit(served, "never", {}).json()["id"] for _ in range(2)]
        reached(served, ids[0], status="in_progress")
        with monkeypatch.context() as broken:
            broken.setattr(served.gateway.tasks.register, "ended", full)
            answer = served.client.post(f"/v1/tasks/{ids[1]}/cancel")
            assert answer.status_code == 503
        assert submit(served, "never", {}).status_code == 503
    with serving(tmp_path, POOL, agents=(NEVER,), tasks_at_once=1) as served:
        assert reached(served, ids[1], status="cancelled")["steps"] == 0  # by the journal


def test_a_task_that_is_cancelled_as_it_begins_does_not_run(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register, came, let = served.gateway.tasks.register, {}, {}

    def held(name: str) -> Any:
        work, came[name], let[name] = getattr(register, name), asyncio.Event(), asyncio.Event()

        async def later(*given: Any) -> None:
            came[name].set()
            await let[name].wait()
            await work(*given)

        return later

    for name in ("begun", "ended"):
        monkeypatch.setattr(register, name, held(name))
    task_id = submit(served, "count", {"path": str(tmp_path / "notes")}).json()["id"]
    served.call(came["begun"].wait)
    with ThreadPoolExecutor(1) as pool:
        cancelling = pool.submit(served.client.post, f"/v1/tasks/{task_id}/cancel")
        served.call(came["ended"].wait)
        served.call(let["begun"].set)
        served.call(lambda: asyncio.sleep(0.05))  # it finds that it is to end, but has not yet
        served.call(let["ended"].set)
        view = cancelling.result(60).json()
    assert (view["status"], view["steps"]) == ("cancelled", 0)
    events = [event.data for event in served.gateway.feed.since(0) if event.kind == "task"]
    assert [e.status for e in events if e.task_id == task_id] == ["queued", "cancelled"]
    assert served.call(lambda: dict(served.gateway.tasks.live)) == {}
    record = served.call(lambda: served.gateway.journal.known([task_id]))[task_id]
    assert record.error == "cancelled"


def as_admin(served: Served, keys: Path) -> dict[str, str]:
    """Add a key with `admin`, and return the headers of whoever has it."""
    key = add_key(keys, "root", admin=True)
    served.call(served.gateway.reload)
    return {"authorization": f"Bearer {key}"}


def test_one_key_at_the_same_time_is_one_task(served: Served, tmp_path: Path) -> None:
    given = {"path": str(tmp_path / "notes")}
    with ThreadPoolExecutor(8) as pool:
        answers = list(
            pool.map(
                lambda _: submit(served, "count", given, **{"idempotency-key": "at once"}),
                range(24),
            )
        )
    assert Counter(answer.status_code for answer in answers) == {202: 1, 200: 23}
    (task_id,) = {answer.json()["id"] for answer in answers}
    reached(served, task_id, status="completed")
    assert len((tmp_path / "notes").read_text().split()) == 4


def test_what_is_under_way_is_told(served: Served, tmp_path: Path) -> None:
    given = {"path": str(tmp_path / "notes")}
    task_id = submit(served, "lingers", given).json()["id"]
    found: list[tuple[str, Any, Any]] = []
    for _, kind, data in followed(served.client, task_id):
        found.append((kind, data.get("name"), data.get("status")))
        if kind == "begin":
            served.client.post(f"/v1/tasks/{task_id}/cancel")
    assert [kind for kind, _, _ in found].count("begin") == 1
    assert ("begin", "linger", None) in found
    assert found[-1] == ("end", None, "cancelled")


def test_tasks_are_listed_by_pages_newest_first(served: Served, tmp_path: Path) -> None:
    ids = [submit(served, "count", {"path": str(tmp_path / "n")}).json()["id"] for _ in range(2)]
    for task_id in ids:
        reached(served, task_id, status="completed")
    first = served.client.get("/v1/tasks", params={"limit": 1, "agent": "count"}).json()
    assert [view["id"] for view in first["data"]] == ids[1:]
    assert first["has_more"] is True
    params = {"limit": 1, "after": ids[1], "status": "completed"}
    assert served.client.get("/v1/tasks", params=params).json()["data"][0]["id"] == ids[0]


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        (b"{", 400, None),
        (b"[" * 100_000, 400, None),
        (b'{"agent": "count"}', 400, None),
        (b'{"agent": "count", "input": []}', 400, "input"),
        (b'{"agent": "count", "input": {"n": 36893488147419103232}}', 400, "input"),
        (b'{"agent": "os:system", "input": {}}', 404, "agent"),
        (b'{"agent": "count", "input": {}, "code": "x"}', 400, None),
    ],
)
def test_bad_requests_are_told_what_is_wrong(
    served: Served, body: bytes, status: int, param: str | None
) -> None:
    answer = served.client.post("/v1/tasks", content=body)
    assert answer.status_code == status
    assert answer.json()["error"]["param"] == param
    for query in ("limit=0", "limit=1&limit=2", "status=odd", "after=none", "sort=x"):
        assert served.client.get(f"/v1/tasks?{query}").status_code in {400, 404}


def test_keys_see_their_own_tasks_and_pay_for_them(tmp_path: Path) -> None:
    keys = tmp_path / "keys.toml"
    made = {name: add_key(keys, name, budget_usd=budget, admin=name == "root")
            for name, budget in (("a", 1e-12), ("b", None), ("root", None))}  # fmt: skip
    as_ = {name: {"authorization": f"Bearer {key}"} for name, key in made.items()}
    with serving(tmp_path, POOL, agents=(COUNT,), keys=keys) as s:
        given = {"path": str(tmp_path / "notes")}
        task_id = submit(s, "count", given, **as_["a"]).json()["id"]
        path = f"/v1/tasks/{task_id}"
        assert events_of_key(s, task_id, as_["a"])["status"] == "cancelled"
        view = s.client.get(path, headers=as_["a"]).json()
        assert view["error"] == "cancelled: the budget of key 'a' is spent"
        assert view["cost_usd"] > 0
        assert submit(s, "count", given, **as_["a"]).json()["error"]["code"] == "insufficient_quota"
        caller = next(caller for caller in s.gateway.access.callers if caller.name == "a")

        async def accepted_while_there_was_a_budget() -> TaskView:
            caller.spent_usd = 0.0
            request = TaskRequest(agent="count", input=given)
            view, _ = await s.gateway.tasks.accept(request, caller, None)
            caller.spend(1.0)
            return view

        waited = s.call(accepted_while_there_was_a_budget)
        last = events_of_key(s, waited.id, as_["a"])
        assert (last["status"], last["steps"]) == ("cancelled", 0)
        assert s.client.get(path, headers=as_["b"]).status_code == 404
        assert s.client.post(f"{path}/cancel", headers=as_["b"]).status_code == 404
        assert s.client.get("/v1/tasks", headers=as_["b"]).json()["data"] == []
        assert len(s.client.get("/v1/tasks", headers=as_["root"]).json()["data"]) == 2


def test_a_task_is_one_of_the_calls_at_once_of_its_key(tmp_path: Path) -> None:
    keys = tmp_path / "keys.toml"
    headers = {"authorization": f"Bearer {add_key(keys, 'a', at_once=2)}"}
    other = {"authorization": f"Bearer {add_key(keys, 'b', at_once=1)}"}
    with serving(tmp_path, POOL, agents=(NEVER,), keys=keys, tasks_at_once=1) as s:
        ids = [submit(s, "never", {}, **headers, **{"idempotency-key": k}) for k in ("x", "y")]
        ids = [answer.json()["id"] for answer in ids]  # one under way, one waiting
        for refused in (submit(s, "never", {}, **headers), s.chat(headers=headers)):
            assert refused.status_code == 429
            assert "has 2 calls under way" in refused.json()["error"]["message"]
        again = submit(s, "never", {}, **headers, **{"idempotency-key": "y"})
        assert (again.status_code, again.json()["id"]) == (200, ids[1])
        assert submit(s, "never", {}, **other).status_code == 202
        (tmp_path / "keys.toml").write_text(keys.read_text() + "\n")
        s.call(s.gateway.reload)
        assert submit(s, "never", {}, **headers).status_code == 429
        s.client.post(f"/v1/tasks/{ids[0]}/cancel", headers=headers)
        assert submit(s, "never", {}, **headers).status_code == 202
    with serving(tmp_path, POOL, agents=(NEVER,), keys=keys) as s:  # they went on
        assert submit(s, "never", {}, **headers).status_code == 429
    with serving(tmp_path, POOL, agents=(COUNT,), keys=keys) as s:  # they cannot, and hold nothing
        assert s.chat(headers=headers).status_code != 429
        cancelled = s.client.post(f"/v1/tasks/{ids[1]}/cancel", headers=headers)
        assert cancelled.json()["status"] == "cancelled"
        assert {caller.running for caller in s.gateway.access.callers} == {0}


def test_steps_of_a_task_go_only_to_pools_of_its_key(tmp_path: Path) -> None:
    keys = tmp_path / "keys.toml"
    key = add_key(keys, "a", pools=("far",))
    with serving(tmp_path, POOL, agents=(COUNT,), keys=keys) as served:
        headers = {"authorization": f"Bearer {key}"}
        given = {"path": str(tmp_path / "notes")}
        task_id = submit(served, "count", given, **headers).json()["id"]
        view = events_of_key(served, task_id, headers)
    assert view["status"] == "failed"
    assert "the policy lets no pool take tool:note: here: this call may not use it" in view["error"]
    assert not (tmp_path / "notes").exists()


def events_of_key(served: Served, task_id: str, headers: dict[str, str]) -> dict[str, Any]:
    with httpx.Client(base_url=served.address, headers=headers, timeout=60) as client:
        return dict(events_of(client, task_id)[-1][2])


def test_an_accepted_task_outlives_a_kill_and_repeats_no_step(tmp_path: Path) -> None:
    (tmp_path / "fleet.toml").write_text(TOOLS_HERE)
    notes = tmp_path / "notes"
    with Process(tmp_path) as (gateway, client):
        notes.with_suffix(".pid").write_text(str(gateway.pid))
        body = {"agent": "count", "input": {"path": str(notes), "die_at": 2}}
        headers = {"idempotency-key": "once"}
        task_id = client.post("/v1/tasks", json=body, headers=headers).json()["id"]
        gateway.wait(60)
    assert len(notes.read_text().split()) == 2
    notes.with_suffix(".pid").unlink()
    with Process(tmp_path) as (gateway, client):
        assert client.post("/v1/tasks", json=body, headers=headers).json()["id"] == task_id
        events = events_of(client, task_id)
        assert events[-1][2]["status"] == "completed"
        assert events[-1][2]["steps"] == [kind for _, kind, _ in events].count("step")
        gateway.send_signal(signal.SIGTERM)
        assert gateway.wait(60) == 0
    lines = notes.read_text().split()
    assert lines == [f"{task_id}:{what}" for what in (0, 1, 2, "end")]


def test_what_tasks_took_is_known_to_the_next_gateway(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    levels: list[int] = []
    begun = TaskState.__post_init__

    def noted(state: TaskState) -> None:
        begun(state)
        levels.append(state.level)

    monkeypatch.setattr(TaskState, "__post_init__", noted)
    lengths_path().write_text('{"service_s": {"count": [30.0]}}')
    with serving(tmp_path, POOL, agents=(COUNT,)) as served:
        value = {"path": str(tmp_path / "notes")}
        reached(served, submit(served, "count", value).json()["id"], status="completed")
    kept_s = json.loads(lengths_path().read_text())["service_s"]["count"]
    assert levels[-1] == schedule.doublings(30.0)  # the others are of the gateway itself
    assert kept_s[0] == 30.0
    assert len(kept_s) == 2


def test_whatever_was_answered_is_in_the_journal_after_a_kill(tmp_path: Path) -> None:
    (tmp_path / "fleet.toml").write_text(TOOLS_HERE)
    accepted: list[str] = []

    def ask(line: int) -> None:
        with suppress(httpx.HTTPError):  # the gateway is killed meanwhile
            for n in range(10_000):
                body = {"agent": "count", "input": {"path": str(tmp_path / "notes")}}
                key = {"idempotency-key": f"{line}-{n}"} if n % 2 else {}
                answer = client.post("/v1/tasks", json=body, headers=key)
                assert answer.status_code == 202
                accepted.append(answer.json()["id"])

    with Process(tmp_path) as (gateway, client), ThreadPoolExecutor(8) as pool:
        lines = [pool.submit(ask, line) for line in range(8)]
        until(lambda: len(accepted) > 200)
        gateway.kill()
        for line in lines:
            line.result(60)
    with closing(SqliteJournal(tmp_path / "gateway")) as journal:
        known = journal.known(accepted)
    assert len(set(accepted)) == len(accepted) > 200
    assert known.keys() == set(accepted)


class Process:
    """`polysilicon serve` in a process of its own, and a client."""

    def __init__(self, folder: Path) -> None:
        command = [sys.executable, "-c", "from polysilicon.cli.app import main; main()", "serve",
                   "--port", "0", "--fleet", "fleet.toml", "--folder", "gateway",
                   "--agent", COUNT]  # fmt: skip
        self._process = subprocess.Popen(
            command, cwd=folder, stderr=subprocess.PIPE, text=True, env=os.environ
        )

    def __enter__(self) -> tuple[subprocess.Popen[str], httpx.Client]:
        assert self._process.stderr is not None
        said = ""
        for line in self._process.stderr:
            said += line
            if "/v1 serves" in line:
                self._client = httpx.Client(base_url=line.partition("/v1")[0], timeout=60)
                return self._process, self._client
        raise AssertionError(said)

    def __exit__(self, *_: object) -> None:
        self._client.close()
        self._process.kill()
        self._process.wait()
        assert self._process.stderr is not None
        self._process.stderr.close()

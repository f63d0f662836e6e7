"""Gateways on one database: tasks outlive whoever had them, and no finished step is repeated."""

from __future__ import annotations

import random
import signal
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest

from gateway_group import STEPS, Group, Member, database, mishap
from polysilicon.errors import InputError
from polysilicon.gateway import retention, state
from polysilicon.gateway.access import add_key
from polysilicon.runtime.journals import open_journal
from polysilicon.runtime.machine import Machine, open_machine
from postgres_server import Server, missing
from served_gateway import serving, until

pytestmark = pytest.mark.skipif(missing() is not None, reason=str(missing()))
TERM_S = 0.6
AGENTS = Path(__file__).parents[1] / "agent_samples.py"
COUNT, NEVER = (f"{AGENTS}:{name}" for name in ("count", "never"))


@pytest.fixture
def group(postgres: Server, tmp_path: Path, request: pytest.FixtureRequest) -> Any:
    """No gateways yet; a test that counts on leases being kept gives them a longer term."""
    term_s = getattr(request, "param", TERM_S)
    with Group(tmp_path / "group", database(postgres), term_s) as found:
        yield found


def events_of(member: Member, task_id: str) -> list[str]:
    """Return the names of the steps that a task's events tell, and how they end."""
    found = []
    with member.client.stream("GET", f"/v1/tasks/{task_id}/events", timeout=60) as stream:
        kind = ""
        for line in stream.iter_lines():
            name, _, value = line.partition(": ")
            kind = value if name == "event" else kind
            if name == "data" and kind in {"step", "end"}:
                found.append(kind)
    return found


@pytest.mark.parametrize("group", [2.0], indirect=True)
def test_any_gateway_tells_of_any_task_and_one_that_dies_is_followed(group: Group) -> None:
    one, other = group.start(), group.start()
    held = group.hold("second")
    task_id = group.submit("k1", 0.01, [one])
    assert other.client.get("/healthz").status_code == 200
    seen: list[str] = []
    watching = threading.Thread(target=lambda: seen.extend(events_of(other, task_id)), daemon=True)
    watching.start()
    # The key names the same task everywhere, and its steps are counted from the journal.
    assert group.submit("k1", 0.01, [other]) == task_id
    until(lambda: other.client.get(f"/v1/tasks/{task_id}").json()["steps"] >= 1)
    until(lambda: group.begun("second") == [one.name])
    assert other.client.get("/v1/tasks").json()["data"][0]["status"] == "in_progress"
    group.members.remove(one)
    one.kill()
    held.unlink()
    watching.join(120)
    assert not watching.is_alive()
    assert seen == ["step"] * STEPS + ["end"]
    group.finished(60.0)
    with psycopg.connect(group.address) as connection:
        found = connection.execute("SELECT turn, length(given) FROM polysilicon_asked").fetchall()
    assert found == [(1, 32)]


def test_one_that_was_paused_can_record_nothing_and_goes_on_with_others(group: Group) -> None:
    members = {member.name: member for member in (group.start(), group.start())}
    assert all(member.client.get("/readyz").status_code == 200 for member in members.values())
    held = group.hold("second")
    task_id = group.submit("k1", 0.01)
    until(lambda: group.begun("second"))
    paused = members[group.begun("second")[0]]
    paused.signal(signal.SIGSTOP)
    until(lambda: len(set(group.begun("second"))) == 2)  # the other has taken the task
    held.unlink()
    group.finished(60.0)
    lines = group.notes.read_text().splitlines()
    paused.signal(signal.SIGCONT)
    log = group.folder / "log"
    until(lambda: "the lease was lost" in log.read_text())
    assert paused.client.get(f"/v1/tasks/{task_id}").json()["status"] == "completed"
    assert group.notes.read_text().splitlines() == lines
    group.submit("k2", 0.01, [paused])  # under a lease that is new
    group.finished(60.0)
    assert "Traceback" not in log.read_text()


@pytest.mark.parametrize("group", [8.0], indirect=True)
def test_a_task_is_cancelled_from_elsewhere_and_one_that_ends_hands_on(group: Group) -> None:
    one, other = group.start(), group.start()
    task_id = group.submit("k1", 600.0, [one])
    until(lambda: one.client.get(f"/v1/tasks/{task_id}").json()["status"] == "in_progress")
    told = other.client.post(f"/v1/tasks/{task_id}/cancel", timeout=60).json()
    assert (told["status"], told["error"]) == ("cancelled", "cancelled")
    group.accepted.clear()
    held = group.hold("second")
    group.submit("k2", 0.01, [one])
    until(lambda: group.begun("second") == [one.name])
    one.signal(signal.SIGTERM)
    until(lambda: group.begun("second") == [one.name, other.name])
    held.unlink()
    group.members.remove(one)
    group.finished(60.0)
    one.kill()
    assert "has ended" not in (group.folder / "log").read_text()  # no lease had to run out


def test_a_few_kills_and_pauses_lose_nothing(group: Group) -> None:
    rng = random.Random(7)
    for _ in range(3):
        group.start()
    for number, kind in enumerate(["kill", "pause", "kill"]):
        for n in range(4):
            group.submit(f"{number}-{n}", 0.1)
        mishap(group, rng, kind)
        group.look()
    assert group.finished(120.0) == 3 * 4 * STEPS


def test_the_lease_is_taken_when_all_is_loaded(
    postgres: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long loading takes, and holds up all threads, no lease runs out meanwhile."""
    address = database(postgres)
    loading: list[list[int]] = []

    def tokens() -> list[int]:
        with psycopg.connect(address) as connection:
            rows = connection.execute("SELECT token FROM polysilicon_gateway").fetchall()
        return [token for (token,) in rows]

    async def loaded(*given: Any) -> Machine:
        machine = await open_machine(*given)
        loading.append(tokens())
        return machine

    monkeypatch.setattr(state, "open_machine", loaded)
    with serving(tmp_path / "one", "", journal=address, lease_s=60.0) as served:
        assert loading == [[]]
        assert tokens() == [served.call(lambda: served.gateway.shared.lease.token)]
    assert tokens() == []


def test_a_budget_holds_at_all_gateways(postgres: Server, tmp_path: Path) -> None:
    keys, address = tmp_path / "keys.toml", database(postgres)
    headers = {"authorization": f"Bearer {add_key(keys, 'a', budget_usd=1.0)}"}
    given = {"journal": address, "keys": keys, "lease_s": 4.0}
    with (
        serving(tmp_path / "one", "", **given) as one,
        serving(tmp_path / "two", "", **given) as two,
    ):

        def caller(of: Any) -> Any:
            return next(found for found in of.gateway.access.callers if found.name == "a")

        one.call(lambda: caller(one).spend(0.75))
        until(lambda: two.call(lambda: caller(two).left_usd) == 0.25)
        two.call(lambda: caller(two).spend(0.5))
        until(lambda: one.call(lambda: caller(one).left_usd) == -0.25)
        answer = one.client.post("/v1/tasks", json={"agent": "count", "input": {}}, headers=headers)
        assert answer.json()["error"]["code"] == "agent_not_found"
        answer = one.chat(headers=headers, model="x")
        assert answer.status_code in {404, 429}
    with serving(
        tmp_path / "three", "", **given
    ) as three:  # what is gone has spent it all the same
        assert three.call(lambda: caller(three).left_usd) == -0.25


def test_what_is_old_is_forgotten_for_all_and_its_sums_stay(
    postgres: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "_LOOK_S", 0.05)
    given = {"journal": database(postgres), "lease_s": 60.0, "agents": (COUNT, NEVER)}
    with serving(tmp_path / "one", "", keep_days=0.5 / 86_400, **given) as served:

        def submitted(agent: str) -> str:
            body = {"agent": agent, "input": {"path": str(tmp_path / "notes")}}
            return str(served.client.post("/v1/tasks", json=body).json()["id"])

        open_id, done_id = submitted("never"), submitted("count")
        until(lambda: served.client.get(f"/v1/tasks/{done_id}").status_code == 404)
        until(lambda: not served.call(lambda: list(served.gateway.journal.steps())))
        assert served.client.get(f"/v1/tasks/{open_id}").json()["status"] == "in_progress"
        ids = [submitted("never") for _ in range(2)]
        for asked, expected in (
            ("limit=2", ids[::-1]),
            ("agent=never&limit=1", ids[1:]),
            (f"after={ids[1]}&agent=never", [ids[0], open_id]),
            ("agent=count", []),
            ("status=failed", []),
            (f"after={ids[0]}&status=in_progress", [open_id]),
        ):
            found = served.client.get(f"/v1/tasks?{asked}").json()["data"]
            assert [view["id"] for view in found] == expected, asked
        ledger = served.call(lambda: msgspec.to_builtins(served.gateway.totals.all))
    assert ledger["steps"] == 4
    with serving(tmp_path / "two", "", **given) as served:
        assert served.call(lambda: msgspec.to_builtins(served.gateway.totals.all)) == ledger
        # The first has ended, and handed on what had not.
        until(lambda: open_id in served.call(lambda: dict(served.gateway.tasks.live)))


def refused(why: str, folder: Path, given: dict[str, Any], *, beside: bool = False) -> None:
    with ExitStack() as stack:
        if beside:
            stack.enter_context(serving(folder, "", **given))
        with pytest.raises(InputError, match=why) as caught:
            stack.enter_context(serving(folder, "", **given))
    assert "\n" not in str(caught.value)


def test_what_is_wrong_is_one_line(postgres: Server, tmp_path: Path) -> None:
    address = database(postgres)
    given = {"journal": address, "lease_s": TERM_S}
    refused(r"another gateway serves this folder.*--folder", tmp_path / "one", given, beside=True)
    with serving(tmp_path / "own", ""):
        pass
    own = "has a journal of its own; give another --folder"
    refused(own, tmp_path / "own", given)
    (tmp_path / "run").mkdir()
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute("INSERT INTO polysilicon_version VALUES (99)")
    newer = "tables are of version 99, this Polysilicon knows 2"
    refused(newer, tmp_path / "two", given)
    with pytest.raises(InputError, match=newer):
        open_journal(tmp_path / "run", address)
    away = {"journal": "postgresql://u@127.0.0.1:1/db"}
    refused("cannot open the journal", tmp_path / "two", away)

from __future__ import annotations

import asyncio
import sys
import threading
import time
from pathlib import Path

import pytest

from polysilicon.errors import InputError
from polysilicon.runtime.journal import JournalError, PendingTask
from polysilicon.runtime.journals import JOURNAL_ENV, open_journal
from polysilicon.workload.record import StepRecord
from postgres_server import PASSWORD, Server, missing

pytestmark = pytest.mark.skipif(missing() is not None, reason=str(missing()))


def a_step(step: str) -> StepRecord:
    return StepRecord(task_id="t", step_id=step, name="x", kind="tool", outcome="ok")


@pytest.fixture
def address(postgres: Server) -> str:
    return postgres.address()


def test_the_address_is_kept_without_its_password(
    postgres: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(JOURNAL_ENV, postgres.address())
    journal = open_journal(tmp_path)
    journal.accept([PendingTask(task_id="t", agent="a", input={})])
    journal.close()
    kept = "".join(path.read_text() for path in tmp_path.rglob("*") if path.is_file())
    assert "postgresql:///postgres?" in kept
    assert "pass" not in kept
    monkeypatch.delenv(JOURNAL_ENV)
    with pytest.raises(InputError, match="password"):
        open_journal(tmp_path)
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    journal = open_journal(tmp_path)  # the folder says where it is
    assert [t.task_id for t in journal.pending()] == ["t"]
    journal.close()


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://u:hunter2@host:port/db",
        "postgresql://u:hunter2@[::1/db",
        "postgres://u:hunter2@/db?pasword=hunter2",
        "mysql://u:hunter2@host/db",
        "postgresql://u:hunter2@/db?host=/nowhere/at/all",
        "postgresql://u@/db?host=/nowhere&password=hunter2",
        "postgresql://u:hunter2@127.0.0.1:1/db",
    ],
)
def test_no_message_holds_a_password(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError) as caught:
        open_journal(tmp_path, text)
    assert "hunter2" not in f"{caught.value!r}{caught.value.__cause__!r}"
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_password(postgres: Server, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="password authentication failed") as caught:
        open_journal(tmp_path, postgres.address("hunter2"))
    assert "hunter2" not in str(caught.value)


def test_a_database_that_does_not_have_the_run(address: str, tmp_path: Path) -> None:
    open_journal(tmp_path, address).close()
    place = tmp_path / "journal.json"
    text = place.read_text()
    run = text.split('"run":"')[1][:16]
    place.write_text(text.replace(run, "0" * 16))
    with pytest.raises(InputError, match="no journal of the run"):
        open_journal(tmp_path, address)
    place.write_text('{"address": 1}')
    with pytest.raises(InputError, match=r"journal\.json: cannot be read"):
        open_journal(tmp_path, address)


def test_one_process_a_run(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = open_journal(tmp_path, address)
    with (
        monkeypatch.context() as patch,
        pytest.raises(InputError, match="under way in another process"),
    ):
        patch.setattr("polysilicon.runtime.journals.postgres._HELD_S", 0.2)
        open_journal(tmp_path, address)
    open_journal(tmp_path, address, follows=True).close()
    journal.close()
    open_journal(tmp_path, address).close()


def test_without_psycopg_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "polysilicon.runtime.journals.postgres", raising=False)
    monkeypatch.delitem(sys.modules, "polysilicon.runtime.journals.address", raising=False)
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(InputError, match=r"pip install 'polysilicon\[postgres\]'"):
        open_journal(tmp_path, "postgresql://u@host/db")


def test_a_server_that_restarts_is_waited_for(tmp_path: Path) -> None:
    with Server() as server:
        journal = open_journal(tmp_path, server.address())
        kept: dict[str, object] = {}
        ended: list[int] = []

        async def task(number: int) -> None:
            for n in range(40):
                await journal.end_step(a_step(f"{number}-{n}"), b"r")
                ended.append(n)
                await asyncio.sleep(0.005)

        async def main() -> None:
            await asyncio.gather(*(task(number) for number in range(8)))
            kept.update(await journal.history("t"))

        # Not the other way round: the server ends with the thread that started it.
        work = threading.Thread(target=asyncio.run, args=(main(),))
        work.start()
        for part in range(1, 4):
            while work.is_alive() and len(ended) < part * 8 * 10:
                time.sleep(0.005)
            server.kill()
            server.start()
        work.join()
        assert len(kept) == 8 * 40
        assert len(journal.ended(0, 10_000)) == 8 * 40
        journal.close()


def test_a_server_that_stays_away_stops_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("polysilicon.runtime.journals.postgres.AWAY_S", 0.2)
    with Server() as server:
        journal = open_journal(tmp_path, server.address())
        server.kill()

        async def main() -> None:
            await asyncio.gather(*(journal.end_step(a_step(f"s{n}"), b"r") for n in range(3)))

        with pytest.raises(JournalError, match="cannot write postgresql:///.*--resume") as caught:
            asyncio.run(main())
        assert PASSWORD not in str(caught.value)
        assert "\n" not in str(caught.value)
        # It is not waited for again.
        monkeypatch.setattr("polysilicon.runtime.journals.postgres.AWAY_S", 600.0)
        closing = threading.Thread(target=journal.close, daemon=True)
        closing.start()
        closing.join(60)
        assert not closing.is_alive()

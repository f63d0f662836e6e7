"""The journal that gateways share: a lease that is lost writes nothing, and a later one is new."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import psycopg
import pytest

from gateway_group import database
from polysilicon.errors import InputError
from polysilicon.runtime.journal import LeaseLostError
from polysilicon.runtime.journals import open_shared, shared_address
from polysilicon.runtime.journals import shared_statements as shared
from polysilicon.runtime.journals import statements as sql
from polysilicon.runtime.journals.lease import Duties, Lease, holding
from polysilicon.runtime.journals.shared import SharedJournal
from polysilicon.workload.record import StepRecord
from postgres_server import Server, missing

pytestmark = pytest.mark.skipif(missing() is not None, reason=str(missing()))


def a_step(step: str) -> StepRecord:
    return StepRecord(task_id="t", step_id=step, name="x", kind="tool", outcome="ok")


def opened(folder: Path, address: str) -> SharedJournal:
    folder.mkdir(exist_ok=True)
    journal = open_shared(folder, address, 60.0)  # none is lost while the machine is busy
    journal.begin()
    return journal


def taken_from(journal: SharedJournal, address: str) -> None:
    """End a lease, as another gateway does whose beat finds it over."""
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute(
            "DELETE FROM polysilicon_gateway WHERE token = %s", (journal.lease.token,)
        )


def test_what_is_written_under_a_lost_lease_is_refused(postgres: Server, tmp_path: Path) -> None:
    address = database(postgres)
    one, other = opened(tmp_path / "one", address), opened(tmp_path / "two", address)
    assert one.run == other.run

    async def main() -> None:
        token = one.lease.token
        with holding(token):
            await one.end_step(a_step("before"), b"r")
        taken_from(one, address)
        with holding(token):
            works = (one.end_step(a_step(f"s{n}"), b"late") for n in range(5))
            found = await asyncio.gather(*works, return_exceptions=True)
            assert {type(error) for error in found} == {LeaseLostError}
        await one.end_step(a_step("call"), b"r")  # of no task: under the lease that is new
        assert one.lease.token > max(token, other.lease.token)
        with holding(token), pytest.raises(LeaseLostError):  # whoever is left from before
            await one.end_step(a_step("s0"), b"late")
        await other.end_step(a_step("s0"), b"first")
        await other.end_step(a_step("s0"), b"again")
        history = await one.history("t")
        assert {step: data for step, (_, data) in history.items()} == {
            "before": b"r", "call": b"r", "s0": b"first",
        }  # fmt: skip

    try:
        asyncio.run(main())
    finally:
        one.close()
        other.close()


def test_a_folder_is_known_again_and_its_lease_ended_at_once(
    postgres: Server, tmp_path: Path
) -> None:
    address = database(postgres)
    first = opened(tmp_path / "one", address)
    token = first.lease.token
    first.lease.give_up()  # as a process that is killed does, and leaves the row
    again = open_shared(tmp_path / "one", address, 60.0)

    def tokens() -> list[int]:
        with psycopg.connect(address) as connection:
            rows = connection.execute("SELECT token FROM polysilicon_gateway").fetchall()
        return [found for (found,) in rows]

    try:
        assert shared_address(tmp_path / "one", None) == again.address
        assert tokens() == []  # others may take its tasks while it loads
        assert not again.lease.healthy
        again.begin()
        assert tokens() == [again.lease.token]
        assert again.lease.healthy
        assert again.lease.token > token
    finally:
        first.close()
        again.close()


def test_a_folder_of_another_journal_is_refused_and_ends_no_lease_there(
    postgres: Server, tmp_path: Path
) -> None:
    here, there = database(postgres), database(postgres)
    opened(tmp_path / "one", here).close()
    token = (tmp_path / "one" / "lease").read_text().split()[1]
    other = opened(tmp_path / "two", there)
    try:
        assert int(token) == other.lease.token  # the first of each database
        with pytest.raises(InputError, match="shares another journal"):
            opened(tmp_path / "one", there)
        (tmp_path / "one" / "journal.json").unlink()
        opened(tmp_path / "one", there).close()
        with psycopg.connect(there) as connection:
            rows = connection.execute("SELECT token FROM polysilicon_gateway").fetchall()
        assert rows == [(other.lease.token,)]
    finally:
        other.close()


def test_a_gateway_may_rest_in_the_middle_of_a_beat(postgres: Server, tmp_path: Path) -> None:
    journal = opened(tmp_path / "one", database(postgres))
    lease, told = journal.lease, [].append
    duties = Duties(agents=(), taken=told, lost=list, cancel=told)
    reads = [(duties, None)]  # the next one finds none
    once = property(lambda _: reads.pop() if reads else None)
    lease.__class__ = type("Resting", (Lease,), {"_duties": once})
    until_s = time.monotonic() + 60.0
    try:
        for _ in range(2):
            beat_s = lease._beat_s
            lease.doubt()
            while lease._beat_s == beat_s or reads:
                assert time.monotonic() < until_s
                time.sleep(0.005)
    finally:
        journal.close()


def test_tables_of_the_version_before_are_added_to(postgres: Server, tmp_path: Path) -> None:
    address = database(postgres)
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute(sql.SCHEMA)
        connection.execute(shared.SCHEMA)
        connection.execute("DROP TABLE polysilicon_version")
        connection.execute("ALTER TABLE polysilicon_asked DROP COLUMN given")
    journal = opened(tmp_path / "one", address)
    journal.close()
    with psycopg.connect(address) as connection:
        assert connection.execute(sql.KNOWN_VERSION).fetchone() == (sql.VERSION,)
        assert connection.execute("SELECT given FROM polysilicon_asked").fetchall() == []

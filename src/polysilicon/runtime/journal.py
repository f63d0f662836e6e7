"""The journal: what a run was asked, and every step that ended. One protocol, several databases.

A step is committed before its result is used, so a run that was killed goes on from there: its
agents run again from their start, and steps that ended before give the journal's result. What each
database keeps over a power cut is said in docs/durability.md.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol

import msgspec

from polysilicon.errors import PolysiliconError
from polysilicon.workload.record import StepRecord, TaskRecord


class PendingTask(msgspec.Struct, frozen=True, kw_only=True):
    """A task that was accepted and has not ended."""

    task_id: str
    agent: str
    input: Any


class Committed(msgspec.Struct, frozen=True, kw_only=True):
    """A step in the order of commits: `seq` grows, and has gaps."""

    seq: int
    record: StepRecord


class JournalError(PolysiliconError):
    """The journal cannot be written: the run stops, so that no unjournaled result is used."""

    @classmethod
    def stopped(cls, where: str, why: object, folder: Path) -> JournalError:
        """Return the one line of a run that stops because `where` cannot be written."""
        reason = " ".join(str(why).split()).rstrip(".")
        return cls(
            f"cannot write {where}: {reason}; nothing that ended is lost: "
            f"free what is short and go on with `polysilicon run --resume {folder}`"
        )


class LeaseLostError(PolysiliconError):
    """Another gateway has the task: nothing more of it may be written here.

    No `JournalError`, for all else can be written.
    """

    def __init__(self) -> None:
        super().__init__("the lease was lost: another gateway has the task, and goes on with it")


class Journal(Protocol):
    """The journal of one run; used from one thread, the coroutines from one event loop.

    Coroutines return when what they write is committed; those that wait at once share a commit.
    All but `close` raise `JournalError` where the database cannot be written, and `InputError`
    where it is damaged.

    Attributes:
        run: names the run among all runs, also those of other machines.
    """

    run: str

    def accept(self, tasks: Iterable[PendingTask]) -> int:
        """Take tasks, all or none, and return how many; known ones stay as they are."""
        ...

    def pending(self) -> list[PendingTask]:
        """Return the tasks that have not ended, in the order of their ids."""
        ...

    def known(self, task_ids: Collection[str]) -> dict[str, TaskRecord | None]:
        """Return those of some tasks that were accepted: id → how it ended, None if it has not."""
        ...

    async def history(self, task_id: str) -> dict[str, tuple[StepRecord, bytes]]:
        """Return the steps of a task that ended: step id → record and encoded result.

        A step whose result is gone is left out, and so must run again.
        """
        ...

    async def begin_step(self, record: StepRecord) -> None:
        """Mark that a step is about to have effects outside; what ended already stays as it is."""
        ...

    async def end_step(self, record: StepRecord, result: bytes) -> None:
        """Keep a step that ended, with its encoded result."""
        ...

    async def end_task(self, record: TaskRecord) -> None:
        """Keep how a task ended; one that has ended before stays as it is."""
        ...

    def steps(self) -> Iterator[StepRecord]:
        """Yield the records of steps that ended, and of those that began and never ended.

        In the order of commits, so that the parents of a step come before it.
        """
        ...

    def tasks(self) -> Iterator[TaskRecord]:
        """Yield the records of all tasks that ended, in the order of their ids."""
        ...

    def ended(self, after: int, limit: int, task_id: str | None = None) -> list[Committed]:
        """Return up to `limit` steps that ended and were committed after number `after`.

        They are those of all tasks, or of `task_id`.
        """
        ...

    async def ended_of(self, task_id: str, after: int, limit: int) -> list[Committed]:
        """Return what `ended` does of one task, without holding the event loop for a server."""
        ...

    def forget(self, through: int, keep: Collection[str], tasks: Collection[str]) -> None:
        """Drop steps that ended, up to number `through`, and tasks that ended, with their results.

        Doing it again changes nothing. It may be called from any thread, as it may have to wait.

        Args:
            through: of the last step to go.
            keep: tasks whose steps stay.
            tasks: that go; of these, those that have ended.
        """
        ...

    def compact(self) -> None:
        """Drop what only resumption needs, the results; of use where all tasks have ended."""
        ...

    def close(self) -> None:
        """Close the database."""
        ...


def last_end_s(journal: Journal) -> float:
    """Return the latest moment that a journal knows of, seconds since the run began."""
    ends = [record.end_s or 0.0 for record in journal.steps()]
    ends += [record.end_s for record in journal.tasks()]
    return max(ends, default=0.0)

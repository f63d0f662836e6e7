"""What a report is made from: a run folder, or a workload file by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import msgspec

from polysilicon.errors import InputError
from polysilicon.workload.groups import task_times
from polysilicon.workload.record import RunInfo, TaskRecord
from polysilicon.workload.run_folder import RunFolder, open_workload
from polysilicon.workload.workload import Workload


class ElsewhereRow(Protocol):
    """The same work on one offer, as the cost layer estimates it."""

    @property
    def offer(self) -> str:
        """Name of the offer."""
        ...

    @property
    def region(self) -> str | None:
        """Where its price holds."""
        ...

    @property
    def usd_per_1000_tasks(self) -> float | None:
        """Dollars for a thousand tasks."""
        ...

    @property
    def p50_s(self) -> float | None:
        """Median seconds of a task."""
        ...

    @property
    def basis(self) -> str:
        """What the estimate rests on: `measured`, `calibrated` or `roofline`."""
        ...

    @property
    def low_s(self) -> float | None:
        """Lower end of the band of `p50_s`."""
        ...

    @property
    def high_s(self) -> float | None:
        """Upper end of the band of `p50_s`."""
        ...

    @property
    def note(self) -> str | None:
        """What a reader should know of this row."""
        ...


class TaskTime(msgspec.Struct, frozen=True, kw_only=True):
    """One task of a workload: its agent, and when it arrived and ended (None where unknown)."""

    task_id: str
    agent: str
    arrival_s: float | None
    end_s: float | None

    @property
    def seconds(self) -> float | None:
        """From arrival to end."""
        if self.arrival_s is None or self.end_s is None:
            return None
        return self.end_s - self.arrival_s


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """What a report is made from.

    Attributes:
        name: of the run or the file.
        path: of the run folder or the workload file.
        report_path: where its report is written unless told otherwise.
        workload: the steps.
        info: what the run was; None for a workload file.
        tasks: what became of its tasks; None for a workload file, which does not tell.
    """

    name: str
    path: Path
    report_path: Path
    workload: Workload
    info: RunInfo | None = None
    tasks: tuple[TaskRecord, ...] | None = None

    def times(self) -> list[TaskTime]:
        """Return all tasks with their times: as the run records them, else as its steps do."""
        if self.tasks is not None:
            return [
                TaskTime(task_id=t.task_id, agent=t.agent, arrival_s=t.arrival_s, end_s=t.end_s)
                for t in self.tasks
            ]
        times = task_times(self.workload)
        rows = zip(
            times.names, times.agents, times.arrival_s.tolist(), times.end_s.tolist(), strict=True
        )
        return [
            TaskTime(task_id=name, agent=agent, arrival_s=_there(start), end_s=_there(end))
            for name, agent, start, end in rows
        ]

    def wall_s(self) -> float | None:
        """Return how long the run took; of a workload file, from first arrival to last end."""
        if self.info is not None and self.info.wall_s is not None:
            return self.info.wall_s
        known = [t for t in self.times() if t.arrival_s is not None and t.end_s is not None]
        starts = [t.arrival_s for t in known if t.arrival_s is not None]
        ends = [t.end_s for t in known if t.end_s is not None]
        return max(ends) - min(starts) if known else None


def load(path: Path) -> Source:
    """Read a run folder or a workload file.

    Raises:
        InputError: nothing is there, or a file is broken.
    """
    if path.is_dir():
        return of_folder(RunFolder(path))
    return Source(
        name=path.stem,
        path=path,
        report_path=path.with_suffix(".html"),
        workload=open_workload(path),
    )


def of_folder(folder: RunFolder) -> Source:
    """Read a run folder.

    Raises:
        InputError: a file is missing or broken.
    """
    if not folder.info_path.is_file():
        mend = "expected run.json, tasks.jsonl and steps.parquet in it"
        raise InputError("this is not a run folder", where=str(folder.path), mend=mend)
    info = folder.info()
    return Source(
        name=info.run,
        path=folder.path,
        report_path=folder.report_path,
        workload=folder.workload(),
        info=info,
        tasks=tuple(folder.tasks()),
    )


def _there(value: float) -> float | None:
    """Return `value`, or None for NaN."""
    return None if value != value else value  # noqa: PLR0124 - only NaN differs from itself

"""A run folder: what a run leaves on disk, and how a workload is taken from it.

run.json         what the run was (`RunInfo`)
tasks.jsonl      what became of each task (`TaskRecord` a line)
steps.parquet    every step (`Workload`)
report.html      charts
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgspec

from polysilicon.disk import atomic
from polysilicon.errors import InputError, PolysiliconError
from polysilicon.workload.files import SUFFIXES, decode_line, read, write
from polysilicon.workload.record import RunInfo, StepRecord, TaskRecord
from polysilicon.workload.workload import Workload


class RunFolder:
    """Reads and writes the files of a run; each is written all or not at all.

    Args:
        path: the folder; it need not exist until something is written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.info_path = path / "run.json"
        self.tasks_path = path / "tasks.jsonl"
        self.steps_path = path / "steps.parquet"
        self.report_path = path / "report.html"

    def info(self) -> RunInfo:
        """Return what the run was.

        Raises:
            InputError: run.json is missing or broken.
        """
        content = _content(self.info_path, "this is not a run folder")
        decoder = msgspec.json.Decoder(RunInfo)
        info = decode_line(decoder, content, str(self.info_path), RunInfo.__struct_fields__)
        assert isinstance(info, RunInfo)
        return info

    def tasks(self) -> list[TaskRecord]:
        """Return what became of each task, in the order of the file.

        Raises:
            InputError: tasks.jsonl is missing or broken; names the line.
        """
        content = _content(self.tasks_path, "no task of this run has ended")
        decoder = msgspec.json.Decoder(TaskRecord)
        known = TaskRecord.__struct_fields__
        return [
            decode_line(decoder, line, f"{self.tasks_path}, line {number}", known)
            for number, line in enumerate(content.split(b"\n"), start=1)
            if line.strip()
        ]

    def workload(self) -> Workload:
        """Return every step of the run.

        Raises:
            InputError: steps.parquet is missing or broken.
        """
        if not self.steps_path.is_file():
            mend = "the run was interrupted: finish it with `polysilicon run --resume`"
            raise InputError("no such file", where=str(self.steps_path), mend=mend)
        return read(self.steps_path)

    def write_info(self, info: RunInfo) -> None:
        """Write run.json.

        Raises:
            PolysiliconError: the disk is full, or the folder cannot be written.
        """
        content = msgspec.json.format(msgspec.json.encode(info), indent=2)
        self._write(self.info_path, content + b"\n")

    def write_tasks(self, tasks: Iterable[TaskRecord]) -> None:
        """Write tasks.jsonl.

        Raises:
            PolysiliconError: the disk is full, or the folder cannot be written.
        """
        encode = msgspec.json.Encoder().encode
        self._write(self.tasks_path, b"".join(encode(task) + b"\n" for task in tasks))

    def write_steps(self, steps: Workload | Iterable[StepRecord]) -> None:
        """Write steps.parquet.

        Raises:
            InputError: a step breaks a rule of the step record.
            PolysiliconError: the disk is full, or the folder cannot be written.
        """
        self._make()
        workload = steps if isinstance(steps, Workload) else Workload.from_records(steps)
        write(workload, self.steps_path)

    def _make(self) -> None:
        """Make the folder.

        Raises:
            PolysiliconError: it cannot be made.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            text = f"{self.path}: cannot be written: {error.strerror}"
            raise PolysiliconError(text) from error

    def _write(self, path: Path, content: bytes) -> None:
        """Write one small file."""
        self._make()
        with atomic(path) as temporary:
            temporary.write_bytes(content)


def open_workload(path: Path) -> Workload:
    """Read a workload from a workload file, or from a run folder.

    Raises:
        InputError: nothing is there, or it is neither.
    """
    if path.is_dir():
        folder = RunFolder(path)
        if not folder.info_path.is_file() and not folder.steps_path.is_file():
            mend = "expected run.json and steps.parquet in it"
            raise InputError("this is not a run folder", where=str(path), mend=mend)
        return folder.workload()
    if not path.exists():
        mend = f"expected a workload file ({' or '.join(SUFFIXES)}) or a run folder"
        raise InputError("no such file or folder", where=str(path), mend=mend)
    return read(path)


def _content(path: Path, otherwise: str) -> bytes:
    """Return the bytes of a file.

    Raises:
        InputError: it is missing (`otherwise` says what that means) or cannot be read.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise InputError("no such file", where=str(path), mend=otherwise) from error
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", where=str(path)) from error

"""A workload as OpenTelemetry traces: a trace a task, a span a step.

Names are of the GenAI conventions (https://github.com/open-telemetry/semantic-conventions-genai, of
2026-10); what those have no place for, and every column exactly, is in `polysilicon.<column>`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from hashlib import blake2b
from importlib.metadata import version
from pathlib import Path

import msgspec
import numpy as np

from polysilicon.disk import atomic
from polysilicon.errors import InputError
from polysilicon.workload.exports.moments import moments
from polysilicon.workload.exports.otlp_pieces import (
    ERROR,
    INTERNAL,
    UNSET,
    Ids,
    JsonPieces,
    Pieces,
    ProtoPieces,
)
from polysilicon.workload.exports.otlp_steps import StepPieces
from polysilicon.workload.groups import NONE, task_times
from polysilicon.workload.workload import Workload

ROWS = 8192
SPANS = 256
"""Spans of one line or entry. Collectors that read files refuse lines above 1 MiB by default."""


class Framing(msgspec.Struct, frozen=True, kw_only=True):
    """What stands before, between and after the batches of a file, and how these are encoded."""

    format: str
    pieces: Callable[[], Pieces]
    before: bytes = b""
    between: bytes = b""
    after: bytes = b""


_OPEN, _CLOSE = b'{"resourceSpans":[', b"]}\n"
FRAMINGS = {
    ".json": Framing(
        format="otlp-json", pieces=JsonPieces, before=_OPEN, between=b",\n", after=_CLOSE
    ),
    ".jsonl": Framing(
        format="otlp-jsonl", pieces=JsonPieces, before=_OPEN, between=_CLOSE + _OPEN, after=_CLOSE
    ),
    ".pb": Framing(format="otlp-proto", pieces=ProtoPieces),
}


class Exported(msgspec.Struct, frozen=True, kw_only=True):
    """What an export wrote.

    Attributes:
        tasks: how many tasks, each a trace.
        steps: how many steps.
        spans: steps and tasks.
        format: `otlp-json` (one request), `otlp-jsonl` (one a line) or `otlp-proto`.
        path: of the file.
        bytes: its size.
    """

    tasks: int
    steps: int
    spans: int
    format: str
    path: str
    bytes: int


def export_otlp(
    workload: Workload,
    path: Path,
    *,
    start_ns: int,
    failed: Collection[str] = (),
    told: Callable[[int], None] | None = None,
) -> Exported:
    """Write a workload as OTLP, all or not at all; memory is the workload's and a few batches'.

    Args:
        workload: its steps may be in any order.
        path: `.json`, `.jsonl` or `.pb`.
        start_ns: nanoseconds from 1970 to what the workload's times count from.
        failed: ids of the tasks that did not end well.
        told: called with how many steps are written.

    Raises:
        InputError: the suffix is another, or a time is past the year 2262.
        PolysiliconError: the file cannot be written.
    """
    framing = framing_of(path)
    spans = _Tasks(workload, framing.pieces(), start_ns, failed)
    with atomic(path) as temporary:
        with temporary.open("wb", buffering=2**20) as file:
            between = framing.before
            for steps, batch in _batches(workload, spans):
                file.write(between + batch if batch else b"")
                between = framing.between
                if told:
                    told(steps)
            file.write(framing.after if len(workload) else framing.before + framing.after)
        size = temporary.stat().st_size
    tasks = len(workload.codes("task_id")[1])
    return Exported(
        tasks=tasks,
        steps=len(workload),
        spans=tasks + len(workload),
        format=framing.format,
        path=str(path),
        bytes=size,
    )


def framing_of(path: Path) -> Framing:
    """Return how a file is written, by its suffix.

    Raises:
        InputError: there is no such kind of file.
    """
    if path.suffix not in FRAMINGS:
        what = f"unknown kind of trace file '{path.suffix or path.name}'"
        raise InputError(what, where=str(path), mend=f"expected {', '.join(FRAMINGS)}")
    return FRAMINGS[path.suffix]


def _batches(workload: Workload, tasks: _Tasks) -> Iterator[tuple[int, bytes]]:
    """Yield the spans in entries of `resource_spans`, each with how many steps came before its end.

    The span of a task comes with its first step.
    """
    pieces, when = tasks.pieces, tasks.moments
    here = version("polysilicon")
    resource = [
        pieces.text("service.name", "polysilicon"),
        pieces.text("service.version", here),
    ]
    steps = StepPieces(pieces, tasks.ids.step)
    for first in range(0, len(workload), ROWS):
        rows = slice(first, first + ROWS)
        spans, parents = tasks.of(rows)
        dates = zip(when.start_ns[rows].tolist(), when.end_ns[rows].tolist(), strict=True)
        spans += steps.spans(workload.table.slice(first, ROWS), parents, dates)
        for at in range(0, len(spans), SPANS):
            yield first, pieces.batch(resource, here, spans[at : at + SPANS])
    yield len(workload), b""


class _Tasks:
    """The spans of tasks.

    Args:
        workload: all steps.
        pieces: of the encoding.
        start_ns: what its times count from.
        failed: ids of the tasks that did not end well.
    """

    def __init__(
        self, workload: Workload, pieces: Pieces, start_ns: int, failed: Collection[str]
    ) -> None:
        self.pieces = pieces
        self.moments = moments(workload, start_ns)
        self.ids = SpanIds(start_ns)
        self._failed = failed
        self._agents = task_times(workload).agents
        self._codes, self._names = workload.codes("task_id")
        # Tasks are numbered in order of their first step.
        self._before = np.maximum.accumulate(np.concatenate(([-1], self._codes)))

    def of(self, rows: slice) -> tuple[list[bytes], list[tuple[bytes, bytes]]]:
        """Return the spans of tasks whose first step is in some rows; of each row, two ids.

        These are the id of its trace, and that of its task's span.
        """
        codes = self._codes[rows].tolist()
        of_task = {
            task: (self.ids.trace(self._names[task]), self.ids.task(self._names[task]))
            for task in dict.fromkeys(codes)
        }
        spans = [
            self._span(task, *ids) for task, ids in of_task.items() if task > self._before[rows][0]
        ]
        return spans, [of_task[task] for task in codes]

    def _span(self, task: int, trace: bytes, span: bytes) -> bytes:
        """Return the span of a task."""
        name, agent = self._names[task], self._agents[task]
        pieces, when = self.pieces, self.moments
        attributes = [
            pieces.text("polysilicon.task_id", name),
            pieces.text("gen_ai.operation.name", "invoke_agent"),
            pieces.text("gen_ai.conversation.id", name),
        ]
        title = "invoke_agent"
        if agent != NONE:
            title = f"invoke_agent {agent}"
            attributes.append(pieces.text("gen_ai.agent.name", agent))
        return pieces.span(
            Ids(trace, span, b""),
            (int(when.task_start_ns[task]), int(when.task_end_ns[task])),
            pieces.head(title, INTERNAL),
            (
                b"".join(attributes),
                b"",
                pieces.status(ERROR if name in self._failed else UNSET, ""),
            ),
        )


class SpanIds:
    """Ids of traces and spans: the same of the same workload at the same start, else others.

    Args:
        salt: when the workload starts, or another number of its own; without it, two runs whose
            tasks have the same names would be one trace.
    """

    def __init__(self, salt: int) -> None:
        self._salt = salt.to_bytes(16, "little", signed=True)

    def trace(self, task_id: str) -> bytes:
        """Return the id of a task's trace."""
        return blake2b(task_id.encode(), digest_size=16, salt=self._salt).digest()

    def task(self, task_id: str) -> bytes:
        """Return the id of a task's own span."""
        return blake2b(task_id.encode(), digest_size=8, salt=self._salt, person=b"task").digest()

    def step(self, trace: bytes, step_id: str) -> bytes:
        """Return the id of a step's span."""
        return blake2b(trace + step_id.encode(), digest_size=8).digest()

"""What the report shows of single tasks: those that failed, and a few with input, output and steps.

Inputs and outputs come from models, from sandboxed code and from strangers: they are cut, freed of
control characters, and escaped by the template.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from polysilicon.report.source import Source
from polysilicon.workload.record import TaskRecord

MAX_FAILED = 100
MAX_PER_AGENT = 3
MAX_SAMPLES = 24
MAX_TEXT = 1500
MAX_STEPS = 20

# Control characters, and the marks that turn the direction of text round: both can make a page show
# something else than what it holds.
_HOSTILE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """A task that did not end as its agent means it to end."""

    task_id: str
    agent: str
    error: str
    seconds: float


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """One task in detail.

    Attributes:
        task_id: which.
        agent: whose.
        verdict: `failed`, `wrong`, `right` or `ended`.
        seconds: from arrival to end.
        input: cut.
        output: cut.
        error: where it failed.
        steps: its first steps, as dictionaries of the step record's columns.
        steps_left_out: how many more it has.
    """

    task_id: str
    agent: str
    verdict: str
    seconds: float
    input: str
    output: str
    error: str
    steps: list[dict[str, Any]]
    steps_left_out: int


def failures(tasks: Sequence[TaskRecord]) -> list[Failure]:
    """Return the first tasks that failed, at most `MAX_FAILED`."""
    failed = [task for task in tasks if not task.ok][:MAX_FAILED]
    return [
        Failure(
            task_id=task.task_id,
            agent=task.agent,
            error=clean(task.error or "ended, but not as its agent means it to end", 300),
            seconds=task.end_s - task.arrival_s,
        )
        for task in failed
    ]


def samples(source: Source) -> list[Sample]:
    """Return a few tasks of each agent in detail: failed, wrong and right ones where there are."""
    chosen: list[TaskRecord] = []
    by_agent: dict[str, list[TaskRecord]] = {}
    for task in source.tasks or ():
        by_agent.setdefault(task.agent, []).append(task)
    for tasks in by_agent.values():
        chosen += _varied(tasks)
    rows = _rows_of({task.task_id for task in chosen[:MAX_SAMPLES]}, source)
    return [_sample(task, rows.get(task.task_id, [])) for task in chosen[:MAX_SAMPLES]]


def clean(text: str, longest: int = MAX_TEXT) -> str:
    """Return text without hostile characters, cut at `longest` with a note of its whole length."""
    kept = _HOSTILE.sub("\ufffd", text[:longest])
    return kept if len(text) <= longest else f"{kept}… (cut: {len(text):,} characters in all)"


def pretty(value: Any) -> str:
    """Return a JSON value as people read it: a lone string as it is, the rest indented."""
    if value is None:
        return ""
    if isinstance(value, str):
        return clean(value)
    return clean(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def verdict(task: TaskRecord) -> str:
    """Return `failed`, `wrong`, `right`, or `ended` where nobody graded it."""
    if not task.ok:
        return "failed"
    if task.quality is None:
        return "ended"
    return "right" if task.quality >= 1 else "wrong"


def _varied(tasks: Sequence[TaskRecord]) -> list[TaskRecord]:
    """Return up to `MAX_PER_AGENT` tasks: the first of each verdict, then the next ones."""
    first: dict[str, TaskRecord] = {}
    for task in tasks:
        first.setdefault(verdict(task), task)
    chosen = list(first.values())
    chosen += [task for task in tasks if task not in chosen][:MAX_PER_AGENT]
    return chosen[:MAX_PER_AGENT]


def _rows_of(task_ids: set[str], source: Source) -> dict[str, list[dict[str, Any]]]:
    """Return the steps of the chosen tasks, by task."""
    codes, names = source.workload.codes("task_id")
    wanted = [code for code, name in enumerate(names) if name in task_ids]
    rows = np.flatnonzero(np.isin(codes, wanted))
    steps: dict[str, list[dict[str, Any]]] = {}
    for step in source.workload.table.take(rows).to_pylist():
        steps.setdefault(step["task_id"], []).append(step)
    return steps


def _sample(task: TaskRecord, steps: list[dict[str, Any]]) -> Sample:
    """Return one task in detail."""
    steps.sort(key=lambda step: (step["start_s"] is None, step["start_s"]))
    return Sample(
        task_id=task.task_id,
        agent=task.agent,
        verdict=verdict(task),
        seconds=task.end_s - task.arrival_s,
        input=pretty(task.input),
        output=pretty(task.output),
        error=clean(task.error or "", 300),
        steps=steps[:MAX_STEPS],
        steps_left_out=max(len(steps) - MAX_STEPS, 0),
    )

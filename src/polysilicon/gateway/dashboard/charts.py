"""The dashboard's own charts: load of a pool, what is spent of a limit, the steps of a task."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from markupsafe import Markup

from polysilicon import units
from polysilicon.gateway.dashboard.records import Room, Spending, TaskNow
from polysilicon.placement.types import PoolPlan
from polysilicon.report import svg
from polysilicon.report.columns import columns, labelled
from polysilicon.report.timeline import Timeline, timeline
from polysilicon.workload.record import StepRecord
from polysilicon.workload.workload import Workload

METER_PX = 14.0
STEP_PX = 12.0
SPENDING_PX = 90.0
MAX_STEPS = 200
"""Steps of one task that its page shows: the latest."""

MAX_DRAWN = 600
"""Steps on the timeline of all tasks: those of the latest tasks."""


ROOMS = {"engine": "engine", "cpu": "cores", "wait": "others"}
"""What steps wait for, in words: a slot of the engine, a core, or others than this machine."""


class StepRow(msgspec.Struct, frozen=True, kw_only=True):
    """A step in the table of its task: the record, when it ran on a chart, and figures in words."""

    step: StepRecord
    chart: Any
    waited: float | None
    took: float | None
    first_token: float | None


def load_bar(room: Room) -> Markup:
    """Return how much of a pool's room is taken, and how much is asked for beyond it."""
    shapes = [svg.rect(0, 1, (0, METER_PX), "track")]
    asked = room.running + room.waiting
    whole = max(room.cap, asked, 1)
    if room.running:
        shapes.append(svg.rect(0, room.running / whole, (0, METER_PX), "k-llm"))
    if room.waiting:
        shapes.append(svg.rect(room.running / whole, asked / whole, (0, METER_PX), "queue"))
    if asked > room.cap:
        shapes.append(svg.line((room.cap / whole, 0), (room.cap / whole, METER_PX), "mark"))
    return svg.svg(METER_PX, f"{ROOMS[room.resource]}: {load_words(room)}", shapes)


def load_words(room: Room) -> str:
    """Return the same in words."""
    waiting = f", {room.waiting:,} waiting" if room.waiting else ""
    return f"{room.running:,} of {room.cap:,}{waiting}"


def meter(part: float, label: str, style: str = "cost") -> Markup:
    """Return a bar of a share; what is above all of it is drawn as full, and marked.

    Args:
        part: the share, from 0.
        label: what a screen reader says.
        style: CSS class.
    """
    shapes = [svg.rect(0, 1, (0, METER_PX), "track")]
    if part > 0:
        over = "over" if part >= 1 else style
        shapes.append(svg.rect(0, max(min(part, 1.0), 0.004), (0, METER_PX), over))
    return svg.svg(METER_PX, label, shapes)


def planned_bar(pool: PoolPlan) -> Markup:
    """Return how busy a placed pool is to be, with a mark where its steps would begin to wait."""
    shapes = [
        svg.rect(0, 1, (0, METER_PX), "track"),
        svg.rect(0, pool.utilisation, (0, METER_PX), "k-llm"),
        svg.line((pool.cap, 0), (pool.cap, METER_PX), "mark"),
    ]
    words = f"{pool.name}: used {units.share(pool.utilisation)}, cap {units.share(pool.cap)}"
    return svg.svg(METER_PX, words, shapes)


def spending_chart(spending: Spending, now_s: float) -> Markup:
    """Return dollars over time as columns, the latest at the right."""
    ago = [now_s - spending.start_s - i * spending.bucket_s for i in range(len(spending.usd))]
    titles = [
        f"{units.usd(usd)} from {units.seconds(begin_s)} ago"
        for usd, begin_s in zip(spending.usd, ago, strict=True)
    ]
    most, each = units.usd(max(spending.usd)), units.seconds(spending.bucket_s)
    label = f"dollars of steps over time, at most {most} in {each}"
    ends = (f"{units.seconds(max(ago[0], 0.0))} ago", "now")
    shapes = columns(spending.usd, titles, SPENDING_PX, "cost")
    return labelled(shapes, ends, SPENDING_PX, label)


def lanes(tasks: Sequence[TaskNow], now_s: float) -> tuple[Timeline | None, int]:
    """Return the steps of the latest tasks on one timeline, and how many tasks are not on it.

    A step under way is drawn up to now.
    """
    steps: list[StepRecord] = []
    drawn = 0
    for task in tasks:
        own = [_until(step, now_s) for step in task.steps if step.start_s is not None]
        if drawn and len(steps) + len(own) > MAX_DRAWN:
            break
        steps += own[-MAX_DRAWN:]
        drawn += 1
    chart = timeline(Workload.from_records(steps, where="the gateway's tasks")) if steps else None
    return chart, len(tasks) - drawn


def step_rows(task: TaskNow, now_s: float) -> list[StepRow]:
    """Return the latest steps of a task, in order, each with its place on the task's own time."""
    shown = task.steps[-MAX_STEPS:]
    begin_s = min([task.arrival_s, *_known(step.ready_s for step in shown)])
    ends = _known(step.end_s for step in shown)
    span_s = max([now_s if task.end_s is None else task.end_s, *ends]) - begin_s
    return [_row(step, begin_s, max(span_s, 1e-9), now_s) for step in shown]


def _row(step: StepRecord, begin_s: float, span_s: float, now_s: float) -> StepRow:
    """Return one step as a row."""
    end_s = now_s if step.end_s is None else step.end_s
    shapes = [svg.rect(0, 1, (0, STEP_PX), "track")]
    waited = took = first = None
    if step.ready_s is not None:
        until_s = end_s if step.start_s is None else step.start_s
        waited = max(until_s - step.ready_s, 0.0)
        middle = STEP_PX / 2
        ends = ((step.ready_s - begin_s) / span_s, (until_s - begin_s) / span_s)
        shapes.append(svg.line((ends[0], middle), (ends[1], middle), "wait"))
    if step.start_s is not None:
        took = max(end_s - step.start_s, 0.0)
        left, right = ((at_s - begin_s) / span_s for at_s in (step.start_s, end_s))
        bad = step.outcome not in (None, "ok")
        style = f"{svg.kind_class(step.kind)} step" + (" bad" if bad else "")
        shapes.append(svg.rect(left, max(right, left + 0.003), (0, STEP_PX), style))
        if step.first_token_s is not None:
            first = max(step.first_token_s - step.start_s, 0.0)
            at = (step.first_token_s - begin_s) / span_s
            shapes.append(svg.line((at, 0), (at, STEP_PX), "first"))
    words = f"waited {_words(waited)}, took {_words(took)}, of {units.seconds(span_s)}"
    return StepRow(
        step=step,
        chart=svg.svg(STEP_PX, words, shapes),
        waited=waited,
        took=took,
        first_token=first,
    )


def _words(value_s: float | None) -> str:
    return "not yet" if value_s is None else units.seconds(value_s)


def _until(step: StepRecord, now_s: float) -> StepRecord:
    """Return a step as if it ended now, where it has not ended."""
    if step.end_s is not None:
        return step
    return msgspec.structs.replace(step, end_s=max(now_s, step.start_s or now_s))


def _known(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None]

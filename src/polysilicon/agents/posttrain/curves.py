"""How post-training went: reward, pass rate, loss, tokens, core-hours and dollars by iteration.

The curve comes from the tasks' outputs; core-seconds and dollars are those of all steps that had
ended when an iteration's evaluation did, so that a point says what it took to get there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
from markupsafe import Markup
from rich.console import Group, RenderableType
from rich.table import Table
from scipy import stats

from polysilicon.errors import InputError
from polysilicon.report import svg
from polysilicon.report.html import template
from polysilicon.units import SECONDS_PER_HOUR
from polysilicon.workload.record import StepRecord, TaskRecord
from polysilicon.workload.run_folder import RunFolder

_HEIGHT_PX, _FOOT_PX, _LEFT = 180.0, 24.0, 0.06
_SERIES = (("pass_rate", "k-train"), ("reward", "k-llm"))


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """One evaluation.

    Attributes:
        iteration: 0 is before any training.
        pass_rate: share of held-back problems solved greedily.
        reward: share of the sampled answers that passed; None before any.
        kept: examples trained on.
        loss: mean of the first epoch, nats a token.
        last_loss: mean of the last epoch.
        sampled_tokens: of this iteration's answers.
        trained_tokens: of this iteration's training, all epochs.
        core_s: core-seconds of all steps that had ended by then.
        usd: dollars of the same.
        end_s: when the evaluation ended, from the task's begin.
    """

    iteration: int
    pass_rate: float
    reward: float | None = None
    kept: int | None = None
    loss: float | None = None
    last_loss: float | None = None
    sampled_tokens: int | None = None
    trained_tokens: int | None = None
    core_s: float = 0.0
    usd: float = 0.0
    end_s: float = 0.0


class Curve(msgspec.Struct, frozen=True, kw_only=True):
    """One seed: its points, and the gain in held-back pass rate with its 95 % interval."""

    seed: int
    staleness: int
    adapter: str | None
    points: list[Point]
    gain: float
    low: float
    high: float


class Curves(msgspec.Struct, frozen=True, kw_only=True):
    """All seeds of a run; the gain is the mean of theirs.

    The interval is Student's over the seeds, which holds for other seeds too; with one seed it is
    that of its problems.
    """

    run: str
    seeds: list[Curve]
    gain: float
    low: float
    high: float


def curves_of(folder: RunFolder) -> Curves:
    """Return the curves of a run of `posttrain`.

    Raises:
        InputError: it has no task of that agent that ended well.
    """
    ended = [task for task in folder.tasks() if task.agent == "posttrain" and task.ok]
    if not ended:
        mend = "see `polysilicon run posttrain`"
        where = str(folder.path)
        raise InputError("no post-training of this run has ended", where=where, mend=mend)
    steps: dict[str, list[StepRecord]] = {task.task_id: [] for task in ended}
    for step in folder.workload().steps():
        if step.task_id in steps:
            steps[step.task_id].append(step)
    seeds = [_curve(task, steps[task.task_id]) for task in ended]
    gains = [seed.gain for seed in seeds]
    mean = float(np.mean(gains))
    low, high = seeds[0].low, seeds[0].high
    if len(gains) > 1:
        half = float(stats.t.ppf(0.975, len(gains) - 1) * stats.sem(gains))
        low, high = mean - half, mean + half
    return Curves(run=folder.path.name, seeds=seeds, gain=mean, low=low, high=high)


def _curve(task: TaskRecord, steps: Sequence[StepRecord]) -> Curve:
    output: dict[str, Any] = task.output
    ends = _evaluation_ends(steps, len(output["outcomes"]), len(output["curve"]))
    begin_s = task.start_s or 0.0
    points = []
    for row, end_s in zip(output["curve"], ends, strict=True):
        done = [step for step in steps if step.end_s is not None and step.end_s <= end_s]
        points.append(
            Point(
                **row,
                core_s=math.fsum(step.cpu_s or 0.0 for step in done),
                usd=math.fsum(step.cost_usd or 0.0 for step in done),
                end_s=end_s - begin_s,
            )
        )
    gain, low, high = paired_gain(output["outcomes"])
    return Curve(
        seed=output["seed"],
        staleness=output["staleness"],
        adapter=output["adapter"],
        points=points,
        gain=gain,
        low=low,
        high=high,
    )


def paired_gain(outcomes: Sequence[Sequence[bool]]) -> tuple[float, float, float]:
    """Return the gain in pass rate over the same problems, before and after, and its 95 % interval.

    Normal interval of the mean of paired differences, each -1, 0 or 1.
    """
    gains = np.array([int(after) - int(before) for before, after in outcomes], dtype=np.float64)
    half = 1.96 * float(gains.std(ddof=1)) / math.sqrt(len(gains)) if len(gains) > 1 else 1.0
    return float(gains.mean()), float(gains.mean()) - half, float(gains.mean()) + half


def _evaluation_ends(steps: Sequence[StepRecord], problems: int, count: int) -> list[float]:
    """Return when each evaluation's last answer ended: they follow each other, `problems` each."""
    ends = sorted(step.end_s or 0.0 for step in steps if step.name == "evaluate")
    return [ends[(number + 1) * problems - 1] for number in range(count)]


def page(curves: Curves) -> RenderableType:
    """Return the tables for a terminal."""
    parts: list[RenderableType] = []
    for seed in curves.seeds:
        table = Table(
            title=f"Seed {seed.seed}, staleness at most {seed.staleness}",
            box=None,
            title_justify="left",
        )
        for number, name in enumerate(_HEADS):
            table.add_column(name, justify="right" if number else "left", no_wrap=True)
        for point in seed.points:
            table.add_row(*_cells(point))
        parts.append(table)
        parts.append(f"held-back pass rate: {_gain(seed.gain, seed.low, seed.high)}\n")
    if len(curves.seeds) > 1:
        gain = _gain(curves.gain, curves.low, curves.high)
        parts.append(f"mean of {len(curves.seeds)} seeds: {gain}")
    return Group(*parts)


_HEADS = (
    "iteration", "held back", "reward", "kept", "loss", "sampled", "trained", "time", "core-hours",
    "dollars",
)  # fmt: skip


def _cells(point: Point) -> list[str]:
    """Return the cells of a row of the table."""
    none = "\N{EN DASH}"
    return [
        str(point.iteration),
        f"{point.pass_rate:.1%}",
        none if point.reward is None else f"{point.reward:.1%}",
        none if point.kept is None else str(point.kept),
        none if point.loss is None else f"{point.loss:.2f} to {point.last_loss:.2f}",
        none if point.sampled_tokens is None else f"{point.sampled_tokens:,}",
        none if point.trained_tokens is None else f"{point.trained_tokens:,}",
        f"{point.end_s:.0f} s",
        f"{point.core_s / SECONDS_PER_HOUR:.4f}",
        f"${point.usd:.5f}",
    ]


def _gain(gain: float, low: float, high: float) -> str:
    return f"{100 * gain:+.1f} points ({100 * low:+.1f} to {100 * high:+.1f}, 95 % interval)"


def markdown(curves: Curves) -> str:
    """Return a table for a page of documentation, a row for each seed, and their mean."""
    heads = ("seed", "held back, by round", "gain (95 % interval)", "time", "core-hours", "dollars")
    rows = [heads, ("---",) * len(heads)]
    for seed in curves.seeds:
        last = seed.points[-1]
        rates = " → ".join(f"{100 * point.pass_rate:.1f}" for point in seed.points)
        gain = _gain(seed.gain, seed.low, seed.high)
        spent = f"{last.end_s:.0f} s", f"{last.core_s / SECONDS_PER_HOUR:.4f}", f"${last.usd:.5f}"
        rows.append((str(seed.seed), f"{rates} %", gain, *spent))
    if len(curves.seeds) > 1:
        ends = [seed.points[-1] for seed in curves.seeds]
        gain = _gain(curves.gain, curves.low, curves.high)
        core_h = math.fsum(end.core_s for end in ends) / SECONDS_PER_HOUR
        usd = math.fsum(end.usd for end in ends)
        time = f"{math.fsum(end.end_s for end in ends):.0f} s"
        rows.append(("all", "", f"mean {gain}", time, f"{core_h:.4f}", f"${usd:.5f}"))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def html(curves: Curves) -> str:
    """Return the page of the curves, one self-contained file."""
    return template("posttrain.html.j2").render(
        curves=curves,
        gain=_gain(curves.gain, curves.low, curves.high),
        heads=_HEADS,
        seeds=[
            (
                seed,
                _gain(seed.gain, seed.low, seed.high),
                _chart(seed),
                [_cells(point) for point in seed.points],
            )
            for seed in curves.seeds
        ],
    )


def _chart(seed: Curve) -> Markup:
    """Return a chart of pass rate and reward over iterations, both from 0 to 1."""
    last = max(seed.points[-1].iteration, 1)

    def place(point: Point, value: float) -> tuple[float, float]:
        across = _LEFT + (0.98 - _LEFT) * point.iteration / last
        return across, 6.0 + (_HEIGHT_PX - _FOOT_PX - 6.0) * (1.0 - value)

    shapes = []
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        _, top = place(seed.points[0], tick)
        shapes.append(svg.line((_LEFT, top), (0.98, top), "grid"))
        shapes.append(svg.text(_LEFT - 0.01, top + 4.0, f"{tick:.0%}", anchor="end"))
    for name, style in _SERIES:
        values = [(point, getattr(point, name)) for point in seed.points]
        places = [place(point, value) for point, value in values if value is not None]
        shapes += [svg.line(one, two, f"line {style}") for one, two in pairwise(places)]
        shapes += [svg.dot(across, top, 4.0, style) for across, top in places]
    for point in seed.points:
        across, _ = place(point, 0.0)
        shapes.append(svg.text(across, _HEIGHT_PX - 4.0, str(point.iteration), anchor="middle"))
    return svg.svg(_HEIGHT_PX, f"Pass rate and reward of seed {seed.seed}", shapes)

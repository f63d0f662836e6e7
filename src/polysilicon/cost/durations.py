"""Empirical durations of tool steps, kept as they are: bimodal and heavy-tailed, not a mean.

A sketch holds order statistics of the service times at up to 200 levels, dense at both ends and on
both sides of the widest gaps, with what each consists of: start-up, waiting, and core-seconds over
cores. So the distribution can be carried to another processor: only the part that is work scales.
With 200 steps or fewer the sketch holds every step. Between two points the quantile is interpolated
in the logarithm.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec
import numpy as np
import numpy.typing as npt

from polysilicon.cost.tools import Host, Slowdown, tool_seconds
from polysilicon.errors import InputError, nearest
from polysilicon.workload.record import StepRecord

Numbers = npt.NDArray[np.float64]

POINTS = 200
# Of them, pairs that hold the edges of the widest gaps, so that nothing is drawn from within.
GAPS = 20
# Shorter than any clock that steps are measured with; keeps logarithms finite.
SHORTEST_S = 1e-9


class ToolDurations(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Service times of the steps of one name, in ascending order.

    Attributes:
        name: the operation.
        count: how many steps it was made from.
        mean_s: their mean service time.
        levels: shares of the steps that were as short or shorter, from 0 to 1.
        service_s: service time at each level; the first is the minimum, the last the maximum.
        startup_s: of it, until the sandbox or process was ready.
        wait_s: of it, off the CPU.
        cpu_s: core-seconds behind the rest.
        cores: that the rest used at once.
    """

    name: str
    count: int
    mean_s: float
    levels: tuple[float, ...]
    service_s: tuple[float, ...]
    startup_s: tuple[float, ...]
    wait_s: tuple[float, ...]
    cpu_s: tuple[float, ...]
    cores: tuple[float, ...]

    def quantile(self, level: npt.ArrayLike) -> Numbers:
        """Return the service time that a share of the steps does not exceed, elementwise.

        Args:
            level: from 0 to 1.

        Raises:
            InputError: a level outside of that.
        """
        wanted = np.asarray(level, dtype=np.float64)
        if np.any((wanted < 0) | (wanted > 1)):
            raise InputError("a quantile's level is not from 0 to 1")
        logs = np.log(np.maximum(self.service_s, SHORTEST_S))
        found = np.exp(np.interp(wanted, self.levels, logs))
        found = np.where(found <= SHORTEST_S * (1 + 1e-9), self.service_s[0], found)
        return np.asarray(np.clip(found, self.service_s[0], self.service_s[-1]))

    def sample(self, rng: np.random.Generator, count: int) -> Numbers:
        """Return `count` service times drawn from the distribution."""
        return self.quantile(rng.random(count))

    def on(self, speed: Slowdown, machine: Host, utilisation: float = 0.0) -> ToolDurations:
        """Return the distribution on another machine.

        Args:
            speed: from the machine on which the steps ran to the other.
            machine: the other.
            utilisation: vCPUs that other work wants there, over all vCPUs.
        """
        cpu_s, cores = np.asarray(self.cpu_s), np.asarray(self.cores)
        there = tool_seconds(
            cpu_s,
            startup_s=np.asarray(self.startup_s),
            wait_s=np.asarray(self.wait_s),
            cores=cores,
            speed=speed,
            machine=machine,
            utilisation=utilisation,
        )
        here = np.asarray(self.startup_s) + self.wait_s + cpu_s / cores
        order = np.argsort(there.service_s, kind="stable")
        weights = np.gradient(np.asarray(self.levels)) if len(self.levels) > 1 else np.ones(1)
        change = float(np.sum(weights * there.service_s) / max(np.sum(weights * here), SHORTEST_S))
        return msgspec.structs.replace(
            self,
            mean_s=self.mean_s * change,
            service_s=tuple(there.service_s[order].tolist()),
            startup_s=tuple(np.asarray(self.startup_s)[order].tolist()),
            wait_s=tuple(np.asarray(self.wait_s)[order].tolist()),
            cpu_s=tuple((cpu_s * speed.ratio)[order].tolist()),
            cores=tuple(cores[order].tolist()),
        )


def tool_durations(steps: Iterable[StepRecord]) -> Mapping[str, ToolDurations]:
    """Return the durations of tool steps by name.

    A step counts if its service time is known: from start and end, else from its parts. What start,
    wait and core-seconds leave of it counts as waiting, for that much is not work of a core.
    """
    found: dict[str, list[tuple[float, float, float, float, float]]] = {}
    for step in steps:
        parts = _parts(step) if step.kind == "tool" else None
        if parts is not None:
            found.setdefault(step.name, []).append(parts)
    return {name: _sketch(name, np.array(rows)) for name, rows in sorted(found.items())}


def durations_of(name: str, known: Mapping[str, ToolDurations]) -> ToolDurations:
    """Return the durations of one operation.

    Raises:
        InputError: no step of that name was measured; names near ones.
    """
    if name not in known:
        raise InputError(f"no tool step {name!r} was measured", mend=nearest(name, known))
    return known[name]


def _parts(step: StepRecord) -> tuple[float, float, float, float, float] | None:
    """Return service, start-up, waiting, core-seconds and cores of a step; None where unknown."""
    startup_s, cpu_s = step.startup_s or 0.0, step.cpu_s or 0.0
    cores = max(step.cores or 1.0, 1.0)
    known_s = startup_s + (step.wait_s or 0.0) + cpu_s / cores
    if step.start_s is not None and step.end_s is not None:
        service_s = max(step.end_s - step.start_s, 0.0)
    elif step.cpu_s is not None or step.wait_s is not None:
        service_s = known_s
    else:
        return None
    # Core-seconds of more cores than were told: they ran side by side.
    busy_s = min(cpu_s / cores, max(service_s - startup_s, 0.0))
    startup_s = min(startup_s, service_s)
    used = cpu_s / busy_s if busy_s > 0 else cores
    return service_s, startup_s, service_s - startup_s - busy_s, used * busy_s, max(used, 1.0)


def _sketch(name: str, rows: Numbers) -> ToolDurations:
    """Return the order statistics of steps.

    Args:
        name: of the operation.
        rows: shape (steps, 5): service, start-up, waiting, core-seconds, cores.
    """
    ordered = rows[np.lexsort((rows[:, 1], rows[:, 0]))]
    count = len(ordered)
    if count <= POINTS:
        picked = np.arange(count)
    else:
        # Levels evenly spaced in the logit are dense at both tails, where heavy tails live.
        edge = np.log(2.0 * count)
        levels = 1.0 / (1.0 + np.exp(-np.linspace(-edge, edge, POINTS - 2 * GAPS - 2)))
        spread = np.rint(levels * (count - 1)).astype(int)
        logs = np.log(np.maximum(ordered[:, 0], SHORTEST_S))
        widest = np.argsort(np.diff(logs))[-GAPS:]
        ends = np.array([0, count - 1])
        picked = np.unique(np.concatenate([ends, spread, widest, widest + 1]))
    columns = ordered[picked].T
    levels = picked / (count - 1) if count > 1 else np.zeros(1)
    service_s, startup_s, wait_s, cpu_s, cores = (tuple(column.tolist()) for column in columns)
    return ToolDurations(
        name=name,
        count=count,
        mean_s=float(ordered[:, 0].mean()),
        levels=tuple(levels.tolist()),
        service_s=service_s,
        startup_s=startup_s,
        wait_s=wait_s,
        cpu_s=cpu_s,
        cores=cores,
    )

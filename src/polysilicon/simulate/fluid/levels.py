"""What queues, batches and cores of a fleet are like over time, window by window."""

from __future__ import annotations

import msgspec
import numpy as np

from polysilicon.schedule.types import Codes, Floats
from polysilicon.simulate.fluid.backlog import LEVELS
from polysilicon.simulate.fluid.flows import WINDOWS

FIGURES = (
    "slow",
    "first_s",
    "token_s",
    "running",
    "beside",
    "written",
    "kept",
    "core_s",
    "engine_s",
)
"""By pool and window: factor of work that shares cores; what the first token takes beside its
prompt, and each later one; sequences that share an engine; factor of prompts beside busy cores;
tokens that an engine writes in a second, and tokens of ended sequences that it keeps; what steps
take of cores and of engines."""


class Levels(msgspec.Struct, frozen=True, kw_only=True):
    """A fleet over time.

    Attributes:
        begun_s: where the first window begins.
        width_s: of a window.
        wait_s: at the ends of windows, of cores and engines, at each of `LEVELS`; shape
            (2, pools, windows + 1, levels).
        figures: shape (figures, pools, windows), in the order of `FIGURES`.
        below: share of a route's steps that goes to a pool or one before; (routes, pools, windows).
    """

    begun_s: float
    width_s: float
    wait_s: Floats
    figures: Floats
    below: Floats

    def place(self, at_s: Floats) -> Floats:
        """Return moments in windows from the first."""
        return np.clip((at_s - self.begun_s) / self.width_s, 0.0, WINDOWS - 1e-6)

    def at(self, name: str, pool: Codes, at_s: Floats) -> Floats:
        """Return a figure of pools at moments."""
        window = self.place(at_s).astype(np.int64)
        return np.asarray(self.figures[FIGURES.index(name)][pool, window], np.float64)

    def shares(self, route: Codes, at_s: Floats) -> Floats:
        """Return `below` for steps of routes at moments, shape (steps, pools)."""
        window = self.place(at_s).astype(np.int64)
        return np.asarray(self.below[route, :, window], np.float64)

    def waits(self, pool: Codes, gate: int, at_s: Floats, drawn: Floats) -> Floats:
        """Return how long steps wait.

        Args:
            pool: of each.
            gate: 0 for cores, 1 for engines.
            at_s: when each comes.
            drawn: share of all that wait no longer, at most the last of `LEVELS`.
        """
        place = self.place(at_s)
        window = place.astype(np.int64)
        late = place - window
        level = np.clip(np.searchsorted(LEVELS, drawn, side="right") - 1, 0, len(LEVELS) - 2)
        over = (drawn - LEVELS[level]) / (LEVELS[level + 1] - LEVELS[level])
        table = self.wait_s[gate]

        def between(at: Codes) -> Floats:
            low, high = table[pool, at, level], table[pool, at, level + 1]
            return np.asarray(low + (high - low) * over, np.float64)

        return between(window) * (1.0 - late) + between(window + 1) * late

    def mixed(self, other: Levels) -> Levels:
        """Return what lies midway between this and another one of the same windows."""
        if (self.begun_s, self.width_s) != (other.begun_s, other.width_s):
            return self
        return msgspec.structs.replace(
            self,
            wait_s=(self.wait_s + other.wait_s) / 2.0,
            figures=(self.figures + other.figures) / 2.0,
            below=(self.below + other.below) / 2.0,
        )

    def apart(self, other: Levels | None, weight: Floats) -> float:
        """Return how far waits are from those of another, as a share of what they are.

        Args:
            other: before; None for nothing.
            weight: of waits of each gate, pool and window: steps; shape (2, pools, windows).
        """
        if other is None or (self.begun_s, self.width_s) != (other.begun_s, other.width_s):
            return np.inf
        one, two = (levels.wait_s[:, :, 1:].mean(axis=3) for levels in (self, other))
        took_s = self.figures[[FIGURES.index("core_s"), FIGURES.index("engine_s")]]
        scale = float((weight * (one + took_s)).sum())
        return float((weight * np.abs(one - two)).sum()) / scale if scale > 0.0 else 0.0

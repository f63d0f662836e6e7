"""What is expected of the queue of a pool, by the service that its steps had so far."""

from __future__ import annotations

from polysilicon.schedule.types import compiled

STARVE_S = 60.0
"""A batch step that waited for so long goes before all but urgent and older interactive ones."""

UNKNOWN_S = 1.0
"""Stands for the mean service of a pool that served nothing yet, so that price and queue count."""

_SMOOTHING = 0.1


@compiled
def smoothed(mean: float, new: float) -> float:
    """Return a mean with a new value, which counts a tenth; the value itself where there is none.

    Args:
        mean: so far; 0 where nothing was seen.
        new: the value.
    """
    return mean + (new - mean) * _SMOOTHING if mean > 0.0 else new


@compiled
def queued_s(mean_s: float, there: float, cap: float) -> float:
    """Return seconds until there is room for one more.

    Args:
        mean_s: mean service of the steps; 0 where none was served.
        there: steps that run or wait, or threads where these are what is limited.
        cap: how many may run at once.
    """
    service_s = mean_s if mean_s > 0.0 else UNKNOWN_S
    return service_s * max(0.0, there + 1.0 - cap) / cap

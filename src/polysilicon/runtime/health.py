"""Whether a pool is up: it is drained after failures in a row, and probed by one step at a time."""

from __future__ import annotations

FAILURES = 3
"""Failures in a row after which a pool gets no more steps."""

_FIRST_PROBE_S, _LAST_PROBE_S = 1.0, 60.0


class Health:
    """What is known of a pool from how its steps ended; moments are of one steady clock.

    A drained pool gets a single step, the probe, after a second; each probe that fails doubles the
    time to the next one, up to a minute. A step that succeeds makes it whole again.
    """

    def __init__(self) -> None:
        self.failures = 0
        self._probe_at_s = 0.0
        self._pause_s = _FIRST_PROBE_S
        self._probing = False

    def up(self, now_s: float) -> bool:
        """Tell whether the pool may get a step now."""
        drained = self.failures >= FAILURES
        return not drained or (not self._probing and now_s >= self._probe_at_s)

    def begun(self) -> None:
        """Note that a step was given to the pool; to a drained one it is the probe."""
        self._probing = self.failures >= FAILURES

    def succeeded(self) -> None:
        """Note that a step went well."""
        self.failures, self._pause_s, self._probing = 0, _FIRST_PROBE_S, False

    def failed(self, now_s: float) -> None:
        """Note that a step failed by the pool's fault."""
        if self._probing:
            self._pause_s = min(2 * self._pause_s, _LAST_PROBE_S)
        self._probing = False
        self.failures += 1
        self._probe_at_s = now_s + self._pause_s

    def left(self) -> None:
        """Note that a step ended without telling anything of the pool, as a cancelled one does."""
        self._probing = False

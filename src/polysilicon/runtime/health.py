"""Whether an engine is up: drained after failures in a row, and then probed, a step at a time."""

from __future__ import annotations

from collections.abc import Callable

FAILURES = 3
"""Failures in a row after which an engine gets no more steps."""

_FIRST_PROBE_S, _LAST_PROBE_S = 1.0, 60.0


class Health:
    """What is known of an engine from how its steps ended; moments are of one steady clock.

    A drained engine gets a single step, the probe, after a second; each probe that fails doubles
    the time to the next one, up to a minute. A step that succeeds makes it whole again; `answered`
    tells whether one ever did.
    """

    def __init__(self) -> None:
        self.failures = 0
        self.answered = False
        self._probe_at_s = 0.0
        self._pause_s = _FIRST_PROBE_S
        self._probing = False
        self.on_doubt: Callable[[], None] | None = None

    @property
    def drained(self) -> bool:
        """Whether it gets no steps but probes."""
        return self.failures >= FAILURES

    def up(self, now_s: float) -> bool:
        """Tell whether it may get a step now."""
        return not self.drained or (not self._probing and now_s >= self._probe_at_s)

    def begun(self) -> bool:
        """Note that a step was given to it, and tell whether that is the probe."""
        probes = self.drained and not self._probing
        self._probing = self._probing or probes
        return probes

    def succeeded(self) -> None:
        """Note that a step went well."""
        self.failures, self._pause_s, self._probing = 0, _FIRST_PROBE_S, False
        self.answered = True

    def failed(self, now_s: float, *, probe: bool = False, doubtful: bool = False) -> None:
        """Note that a step failed by its fault; those begun before it was drained tell no more.

        Where the step may have been the cause, and somebody finds out (`on_doubt`), that is waited
        for: nobody's requests alone may take an engine from all others, nor keep it from them.
        """
        if doubtful and self.on_doubt is not None and (probe or not self.drained):
            if probe:
                self._probing, self._probe_at_s = False, now_s + self._pause_s
            self.on_doubt()
            return
        if probe:
            self._pause_s = min(2 * self._pause_s, _LAST_PROBE_S)
            self._probing = False
        elif self.drained:
            return
        self.failures += 1
        self._probe_at_s = now_s + self._pause_s

    def left(self, *, probe: bool) -> None:
        """Note that a step ended without telling anything, as a cancelled one does."""
        if probe:
            self._probing = False

"""How long to search, counted in the solver's own steps.

Seconds here are those of a nominal machine, so that the same question gets the same fleet on a busy
machine as on a quiet one, on a slow one as on a fast one.
"""

from __future__ import annotations

ITERATION_S = 10e-9
"""Of one iteration of simplex, for each number in the matrix."""

CHECK_S = 1e-6
"""Of what branch and bound does between two looks at its limits, for each number in the matrix and
for `BESIDES` more, since small programs take their time too."""

BESIDES = 4000

LAST_RESORT = 100.0
"""The solver's own clock ends branch and bound after so many times its nominal seconds, where it
does not look at its limits at all, as in a long relaxation at the root."""

SLOW = 10.0
"""Branch and bound is stopped after so many times its nominal seconds of processor time."""

"""HiGHS for the master program: how it is opened, and what its ends mean."""

from __future__ import annotations

from typing import Any

import highspy

from polysilicon.errors import InputError, PolysiliconError
from polysilicon.planning.clock import Clock

TOLERANCE = 1e-9

_SLICE_S = 0.5
"""A stop is heard after so long, where the solver does not ask."""


class InfeasibleMaster(PolysiliconError):  # noqa: N818
    """No column values satisfy all rows."""


INFEASIBLE = (
    highspy.HighsModelStatus.kInfeasible,
    highspy.HighsModelStatus.kUnboundedOrInfeasible,
)
UNBOUNDED = (highspy.HighsModelStatus.kUnbounded,)
LIMITED = (
    highspy.HighsModelStatus.kTimeLimit,
    highspy.HighsModelStatus.kInterrupt,
    highspy.HighsModelStatus.kNotset,
)


def check(highs: Any, status: Any) -> None:
    """Assert that the solver found an optimum.

    Raises:
        InfeasibleMaster: there is none.
        InputError: a contract earns money by being bought.
        PolysiliconError: the solver gave up.
    """
    if status in INFEASIBLE:
        raise InfeasibleMaster("no columns satisfy all rows")
    if status in UNBOUNDED:
        raise InputError(
            "some contract earns more than it costs without being used",
            mend="check its salvage value, resale prices and credits",
        )
    if status != highspy.HighsModelStatus.kOptimal:
        raise PolysiliconError(f"HiGHS: {highs.modelStatusToString(status)} in the master program")


def run(highs: Any, clock: Clock) -> None:
    """Solve, as long as the clock allows.

    Raises:
        OutOfTime: that did not suffice.
        PolysiliconError: as `check`.
    """
    anew = False
    while True:
        # In slices, each from where the last one stood, so that a stop is heard. The limit is on
        # all runs together.
        highs.setOptionValue("time_limit", highs.getRunTime() + min(clock.left_s, _SLICE_S))
        highs.run()
        status = highs.getModelStatus()
        if status == highspy.HighsModelStatus.kOptimal:
            return
        clock.check()
        if status != highspy.HighsModelStatus.kTimeLimit:
            if anew:
                check(highs, status)
            # Simplex may lose its way from where it stood; from the beginning it finds it.
            highs.clearSolver()
            anew = True


def stopped_by(highs: Any, clock: Clock) -> None:
    """Let a clock end a branch and bound, which cannot go on from where it was stopped."""
    highs.setOptionValue("time_limit", clock.left_s)

    def asked(event: Any) -> None:
        if clock.over():
            event.interrupt()

    highs.cbMipInterrupt.subscribe(asked)


def opened(primal: float, dual: float) -> Any:
    """Return a solver: quiet, one thread.

    Args:
        primal: tolerance.
        dual: likewise.
    """
    highs = highspy.Highs()
    for name, value in (
        ("output_flag", False),
        ("threads", 1),
        ("presolve", "off"),
        ("primal_feasibility_tolerance", primal),
        ("dual_feasibility_tolerance", dual),
    ):
        highs.setOptionValue(name, value)
    return highs


def new() -> Any:
    """Return a solver for the master program."""
    highs = opened(TOLERANCE, TOLERANCE)
    highs.setOptionValue("mip_feasibility_tolerance", TOLERANCE)
    return highs

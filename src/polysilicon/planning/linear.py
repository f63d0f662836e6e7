"""HiGHS for the master program: how it is opened, and what its ends mean."""

from __future__ import annotations

from typing import Any

import highspy

from polysilicon.errors import InputError, PolysiliconError

TOLERANCE = 1e-9


class InfeasibleMaster(PolysiliconError):  # noqa: N818
    """No column values satisfy all rows."""


INFEASIBLE = (
    highspy.HighsModelStatus.kInfeasible,
    highspy.HighsModelStatus.kUnboundedOrInfeasible,
)
UNBOUNDED = (highspy.HighsModelStatus.kUnbounded,)


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
    if status not in (highspy.HighsModelStatus.kOptimal, highspy.HighsModelStatus.kTimeLimit):
        raise PolysiliconError(f"HiGHS: {highs.modelStatusToString(status)} in the master program")


def new() -> Any:
    """Return a solver: quiet, one thread."""
    highs = highspy.Highs()
    for name, value in (
        ("output_flag", False),
        ("threads", 1),
        ("presolve", "off"),
        ("primal_feasibility_tolerance", TOLERANCE),
        ("dual_feasibility_tolerance", TOLERANCE),
        ("mip_feasibility_tolerance", 1e-9),
    ):
        highs.setOptionValue(name, value)
    return highs

"""Which pool takes a step, which waiting step runs next, how many at once.

Plain functions over arrays, most compiled by numba, without state, clock or randomness: the runtime
calls them one by one, and whatever else has to decide as the runtime does calls the same ones.
"""

from polysilicon.schedule.admission import admit, batch_cap, batch_law
from polysilicon.schedule.choice import LATE_USD_PER_S, SLO_LATE_USD_PER_S, choose, scores
from polysilicon.schedule.hedging import TELLING_TIMES, hedge_after_s, hold_s
from polysilicon.schedule.order import (
    REMEMBERED,
    doublings,
    expected_left_s,
    level,
    looks,
    next_step,
    usual_s,
)
from polysilicon.schedule.rules import allowed
from polysilicon.schedule.waiting import STARVE_S, UNKNOWN_S, queued_s, smoothed
from polysilicon.workload.classes import BATCH, INTERACTIVE

__all__ = [
    "BATCH",
    "INTERACTIVE",
    "LATE_USD_PER_S",
    "REMEMBERED",
    "SLO_LATE_USD_PER_S",
    "STARVE_S",
    "TELLING_TIMES",
    "UNKNOWN_S",
    "admit",
    "allowed",
    "batch_cap",
    "batch_law",
    "choose",
    "doublings",
    "expected_left_s",
    "hedge_after_s",
    "hold_s",
    "level",
    "looks",
    "next_step",
    "queued_s",
    "scores",
    "smoothed",
    "usual_s",
]

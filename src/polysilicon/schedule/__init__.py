"""Which pool takes a step, which waiting step runs next, how many at once.

Plain functions over arrays, without state, clock or randomness: the runtime calls them one by one,
and whatever else has to decide as the runtime does calls the same ones.
"""

from polysilicon.schedule.admission import admit
from polysilicon.schedule.choice import choose
from polysilicon.schedule.order import next_step

__all__ = ["admit", "choose", "next_step"]

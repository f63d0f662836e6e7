"""Work that was really asked for: what idle commitments could do on top of demand is taken away.

In the program work of what is paid anyway costs nothing, so an answer may hold more of it than
there is demand. What is too much is taken from the dearest machines first: they are those that
stand idle. Totals of a month are exact, since what is too much is so in each hour that it is in.
"""

from __future__ import annotations

import msgspec
import numpy as np

from polysilicon.planning.answer import Answer, Served
from polysilicon.planning.problem import Numbers, Problem


def trimmed(problem: Problem, answer: Answer) -> Answer:
    """Return an answer in which no need is served more than it asks for."""
    asked = np.einsum("sthk,th->stk", problem.demand, problem.hours)
    over = np.maximum(sum(one.work for one in answer.served) - asked, 0.0)
    served = list(answer.served)
    for need in range(len(problem.classes)):
        free = [at for at, one in enumerate(served) if one.kind == "committed" and one.option >= 0]
        for at in sorted(free, key=lambda at: -_usd_per_work(problem, served[at], need)):
            if over[:, :, need].max() <= 0:
                break
            less = np.minimum(served[at].work[:, :, need], over[:, :, need])
            over[:, :, need] -= less
            served[at] = _without(problem, served[at], need, less)
    return msgspec.structs.replace(answer, served=tuple(served))


def _usd_per_work(problem: Problem, one: Served, need: int) -> float:
    """Return what work of a need would cost on an option by the hour; unrented ones come last."""
    option = problem.options[one.option]
    price = float(problem.path(option.on_demand_usd_per_h)[0, -1])
    if option.work[need] <= 0 or not np.isfinite(price):
        return 0.0
    return price / float(option.work[need])


def _without(problem: Problem, one: Served, need: int, less: Numbers) -> Served:
    """Return what serves with less work of a need, and less of its capacity used."""
    option = problem.options[one.option]
    output = problem.path(option.output)
    per_unit = output * float(option.work[need])
    units = np.divide(less, per_unit, out=np.zeros_like(less), where=per_unit > 0)
    work = one.work.copy()
    work[:, :, need] -= less
    return msgspec.structs.replace(one, work=work, used=np.maximum(one.used - units, 0.0))

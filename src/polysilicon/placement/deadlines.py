"""How an agent's SLO is split over its steps: by what the slowest tasks wait for.

Of the tasks about the 99th percentile the longest paths are taken. Their seconds are a weighted
sum of the seconds of classes, which makes a row of the program: the optimum itself splits the SLO,
and the dual value of the row is what a second of it is worth. Where routes change, other tasks and
paths become the slowest, and a further row is added.
"""

from __future__ import annotations

import msgspec
import numpy as np

from polysilicon.placement.eligible import Pairs
from polysilicon.placement.program import Codes, Numbers
from polysilicon.placement.queueing import erlang_c, wait_share
from polysilicon.placement.tasks import Tasks
from polysilicon.workload.groups import quantiles

P99 = 0.99
_NEAR = 0.005


class Tail(msgspec.Struct, frozen=True, kw_only=True):
    """What the longest paths of an agent's slowest tasks are made of, of one task on average.

    Attributes:
        agent: its name.
        steps: how many steps of each class lie on them, shape (classes,).
        first: the sum of their sizes before the first token, over the class's.
        rest: the sum of their sizes after it.
        pause_s: that they wait for others, and what lies between their mean and the percentile.
    """

    agent: str
    steps: Numbers
    first: Numbers
    rest: Numbers
    pause_s: float

    def seconds(self, pairs: Pairs) -> Numbers:
        """Return the seconds on these paths if all of a class went to a pair.

        Args:
            pairs: of classes and options.
        """
        at = pairs.code
        return np.asarray(
            self.steps[at] * pairs.fixed_s
            + self.first[at] * pairs.first_s
            + self.rest[at] * pairs.rest_s
        )


class Served(msgspec.Struct, frozen=True, kw_only=True):
    """How a pool serves: by option, arrays of shape (options,).

    Attributes:
        servers: how many.
        busy: share of their time.
        cv2: variance of service over its squared mean.
        mean_s: mean service.
    """

    servers: Numbers
    busy: Numbers
    cv2: Numbers
    mean_s: Numbers


def class_seconds(pairs: Pairs, share: Numbers, classes: int) -> Numbers:
    """Return fixed, first and rest seconds of each class by its routes, shape (3, classes)."""
    parts = (pairs.fixed_s, pairs.first_s, pairs.rest_s)
    return np.stack(
        [np.bincount(pairs.code, weights=share * part, minlength=classes) for part in parts]
    )


def step_seconds(tasks: Tasks, seconds: Numbers) -> Numbers:
    """Return the seconds of each step of some tasks.

    Args:
        tasks: whose steps.
        seconds: fixed, first and rest seconds of the classes, shape (3, classes).
    """
    at = np.maximum(tasks.code, 0)
    served = seconds[0][at] + tasks.sizes.first * seconds[1][at] + tasks.sizes.rest * seconds[2][at]
    return np.asarray(np.where(tasks.code >= 0, served, 0.0) + tasks.pause_s)


def tail_of(tasks: Tasks, agent: str, seconds: Numbers) -> Tail:
    """Return what the longest paths of an agent's slowest tasks are made of.

    Args:
        tasks: of all agents.
        agent: which.
        seconds: fixed, first and rest seconds of the classes.
    """
    classes = seconds.shape[1]
    step_s = step_seconds(tasks, seconds)
    finish, ends = tasks.finish_s(step_s)
    mine = tasks.of(agent)
    at = p99(ends[mine])
    low, high = (_quantile(ends[mine], P99 + off) for off in (-_NEAR, _NEAR))
    near = mine[(ends[mine] >= low) & (ends[mine] <= high)]
    path = tasks.longest(finish, near)
    code = tasks.code[path]
    on = path[code >= 0]
    code = code[code >= 0]

    def summed(values: Numbers) -> Numbers:
        return np.bincount(code, weights=values, minlength=classes) / len(near)

    parts = {
        "steps": summed(np.ones(len(on))),
        "first": summed(tasks.sizes.first[on]),
        "rest": summed(tasks.sizes.rest[on]),
    }
    served = sum(float(parts[name] @ row) for name, row in zip(parts, seconds, strict=True))
    return Tail(agent=agent, pause_s=at - served, **parts)


def p99(values: Numbers) -> float:
    """Return the 99th percentile, by nearest rank."""
    return _quantile(values, P99)


def _quantile(values: Numbers, share: float) -> float:
    """Return a nearest-rank quantile of some values, at least one."""
    (found,) = quantiles(values, (share,))
    assert found is not None
    return found


def foresee(
    tasks: Tasks, pairs: Pairs, share: Numbers, served: Served, rng: np.random.Generator
) -> Numbers:
    """Return how long each task takes if each step draws its route, and its wait by the queue.

    Args:
        tasks: which.
        pairs: of classes and options.
        share: of each class that goes to each pair.
        served: how busy options are.
        rng: where the draws come from.
    """
    taken = np.flatnonzero(share > 0)
    some = pairs.take(taken)
    # Shares of a class fill the stretch of the line from its code to the next.
    ends = _ends(some.code, share[taken])
    at = tasks.code >= 0
    draws = tasks.code[at] + rng.random(int(at.sum())) * (1.0 - 1e-12)
    route = np.searchsorted(ends, draws, side="right")
    route = np.minimum(route, len(ends) - 1)
    option = some.option[route]
    step_s = tasks.pause_s.copy()
    step_s[at] += (
        some.fixed_s[route]
        + tasks.sizes.first[at] * some.first_s[route]
        + tasks.sizes.rest[at] * some.rest_s[route]
    )
    step_s[at] += waits(served, option, rng)
    return tasks.finish_s(step_s)[1]


def _ends(code: Codes, share: Numbers) -> Numbers:
    """Return where the stretch of each pair ends, classes one after the other."""
    total = np.cumsum(share)
    first = np.searchsorted(code, code)
    before = np.where(first > 0, total[np.maximum(first - 1, 0)], 0.0)
    last = np.searchsorted(code, code, side="right") - 1
    whole = total[last] - before
    return np.asarray(code + (total - before) / whole)


def waits(served: Served, option: Codes, rng: np.random.Generator) -> Numbers:
    """Draw how long steps wait: most not at all, the others exponentially long."""
    mean = wait_share(served.servers, served.busy, served.cv2) * served.mean_s
    chance = erlang_c(served.servers, served.servers * np.minimum(served.busy, 1.0))
    each = np.where(chance > 0, mean / np.where(chance > 0, chance, 1.0), 0.0)
    here = rng.random(len(option)) < chance[option]
    return np.where(here, rng.exponential(size=len(option)) * each[option], 0.0)

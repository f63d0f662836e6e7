"""The simulator against queues whose answers are known in closed form.

Each figure is the mean over replications with fixed seeds; what is known has to be within the
99.9 % confidence interval that these give. What comes before a queue has forgotten its beginning is
left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from polysilicon.simulate import kernel
from polysilicon.simulate.state import World
from reference_simulator import EnginePool, Law, Step, ToolPool
from simulated import world_of

REPLICATIONS = 20
WARM = 0.2
"""Share of the steps of a replication that is left out."""

Rng = np.random.Generator
Draw = Callable[[Rng, int], np.ndarray]


def erlang_c(servers: int, load: float) -> float:
    """Probability that a step waits, by the recursion of Erlang's B."""
    blocked = 1.0
    for n in range(1, servers + 1):
        blocked = load * blocked / (n + load * blocked)
    return servers * blocked / (servers - load * (1 - blocked))


def within(samples: list[float], expected: float) -> bool:
    """Tell whether an expected value is in the confidence interval of its replications."""
    mean, deviation = np.mean(samples), np.std(samples, ddof=1)
    half = stats.t.ppf(0.9995, len(samples) - 1) * deviation / math.sqrt(len(samples))
    assert half < 0.25 * abs(expected), "too wide to tell anything"
    print(f"{mean:.6g} against {expected:.6g}, give or take {half:.2g}")  # shown where it fails
    return bool(abs(mean - expected) <= half)


def replications(
    pools: list[ToolPool | EnginePool], stages: int, count: int, fill: Callable[[World, Rng], None]
) -> list[np.ndarray]:
    """Play tasks of so many steps in a row, a pool each; `fill` draws arrivals and work.

    Returns:
        Steps of each replication, shape (tasks, stages), without the warm-up.
    """
    steps = [
        Step(pool=at, parents=(task * stages + at - 1,) if at else (), ready_s=float(task))
        for task in range(count)
        for at in range(stages)
    ]
    world, names = world_of(steps, pools)
    assert names == sorted(names)
    found = []
    for seed in range(REPLICATIONS):
        copy = World(*(column.copy() for column in world))
        fill(copy, np.random.default_rng(seed))
        kernel.run(copy, np.random.default_rng(0), 0, np.inf, 10**9)
        found.append(copy.steps.reshape(count, stages)[int(WARM * count) :])
    return found


def poisson(rate_per_s: float, *work: Draw) -> Callable[[World, Rng], None]:
    """Return what fills a world with Poisson arrivals, and with work of each stage."""

    def fill(world: World, rng: Rng) -> None:
        count = len(world.tasks)
        world.tasks["arrival_s"] = np.cumsum(rng.exponential(1 / rate_per_s, count))
        seconds = np.stack([draw(rng, count) for draw in work], axis=1)
        world.steps["work"] = seconds.ravel()

    return fill


def exponential(mean_s: float) -> Draw:
    return lambda rng, count: rng.exponential(mean_s, count)


def waits(steps: np.ndarray) -> np.ndarray:
    return steps["start_s"] - steps["ready_s"]


@pytest.mark.parametrize(("servers", "load"), [(1, 0.7), (2, 1.0), (8, 6.0)])
def test_many_servers_are_those_of_erlang(servers: int, load: float):
    # M/M/c with services of 1 s: P(W > t) = C·exp(-(c - a)·t), mean wait C/(c - a).
    pool = ToolPool(cores=servers, rate=[1.0] * (servers + 1))
    runs = replications([pool], 1, 6000, poisson(load, exponential(1.0)))
    delayed, spare = erlang_c(servers, load), servers - load
    assert within([np.mean(waits(run) > 0) for run in runs], delayed)
    assert within([np.mean(waits(run)) for run in runs], delayed / spare)
    assert within([np.mean(waits(run) > 1 / spare) for run in runs], delayed * math.exp(-1))


def test_two_servers_with_one_erlang():
    assert erlang_c(2, 1.0) == pytest.approx(1 / 3)


def test_a_wait_is_as_likely_as_halfin_and_whitt_say():
    # c = a + beta·sqrt(a): P(W > 0) tends to 1/(1 + beta·Phi(beta)/phi(beta)).
    beta, load = 0.5, 100.0
    servers = round(load + beta * math.sqrt(load))
    limit = 1 / (1 + beta * stats.norm.cdf(beta) / stats.norm.pdf(beta))
    exact = erlang_c(servers, load)
    assert exact == pytest.approx(limit, rel=0.05)
    pool = ToolPool(cores=servers, rate=[1.0] * (servers + 1))
    runs = replications([pool], 1, 12000, poisson(load, exponential(1.0)))
    assert within([np.mean(waits(run) > 0) for run in runs], exact)


def hyper(rng: Rng, count: int) -> np.ndarray:
    """Return draws of mean 1 and variance 5.3: most short, one of ten long."""
    return rng.exponential(np.where(rng.random(count) < 0.1, 6.0, 4.0 / 9.0))


@pytest.mark.parametrize(
    "draw", [exponential(1.0), lambda _rng, count: np.ones(count), hyper], ids=["M", "D", "H"]
)
def test_shared_cores_do_not_care_how_work_is_distributed(draw: Draw):
    # M/G/1-PS: the mean stay is E[S]/(1 - rho), and x/(1 - rho) of a step of x seconds.
    most, load = 256, 0.6
    pool = ToolPool(cores=most, rate=[1.0, *(1 / n for n in range(1, most + 1))])
    runs = replications([pool], 1, 6000, poisson(load, draw))
    assert within([np.mean(run["end_s"] - run["ready_s"]) for run in runs], 1 / (1 - load))
    slow = [(run["end_s"] - run["ready_s"])[run["work"] > 0.9] for run in runs]
    work = [run["work"][run["work"] > 0.9] for run in runs]
    assert within([s.sum() / w.sum() for s, w in zip(slow, work, strict=True)], 1 / (1 - load))
    assert all(np.all(waits(run) == 0) for run in runs)


def test_queues_in_a_row_are_alone():
    # Burke: what leaves M/M/1 is Poisson again, so the stays are 1/(mu - lambda) each.
    rate, means = 0.5, (1.0, 1.25)
    pools = [ToolPool(cores=1, rate=[1.0, 1.0])] * 2
    runs = replications(pools, 2, 6000, poisson(rate, *(exponential(m) for m in means)))
    for at, mean_s in enumerate(means):
        stays = [np.mean(run["end_s"][:, at] - run["ready_s"][:, at]) for run in runs]
        assert within(stays, 1 / (1 / mean_s - rate))
        assert within([np.mean(waits(run[:, at]) > 0) for run in runs], rate * mean_s)


def test_an_engine_with_one_slot_is_a_queue_of_general_services():
    # Pollaczek and Khinchine: M/G/1 waits for lambda·E[S²]/(2·(1 - rho)) on average.
    prefill_s, token_s, rate = 0.2, 0.01, 1.2
    law = Law(grid_tokens=(0, 1), grid_s=(0, prefill_s), base_s=(0, token_s), context_s=(0, 0))
    pool = EnginePool(law=law, slots=1, batch_tokens=8)
    lengths = np.array([2, 41, 101])

    def fill(world: World, rng: Rng) -> None:
        poisson(rate, lambda _rng, count: np.zeros(count))(world, rng)
        world.steps["prompt"] = 1
        world.steps["output"] = rng.choice(lengths, len(world.steps))

    services_s = prefill_s + token_s * (lengths - 1)
    load = rate * services_s.mean()
    runs = replications([pool], 1, 6000, fill)
    starts = [np.mean(waits(run)) for run in runs]
    assert within(starts, rate * np.mean(services_s**2) / (2 * (1 - load)))
    assert within([np.mean(waits(run) > 0) for run in runs], load)

"""The simulator against one that plays every iteration, token and event one by one."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reference_simulator import EnginePool, Law, Step, Times, ToolPool, play
from simulated import in_order, simulated

FAST = 1e-3
"""Tasks of several steps are so short that all have had the same level of service: they go first
come, first served, as in the reference."""

FIELDS = ("ready_s", "start_s", "first_token_s", "end_s")


def drawn_law(rng: random.Random, slots: int, reach: int, unit_s: float) -> Law:
    """Return a law with kinks, in units of a few milliseconds; contexts may cost nothing."""
    grid = [0, *sorted(rng.sample(range(1, reach + 50), rng.randint(1, 4)))]
    seconds = np.cumsum([rng.random() for _ in grid]) * 0.01 * unit_s
    costly = rng.random() < 0.7
    return Law(
        grid_tokens=grid,
        grid_s=seconds.tolist(),
        base_s=[0.0, *((0.1 + rng.random()) * 0.01 * unit_s for _ in range(slots))],
        context_s=[0.0, *(costly * rng.random() * 1e-4 * unit_s for _ in range(slots))],
        pair_s=rng.choice([0.0, rng.random() * 1e-5]) * unit_s,
        piece_s=rng.choice([0.0, rng.random() * 1e-3]) * unit_s,
    )


def drawn_engines(rng: random.Random, unit_s: float) -> EnginePool:
    slots = rng.randint(1, 6)
    batch_tokens = slots + rng.randint(1, 40)
    return EnginePool(
        law=drawn_law(rng, slots, batch_tokens, unit_s),
        replicas=rng.randint(1, 4),
        slots=slots,
        batch_tokens=batch_tokens,
        kv_tokens=rng.choice([math.inf, 90, 140]),
    )


def drawn_tools(rng: random.Random, _unit_s: float) -> ToolPool:
    cores = rng.choice([1, 2, 4, 8])
    slower = rng.choice([1.0, 0.9, 0.7])
    return ToolPool(cores=cores, rate=[1.0, *(slower**n for n in range(cores))])


def drawn_steps(
    rng: random.Random, pools: Sequence[EnginePool | ToolPool], unit_s: float, *, linked: bool
) -> list[Step]:
    """Return steps that come in bursts; linked ones wait for others, often without a pause."""
    steps: list[Step] = []
    now_s = 0.0
    for name in range(rng.randint(1, 60)):
        now_s += rng.expovariate(1.0) * rng.choice([1e-3, 1e-2, 3e-2]) * unit_s
        at = rng.randrange(len(pools))
        pool = pools[at]
        parents: tuple[int, ...] = ()
        if linked and name and rng.random() < 0.6:
            parents = tuple(sorted({rng.randrange(name) for _ in range(rng.choice([1, 1, 2]))}))
        think_s = rng.choice([0.0, rng.random() * 0.01 * unit_s])
        step = Step(pool=at, parents=parents, ready_s=now_s, think_s=think_s)
        if isinstance(pool, EnginePool):
            prompt = rng.randint(1, 60)
            cached = 0 if linked else rng.choice([0, rng.randint(0, prompt)])
            step = replace(step, prompt=prompt, cached=cached, output=rng.randint(1, 29))
        else:
            work_s, wait_s = rng.random() * 0.01 * unit_s, rng.random() * 0.01 * unit_s
            threads = rng.randint(1, min(pool.cores, 3))
            step = replace(step, work_s=work_s, cores=threads, wait_s=rng.choice([0.0, wait_s]))
        steps.append(step)
    return steps


def compare(seed: int, *, linked: bool) -> tuple[list[float], list[float]]:
    """Draw pools and steps; return all times of all steps, of the reference and of ours."""
    rng = random.Random(seed)
    unit_s = FAST if linked else 1.0
    kinds = [drawn_engines, drawn_tools]
    pools = [rng.choice(kinds)(rng, unit_s) for _ in range(rng.randint(1, 3))]
    steps = in_order(drawn_steps(rng, pools, unit_s, linked=linked), pools)
    slow, fast = (
        [getattr(times, field) for times in played for field in FIELDS]
        for played in (play(steps, pools), simulated(steps, pools))
    )
    return slow, fast


def exactly(times: list[float]) -> object:
    """Return what equals the same times to nine digits."""
    return pytest.approx(times, rel=1e-9, abs=0.0, nan_ok=True)


@pytest.mark.parametrize("linked", [False, True])
def test_every_time_of_every_step_is_the_same(linked: bool):
    for seed in range(150):
        expected, found = compare(seed, linked=linked)
        assert found == exactly(expected), seed


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 2**32), linked=st.booleans())
def test_whatever_is_drawn(seed: int, linked: bool):
    expected, found = compare(seed, linked=linked)
    assert found == exactly(expected)


def chat(rng: np.random.Generator, count: int, rate_per_s: float) -> list[Step]:
    """Return requests with long-tailed prompts and outputs, in bursts."""
    gaps_s = rng.gamma(0.5, 2.0 / rate_per_s, count)
    prompts = np.clip(rng.lognormal(6.3, 1.2, count), 1, 8000).astype(int)
    outputs = np.clip(rng.lognormal(4.9, 0.9, count), 1, 1000).astype(int)
    return [
        Step(pool=0, ready_s=float(ready_s), prompt=int(prompt), output=int(output))
        for ready_s, prompt, output in zip(np.cumsum(gaps_s), prompts, outputs, strict=True)
    ]


def tails(steps: Sequence[Step], times: Sequence[Times]) -> np.ndarray:
    """Return p50 and p99 of the time to the first token, for each further token, and in all."""
    several = [at for at, step in enumerate(steps) if step.output > 1]
    ttft_s = [one.first_token_s - one.ready_s for one in times]
    tpot_s = [
        (times[at].end_s - times[at].first_token_s) / (steps[at].output - 1) for at in several
    ]
    task_s = [one.end_s - one.ready_s for one in times]
    return np.array([np.percentile(each, [50, 99]) for each in (ttft_s, tpot_s, task_s)])


@pytest.mark.parametrize(
    ("replicas", "rate_per_s", "kv_tokens"),
    [(1, 6.0, 475_000), (1, 20.0, 475_000), (4, 70.0, 475_000), (4, 40.0, 30_000)],
)
def test_tails_of_requests(replicas: int, rate_per_s: float, kv_tokens: float):
    # An H100 with Llama 3.1 8B, by its rooflines: 5.7 ms for the weights, 14 µs a prompt token.
    slots = 128
    law = Law(
        grid_tokens=(0, 1),
        grid_s=(0.0, 1.41e-5),
        base_s=(0.0, *(5.7e-3,) * slots),
        context_s=(4.9e-8,) * (slots + 1),
        pair_s=5.3e-10,
    )
    pools = [
        EnginePool(law=law, replicas=replicas, slots=slots, batch_tokens=512, kv_tokens=kv_tokens)
    ]
    steps = chat(np.random.default_rng(7), 1500, rate_per_s)
    slow, fast = tails(steps, play(steps, pools)), tails(steps, simulated(steps, pools))
    assert fast == pytest.approx(slow, rel=1e-6)
    assert (slow[0] > 0).all()

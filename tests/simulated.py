"""The simulator on steps, pools and laws as the reference simulator takes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from polysilicon import catalog
from polysilicon.catalog.fleet import Pool
from polysilicon.catalog.policy import Policy
from polysilicon.cost.llm.engine import EngineLaw
from polysilicon.simulate.fleet import empty_world
from polysilicon.simulate.kernel import run
from polysilicon.simulate.machines import Ability, Machines
from polysilicon.simulate.program import Program, Route, program_of
from polysilicon.simulate.state import World
from polysilicon.simulate.world import fed
from polysilicon.workload.record import StepRecord
from polysilicon.workload.workload import Workload
from reference_simulator import EnginePool, Step, Times, ToolPool

MODEL_OFFER = "aws/m7g.large"


def simulated(steps: Sequence[Step], pools: Sequence[EnginePool | ToolPool]) -> list[Times]:
    """Return the times that the simulator finds, in the order of the steps."""
    world, names = world_of(steps, pools)
    run(world, np.random.default_rng(0), 0, np.inf, 10**9)
    found = world.steps
    times = [Times() for _ in steps]
    for row, name in enumerate(names):
        times[name] = Times(
            ready_s=float(found["ready_s"][row]),
            start_s=float(found["start_s"][row]),
            first_token_s=float(found["first_s"][row]),
            end_s=float(found["end_s"][row]),
        )
    return times


def world_of(
    steps: Sequence[Step], pools: Sequence[EnginePool | ToolPool]
) -> tuple[World, list[int]]:
    """Return what the simulator begins with, and which step each of its rows is."""
    program = program_of(workload_of(steps, pools), Policy())
    names = [int(name) for name in program.table["step_id"].to_pylist()]
    return _world(program, pools), names


def in_order(steps: Sequence[Step], pools: Sequence[EnginePool | ToolPool]) -> list[Step]:
    """Return steps in the simulator's order, by which it decides where times are equal."""
    _, names = world_of(steps, pools)
    place = {name: row for row, name in enumerate(names)}
    return [
        replace(steps[name], parents=tuple(place[before] for before in steps[name].parents))
        for name in names
    ]


def workload_of(steps: Sequence[Step], pools: Sequence[EnginePool | ToolPool]) -> Workload:
    """Return steps as a workload: a task for all that are linked, and times as if each took 1 s."""
    edges = [(child, parent) for child, step in enumerate(steps) for parent in step.parents]
    child, parent = np.array(edges, int).reshape(-1, 2).T
    links = coo_matrix((np.ones(len(edges)), (child, parent)), shape=(len(steps),) * 2)
    _, task = connected_components(links, directed=False)
    arrival_s: dict[int, float] = {}
    for name, step in enumerate(steps):
        if not step.parents:
            at = int(task[name])
            arrival_s[at] = min(arrival_s.get(at, np.inf), step.ready_s)
    ready_s: list[float] = []
    records = []
    for name, step in enumerate(steps):
        ended_s = max((ready_s[before] + 1.0 for before in step.parents), default=None)
        ready_s.append(step.ready_s if ended_s is None else ended_s + step.think_s)
        common = {
            "task_id": f"{task[name]:09d}",
            "step_id": f"{name:09d}",
            "parent_ids": tuple(f"{before:09d}" for before in step.parents),
            "arrival_s": arrival_s[int(task[name])],
            "ready_s": ready_s[name],
            "start_s": ready_s[name],
            "end_s": ready_s[name] + 1.0,
            "name": _what(step.pool),
        }
        if isinstance(pools[step.pool], EnginePool):
            tokens = {
                "prompt_tokens": step.prompt,
                "cached_tokens": step.cached,
                "output_tokens": step.output,
            }
            records.append(StepRecord(kind="llm", model=_what(step.pool), **tokens, **common))
        else:
            work = {"cpu_s": step.work_s * step.cores, "cores": step.cores, "wait_s": step.wait_s}
            records.append(StepRecord(kind="tool", **work, **common))
    return Workload.from_records(records)


def _world(program: Program, pools: Sequence[EnginePool | ToolPool]) -> World:
    # Tables of all pools get as many points; here each is a whole number of tokens.
    most = max((pool.batch_tokens for pool in pools if isinstance(pool, EnginePool)), default=1)
    fleet = [_machines(at, pool, program.routes, most) for at, pool in enumerate(pools)]
    world = empty_world(fleet, program.routes, Policy(), ())
    for at, pool in enumerate(pools):
        if isinstance(pool, ToolPool):
            threads = np.arange(world.alone.shape[1]) * world.pools["step"][at]
            world.alone[at] = np.interp(threads, np.arange(pool.cores + 1), pool.rate)
    return fed(world, program)


def _machines(at: int, pool: EnginePool | ToolPool, routes: Sequence[Route], most: int) -> Machines:
    engine = isinstance(pool, EnginePool)
    sure = Ability(amount=1.0, low=1.0, high=1.0, basis="measured")
    return Machines(
        pool=Pool(name=_what(at), offer=MODEL_OFFER, units=pool.replicas if engine else 1),
        offer=catalog.load().offer(MODEL_OFFER),
        region="us-east-1",
        usd_per_s=1.0,
        watts=None,
        threads=0.0 if engine else float(pool.cores),
        engine=_law(pool, most) if engine else None,
        abilities={row: sure for row, route in enumerate(routes) if route.what == _what(at)},
        refusals={},
    )


def _law(pool: EnginePool, most: int) -> EngineLaw:
    law, tokens = pool.law, np.arange(most + 1, dtype=np.float64)
    return EngineLaw(
        slots=pool.slots,
        batch_tokens=pool.batch_tokens,
        kv_tokens=pool.kv_tokens,
        tokens=tokens,
        prefill_s=np.array([law.prefill_s(n) for n in tokens]),
        pair_s=law.pair_s,
        piece_s=law.piece_s,
        base_s=np.array(law.base_s, dtype=np.float64),
        context_s=np.array(law.context_s, dtype=np.float64),
        basis="measured",
        low=1.0,
        high=1.0,
        note="",
    )


def _what(pool: int) -> str:
    return f"p{pool}"

"""A workload as arrays: what each step is, whom it waits for, and when its task arrives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from polysilicon.catalog.policy import Policy
from polysilicon.cost.train import Method, method_of
from polysilicon.placement.classes import PERSON
from polysilicon.schedule import BATCH, INTERACTIVE
from polysilicon.schedule.types import Codes, Flags, Floats
from polysilicon.simulate.state import NONE, STEP, TASK
from polysilicon.workload.groups import task_times
from polysilicon.workload.record import KINDS
from polysilicon.workload.shape import links
from polysilicon.workload.workload import Workload

TOKEN_THREADS = 8.0
"""Threads of an embedding or training step: vCPUs that one takes on a CPU, or one accelerator."""


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """Steps that are sent alike.

    Attributes:
        kind: of the step record.
        what: model, or name of the operation.
        data_class: of what they read.
        region: where they come from.
        offer: on which their core-seconds were spent; None where nobody tells.
        tokens: their work is counted in tokens, not in core-seconds.
        method: how training steps train; None for others.
    """

    kind: str
    what: str
    data_class: str | None
    region: str | None
    offer: str | None
    tokens: bool = False
    method: Method | None = None


class Program(msgspec.Struct, frozen=True, kw_only=True):
    """Whole tasks in the order of their arrival, and their steps in that order.

    Attributes:
        table: the workload's rows, in the order of the steps.
        steps: as they are before anything happens.
        tasks: likewise; `first` counts from 0.
        edges: row of the child of each link, by parent.
        routes: of the steps' codes.
        agents: of each task.
        kind: of each step, a place in `KINDS`.
        person: steps in which a person pauses.
        held: steps that tell how long they took, but not what they would take elsewhere.
        lost: steps of which nothing is known; they take no time.
    """

    table: Any
    steps: Any
    tasks: Any
    edges: Codes
    routes: tuple[Route, ...]
    agents: Sequence[str]
    kind: Codes
    person: Flags
    held: int
    lost: int


def program_of(workload: Workload, policy: Policy, known: Sequence[Route] = ()) -> Program:
    """Return whole tasks as arrays, in an order that does not depend on that of the rows.

    Args:
        workload: whole tasks.
        policy: deadlines and classes of agents.
        known: routes whose codes are kept; new ones come after them.
    """
    times = task_times(workload)
    arrival_s = np.nan_to_num(np.asarray(times.arrival_s))
    names = np.asarray(times.names)
    in_order = np.lexsort((names, arrival_s))
    rank = np.empty(len(in_order), np.int64)
    rank[in_order] = np.arange(len(in_order))
    of = rank[times.codes]
    step_ids = workload.table["step_id"].to_numpy(zero_copy_only=False)
    if (len(workload) and (np.diff(of) < 0).any()) or not _rising(of, step_ids):
        order = np.lexsort((step_ids, of))
        workload = Workload(workload.table.take(order))
        of = of[order]
    child, parent = links(workload, of)
    steps, routes, held, lost = _steps(workload, of, known)
    think_s = _think(workload, arrival_s[in_order][of], child, parent)
    by_parent = np.argsort(parent, kind="stable")
    fanout = np.bincount(parent, minlength=len(of))
    steps["think_s"] = think_s
    steps["pending"] = np.bincount(child, minlength=len(of))
    steps["child"] = np.cumsum(fanout) - fanout
    steps["children"] = fanout
    agents = [times.agents[i] for i in in_order.tolist()]
    tasks = _tasks(arrival_s[in_order], np.bincount(of, minlength=len(in_order)), agents, policy)
    return Program(
        table=workload.table,
        steps=steps,
        tasks=tasks,
        edges=child[by_parent],
        routes=routes,
        agents=agents,
        kind=_kinds(workload),
        person=_persons(workload),
        held=held,
        lost=lost,
    )


def _rising(of: Codes, step_ids: Any) -> bool:
    """Tell whether the steps of each task are in the order of their ids already."""
    same = of[1:] == of[:-1]
    return bool((step_ids[1:][same] > step_ids[:-1][same]).all())


def _tasks(arrival_s: Floats, sizes: Codes, agents: Sequence[str], policy: Policy) -> Any:
    """Return tasks before anything happens."""
    n = len(arrival_s)
    slos = {agent: policy.slo_of(agent) for agent in set(agents)}
    late_s = {agent: np.inf if slo is None else slo.p99_s for agent, slo in slos.items()}
    klass = {a: INTERACTIVE if slo and slo.interactive else BATCH for a, slo in slos.items()}
    tasks = np.zeros(n, TASK)
    tasks["arrival_s"] = arrival_s
    tasks["deadline_s"] = arrival_s + np.array([late_s[agent] for agent in agents], np.float64)
    tasks["klass"] = np.array([klass[agent] for agent in agents], np.int64)
    tasks["first"] = np.cumsum(sizes) - sizes
    tasks["steps"] = tasks["left"] = sizes
    tasks["home"] = tasks["agent"] = NONE
    return tasks


def _think(workload: Workload, arrival_s: Floats, child: Codes, parent: Codes) -> Floats:
    """Return seconds between the end of the last parent, or the arrival, and readiness.

    Where nobody tells when a step was ready, it was when it started. Where the end of a parent is
    not known, nobody thought.
    """
    ready_s, end_s = workload.numbers("ready_s"), workload.numbers("end_s")
    ready_s = np.where(np.isnan(ready_s), workload.numbers("start_s"), ready_s)
    before_s = np.full(len(ready_s), -np.inf)
    np.maximum.at(before_s, child, np.where(np.isnan(end_s[parent]), np.inf, end_s[parent]))
    before_s = np.where(np.isneginf(before_s), arrival_s, before_s)
    return np.maximum(np.nan_to_num(ready_s - before_s, nan=0.0, neginf=0.0), 0.0)


def _steps(
    workload: Workload, task: Codes, known: Sequence[Route]
) -> tuple[Any, tuple[Route, ...], int, int]:
    """Return steps without their links, the routes, and how many steps are held or lost."""
    n = len(workload)
    number = workload.numbers
    llm = of_kind(workload, "llm")
    prompt, output, cpu_s = number("prompt_tokens"), number("output_tokens"), number("cpu_s")
    named = workload.codes("model")[0] >= 0
    counted = llm & ~np.isnan(prompt) & ~np.isnan(output)
    worked = ~llm & ~np.isnan(cpu_s)
    tokens = ~llm & ~worked & ~of_kind(workload, "tool") & named & ~np.isnan(prompt)
    lasted_s = number("end_s") - number("start_s")
    lasted_s = np.where(np.isnan(lasted_s), number("wait_s"), lasted_s)
    placed = counted | worked | tokens
    held = ~placed & ~np.isnan(lasted_s)
    route, routes = _routes(workload, placed, tokens, known)
    prompt, output = np.maximum(np.nan_to_num(prompt), 1.0), np.nan_to_num(output)
    cached = np.minimum(np.nan_to_num(number("cached_tokens")), prompt)
    wait_s = np.where(worked, np.nan_to_num(number("wait_s")), 0.0)
    steps = np.zeros(n, STEP)
    steps["task"], steps["route"], steps["engine"] = task, route, llm
    steps["prompt"], steps["cached"], steps["output"] = prompt, cached, output
    steps["shared"] = _shared(cached, counted, task)
    steps["work"] = np.where(tokens, prompt, np.nan_to_num(cpu_s))
    steps["threads"] = np.where(worked, np.maximum(np.nan_to_num(number("cores"), nan=1.0), 1.0), 1)
    steps["threads"][tokens] = TOKEN_THREADS
    steps["startup_s"] = np.where(worked, np.nan_to_num(number("startup_s")), 0.0)
    steps["wait_s"] = np.where(held, np.maximum(lasted_s, 0.0), wait_s)
    for column in ("ready_s", "start_s", "first_s", "end_s"):
        steps[column] = np.nan
    steps["pool"] = steps["next"] = NONE
    return steps, routes, int(held.sum()), int((~placed & ~held).sum())


def _shared(cached: Floats, counted: Flags, task: Codes) -> Floats:
    """Return cached tokens that any engine holds: those of the first LLM step of each task.

    What the first step of a task finds was left by others, such as a common system prompt; what
    later steps find beyond that, their own task left on its engine.
    """
    rows = np.flatnonzero(counted)
    first = np.full(int(task.max(initial=-1)) + 1, len(task))
    np.minimum.at(first, task[rows], rows)
    found = np.zeros(len(first))
    some = first < len(task)
    found[some] = cached[first[some]]
    return np.minimum(found[task], cached)


def _routes(
    workload: Workload, placed: Flags, by_tokens: Flags, known: Sequence[Route]
) -> tuple[Codes, tuple[Route, ...]]:
    """Return the route of each step, -1 where it is sent nowhere, and what routes there are."""
    by_model = of_kind(workload, "llm") | by_tokens
    pairs = [workload.codes(c) for c in ("kind", "name", "model", "data_class", "region", "offer")]
    kind, name, model, data, region, offer = (codes for codes, _ in pairs)
    parts = (
        kind,
        np.where(by_model, NONE, name),
        np.where(by_model, model, NONE),
        data,
        region,
        np.where(by_model, NONE, offer),
    )
    key = by_tokens.astype(np.int64)
    for codes, (_, texts) in zip(parts, pairs, strict=True):
        key = key * (len(texts) + 1) + codes + 1
    rows = np.flatnonzero(placed)
    _, first, inverse = np.unique(key[rows], return_index=True, return_inverse=True)
    routes, place = list(known), []
    for row in rows[first].tolist():
        texts_of = [t[int(c[row])] if c[row] >= 0 else None for c, t in pairs]
        route = _route(texts_of, by_model=bool(by_model[row]), tokens=bool(by_tokens[row]))
        if route not in routes:
            routes.append(route)
        place.append(routes.index(route))
    found = np.full(len(workload), NONE)
    found[rows] = np.array(place, np.int64)[inverse]
    return found, tuple(routes)


def _route(texts: Sequence[str | None], *, by_model: bool, tokens: bool) -> Route:
    """Return the route of a step, by its kind, name, model, class of data, region and offer."""
    kind, name, model, data, region, offer = texts
    return Route(
        kind=kind or "tool",
        what=(model if by_model else name) or "",
        data_class=data,
        region=region,
        offer=None if by_model else offer,
        tokens=tokens,
        method=method_of(name or "") if kind == "train" else None,
    )


def _kinds(workload: Workload) -> Codes:
    """Return the kind of each step as a place in `KINDS`."""
    codes, names = workload.codes("kind")
    return np.array([KINDS.index(name) for name in names], np.int64)[codes]


def _persons(workload: Workload) -> Flags:
    """Tell in which steps a person pauses, shape (steps,)."""
    codes, names = workload.codes("name")
    return np.array([name == PERSON for name in names], np.bool_)[codes]


def of_kind(workload: Workload, kind: str) -> Flags:
    """Tell which steps are of a kind, shape (steps,)."""
    codes, names = workload.codes("kind")
    return codes == (names.index(kind) if kind in names else -2)


def own_program(program: Program) -> Program:
    """Return a program whose steps may be written into."""
    return msgspec.structs.replace(program, steps=program.steps.copy())


def shuffled_program(program: Program, rng: np.random.Generator) -> Program:
    """Return a program in which another task comes at each arrival."""
    order = rng.permutation(len(program.tasks))
    tasks = program.tasks[order]
    slack_s = tasks["deadline_s"] - tasks["arrival_s"]
    tasks["arrival_s"] = program.tasks["arrival_s"]
    tasks["deadline_s"] = tasks["arrival_s"] + slack_s
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    steps = program.steps.copy()
    steps["task"] = place[steps["task"]]
    agents = [program.agents[task] for task in order.tolist()]
    return msgspec.structs.replace(program, tasks=tasks, steps=steps, agents=agents)

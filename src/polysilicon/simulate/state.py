"""What a simulation knows at a moment, as arrays that compiled functions change in place.

One row a step, a task, a pool, an engine; what is known of one lies together in memory, for it is
used together. Memory is 200 bytes for each step of a task that has arrived and not ended, twice
that while tasks are added, and 16 bytes for each slot of an engine and each thread of a pool.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from polysilicon.schedule.types import Codes, Floats

THINKS, TRAVELS, WAITS = 0, 1, 2
"""Why a step is among the delays: it is not ready yet, on its way to its pool, or off the cores."""

IDLE, DECODES, PREFILLS = 0, 1, 2
"""What an engine does: nothing, iterations that only decode, one iteration that takes prompts."""

LEVELS = 24
"""Of service that is left; each doubles the one before, so that none is beyond."""

BUCKETS = 2 * LEVELS
"""Of a queue: two classes of tasks, each by level."""

DELAYS, FAILS, OPEN, STEPS, TASKS, EDGES = range(6)
"""Places in `World.sizes`: delays and failures that are due, known tasks that have not ended, and
rows of steps, tasks and links that are used."""

NONE = -1

_FLOAT, _INT, _BOOL = np.float64, np.int64, np.bool_

# Of what there may be tens of millions: rows, and tokens, which are whole numbers below 2^24.
_ROW, _SHORT = np.int32, np.float32

STEP = np.dtype(
    [
        ("work", _FLOAT),  # core-seconds where they were measured, or tokens
        ("startup_s", _FLOAT),  # before its work
        ("wait_s", _FLOAT),  # off the cores
        ("think_s", _FLOAT),  # between the end of its last parent and when it is ready
        ("ready_s", _FLOAT),  # when it could start; NaN before
        ("start_s", _FLOAT),  # when it got a slot or cores
        ("first_s", _FLOAT),  # when its first token came
        ("end_s", _FLOAT),  # when it ended
        ("usd", _FLOAT),  # what its share of machines cost
        ("since", _FLOAT),  # when it entered its queue
        ("clock", _FLOAT),  # of its engine's shared seconds when it began
        ("prompt", _SHORT),  # tokens
        ("cached", _SHORT),  # of these, those that its task left in a cache, as recorded
        ("shared", _SHORT),  # of these, those that any task leaves there
        ("output", _SHORT),  # tokens
        ("left", _SHORT),  # prompt tokens to compute
        ("context", _SHORT),  # tokens in the cache
        ("found", _SHORT),  # prompt tokens that were in the cache when it began
        ("threads", _SHORT),  # that it runs at once
        ("task", _ROW),  # row of its task
        ("route", _ROW),  # which steps are sent alike; -1: it needs none of these machines
        ("pending", _ROW),  # parents that have not ended
        ("child", _ROW),  # where its children begin among the edges
        ("children", _ROW),  # how many
        ("pool", _ROW),  # which
        ("attempts", _ROW),  # how often it was begun
        ("next", _ROW),  # who comes after it in the queue, or among the prompts of its engine
        ("stage", np.int8),  # why it is among the delays
        ("engine", _BOOL),  # work of an engine, not of cores
    ],
    align=True,
)

TASK = np.dtype(
    [
        ("arrival_s", _FLOAT),
        ("deadline_s", _FLOAT),  # infinite without an SLO
        ("attained_s", _FLOAT),  # service it has had
        ("mark", _FLOAT),  # tokens that its engine had written when it last left it
        ("unused", _FLOAT),  # so that it lies in one cache line, of 64 bytes
        ("home", _ROW),  # that engine, which has its last context; -1 for none
        ("first", _ROW),  # row of its first step
        ("steps", _ROW),  # how many it has, one after the other
        ("left", _ROW),  # of these, those that have not ended
        ("klass", _ROW),  # interactive or batch
        ("agent", _ROW),  # whose; -1 where nobody tells
    ],
    align=True,
)

POOL = np.dtype(
    [
        ("thread_usd_per_s", _FLOAT),  # of one thread
        ("engine_usd_per_s", _FLOAT),  # of one engine
        ("thread_price", _FLOAT),  # of a second of a step's share, by a placement or its power;
        ("slot_price", _FLOAT),  # NaN where that of the machine counts
        ("whole", _FLOAT),  # threads of all machines
        ("cores", _FLOAT),  # of those that are up
        ("threads", _FLOAT),  # that run
        ("step", _FLOAT),  # threads between two points of the tables of rates
        ("clock", _FLOAT),  # work that each thread has done since the pool was last idle, seconds
        ("last_s", _FLOAT),  # when that was
        ("busy_s", _FLOAT),  # thread-seconds so far
        ("job_at", _INT),  # where its heap of jobs begins
        ("jobs", _INT),  # how many are in it
        ("first", _INT),  # its first engine
        ("last", _INT),  # one past its last
        ("copies", _INT),  # engines of one machine
        ("machines", _INT),
        ("up", _INT),  # of these
        ("active", _INT),  # engines that compute, where cores feel it
        ("coupled", _INT),  # cores and engines are on 1: the same machine; 2: the same ones
        ("failure_s", _FLOAT),  # mean time between failures of a machine; infinite where none fails
        ("repair_s", _FLOAT),  # until one is back
    ]
)

LAW = np.dtype(
    [
        ("slots", _INT),  # of an engine
        ("batch", _FLOAT),  # tokens of an iteration
        ("kv", _FLOAT),  # tokens in memory
        ("grid", _FLOAT),  # tokens between two points of the table of prefills
        ("pair_s", _FLOAT),
        ("piece_s", _FLOAT),
    ]
)

DECODE = np.dtype([("base_s", _FLOAT), ("context_s", _FLOAT)])

ENGINE = np.dtype(
    [
        ("pool", _INT),
        ("phase", _INT),  # what it does
        ("begun_s", _FLOAT),  # when that began
        ("until_s", _FLOAT),  # when it ends
        ("runs", _FLOAT),  # iterations until then
        ("slow", _FLOAT),  # factor on their seconds
        ("taken", _FLOAT),  # prompt tokens of the iteration
        ("turned", _FLOAT),  # iterations so far: the clock on which sequences end
        ("decoding", _INT),  # sequences that decode
        ("context", _FLOAT),  # tokens in the cache of these
        ("running", _INT),  # sequences in its slots
        ("shared_by", _FLOAT),  # those at the begin of the phase
        ("used", _FLOAT),  # tokens of memory that running sequences hold
        ("written", _FLOAT),  # tokens that ended sequences left in the cache so far
        ("clock", _FLOAT),  # seconds so far, each over the sequences that shared it
        ("busy_s", _FLOAT),  # seconds it computed
        ("first", _INT),  # first of the sequences whose prompt is not done
        ("last", _INT),  # last of them
        ("slot_at", _INT),  # where its heap of decoding sequences begins
        ("closed", _BOOL),  # it is at the end of an iteration: nothing begins
        ("down", _BOOL),  # it has failed and is not back
    ]
)

ROUTE = np.dtype(
    [
        ("able", _BOOL),  # the pool may take such steps
        ("amount", _FLOAT),  # seconds of one thread for each unit of a step's work
        ("delay_s", _FLOAT),  # between ready and there
    ]
)

BUCKET = np.dtype([("head", _INT), ("tail", _INT)])

GATE = np.dtype(
    [
        ("filled", _INT),  # which buckets are not empty, a bit each
        ("waiting", _INT),  # how many steps wait
        ("mean_s", _FLOAT),  # smoothed service of its steps
    ]
)

WISH = np.dtype(
    [
        ("late_usd_per_s", _FLOAT),  # of a second of lateness without a deadline
        ("very_late_usd_per_s", _FLOAT),  # with one
        ("latency", _BOOL),  # only latency counts
        ("shares", _BOOL),  # vendors have shares
    ]
)


class World(NamedTuple):
    """All of it; arrays of records have the dtype of the same name.

    Attributes:
        steps: of the tasks that are known, shape (steps,).
        tasks: in the order of arrival, shape (tasks,).
        edges: row of the child of each link, by parent.
        routes: what pools make of steps; (routes, pools).
        only: the one pool of each route, -1 where there are several; (routes,).
        pools: (pools,).
        alone: work of a thread in a second, by threads that run; (pools, points).
        beside: the same while all engines of the machines compute; (pools, points).
        slower: factor on iterations of engines, by threads that run; (pools, points).
        laws: of the engines of a pool; (pools,).
        prefill: seconds of an iteration by prompt tokens; (pools, points).
        decode: by sequences; (pools, slots + 1).
        engines: (engines,).
        loads: moving heaps of the engines of each pool, by running sequences.
        buckets: queues of cores (0) and engines (1); (pools, 2, `BUCKETS`).
        gates: likewise; (pools, 2).
        lengths: service of the tasks of each agent that ended last, `REMEMBERED` for each agent.
        lasted: how many ended; (agents,).
        usual_s: service by which tasks that begin are ordered; (agents,).
        vendor: code of each pool's; (pools,).
        spent_usd: by vendor.
        most_share: of all dollars, by vendor.
        wish: of the policy; (1,).
        stations: moving heap of what happens next: delays, cores, engines, failures.
        delays: heap of steps in a delay, by its end.
        jobs: heaps of steps on cores, by the clock at which they end; stretches of pools.
        slots: heaps of sequences, by the iteration after which they end; stretches of engines.
        fails: heap of the pool of which a machine fails, or pools·(1 + machine) + pool: it is back.
        sizes: how many there are of what `DELAYS` and the others name.
    """

    steps: Any
    tasks: Any
    edges: Codes
    routes: Any
    only: Codes
    pools: Any
    alone: Floats
    beside: Floats
    slower: Floats
    laws: Any
    prefill: Floats
    decode: Any
    engines: Any
    loads: Any
    buckets: Any
    gates: Any
    lengths: Floats
    lasted: Codes
    usual_s: Floats
    vendor: Codes
    spent_usd: Floats
    most_share: Floats
    wish: Any
    stations: Any
    delays: Any
    jobs: Any
    slots: Any
    fails: Any
    sizes: Codes

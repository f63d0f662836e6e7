"""A task while it runs: its state, its lines of steps, and what a step is."""

from __future__ import annotations

import hashlib
import math
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from polysilicon.errors import InputError
from polysilicon.workload.classes import BATCH, INTERACTIVE
from polysilicon.workload.record import Kind, StepRecord

if TYPE_CHECKING:  # workers, which import this for the sake of agents, start in half the time
    from polysilicon.catalog.policy import Objective
    from polysilicon.runtime.lengths import Lengths
    from polysilicon.runtime.limit import Limit
    from polysilicon.runtime.queues import Queue

_MOST_BYTES = 1000
"""Of a step's id: with a task's, an index of PostgreSQL takes 2.7 kB."""

ANY_MODEL = "auto"
"""Model of steps that any model may serve; the step record names the one that did."""


CHECK = "check"
"""Name of steps that ask an engine whether it is up: their failure is never their own fault."""


@dataclass(slots=True)
class Usage:
    """What a step used, filled in by the work as it goes; names as in the step record.

    Dollars and joules are those of all attempts, each by its own pool. `began_s` and
    `ended_s` are told by work that runs in a thread or process of its own, which has to wait for a
    core before it begins, and whose result waits for this one: neither is service. Of a step with
    effects, `idempotency_key` is the same however often it is tried, also on resumption.
    """

    cpu_s: float | None = None
    cores: float | None = None
    wait_s: float | None = None
    startup_s: float | None = None
    memory_bytes: int | None = None
    first_token_s: float | None = None
    began_s: float | None = None
    ended_s: float | None = None
    cost_usd: float | None = None
    energy_j: float | None = None
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    output_tokens: int | None = None
    idempotency_key: str = ""
    step_id: str = ""

    def again(self) -> None:
        """Forget the moments of an attempt that failed."""
        self.first_token_s = self.began_s = self.ended_s = None


@dataclass(slots=True)
class TaskState:
    """What the runtime keeps of a task while it runs.

    `deadline_s` is by `time.monotonic`. `prompts` has the tokens of its last prompt on each pool,
    which that pool's prefix cache may still hold. `only` names the pools that may take its steps,
    where not all may. `level` is that of the service that it is expected to need still, by the
    `lengths` of tasks that ended; 0 without them. `queues` is where steps of it wait. `limit` is
    of its seconds, where they are limited.
    """

    task_id: str
    agent: str
    arrival_s: float
    rng: random.Random
    history: dict[str, tuple[StepRecord, bytes]] = field(default_factory=dict)
    occurrences: dict[str, int] = field(default_factory=dict)
    attained_s: float = 0.0
    running: list[str] = field(default_factory=list)
    klass: int = BATCH
    deadline_s: float = math.inf
    data_class: str | None = None
    prompts: dict[str, int] = field(default_factory=dict)
    only: frozenset[str] | None = None
    lengths: Lengths | None = None
    level: int = 0
    queues: list[Queue] = field(default_factory=list)
    limit: Limit | None = None

    def __post_init__(self) -> None:
        self.served(0.0)

    @property
    def waited_for(self) -> bool:
        """Whether somebody waits for it."""
        return self.klass == INTERACTIVE

    def served(self, seconds: float) -> None:
        """Note service that it has had."""
        self.attained_s += seconds
        if self.lengths is not None:
            self.level = self.lengths.level(self.agent, self.attained_s)
        self.moved()

    def moved(self) -> None:
        """Tell where steps of it wait that what it is ordered by has changed."""
        for queue in tuple(self.queues):
            queue.touch(self)


@dataclass(slots=True)
class Scope:
    """A line of steps within a task: the task itself, or one item of a `map`.

    `frontier` holds the steps that ended and that no later step has followed yet: the parents of
    the next one.
    """

    task: TaskState
    path: str = ""
    frontier: tuple[str, ...] = ()

    def step_id(self, kind: Kind, name: str, model: str | None, what: bytes) -> str:
        """Return the id of a step: the same in every run of the same work.

        It names the content, not the moment, so that steps that run at once keep their ids
        however they interleave; equal steps of one scope are counted, and are interchangeable.

        Raises:
            InputError: no journal could keep such a name. It would fail all that is committed
                together with it.
        """
        head = f"{kind}\0{name}\0{model or ''}\0".encode()
        digest = hashlib.blake2b(head + what, digest_size=5).hexdigest()
        base = f"{self.path}{name}-{digest}"
        if "\0" in name or len(base.encode()) > _MOST_BYTES:
            wrong = f"the name of a step has no NUL, and its id at most {_MOST_BYTES} bytes"
            raise InputError(wrong, where=f"step {name[:40]!r}")
        occurrence = self.task.occurrences.get(base, 0)
        self.task.occurrences[base] = occurrence + 1
        return f"{base}.{occurrence}" if occurrence else base

    def followed(self, parents: tuple[str, ...], step_id: str) -> None:
        """Put a step that ended in place of its parents."""
        self.frontier = (*(s for s in self.frontier if s not in parents), step_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepCall:
    """What a step is.

    Attributes:
        kind: as in the step record.
        name: the operation.
        model: of `llm` and `embed` steps, else None; `ANY_MODEL` for whichever a pool has.
        resource: what it waits for: `engine` (a slot), `cpu` (a core), or `wait` (others).
        sandbox: that its code is to run in; None of steps that are no such code.
        arguments: what, with kind, name and model, makes its identity.
        timeout_s: limit of one attempt.
        retries: further attempts after a failure.
        effects: it changes something outside, so that it is journaled before it begins, too.
        only: names of the pools that may take it; None for all.
        objective: in place of the policy's.
        once: whoever asked for it will not ask again, so that it is journaled also where it is
            cancelled.
        hedge: where that pays a second pool may be asked, too; not where tokens are handed on.
        width: slots, or cores, that it takes of its resource.
        adapter: it adds one to the model, as llama.cpp alone does.
    """

    kind: Kind
    name: str
    model: str | None = None
    resource: str = "cpu"
    sandbox: str | None = None
    arguments: Any = None
    timeout_s: float
    retries: int = 0
    effects: bool = False
    only: frozenset[str] | None = None
    objective: Objective | None = None
    once: bool = False
    hedge: bool = False
    width: int = 1
    adapter: bool = False


def merge(usage: Usage, all_: list[Usage], counts: Usage | None) -> None:
    """Give a step the usage of the attempt that counts, and the dollars and joules of all."""
    for own in all_:
        usage.cost_usd = added(usage.cost_usd, own.cost_usd)
        usage.energy_j = added(usage.energy_j, own.energy_j)
    if counts is not None:
        for name in usage.__slots__:
            if name not in ("cost_usd", "energy_j"):
                setattr(usage, name, getattr(counts, name))


def added(one: float | None, other: float | None) -> float | None:
    """Return the sum of what is known; None where nothing is."""
    return None if one is None and other is None else (one or 0.0) + (other or 0.0)

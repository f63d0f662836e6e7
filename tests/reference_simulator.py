"""A slow and plain simulator: every iteration of an engine is an event of its own.

It shares no line with `polysilicon.simulate`, and was written from the words that describe it, so
that the two can be compared. Nothing here is clever: lists are searched from the front, work that
is left is counted down at every event, and each token is made one by one.

Events are ordered by time; of one time, completions come before steps that become ready, and these
before engines that begin their next iteration, so that a step which comes at the very end of an
iteration joins the next one. A step of an engine starts when a replica takes it, and is in the
batch from the next iteration on.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

COMPLETION, ARRIVAL, BOUNDARY = 0, 1, 2


@dataclass(frozen=True, kw_only=True)
class Law:
    """What an iteration takes.

    With prompts in it: prefill_s(tokens) + pair_s·Σ taken·(context before + taken/2) +
    piece_s·(prompts - 1); with b decoding sequences: base_s[b] + context_s[b]·Σ context, where a
    context is what is in the cache: the prompt, and then a token more after each iteration.
    """

    grid_tokens: Sequence[float]
    """Token counts, increasing, between which seconds of prefill are linear, and beyond which the
    last slope goes on."""

    grid_s: Sequence[float]
    base_s: Sequence[float]
    """By the number of decoding sequences, from 0 to the slots."""

    context_s: Sequence[float]
    pair_s: float = 0.0
    piece_s: float = 0.0

    def prefill_s(self, tokens: float) -> float:
        """Seconds of so many prompt tokens in one iteration."""
        xs, ys = self.grid_tokens, self.grid_s
        if len(xs) == 1:
            return ys[0]
        right = 1
        while right < len(xs) - 1 and tokens > xs[right]:
            right += 1
        slope = (ys[right] - ys[right - 1]) / (xs[right] - xs[right - 1])
        return ys[right - 1] + slope * (tokens - xs[right - 1])


@dataclass(frozen=True, kw_only=True)
class EnginePool:
    """Replicas of one engine behind one queue."""

    law: Law
    replicas: int = 1
    slots: int
    batch_tokens: int
    kv_tokens: float = math.inf


@dataclass(frozen=True, kw_only=True)
class ToolPool:
    """Cores behind one queue; a step runs at rate[n] while n threads are running."""

    cores: int
    rate: Sequence[float]
    """By the number of threads running, from 0 to `cores`."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """What is known of a step before it is played; its place in the list is its name."""

    pool: int
    parents: tuple[int, ...] = ()
    ready_s: float = 0.0
    """When a step without parents becomes ready."""

    think_s: float = 0.0
    """From the end of the last of its parents until it is ready."""

    prompt: int = 0
    cached: int = 0
    output: int = 1
    work_s: float = 0.0
    """Seconds on each of its threads at rate 1, start-up included."""

    cores: int = 1
    wait_s: float = 0.0


@dataclass(kw_only=True)
class Times:
    """When things happened to a step."""

    ready_s: float = math.nan
    start_s: float = math.nan
    first_token_s: float = math.nan
    end_s: float = math.nan


@dataclass(eq=False)
class _Sequence:
    """A step in an engine."""

    name: int
    step: Step
    left: int = field(init=False)
    context: int = field(init=False)
    made: int = 0

    def __post_init__(self) -> None:
        self.left = max(1, self.step.prompt - self.step.cached)
        self.context = max(0, self.step.prompt - self.left)

    @property
    def size(self) -> float:
        return self.step.prompt + self.step.output / 2


@dataclass(eq=False)
class _Replica:
    """One engine."""

    sequences: list[_Sequence] = field(default_factory=list)
    busy: bool = False


class _Engines:
    """One engine pool as it runs."""

    def __init__(self, pool: EnginePool, run: _Run):
        self.pool = pool
        self.run = run
        self.queue: list[int] = []
        self.replicas = [_Replica() for _ in range(pool.replicas)]

    def arrive(self, name: int) -> None:
        size = self.run.steps[name].prompt + self.run.steps[name].output
        if size > self.pool.kv_tokens:
            raise ValueError(f"step {name} never fits into the KV cache")
        self.queue.append(name)
        self.admit()

    def admit(self) -> None:
        """Give steps to replicas, in the order of the queue, as long as the first one fits."""
        while self.queue:
            sequence = _Sequence(self.queue[0], self.run.steps[self.queue[0]])
            roomy = [r for r in self.replicas if self.has_room(r, sequence)]
            if not roomy:
                return
            replica = min(roomy, key=lambda r: len(r.sequences))
            replica.sequences.append(sequence)
            self.run.times[self.queue.pop(0)].start_s = self.run.now_s
            if not replica.busy:
                self.run.push(BOUNDARY, self.begin, replica)

    def has_room(self, replica: _Replica, sequence: _Sequence) -> bool:
        held = sum(other.size for other in replica.sequences)
        free = len(replica.sequences) < self.pool.slots
        return free and held + sequence.size <= self.pool.kv_tokens

    def begin(self, replica: _Replica) -> None:
        """Begin an iteration of all that is there."""
        if replica.busy or not replica.sequences:
            return
        decoding = [one for one in replica.sequences if one.left == 0]
        room = max(0, self.pool.batch_tokens - len(decoding))
        pieces: list[tuple[_Sequence, int]] = []
        for sequence in replica.sequences:
            taken = min(sequence.left, room)
            if taken > 0:
                pieces.append((sequence, taken))
                room -= taken
        replica.busy = True
        duration_s = self.duration_s(decoding, pieces)
        self.run.push(COMPLETION, self.end, replica, decoding, pieces, after_s=duration_s)

    def duration_s(self, decoding: list[_Sequence], pieces: list[tuple[_Sequence, int]]) -> float:
        law, seconds = self.pool.law, 0.0
        if pieces:
            seconds += law.prefill_s(sum(taken for _, taken in pieces))
            seconds += law.pair_s * sum(n * (one.context + n / 2) for one, n in pieces)
            seconds += law.piece_s * (len(pieces) - 1)
        if decoding:
            b = len(decoding)
            seconds += law.base_s[b] + law.context_s[b] * sum(one.context for one in decoding)
        return seconds

    def end(
        self,
        replica: _Replica,
        decoding: list[_Sequence],
        pieces: list[tuple[_Sequence, int]],
    ) -> None:
        """Count the tokens of the iteration that ends now."""
        replica.busy = False
        for sequence in decoding:
            sequence.context += 1
            self.token(sequence)
        for sequence, taken in pieces:
            sequence.left -= taken
            sequence.context += taken
            if sequence.left == 0:
                self.token(sequence)
        over = [one for one in replica.sequences if one.made >= one.step.output and not one.left]
        replica.sequences = [one for one in replica.sequences if one not in over]
        for name in sorted(sequence.name for sequence in over):
            self.run.finish(name)
        if over:
            self.admit()
        self.run.push(BOUNDARY, self.begin, replica)

    def token(self, sequence: _Sequence) -> None:
        sequence.made += 1
        if sequence.made == 1:
            self.run.times[sequence.name].first_token_s = self.run.now_s


class _Tools:
    """One tool pool as it runs."""

    def __init__(self, pool: ToolPool, run: _Run):
        self.pool = pool
        self.run = run
        self.queue: list[int] = []
        self.left_s: dict[int, float] = {}
        self.at_s = 0.0
        self.version = 0

    def threads(self) -> int:
        return sum(self.run.steps[name].cores for name in self.left_s)

    def arrive(self, name: int) -> None:
        if self.run.steps[name].cores > self.pool.cores:
            raise ValueError(f"step {name} never fits onto the cores")
        self.queue.append(name)
        self.admit()

    def admit(self) -> None:
        """Start steps in the order of the queue, as long as the first fits; plan the next end."""
        self.advance()
        while self.queue:
            step = self.run.steps[self.queue[0]]
            if self.threads() + step.cores > self.pool.cores:
                break
            name = self.queue.pop(0)
            self.left_s[name] = step.work_s
            self.run.times[name].start_s = self.run.now_s
        self.version += 1
        if self.left_s:
            name = min(self.left_s, key=lambda one: self.left_s[one])
            after_s = max(0.0, self.left_s[name]) / self.pool.rate[self.threads()]
            self.run.push(COMPLETION, self.end, name, self.version, after_s=after_s)

    def advance(self) -> None:
        """Count down the work of what has been running since the last event."""
        done_s = (self.run.now_s - self.at_s) * self.pool.rate[self.threads()]
        for name in self.left_s:
            self.left_s[name] -= done_s
        self.at_s = self.run.now_s

    def end(self, name: int, version: int) -> None:
        """Free the cores of a step, unless something came in between and moved its end."""
        if version != self.version:
            return
        self.advance()
        del self.left_s[name]
        wait_s = self.run.steps[name].wait_s
        if wait_s > 0:
            self.run.push(COMPLETION, self.run.finish, name, after_s=wait_s)
        else:
            self.run.finish(name)
        self.admit()


class _Run:
    """The events, and what has happened so far."""

    def __init__(self, steps: Sequence[Step], pools: Sequence[EnginePool | ToolPool]):
        self.steps = steps
        self.now_s = 0.0
        self.times = [Times() for _ in steps]
        self.events: list[Any] = []
        self.pushed = 0
        self.pools = [
            _Engines(pool, self) if isinstance(pool, EnginePool) else _Tools(pool, self)
            for pool in pools
        ]
        self.waits_for = [len(set(step.parents)) for step in steps]
        self.children: list[list[int]] = [[] for _ in steps]
        for name, step in enumerate(steps):
            for parent in set(step.parents):
                self.children[parent].append(name)

    def push(self, kind: int, act: Any, *given: Any, after_s: float = 0.0) -> None:
        self.pushed += 1
        heapq.heappush(self.events, (self.now_s + after_s, kind, self.pushed, act, given))

    def play(self) -> list[Times]:
        for name, step in enumerate(self.steps):
            if not step.parents:
                self.push(ARRIVAL, self.ready, name, after_s=step.ready_s)
        while self.events:
            self.now_s, _, _, act, given = heapq.heappop(self.events)
            act(*given)
        return self.times

    def ready(self, name: int) -> None:
        self.times[name].ready_s = self.now_s
        self.pools[self.steps[name].pool].arrive(name)

    def finish(self, name: int) -> None:
        self.times[name].end_s = self.now_s
        for child in self.children[name]:
            self.waits_for[child] -= 1
            if self.waits_for[child] == 0:
                self.push(ARRIVAL, self.ready, child, after_s=self.steps[child].think_s)


def play(steps: Sequence[Step], pools: Sequence[EnginePool | ToolPool]) -> list[Times]:
    """Play steps on pools.

    Args:
        steps: in any order; parents are places in this list.
        pools: of which each step names one by its place.

    Returns:
        Times of each step, in the order of `steps`; NaN for what did not happen, such as the first
        token of a tool step.

    Raises:
        ValueError: A step is too big for its pool even if it were alone there.
    """
    return _Run(steps, pools).play()

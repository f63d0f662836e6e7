"""LLM steps played iteration by iteration: when given steps have their first and last token.

The engine is one process with slots and continuous batching, as in llama.cpp's server: an
iteration takes one token of each sequence that decodes and as many waiting prompt tokens as a batch
holds, and whatever begins meanwhile waits for its end. `play` serves steps from nothing on;
`play_each` begins anew at each recorded step, with what the engine had in hand at that moment, so
that an error on one step does not shift what runs beside the next.

A pass takes the steps in slots that follow each other; with a gap, such as of a prompt that is
taken in, there is one for each side.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec
import numpy as np
import numpy.typing as npt

from polysilicon.cost.llm.law import Numbers
from polysilicon.cost.llm.local import Rates
from polysilicon.cost.llm.pace import Pace
from polysilicon.cost.llm.slots import Slots

Taken = Callable[[float, float], float]
"""`taken(a, b)` is how many cores tools have between the seconds a and b, on the mean."""

# Reading a request takes about as long, so that one a little later is in the same iteration.
_TOGETHER_S = 0.002
_APART_S = 0.005

_QUEUED_S = 0.005
"""A step that is ready for so long before it begins waited for a slot."""

_SHORTEST_S = 1e-6

_ROUNDS = 3
"""Of how long an iteration takes with what tools take of the cores meanwhile; they converge."""


class EngineSteps(msgspec.Struct, frozen=True, kw_only=True):
    """Steps of one engine; all arrays have one shape (n,).

    Attributes:
        start_s: when each begins.
        new: prompt tokens that no cache holds; at least 1.
        cached: prompt tokens that a cache holds.
        output: tokens generated; at least 1.
        after: the step at whose end each begins instead, -1 where there is none; None where none of
            them waits for another. Only `play` looks at it.
    """

    start_s: Numbers
    new: Numbers
    cached: Numbers
    output: Numbers
    after: npt.NDArray[np.int64] | None = None


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """When steps ran; arrays of shape (n,).

    Attributes:
        first_token_s: of each step.
        end_s: of each step.
        ready_s: since when each waited for a slot; when it began where it did not wait.
    """

    first_token_s: Numbers
    end_s: Numbers
    ready_s: Numbers


class Played(msgspec.Struct, frozen=True, kw_only=True):
    """When things happen by the law; arrays of shape (n,).

    Attributes:
        first_token_s: of each step.
        end_s: of each step.
    """

    first_token_s: Numbers
    end_s: Numbers


class Engine(msgspec.Struct, frozen=True, kw_only=True):
    """An engine to play on.

    Attributes:
        rates: seconds of its iterations.
        slots: sequences at once; further steps wait for one.
        batch_tokens: that one iteration takes, at most.
        taken: cores that tools have over time; None where there are none.
    """

    rates: Rates
    slots: int
    batch_tokens: int
    taken: Taken | None = None


def play(steps: EngineSteps, engine: Engine) -> Played:
    """Play steps from an idle engine on.

    Args:
        steps: in any order.
        engine: what serves them.
    """
    desk = _Desk(steps, engine, Slots(engine.slots))
    for step in np.argsort(steps.start_s, kind="stable")[::-1].tolist():
        before = -1 if steps.after is None else int(steps.after[step])
        (desk.queue if before < 0 else desk.followers.setdefault(before, [])).append(step)
    while desk.queue or desk.active:
        desk.iterate()
    return Played(first_token_s=desk.first_s, end_s=desk.end_s)


def play_each(
    steps: EngineSteps, recorded: Recorded, engine: Engine, pace: Pace | None = None
) -> Played:
    """Play each step with what ran when it began and what began later.

    Of the other steps it is known when they began, and of those that were at work already how many
    tokens they had by then. When they end, and when those begin that waited for a slot, is played.

    Args:
        steps: in any order.
        recorded: when they ran.
        engine: what serves them.
        pace: of the machine, which is learnt from what was over when a step began; None is that
            of the rates throughout.
    """
    order = np.argsort(steps.start_s, kind="stable")
    queued = steps.start_s - recorded.ready_s > _QUEUED_S
    first_s, end_s = np.zeros_like(steps.start_s), np.zeros_like(steps.start_s)
    slots, held = Slots(engine.slots), list[int]()
    for place, mine in enumerate(order):
        now_s = float(steps.start_s[mine])
        over = [n for n in held if recorded.end_s[n] <= now_s]
        at_work = [n for n in held if recorded.end_s[n] > now_s]
        for step in sorted(over, key=lambda n: float(recorded.end_s[n])):
            slots.leave(step)
        held = [*at_work, int(mine)]
        slots.take(int(mine))
        desk = _Desk(steps, engine, slots.copy(), queued)
        desk.now_s, desk.pace = now_s, pace.at(now_s) if pace is not None else 1.0
        begins = steps.start_s <= now_s + _APART_S
        if np.any(queued & ~begins & (recorded.ready_s <= now_s)):
            # Others wait, so that no more may run than do, however many slots there are.
            running = int(np.sum(begins & (recorded.end_s > now_s)))
            desk.most = min(max(running, 1), engine.slots)
        desk.resume(at_work, recorded)
        desk.active.append(desk.begun(int(mine)))
        desk.queue = [int(n) for n in order[:place:-1]]
        while end_s[mine] == 0.0:
            desk.iterate()
            end_s[mine] = desk.end_s[mine]
        first_s[mine] = desk.first_s[mine]
        if pace is not None:
            told = (
                (recorded.first_token_s[mine], first_s[mine]),
                (recorded.end_s[mine], end_s[mine]),
            )
            for true_s, played_s in told:
                pace.saw(true_s, true_s - now_s, (played_s - now_s) / desk.pace)
    return Played(first_token_s=first_s, end_s=end_s)


def cores_taken(start_s: Numbers, span_s: Numbers, core_s: Numbers) -> Taken:
    """Return how many cores tools have over time, each as evenly as it may.

    Args:
        start_s: when each begins, shape (n,).
        span_s: for how long it runs, shape (n,).
        core_s: core-seconds that it uses, shape (n,).
    """
    span_s = np.maximum(span_s, _SHORTEST_S)

    def taken(from_s: float, to_s: float) -> float:
        inside_s = np.minimum(start_s + span_s, to_s) - np.maximum(start_s, from_s)
        had_s = float(np.sum(core_s * np.maximum(inside_s, 0.0) / span_s))
        return had_s / max(to_s - from_s, _SHORTEST_S)

    return taken


@dataclass(slots=True)
class _Sequence:
    """A step in a slot: what is left of its prompt and of its answer."""

    step: int
    prompt: float
    context: float
    left: float
    begun: bool = False


@dataclass(slots=True)
class _Desk:
    """An engine at work: what is in its slots and who waits, last to come first."""

    steps: EngineSteps
    engine: Engine
    slots: Slots
    queued: npt.NDArray[np.bool_] | None = None
    pace: float = 1.0
    most: int = 0
    now_s: float = 0.0
    queue: list[int] = field(default_factory=list)
    active: list[_Sequence] = field(default_factory=list)
    followers: dict[int, list[int]] = field(default_factory=dict)
    first_s: Numbers = field(init=False)
    end_s: Numbers = field(init=False)

    def __post_init__(self) -> None:
        self.first_s = np.zeros_like(self.steps.start_s)
        self.end_s = np.zeros_like(self.steps.start_s)
        self.most = self.engine.slots

    def begun(self, step: int) -> _Sequence:
        """Return a step of which nothing is done yet."""
        return _Sequence(
            step=step,
            prompt=max(float(self.steps.new[step]), 1.0),
            context=float(self.steps.cached[step]),
            left=max(float(self.steps.output[step]), 1.0),
        )

    def resume(self, at_work: list[int], recorded: Recorded) -> None:
        """Take up the steps that are at work now, and end the iteration that is under way."""
        now_s, starts = self.now_s, self.steps.start_s
        first = recorded.first_token_s
        # Tokens of one iteration come to their readers one after the other.
        waiting = [n for n in at_work if first[n] > now_s + _APART_S]
        for step in (n for n in at_work if first[n] <= now_s + _APART_S):
            sequence = self.begun(step)
            span_s = max(float(recorded.end_s[step] - first[step]), 1e-9)
            passed_s = max(now_s - float(first[step]), 0.0)
            done = 1.0 + (sequence.left - 1.0) * min(passed_s / span_s, 1.0)
            sequence.context += sequence.prompt + done
            sequence.prompt, sequence.left = 0.0, max(sequence.left - done, 1.0)
            self.active.append(sequence)
        decode_s = self._seconds(self.active, [])
        if not waiting:
            self.now_s += decode_s / 2
            return
        # It began when the first of the prompts came, or when the one before it had ended.
        came_s = float(min(starts[n] for n in waiting))
        begin_s = max([came_s, *(float(f) for f in first if came_s < f <= now_s)])
        if now_s - begin_s <= _TOGETHER_S:
            self.active += [self.begun(n) for n in waiting]
            return
        taken = [self.begun(n) for n in waiting if starts[n] <= begin_s + _TOGETHER_S]
        later = [self.begun(n) for n in waiting if starts[n] > begin_s + _TOGETHER_S]
        self.active += taken
        end_s = begin_s + self._advance()
        self.now_s = max(now_s, end_s)
        self._settle()
        self.active += later

    def iterate(self) -> None:
        """Let in who waits, and do one iteration."""
        if not self.active and self.queue:
            self.now_s = max(self.now_s, float(self.steps.start_s[self.queue[-1]]))
        while self.queue and len(self.active) < self.most and self._comes(self.queue[-1]):
            step = self.queue.pop()
            self.slots.take(step)
            self.active.append(self.begun(step))
        self.now_s += self._advance()
        self._settle()

    def _comes(self, step: int) -> bool:
        """Whether a step begins now: it is its time, or it has waited for a slot only."""
        waited = self.queued is not None and bool(self.queued[step])
        after = self.steps.after
        waited = waited or (after is not None and bool(after[step] >= 0))
        return waited or bool(self.steps.start_s[step] <= self.now_s + _TOGETHER_S)

    def _settle(self) -> None:
        """Note first and last tokens, and free the slots of who has ended."""
        for sequence in self.active:
            if sequence.prompt <= 0 and not sequence.begun:
                self.first_s[sequence.step] = self.now_s
                sequence.begun = True
            if sequence.prompt <= 0 and sequence.left <= 0:
                self.end_s[sequence.step] = self.now_s
                self.slots.leave(sequence.step)
                self.queue += self.followers.pop(sequence.step, [])
        self.active = [s for s in self.active if s.prompt > 0 or s.left > 0]

    def _advance(self) -> float:
        """Do one iteration on the sequences; return its seconds."""
        decoding = [s for s in self.active if s.prompt <= 0]
        room = float(self.engine.batch_tokens - len(decoding))
        parts: list[tuple[float, float]] = []
        for sequence in (s for s in self.active if s.prompt > 0):
            taken = min(sequence.prompt, room)
            if taken > 0:
                room -= taken
                parts.append((taken, taken * (sequence.context + taken / 2)))
                sequence.context += taken
                sequence.prompt -= taken
                sequence.left -= float(sequence.prompt <= 0)
        seconds = self._seconds(decoding, parts)
        for sequence in decoding:
            sequence.context += 1
            sequence.left -= 1
        return seconds

    def _seconds(self, decoding: list[_Sequence], parts: list[tuple[float, float]]) -> float:
        """Return seconds of an iteration: tokens and pairs of each prompt, and who decodes."""
        rates, seconds = self.engine.rates, 0.0
        if parts:
            tokens, pairs = (sum(column) for column in zip(*parts, strict=True))
            seconds += float(rates.prefill(tokens, pairs)) + rates.piece_s * (len(parts) - 1)
        if decoding:
            context = sum(s.context for s in decoding) / len(decoding)
            for many in self.slots.passes(s.step for s in decoding):
                seconds += float(rates.decode(many, context))
        alone_s = longer_s = seconds * self.pace
        if self.engine.taken is not None and seconds > 0.0:
            for _ in range(_ROUNDS):
                taken = self.engine.taken(self.now_s, self.now_s + longer_s)
                longer_s = alone_s * rates.beside(taken)
        return longer_s

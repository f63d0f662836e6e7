"""LLM steps played iteration by iteration: when given steps have their first and last token.

The engine is one process with slots and continuous batching, as in llama.cpp's server: an
iteration takes one token of each sequence that decodes and as many waiting prompt tokens as a batch
holds, and whatever begins meanwhile waits for its end. `play` serves steps from nothing on;
`play_each` begins anew at each recorded step, with what the engine had in hand at that moment, so
that an error on one step does not shift what runs beside the next.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec
import numpy as np
import numpy.typing as npt

from polysilicon.cost.llm.law import Numbers
from polysilicon.cost.llm.local import Rates

Busy = Callable[[float], float]
"""`busy(t)` is how many tool processes compute at second t."""

# Reading a request takes about as long, so that one a little later is in the same iteration.
_TOGETHER_S = 0.002
_APART_S = 0.005


class EngineSteps(msgspec.Struct, frozen=True, kw_only=True):
    """Steps of one engine; all arrays have one shape (n,).

    Attributes:
        start_s: when each begins.
        new: prompt tokens that no cache holds; at least 1.
        cached: prompt tokens that a cache holds.
        output: tokens generated; at least 1.
    """

    start_s: Numbers
    new: Numbers
    cached: Numbers
    output: Numbers


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """When steps ran; arrays of shape (n,).

    Attributes:
        first_token_s: of each step.
        end_s: of each step.
        queued: whether it waited for a slot, so that it began because another ended; bool.
    """

    first_token_s: Numbers
    end_s: Numbers
    queued: npt.NDArray[np.bool_]


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
        busy: tool processes over time; None where there are none.
    """

    rates: Rates
    slots: int
    batch_tokens: int
    busy: Busy | None = None


def play(steps: EngineSteps, engine: Engine) -> Played:
    """Play steps from an idle engine on.

    Args:
        steps: in any order.
        engine: what serves them.
    """
    desk = _Desk(steps, engine)
    desk.queue = [int(n) for n in np.argsort(steps.start_s, kind="stable")[::-1]]
    while desk.queue or desk.active:
        desk.iterate()
    return Played(first_token_s=desk.first_s, end_s=desk.end_s)


def play_each(steps: EngineSteps, recorded: Recorded, engine: Engine) -> Played:
    """Play each step with what ran when it began and what began later.

    Of the other steps it is known when they began, and of those that were at work already how many
    tokens they had by then. When they end, and when those begin that waited for a slot, is played.

    Args:
        steps: in any order.
        recorded: when they ran.
        engine: what serves them.
    """
    order = np.argsort(steps.start_s, kind="stable")
    first_s, end_s = np.zeros_like(steps.start_s), np.zeros_like(steps.start_s)
    for place, mine in enumerate(order):
        now_s = float(steps.start_s[mine])
        desk = _Desk(steps, engine, recorded.queued)
        desk.now_s = now_s
        at_work = [int(n) for n in order[:place] if recorded.end_s[n] > now_s]
        desk.resume(at_work, recorded)
        desk.active.append(desk.begun(int(mine)))
        desk.queue = [int(n) for n in order[:place:-1]]
        while end_s[mine] == 0.0:
            desk.iterate()
            end_s[mine] = desk.end_s[mine]
        first_s[mine] = desk.first_s[mine]
    return Played(first_token_s=first_s, end_s=end_s)


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
    queued: npt.NDArray[np.bool_] | None = None
    now_s: float = 0.0
    queue: list[int] = field(default_factory=list)
    active: list[_Sequence] = field(default_factory=list)
    first_s: Numbers = field(init=False)
    end_s: Numbers = field(init=False)

    def __post_init__(self) -> None:
        self.first_s = np.zeros_like(self.steps.start_s)
        self.end_s = np.zeros_like(self.steps.start_s)

    def begun(self, step: int) -> _Sequence:
        """Put a step in a slot."""
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
        while self.queue and len(self.active) < self.engine.slots and self._comes(self.queue[-1]):
            self.active.append(self.begun(self.queue.pop()))
        self.now_s += self._advance()
        self._settle()

    def _comes(self, step: int) -> bool:
        """Whether a step begins now: it is its time, or it has waited for a slot only."""
        waited = self.queued is not None and bool(self.queued[step])
        return waited or bool(self.steps.start_s[step] <= self.now_s + _TOGETHER_S)

    def _settle(self) -> None:
        """Note first and last tokens, and free the slots of who has ended."""
        for sequence in self.active:
            if sequence.prompt <= 0 and not sequence.begun:
                self.first_s[sequence.step] = self.now_s
                sequence.begun = True
            if sequence.prompt <= 0 and sequence.left <= 0:
                self.end_s[sequence.step] = self.now_s
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
            seconds += float(rates.decode(len(decoding), context))
        busy = self.engine.busy
        return seconds * float(rates.slower(busy(self.now_s) if busy is not None else 0.0))

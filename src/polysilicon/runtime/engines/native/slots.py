"""Which of an engine's slots takes which request.

llama.cpp computes in one pass what neighbours ask for: slots whose numbers follow each other. A gap
among those that are busy makes two passes of one, and each reads all weights. Left to itself it
takes the slot whose last prompt is most alike, wherever that is.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from polysilicon.cost.llm.slots import more_passes

PASS_TOKENS = 10.0
"""Tokens of a prompt that are read in the time of a pass of one token: 7.6 ms against 0.7 ms each
(SmolLM2-135M, two cores of Zen 4, `polysilicon calibrate`); 5 to 20 elsewhere."""

LIKELY_TOKENS = 64
"""Of an answer, where it may be longer."""

MOST_CHARACTERS = 32 * 1024
"""Of a prompt that are compared with what slots hold."""

_CHARACTERS_A_TOKEN = 4.0
_LEFT_S = 1.0
"""How long a server may take to leave a slot whose answer is not wanted any more."""


class Slots:
    """The slots of one server, for all threads that ask it.

    Args:
        count: how many there are.
    """

    def __init__(self, count: int) -> None:
        self._held = [""] * count
        self._busy = [False] * count
        self._left_s = [-math.inf] * count
        self._used = [0] * count
        self._number = 0
        self._lock = threading.Lock()
        self._left = False

    def leave(self) -> None:
        """Leave the choice to the server: requests come to it that nobody tells of here."""
        self._left = True

    @contextmanager
    def taken(self, prompt: str, most_tokens: int = LIKELY_TOKENS) -> Iterator[Slot]:
        """Hold a slot for a request; see `Slot`.

        Args:
            prompt: what is asked, whole.
            most_tokens: of the answer.
        """
        prompt = prompt[:MOST_CHARACTERS]
        with self._lock:
            number = None if self._left else self._choose(prompt, min(most_tokens, LIKELY_TOKENS))
            slot = Slot(number, prompt)
            if number is not None:
                self._busy[number] = True
        if number is None:
            yield slot
            return
        try:
            yield slot
            held = self._held[number] if slot.refused else slot.text[:MOST_CHARACTERS]
        except BaseException:  # refused, or not wanted any more
            held = self._held[number]
            self._left_s[number] = time.monotonic()
            raise
        finally:
            with self._lock:
                self._number += 1
                self._used[number], self._held[number] = self._number, held
                self._busy[number] = False

    def _choose(self, prompt: str, answer_tokens: int) -> int | None:
        since_s = time.monotonic() - _LEFT_S
        busy = {number for number, held in enumerate(self._busy) if held}
        free = [n for n, left_s in enumerate(self._left_s) if n not in busy and left_s < since_s]

        def cost(number: int) -> tuple[float, int]:
            passes = PASS_TOKENS * answer_tokens * more_passes(number, busy)
            read = shared(prompt, self._held[number]) / _CHARACTERS_A_TOKEN
            return passes - read, self._used[number]

        return min(free, key=cost, default=None)


class Slot:
    """A slot that is held for a request.

    Attributes:
        number: of the slot; None where the server is to choose.
        text: what it holds at the end, the prompt and what was answered.
        refused: the server read nothing of the prompt, so that the slot holds what it held.
    """

    __slots__ = ("number", "refused", "text")

    def __init__(self, number: int | None, text: str) -> None:
        self.number, self.text, self.refused = number, text, False

    def told(self, body: dict[str, Any]) -> dict[str, Any]:
        """Return the body of a request for it."""
        return body if self.number is None else {**body, "id_slot": self.number}


def shared(a: str, b: str) -> int:
    """Return how many characters two texts begin with in common."""
    low, high = 0, min(len(a), len(b))
    while low < high:
        middle = (low + high + 1) // 2
        if a[:middle] == b[:middle]:
            low = middle
        else:
            high = middle - 1
    return low

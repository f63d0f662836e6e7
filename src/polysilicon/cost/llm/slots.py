"""Which of an engine's slots are neighbours: llama.cpp computes those in one pass, others in more.

A record does not name slots, so that they are taken by the engine's rule
(`polysilicon.runtime.engines.native.slots`), cached prompts left out: beside those that are busy,
and of equals the one that was free for longest.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable


class Slots:
    """The slots of an engine over time.

    Args:
        count: how many there are.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._of: dict[int, int] = {}
        self._left: dict[int, int] = {}
        self._number = 0

    def copy(self) -> Slots:
        """Return slots that go on from here for themselves."""
        other = Slots(self._count)
        other._of, other._left = dict(self._of), dict(self._left)
        other._number = self._number
        return other

    def take(self, step: int) -> None:
        """Put a step in a slot; one for which there is none stands behind the last."""
        busy = set(self._of.values())
        free = [slot for slot in range(self._count) if slot not in busy]
        slot = min(free, key=lambda s: (more_passes(s, busy), self._left.get(s, 0)), default=None)
        self._of[step] = max(busy) + 1 if slot is None else slot

    def leave(self, step: int) -> None:
        """Free the slot of a step."""
        self._number += 1
        self._left[self._of.pop(step)] = self._number

    def passes(self, steps: Iterable[int]) -> list[int]:
        """Return how many steps each pass takes that gives each of some steps a token."""
        at = sorted(self._of[step] for step in steps)
        found: list[int] = []
        for place, slot in enumerate(at):
            if place and slot == at[place - 1] + 1:
                found[-1] += 1
            else:
                found.append(1)
        return found


def more_passes(slot: int, busy: Collection[int]) -> int:
    """Return how many more groups of neighbours are busy with a slot than without it."""
    return bool(busy) * (1 - (slot - 1 in busy) - (slot + 1 in busy))

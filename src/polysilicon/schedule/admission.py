"""How many steps may run at once."""

from __future__ import annotations


def admit(running: int, waiting: int, cap: int) -> int:
    """Return how many of `waiting` steps may start, with `running` under way and room for `cap`."""
    return max(0, min(waiting, cap - running))

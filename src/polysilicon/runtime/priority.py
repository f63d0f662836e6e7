"""Tools yield to the engine.

The engine's threads wait for each other at every operation, so a tool that takes one's core stops
all of them: on two cores a busy process made LLM steps 3.1 times as long at nice 0 and 1.2 times at
nice 10, and itself got 0.72 and 0.20 of a core (`benchmarks/priority.py`). Tools that somebody
waits for do not yield: they go before the other tools, which stand still meanwhile, almost.
"""

from __future__ import annotations

import os
from contextlib import suppress

TOOL_NICE = 10
"""Niceness of worker and sandbox processes for tasks that nobody waits for."""


def yield_to_engine(pid: int = 0) -> None:
    """Let the engine's threads go before a process (0 is this one), if it is still there."""
    if hasattr(os, "setpriority"):
        with suppress(OSError):
            if os.getpriority(os.PRIO_PROCESS, pid) < TOOL_NICE:
                os.setpriority(os.PRIO_PROCESS, pid, TOOL_NICE)

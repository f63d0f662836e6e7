"""What processes of a sandbox have used, from the kernel, and their end."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable
from contextlib import suppress

import psutil

_SCHEDSTAT_BYTES = 256
_END_S = 10.0
"""So long the end of what was killed is waited for: the kernel has to give its memory back."""
_SOON_S, _SOON_LOOKS, _LOOK_S = 0.001, 5, 0.01
"""Most end within milliseconds; the others are looked at less often."""


def process_cpu_s(pid: int | None) -> float | None:
    """Return the seconds that the threads of a process were on a core, or None if unknown."""
    if pid is None:
        return None
    total_ns, tasks = 0, f"/proc/{pid}/task"
    try:
        # Twice for each program: `pathlib` would take longer than short programs do.
        threads = os.listdir(tasks)  # noqa: PTH208
        for thread in threads:
            descriptor = os.open(f"{tasks}/{thread}/schedstat", os.O_RDONLY)
            try:
                total_ns += int(os.read(descriptor, _SCHEDSTAT_BYTES).split()[0])
            finally:
                os.close(descriptor)
    except (OSError, ValueError, IndexError):
        return None
    return total_ns * 1e-9 if threads else None


def kill_tree(pid: int) -> tuple[float, list[psutil.Process]]:
    """Kill the leader of a process group, which is this process's child, and all below it.

    Those below one by one, too: bwrap's child leaves the group a moment before it asks to end with
    bwrap, and what is killed between would run on. The leader is stopped first, so that it starts
    nothing more, and the numbers of its children stay theirs.

    Returns:
        The core-seconds that they had used, and those below.
    """
    os.kill(pid, signal.SIGSTOP)
    total_s, below = 0.0, list[psutil.Process]()
    try:
        with suppress(psutil.Error, OSError):
            root = psutil.Process(pid)
            below = root.children(recursive=True)
            for process in (root, *below):
                with suppress(psutil.Error):
                    times = process.cpu_times()
                    total_s += times.user + times.system
                    if process.pid != pid:
                        process.kill()
    finally:
        os.killpg(pid, signal.SIGKILL)
    return total_s, below


def process_of(pid: int | None) -> psutil.Process | None:
    """Return a process that is still there; None where it has ended."""
    with suppress(psutil.Error):
        return None if pid is None else psutil.Process(pid)
    return None


def await_end(
    processes: Iterable[psutil.Process], *, or_rest: bool = False, limit_s: float = _END_S
) -> None:
    """Wait until processes that were killed run no more and hold no memory; not for ever.

    Args:
        processes: which.
        or_rest: one that sleeps may stay: most likely it had ended its work before.
        limit_s: so long for all of them.
    """
    over = {psutil.STATUS_ZOMBIE}  # it only waits to be asked how it ended
    over |= {psutil.STATUS_SLEEPING, psutil.STATUS_IDLE} if or_rest else set()
    until_s, looks = time.monotonic() + limit_s, 0
    for process in processes:
        while _state(process) not in over and time.monotonic() < until_s:
            time.sleep(_SOON_S if looks < _SOON_LOOKS else _LOOK_S)
            looks += 1


def _state(process: psutil.Process) -> str:
    try:
        return str(process.status() if process.is_running() else psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return str(psutil.STATUS_ZOMBIE)

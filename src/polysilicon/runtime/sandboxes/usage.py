"""What processes of a sandbox have used, from the kernel, and their end."""

from __future__ import annotations

import os
import signal
from contextlib import suppress

import psutil

_SCHEDSTAT_BYTES = 256


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


def kill_tree(pid: int) -> float:
    """Kill the leader of a process group, which is this process's child, and all below it.

    Those below one by one, too: bwrap's child leaves the group a moment before it asks to end with
    bwrap, and what is killed between would run on. The leader is stopped first, so that it starts
    nothing more, and the numbers of its children stay theirs.

    Returns:
        The core-seconds that they had used.
    """
    os.kill(pid, signal.SIGSTOP)
    total_s = 0.0
    try:
        with suppress(psutil.Error, OSError):
            root = psutil.Process(pid)
            for process in (root, *root.children(recursive=True)):
                with suppress(psutil.Error):
                    times = process.cpu_times()
                    total_s += times.user + times.system
                    if process.pid != pid:
                        process.kill()
    finally:
        os.killpg(pid, signal.SIGKILL)
    return total_s

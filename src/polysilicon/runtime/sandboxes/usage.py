"""What processes of a sandbox have used, from the kernel."""

from __future__ import annotations

import os

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


def tree_cpu_s(pid: int) -> float:
    """Return the core-seconds that a process and those below it have used so far."""
    try:
        root = psutil.Process(pid)
        processes = [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0.0
    total_s = 0.0
    for process in processes:
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total_s += times.user + times.system
    return total_s

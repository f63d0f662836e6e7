"""Bubblewrap: a full CPython in its own namespaces, under a seccomp filter and resource limits.

What it has: the base interpreter of this process and the system's libraries, read-only, and a
`/tmp` of 16 MiB. What it has not: network, other processes, the environment, the user's files.
Needs Linux, the program `bwrap`, and leave to make user namespaces.
"""

from __future__ import annotations

import asyncio
import functools
import math
import os
import re
import resource
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any

import msgspec
import psutil

from polysilicon.errors import SandboxError
from polysilicon.runtime.priority import yield_to_engine
from polysilicon.runtime.sandboxes import seccomp
from polysilicon.runtime.sandboxes.sealed import sealed
from polysilicon.runtime.sandboxes.usage import await_end, kill_tree
from polysilicon.runtime.sandboxes.values import Collector, check_inputs, error_line
from polysilicon.runtime.types import CodeError, CodeResult, Limits

_PYTHON = "/opt/python"
_FILE_BYTES = 16 * 2**20
_START_LIMIT_S = 30.0
_REPORT_BYTES = 64 * 2**10
_READ_BYTES = 64 * 2**10
_READY = b'{"ready":true}\n'
_FILES = 10_000
"""Files in `/tmp`: an empty one takes no room there, but a kilobyte of the kernel's memory."""
_THREADS = 256
"""As `RLIMIT_NPROC`, which the kernel does not apply to the processes of the machine's root."""
_LOOK_S = 0.1
_KILLED = 128 + signal.SIGKILL
_NAMESPACES = (
    "--unshare-user", "--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts",
    "--unshare-cgroup-try", "--uid", "65534", "--gid", "65534", "--hostname", "sandbox",
)  # fmt: skip


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """How the code ended; forged reports decode or are refused, no more."""

    kind: CodeError | None = None
    error: str | None = None
    peak_bytes: Annotated[int, msgspec.Meta(ge=0, le=2**62)] | None = None


class Bubblewrap:
    """The sandbox `bubblewrap`.

    `cpu_s` is the kernel's account of the processes (`wait4`, start-up included), or, where a run
    had to be killed, what they had used a moment before. `memory_bytes` is what the process reports
    of itself in the end, so it is None where it was killed, and a hint where the code is hostile.

    Args:
        workers: runs at once.
    """

    name = "bubblewrap"

    def __init__(self, workers: int) -> None:
        self.yields = True
        # The thread that starts a child must outlive it: --die-with-parent watches that thread.
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="bubblewrap")

    @staticmethod
    def missing() -> str | None:
        """Return None where bubblewrap works here, else the reason why not."""
        return _missing()

    async def run(self, code: str, inputs: Mapping[str, Any], limits: Limits) -> CodeResult:
        """Run `code` in a new process; see `Sandbox.run`."""
        check_inputs(inputs)
        bounds = {
            "memory_bytes": limits.memory_bytes,
            "file_bytes": _FILE_BYTES,
            "cpu_s": math.ceil(limits.time_s) + 1,
        }
        child = _Child(_payload(code, inputs, bounds), limits, yields=self.yields)
        running = self._threads.submit(child.run)
        future = asyncio.wrap_future(running)
        # Whoever is cancelled asks no more how it ended; a killed one may not have started.
        future.add_done_callback(lambda done: done.cancelled() or done.exception())
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError:
            child.kill()
            if not running.cancel():  # it has begun, and ends when its processes have
                await asyncio.wait([future])
            raise
        return future.result()

    async def close(self) -> None:
        """Wait for runs under way; each process ends with its run."""
        await asyncio.to_thread(self._threads.shutdown, wait=True, cancel_futures=True)


def _payload(code: str, inputs: Mapping[str, Any], bounds: Mapping[str, int]) -> bytes:
    """Return what `inside.py` reads."""
    filter_ = seccomp.no_programs().hex()
    parts = {"code": code, "inputs": dict(inputs), "limits": bounds, "filter": filter_}
    return msgspec.json.encode(parts)


def command(report: int, info: int, filter_: int) -> list[str]:
    """Return the command line that runs `inside.py`.

    Args:
        report: descriptor that it reports to.
        info: descriptor that bwrap tells the process's number on.
        filter_: descriptor that the seccomp filter is read from.
    """
    prefix, python = _interpreter()
    parts = [_bwrap(), *_NAMESPACES, "--die-with-parent", "--new-session", "--clearenv"]
    # As PID 1, because bwrap waits for that process, and only then does its time count.
    parts += ["--as-pid-1"]
    parts += ["--setenv", "LC_ALL", "C.UTF-8", "--cap-drop", "ALL"]
    if prefix.is_relative_to("/usr"):
        parts += ["--ro-bind", "/usr", "/usr"]
        home = str(prefix)
    else:
        # Not all of the prefix, which may hold other environments (as conda's does).
        parts += _folder("/usr/lib") + _folder("/usr/lib64")
        home = _PYTHON
        for name in (f"bin/{python}", "lib"):
            parts += ["--ro-bind", str(prefix / name), f"{home}/{name}"]
    parts += _folder("/lib") + _folder("/lib64")
    for folder in _packages(prefix, home):
        parts += ["--tmpfs", folder, "--remount-ro", folder]
    parts += ["--setenv", "LD_LIBRARY_PATH", f"{home}/lib", "--proc", "/proc", "--dev", "/dev"]
    # Where this program runs as root, the code owns the machine's settings in /proc/sys.
    parts += ["--remount-ro", "/proc"]
    parts += ["--size", str(_FILE_BYTES), "--tmpfs", "/tmp"]  # noqa: S108 - the sandbox's own
    parts += ["--remount-ro", "/dev", "--remount-ro", "/", "--chdir", "/tmp"]  # noqa: S108
    parts += ["--info-fd", str(info), "--seccomp", str(filter_), "--", f"{home}/bin/{python}"]
    return [*parts, "-I", "-S", "-B", "-c", _inside(), str(report)]


def _folder(path: str) -> list[str]:
    """Return the arguments that give the sandbox a system folder, as a link where it is one."""
    if os.path.islink(path):  # noqa: PTH114 - beside readlink, which must keep the target as it is
        return ["--symlink", os.readlink(path), path]  # noqa: PTH115
    return ["--ro-bind", path, path] if Path(path).is_dir() else []


@functools.cache
def _packages(prefix: Path, home: str) -> list[str]:
    """Return where in the sandbox installed packages would be seen, which are the user's."""
    found = list(Path("/usr/lib").glob("python*/*-packages"))
    if home != _PYTHON:
        found += Path("/usr/local/lib").glob("python*/*-packages")
    inside = [f"{home}/{f.relative_to(prefix)}" for f in prefix.glob("lib/python*/*-packages")]
    return sorted({*map(str, found), *inside})


@functools.cache
def _inside() -> str:
    return Path(__file__).with_name("inside.py").read_text(encoding="utf-8")


@functools.cache
def _interpreter() -> tuple[Path, str]:
    """Return prefix and file name of the interpreter beneath this virtual environment."""
    prefix = Path(sys.base_prefix).resolve()
    return prefix, f"python{sys.version_info.major}.{sys.version_info.minor}"


@functools.cache
def _bwrap() -> str:
    return shutil.which("bwrap") or "bwrap"


@functools.cache
def _missing() -> str | None:
    if sys.platform != "linux":
        return f"it needs Linux, and this is {sys.platform}"
    if shutil.which("bwrap") is None:
        return "the program bwrap is not installed (package bubblewrap)"
    if not seccomp.known_machine():
        return "there is no system call filter for this processor's architecture"
    try:
        result = _Child(_payload("", {}, _PROBE), Limits()).run()
    except SandboxError as error:
        return str(error)
    return None if result.ok else result.error


_PROBE = {"memory_bytes": 64 * 2**20, "file_bytes": 64 * 2**10, "cpu_s": 10}


class _Child:
    """One run: a process, its output, its end. `kill` may be called from any thread."""

    def __init__(self, payload: bytes, limits: Limits, *, yields: bool = True) -> None:
        self._payload, self._limits, self._yields = payload, limits, yields
        self._output = Collector(limits.output_bytes, self.kill)
        self._report = bytearray()
        self._lock = threading.Lock()
        self._pid: int | None = None
        self._unwanted = self._late = False
        self._killed_cpu_s, self._killed = 0.0, list[psutil.Process]()
        self._deadline_s, self._look_s = math.inf, 0.0
        self._ready_s: float | None = None
        self._excess: Report | None = None

    def kill(self) -> None:
        """End the process and all that it started, also one that has yet to start."""
        with self._lock:
            self._unwanted = True
            if self._pid is not None:
                self._killed_cpu_s, below = kill_tree(self._pid)
                self._killed += below

    def run(self) -> CodeResult:
        """Run to the end.

        Raises:
            SandboxError: bubblewrap could not start the interpreter.
        """
        begin_s = time.perf_counter()
        self._deadline_s = begin_s + _START_LIMIT_S
        output, report = self._start()
        try:
            self._watch(output, report)
            status, usage = self._reap()
            while data := os.read(report, _READ_BYTES):
                self._take_report(data)
            await_end(self._killed)
        finally:
            os.close(output)
            os.close(report)
        cpu_s = max(usage.ru_utime + usage.ru_stime, self._killed_cpu_s)
        if self._ready_s is None:
            raise SandboxError(f"bubblewrap: {error_line(self._output.text) or 'it did not start'}")
        last = self._verdict(status, cpu_s)
        return CodeResult(
            ok=last.kind is None,
            stdout=self._output.text,
            error_kind=last.kind,
            error=error_line(last.error or last.kind) if last.kind else None,
            cpu_s=cpu_s,
            startup_s=self._ready_s - begin_s,
            memory_bytes=last.peak_bytes,
        )

    def _start(self) -> tuple[int, int]:
        """Start the process; return the descriptors of its output and of its report."""
        output, output_in = os.pipe()
        # A pipe could be opened again by the code, and emptied before it is read here.
        report, report_in = (end.detach() for end in socket.socketpair())
        info = os.dup(report_in)  # bwrap closes the descriptor it tells the process's number on
        payload, filter_ = sealed(self._payload), sealed(seccomp.program())
        try:
            with self._lock:
                process = subprocess.Popen(
                    command(report_in, info, filter_),
                    stdin=payload, stdout=output_in, stderr=output_in,
                    pass_fds=(report_in, info, filter_), env={}, start_new_session=True, cwd="/",
                )  # fmt: skip
                self._pid = process.pid
                if self._yields:
                    yield_to_engine(process.pid)
                process.returncode = 0  # reaped by _reap, for the account of resources
            if self._unwanted:
                self.kill()
        except OSError as error:
            os.close(output)
            os.close(report)
            raise SandboxError(f"bubblewrap: {error}") from error
        finally:
            for descriptor in (output_in, report_in, info, payload, filter_):
                os.close(descriptor)
        return output, report

    def _watch(self, output: int, report: int) -> None:
        """Read until the processes have ended, killing them when late.

        bwrap itself holds the output open, so its end is theirs, whatever the code closes.
        """
        with selectors.DefaultSelector() as selector:
            selector.register(output, selectors.EVENT_READ)
            selector.register(report, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select(_LOOK_S):
                    data = os.read(key.fd, _READ_BYTES)
                    if key.fd == report:
                        if data:
                            self._take_report(data)
                        else:
                            selector.unregister(report)
                    elif data:
                        self._output.write(data)
                    else:
                        return
                self._look()

    def _take_report(self, data: bytes) -> None:
        """Keep what is reported, and begin the code's time when it says that it is ready."""
        self._report += data[: _REPORT_BYTES - len(self._report)]
        if self._ready_s is None and _READY in self._report:
            self._ready_s = time.perf_counter()
            self._deadline_s = self._ready_s + self._limits.time_s

    def _look(self) -> None:
        """Kill code that is late, whatever it still writes, or that has too many files or threads.

        No limit of the kernel bounds these two in every case, and both use memory of the kernel's.
        """
        now_s = time.perf_counter()
        if now_s < self._look_s and now_s < self._deadline_s:
            return
        self._look_s = now_s + _LOOK_S
        if self._late or self._excess is not None:
            return
        self._late = now_s >= self._deadline_s
        if not self._late:
            self._excess = self._too_many()
        if self._late or self._excess is not None:
            self.kill()

    def _too_many(self) -> Report | None:
        """Return how code ended that has more files or threads than it may."""
        told = re.search(rb'"child-pid": (\d+)', self._report)
        if self._ready_s is None or told is None:  # before, its /tmp is the machine's
            return None
        process = Path(f"/proc/{int(told[1])}")
        try:
            room = os.statvfs(process / "root/tmp")
            threads = int((process / "stat").read_bytes().rpartition(b")")[2].split()[17])
        except OSError:  # it has ended
            return None
        if room.f_files - room.f_ffree > _FILES:
            return Report(kind="memory", error=f"it made over {_FILES} files")
        if threads > _THREADS:
            return Report(kind="exception", error=f"it made over {_THREADS} threads")
        return None

    def _reap(self) -> tuple[int, resource.struct_rusage]:
        """Wait for the end; return exit status and what the processes used."""
        assert self._pid is not None
        os.waitid(os.P_PID, self._pid, os.WEXITED | os.WNOWAIT)
        with self._lock:  # after wait4 the number may be another process's: kill must not use it
            _, status, usage = os.wait4(self._pid, 0)
            self._pid = None
        return os.waitstatus_to_exitcode(status), usage

    def _verdict(self, status: int, cpu_s: float) -> Report:
        """Return how the code ended: as the parent saw it, else as the process reported it."""
        if self._output.overflowed:
            return Report(kind="output", error=f"it printed over {self._limits.output_bytes} bytes")
        if self._excess is not None:
            return self._excess
        if self._late or (status == _KILLED and cpu_s >= self._limits.time_s):
            return Report(kind="timeout", error=f"it ran past {self._limits.time_s:g} s")
        lines = bytes(self._report).partition(_READY)[2].splitlines()
        if lines:
            try:
                return msgspec.json.decode(lines[-1], type=Report)
            except (msgspec.DecodeError, UnicodeDecodeError):
                return Report(kind="exception", error="it wrote over the sandbox's report")
        return _of_status(status)


def _of_status(status: int) -> Report:
    """Return how code ended that has not reported: by `os._exit`, or a signal."""
    if status == 0:
        return Report()
    cause = signal.strsignal(status - 128) if status > 128 else None
    text = f"its process ended with status {status}" + (f" ({cause})" if cause else "")
    return Report(kind="exception", error=text)

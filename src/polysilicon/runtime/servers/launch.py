"""An engine's server as a child process: started, asked for a token until it answers, stopped."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import msgspec

from polysilicon.errors import InputError, PolysiliconError, visible

HOST = "127.0.0.1"
"""Servers have no key, so nobody beyond this machine may reach them."""

_LOOK_S = 0.25
_ANSWER_S = 120.0
_STOP_S = 20.0
_GROUP_S = 1.0
_TAIL_BYTES = 4096
_TAIL_LINES = 3
_NOT_YET = (404, 502, 503)
"""Statuses of servers that are there and load their model still."""


class Launch(msgspec.Struct, frozen=True, kw_only=True):
    """What to start.

    Attributes:
        title: for messages.
        command: program and arguments.
        environment: further variables; those that are set already stay.
        port: that it will listen on.
        model: the name by which it is asked.
        log: file for all that it prints.
        startup_s: until it must answer.
    """

    title: str
    command: Sequence[str]
    environment: Mapping[str, str]
    port: int
    model: str
    log: Path
    startup_s: float

    @property
    def endpoint(self) -> str:
        """Base URL."""
        return f"http://{HOST}:{self.port}/v1"


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """A server that answers: what was started, its process, and seconds until its first token."""

    launch: Launch
    process: subprocess.Popen[bytes]
    first_token_s: float


def free_port() -> int:
    """Return a port of loopback that nobody listens on now."""
    with socket.socket() as found:
        found.bind((HOST, 0))
        port: int = found.getsockname()[1]
    return port


@contextmanager
def running(launch: Launch, tell: Callable[[str], None]) -> Iterator[Server]:
    """Start a server, wait until it gave a token, and stop it at the end, with its children.

    Args:
        launch: what.
        tell: takes progress, for a person.

    Raises:
        InputError: the port is taken, or the log cannot be written.
        PolysiliconError: it ended, refuses, or gave no token in time.
    """
    _check_port(launch)
    begin_s = time.monotonic()
    process = _started(launch)
    try:
        tell(f"{launch.title}: starting, its log is {launch.log}")
        _await_token(launch, process, begin_s + launch.startup_s)
        yield Server(launch=launch, process=process, first_token_s=time.monotonic() - begin_s)
    finally:
        _stop(process)


def await_end(servers: Sequence[Server]) -> None:
    """Wait until one of them ends.

    Raises:
        PolysiliconError: one ended, which none should.
    """
    while all(server.process.poll() is None for server in servers):
        time.sleep(_LOOK_S)
    ended = next(server for server in servers if server.process.poll() is not None)
    raise _ended(ended.launch, ended.process)


def _check_port(launch: Launch) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, launch.port))
        except OSError as error:
            where, mend = f"{HOST}:{launch.port}", "give another --port"
            raise InputError("another program listens there", where=where, mend=mend) from error


def _started(launch: Launch) -> subprocess.Popen[bytes]:
    """Return the process, the first of a group of its own.

    Where `setpriv` is there, the kernel ends it even if this process is killed.
    """
    setpriv = shutil.which("setpriv")
    guard = [setpriv, "--pdeathsig", "TERM", "--"] if setpriv else []
    try:
        launch.log.parent.mkdir(parents=True, exist_ok=True)
        with launch.log.open("wb") as log:
            return subprocess.Popen(
                [*guard, *launch.command], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env={**launch.environment, **os.environ}, start_new_session=True,
            )  # fmt: skip
    except OSError as error:
        raise InputError(f"cannot be started: {error.strerror}", where=launch.title) from error


def _await_token(launch: Launch, process: subprocess.Popen[bytes], until_s: float) -> None:
    """Ask for one token until one comes.

    Raises:
        PolysiliconError: the server ended, refuses, or is not ready in time.
    """
    body = {"model": launch.model, "max_tokens": 1, "messages": [{"role": "user", "content": "hi"}]}
    last = "nobody answers yet"
    with httpx.Client(timeout=_ANSWER_S, trust_env=False) as client:
        while time.monotonic() < until_s:
            if process.poll() is not None:
                raise _ended(launch, process)
            try:
                answer = client.post(f"{launch.endpoint}/chat/completions", json=body)
            except httpx.HTTPError as error:
                last = str(error) or type(error).__name__
            else:
                if answer.is_success:
                    return
                last = f"HTTP {answer.status_code}: {' '.join(answer.text.split())[:200]}"
                if answer.status_code not in _NOT_YET:
                    text = f"{launch.title}: it refuses a request for one token: {last}"
                    raise PolysiliconError(visible(text))
            time.sleep(_LOOK_S)
    text = f"{launch.title}: no token within {launch.startup_s:g} s ({last}); see {launch.log}"
    raise PolysiliconError(visible(text))


def _ended(launch: Launch, process: subprocess.Popen[bytes]) -> PolysiliconError:
    """Return the error of a server that ended, with the last lines of its log."""
    told = f"{launch.title}: it ended with code {process.returncode}; {launch.log} ends: "
    return PolysiliconError(visible(told + " / ".join(_tail(launch.log))))


def _tail(log: Path) -> list[str]:
    """Return the last lines of a log."""
    with suppress(OSError), log.open("rb") as file:
        file.seek(max(log.stat().st_size - _TAIL_BYTES, 0))
        lines = file.read(_TAIL_BYTES).decode("utf-8", "replace").splitlines()
        return [" ".join(line.split()) for line in lines if line.strip()][-_TAIL_LINES:]
    return []


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End a server and its children, by force where they do not in time."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_STOP_S)
            if _group_ended(process.pid):
                return


def _group_ended(group: int) -> bool:
    """Tell whether a group of processes has no members any more; they get a second for that."""
    until_s = time.monotonic() + _GROUP_S
    while time.monotonic() < until_s:
        try:
            os.killpg(group, 0)
        except (ProcessLookupError, PermissionError):
            return True
        time.sleep(_GROUP_S / 50)
    return False

"""A network namespace of this machine, which reaches it by a pair of virtual Ethernet devices."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Self

import psutil

HOST = "198.18.77.1"
"""This machine's address, as namespaces see it; of a range kept for benchmarks (RFC 2544)."""

_numbers = itertools.count(2)


def missing() -> str | None:
    """Return why there can be no namespaces here, or None."""
    if shutil.which("ip") is None:
        return "there is no `ip`: apt-get install iproute2"
    if os.geteuid() != 0:
        return "network namespaces need root"
    try:
        with Namespace():
            return None
    except subprocess.CalledProcessError as error:
        return f"no network namespace can be had: {error.stderr.strip()}"


def _end_left() -> None:
    """Delete the namespaces of processes that were killed: their addresses would lead there."""
    for line in _ip("netns", "list").splitlines():
        name = line.split()[0]
        owner = re.fullmatch(r"polysilicon-(\d+)-\d+", name)
        if owner is not None and not psutil.pid_exists(int(owner[1])):
            for pid in _ip("netns", "pids", name).split():
                with suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            _ip("netns", "delete", name)


class Namespace:
    """A namespace; it ends with the `with` block, and whatever runs in it.

    Attributes:
        address: its own.
    """

    def __init__(self) -> None:
        number = next(_numbers)
        self._name = f"polysilicon-{os.getpid()}-{number}"
        self._device = f"ps{os.getpid() % 10**7}-{number}"
        self.address = f"{HOST.rpartition('.')[0]}.{number}"
        self._started: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        _end_left()
        _ip("netns", "add", self._name)
        try:
            there = ("-n", self._name)
            pair = ("type", "veth", "peer", "name", "eth0", "netns", self._name)
            _ip("link", "add", self._device, *pair)
            _ip("address", "add", HOST, "peer", self.address, "dev", self._device)
            _ip(*there, "address", "add", self.address, "peer", HOST, "dev", "eth0")
            _ip("link", "set", self._device, "up")
            for device in ("lo", "eth0"):
                _ip(*there, "link", "set", device, "up")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        _ip("netns", "delete", self._name)  # the devices go with it

    def start(self, command: list[str], environment: Mapping[str, str]) -> None:
        """Start a program in it."""
        given: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        within = ["ip", "netns", "exec", self._name, *command]
        self._started.append(subprocess.Popen(within, env=dict(environment), **given))

    def kill(self) -> None:
        """Kill all that runs in it, as a crash of a machine would."""
        while pids := _ip("netns", "pids", self._name).split():
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            for process in self._started:
                process.wait()
            self._started.clear()


def _ip(*arguments: str) -> str:
    return subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True).stdout

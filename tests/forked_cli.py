"""The command line in processes forked from one that has loaded what each would load again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from multiprocessing.connection import Connection
from pathlib import Path

from chaos_forks import context
from polysilicon.cli import main

_LOADED = ("polysilicon.cli.app", "polysilicon.cli.run", "polysilicon.cli.running")


class Command:
    """`polysilicon` with some words, as `subprocess.Popen` would run it, its output by pipes.

    Args:
        words: after the program's name.
        folder: in which it runs.
    """

    def __init__(self, words: list[str], folder: Path) -> None:
        forks = context(*_LOADED)
        ends = [forks.Pipe(duplex=False) for _ in range(2)]
        self._told = ["", ""]
        given = (words, str(folder), *(writing for _, writing in ends))
        self._process = forks.Process(target=_run, args=given)
        self._process.start()
        self._readers = []
        for number, (reading, writing) in enumerate(ends):
            writing.close()
            reader = threading.Thread(target=self._read, args=(number, reading))
            reader.start()
            self._readers.append(reader)

    def _read(self, number: int, reading: Connection) -> None:
        with os.fdopen(os.dup(reading.fileno()), encoding="utf-8", errors="replace") as stream:
            reading.close()
            self._told[number] = stream.read()

    @property
    def pid(self) -> int:
        """The number of its process."""
        assert self._process.pid is not None
        return self._process.pid

    def poll(self) -> int | None:
        """Return how it ended; None where it has not."""
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """End it as a crash would."""
        self.send_signal(signal.SIGKILL)

    def ended(self, timeout_s: float) -> tuple[int, str, str]:
        """Wait until it has ended, and nobody holds its output; return exit code and output."""
        for thing in (*self._readers, self._process):
            thing.join(timeout_s)
        code = self.poll()
        if code is None or any(reader.is_alive() for reader in self._readers):
            self.kill()
            raise subprocess.TimeoutExpired("polysilicon", timeout_s)
        return code, *self._told


def _run(words: list[str], folder: str, out: Connection, err: Connection) -> None:
    tests = sys.modules["__main__"]  # which each worker of a run would import
    tests.__spec__ = tests.__file__ = None
    for number, writing in ((1, out), (2, err)):
        os.dup2(writing.fileno(), number)
        writing.close()
    os.chdir(folder)
    main(words)

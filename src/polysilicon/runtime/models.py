"""Local model files: by name, by path, or by URL."""

from __future__ import annotations

from pathlib import Path

import msgspec

from polysilicon.errors import InputError, nearest
from polysilicon.runtime import assets

DEFAULT_MODEL = "smollm2-135m-instruct"


class ModelFile(msgspec.Struct, frozen=True, kw_only=True):
    """A model that the local engine can load: its name, and where its file is or would be."""

    name: str
    path: str
    present: bool
    size_bytes: int
    licence: str = ""
    help: str = ""


def list_models() -> list[ModelFile]:
    """Return the models known by name, and every other GGUF file in the cache."""
    rows = []
    for asset in assets.ASSETS.values():
        if asset.member.endswith(".gguf"):
            path = assets.asset_path(asset)
            rows.append(
                ModelFile(
                    name=asset.name,
                    path=str(path),
                    present=assets.is_whole(asset),
                    size_bytes=asset.size_bytes,
                    licence=asset.licence,
                    help=asset.help,
                )
            )
    for path in sorted((assets.cache_folder() / "models").glob("*/*.gguf")):
        size_bytes = path.stat().st_size
        rows.append(ModelFile(name=path.stem, path=str(path), present=True, size_bytes=size_bytes))
    return rows


def pull(name: str, sha256: str | None = None, progress: assets.Progress | None = None) -> Path:
    """Return the file of a model given by name, path or URL, downloading it where it must be.

    Raises:
        InputError: no such model, or the file is no GGUF file.
        PolysiliconError: the download failed; nothing is kept.
    """
    if "://" in name:
        path = assets.fetch_url(name, sha256, progress)
    elif name.endswith(".gguf") or "/" in name:
        path = Path(name).expanduser()
    else:
        known = {model.name: model for model in list_models()}
        if name not in known:
            raise InputError(
                f"there is no model {name!r}",
                mend=nearest(name, known)
                or "give a name of `polysilicon models list`, a .gguf path or a URL",
            )
        path = assets.fetch(name, progress) if name in assets.ASSETS else Path(known[name].path)
        if name in assets.ASSETS and not verify(name):
            path.unlink()
            path = assets.fetch(name, progress)
    check_gguf(path)
    if sha256 is not None and assets.sha256_of(path) != sha256:
        raise InputError("the checksum differs from --sha256", where=str(path))
    return path


def check_no_url(name: str, agent: str) -> None:
    """Refuse a model that would be downloaded: whoever submits a task says what it names.

    Raises:
        InputError: the model of an agent's input is a URL.
    """
    if "://" in name:
        mend = "pull it first: polysilicon models pull URL"
        raise InputError(f"input of {agent}: model is a URL", mend=mend)


def check_gguf(path: Path) -> None:
    """Raise `InputError` where `path` is not a readable GGUF file of a sensible size."""
    try:
        with path.open("rb") as stream:
            magic = stream.read(4)
    except OSError as error:
        mend = "see `polysilicon models list`"
        raise InputError(
            f"cannot read the model: {error.strerror}", where=str(path), mend=mend
        ) from error
    if magic != assets.GGUF_MAGIC:
        raise InputError("this is not a GGUF file", where=str(path), mend="pull it again")


def verify(name: str) -> bool:
    """Tell whether the cached file of a model known by name has the right checksum."""
    asset = assets.ASSETS[name]
    path = assets.asset_path(asset)
    return path.exists() and assets.sha256_of(path) == asset.sha256


def served_name(given: str) -> str:
    """Return by which name a model given by name, path or URL is served, without having its file.

    Raises:
        InputError: it is a URL of no GGUF file.
    """
    if given in assets.ASSETS:
        return given
    if "://" in given:
        return Path(assets.url_filename(given)).stem.lower()
    is_path = given.endswith(".gguf") or "/" in given
    return model_name(Path(given).expanduser()) if is_path else given.lower()


def model_name(path: Path) -> str:
    """Return the name of the model at `path` in step records: the asset's, or the file's."""
    for asset in assets.ASSETS.values():
        if assets.asset_path(asset) == path:
            return asset.name
    return path.stem.lower()

"""What verbs that call a gateway share: its address, the file with the key, and the call."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from polysilicon.disk import unread
from polysilicon.errors import InputError

F = TypeVar("F", bound=Callable[..., Any])
_MOST_BYTES = 1024
_MEND = "write into it what `polysilicon serve keys NAME --file keys.toml --join` prints"


def key_option(command: F) -> F:
    """Add `--key-file` (parameter `key_file`) to a verb."""
    text = "File with a key of the gateway (made by `serve keys NAME --join`)."
    return click.option("--key-file", type=click.Path(path_type=Path), help=text)(command)


def read_key(path: Path | None) -> str | None:
    """Return the key in a file; None where no file is given.

    Raises:
        InputError: it cannot be read, or holds no key.
    """
    if path is None:
        return None
    try:
        with path.open("rb") as file:
            text = file.read(_MOST_BYTES + 1).decode("ascii").strip()
    except OSError as error:
        raise unread(path, error, _MEND, "the key") from error
    except UnicodeDecodeError:
        text = ""
    if not text or len(text) > _MOST_BYTES or not text.isprintable() or " " in text:
        what = "the file holds no key, which is one word"
        raise InputError(what, where=str(path), mend=_MEND)
    return text

"""Encoders: the shapes of the models that turn text into vectors."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from importlib.resources.abc import Traversable

import msgspec

from polysilicon.catalog.models import plain_name
from polysilicon.catalog.tables import count, data_folder, day, read_rows, text, yes_no
from polysilicon.errors import InputError, nearest


class Encoder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A transformer encoder by its shapes.

    Attributes:
        name: unique, lower case.
        published_as: the name under which its maker publishes it.
        parameters: all of them, embeddings included.
        layers: transformer blocks.
        hidden: width of the residual stream.
        feed_forward: inner width.
        gated: the feed-forward network has a third matrix, a gate.
        vocabulary: tokens.
        max_tokens: of one sequence.
        source: where the shapes are from.
        date: when they were read.
    """

    name: str
    published_as: str
    parameters: int
    layers: int
    hidden: int
    feed_forward: int
    gated: bool
    vocabulary: int
    max_tokens: int
    source: str
    date: str

    def matrix_parameters(self) -> int:
        """Return the parameters that each token is multiplied with: all but the embeddings."""
        matrices = 3 if self.gated else 2
        return self.layers * self.hidden * (4 * self.hidden + matrices * self.feed_forward)


_COLUMNS = {
    "name": text,
    "published_as": text,
    "parameters": count,
    "layers": count,
    "hidden": count,
    "feed_forward": count,
    "gated": yes_no,
    "vocabulary": count,
    "max_tokens": count,
    "source": text,
    "date": day,
}


def read_encoders(source: Traversable) -> dict[str, Encoder]:
    """Read encoders by name."""
    return {row["name"]: Encoder(**row) for _, row in read_rows(source, _COLUMNS)}


@lru_cache(maxsize=1)
def encoders() -> Mapping[str, Encoder]:
    """Return the encoders that come with Polysilicon; they are read once."""
    return read_encoders(data_folder() / "encoders.csv")


def encoder(name: str) -> Encoder:
    """Return an encoder by its name, its published name or the name of its file.

    Raises:
        InputError: no such encoder; names near ones.
    """
    known = encoders()
    found = known.get(name) or known.get(plain_name(name))
    if found is None:
        raise InputError(f"unknown encoder {name!r}", mend=nearest(plain_name(name), known))
    return found

"""Model architectures: the shapes that decide what a token costs."""

from __future__ import annotations

import re
from importlib.resources.abc import Traversable

import msgspec

from polysilicon.catalog.tables import amount, blank_or, count, day, read_rows, text, yes_no

# What file names add to a model's name: `.gguf`, and the quantisation before it.
_FILE_SUFFIX = re.compile(r"([.-](q\d\w*|f16|bf16))?\.gguf$|[.-]q\d\w*$", re.IGNORECASE)


class ModelArchitecture(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A transformer by its shapes.

    Attributes:
        name: unique, lower case.
        published_as: the name under which its maker publishes it.
        parameters: all of them.
        active_parameters: those that one token uses; fewer in a mixture of experts.
        layers: transformer blocks.
        hidden: width of the residual stream.
        heads: query heads.
        kv_heads: key and value heads.
        head_dim: width of a head.
        feed_forward: inner width, of one expert in a mixture.
        experts: of a mixture, else None.
        experts_per_token: of a mixture, else None.
        vocabulary: tokens.
        tied_embeddings: input and output embeddings are one matrix.
        source: where the shapes are from.
        date: when they were read.
    """

    name: str
    published_as: str
    parameters: int
    active_parameters: int
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    feed_forward: int
    experts: int | None = None
    experts_per_token: int | None = None
    vocabulary: int
    tied_embeddings: bool
    source: str
    date: str

    def kv_bytes_per_token(self, bytes_per_value: float = 2.0) -> float:
        """Return bytes of the key and value cache for one token of context."""
        return 2.0 * self.layers * self.kv_heads * self.head_dim * bytes_per_value

    def same_shapes(self, other: ModelArchitecture) -> bool:
        """Tell whether all tensors have the same shapes, so that a token takes the same work."""
        names = ("name", "published_as", "source", "date")
        shapes = [field for field in self.__struct_fields__ if field not in names]
        return all(getattr(self, field) == getattr(other, field) for field in shapes)


_COLUMNS = {
    "name": text,
    "published_as": text,
    "parameters": count,
    "active_parameters": count,
    "layers": count,
    "hidden": count,
    "heads": count,
    "kv_heads": count,
    "head_dim": count,
    "feed_forward": count,
    "experts": blank_or(count),
    "experts_per_token": blank_or(count),
    "vocabulary": count,
    "tied_embeddings": yes_no,
    "source": text,
    "date": day,
}

_PRECISION_COLUMNS = {
    "precision": text,
    "bytes_per_parameter": amount,
    "source": text,
    "date": day,
}


def read_models(source: Traversable) -> dict[str, ModelArchitecture]:
    """Read model architectures by name."""
    return {row["name"]: ModelArchitecture(**row) for _, row in read_rows(source, _COLUMNS)}


def read_precisions(source: Traversable) -> dict[str, float]:
    """Read bytes of one parameter by precision."""
    return {
        row["precision"]: row["bytes_per_parameter"]
        for _, row in read_rows(source, _PRECISION_COLUMNS)
    }


def plain_name(name: str) -> str:
    """Return a model's name without maker, path, file suffix and quantisation, in lower case.

    Example:
        >>> plain_name("HuggingFaceTB/SmolLM2-135M-Instruct.Q4_1.gguf")
        'smollm2-135m-instruct'
    """
    return _FILE_SUFFIX.sub("", name.replace("\\", "/").rpartition("/")[2]).casefold()

"""Other names of processors, models and precisions: those that tools, clouds and papers use."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from importlib.resources.abc import Traversable

import msgspec

from polysilicon.catalog.models import plain_name
from polysilicon.catalog.tables import day, read_rows, text
from polysilicon.errors import InputError

KINDS = ("processor", "model", "precision")

# What quantised copies add to a model's name.
_QUANTISED = re.compile(
    r"[.-](nvfp4|mxfp4|fp4|fp8(-dynamic|-block)?|w\da\d+|int[48]|awq|gptq|bnb-4bit|bf16|fp16)$"
)
_UNDERLINED_POINT = re.compile(r"(?<=\d)_(?=\d)")


class Aliases(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Other name, in lower case, to the catalog's name.

    Attributes:
        processor: of chips.
        model: of models, without maker and file suffix.
        precision: of weights.
    """

    processor: Mapping[str, str]
    model: Mapping[str, str]
    precision: Mapping[str, str]

    def processor_name(self, name: str, known: Collection[str]) -> str | None:
        """Return the catalog's name of a processor; None where nothing is known by that name."""
        folded = " ".join(name.casefold().split())
        for one in known:
            if one.casefold() == folded:
                return one
        return self.processor.get(folded)

    def model_name(self, name: str, known: Collection[str]) -> str | None:
        """Return the catalog's name of a model; None where nothing is known by that name.

        Maker, file suffix and quantisation are left out, and `1_5` is read as `1.5`: they do not
        change the shapes.
        """
        if name in known:
            return name
        for one in _shorter(plain_name(name.strip())):
            if one in known:
                return one
            if one in self.model:
                return self.model[one]
        return None

    def precision_name(self, name: str, known: Collection[str]) -> str | None:
        """Return the catalog's name of a precision; None where nothing is known by that name."""
        folded = name.strip().casefold()
        return folded if folded in known else self.precision.get(folded)


def read_aliases(source: Traversable) -> Aliases:
    """Read other names.

    Raises:
        InputError: an unknown kind, a name told twice, or a cell that cannot be.
    """
    columns = {"kind": text, "alias": text, "name": text, "source": text, "date": day}
    found: dict[str, dict[str, str]] = {kind: {} for kind in KINDS}
    for line, row in read_rows(source, columns):
        where = f"{source.name}, row {line}"
        if row["kind"] not in found:
            mend = f"must be {', '.join(KINDS)}"
            raise InputError(f"unknown kind {row['kind']!r}", where=where, mend=mend)
        names, alias = found[row["kind"]], row["alias"].casefold()
        if alias in names:
            raise InputError(f"{row['alias']!r} is told twice", where=where)
        names[alias] = row["name"]
    return Aliases(**found)


def _shorter(name: str) -> Iterator[str]:
    """Yield a model's name as it is, with points for underscores, and without quantisation."""
    while True:
        yield name
        yield _UNDERLINED_POINT.sub(".", name)
        shorter = _QUANTISED.sub("", name)
        if shorter == name:
            return
        name = shorter

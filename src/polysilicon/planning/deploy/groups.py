"""What groups of machines in Terraform share: which there are, their sizes and names."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import msgspec

from polysilicon.planning.deploy.machines import Machines


def apart(each: Sequence[Machines]) -> Iterator[Machines]:
    """Yield machines of the spot market apart from the others of their offer.

    A group rents all its machines in one way, so that each way has a group.
    """
    for one in each:
        if one.committed or one.hourly is not None:
            yield msgspec.structs.replace(one, spot=None)
        if one.spot is not None:
            none = {"committed": 0.0, "hourly": None, "committed_usd_per_hour": 0.0}
            yield msgspec.structs.replace(one, **none)


def label(one: Machines) -> str:
    """Return the name of a group."""
    return one.label if one.spot is None else f"{one.label}-spot"


def bounds(one: Machines) -> tuple[int, int]:
    """Return how many machines a group keeps, and how many it may grow to.

    By the hour a plan knows a mean; the group may grow to twice that.
    """
    least = math.floor(one.committed + 1e-6)
    beside = (one.hourly or 0.0) + (one.spot or 0.0)
    return least, max(math.ceil(one.committed + 2 * beside - 1e-6), least, 1)


def literal(text: str) -> str:
    """Return a text as it stands in a template of Terraform, where it is none itself."""
    return text.replace("${", "$${").replace("%{", "%%{")


def quoted(text: str) -> str:
    """Return a text, literal already, as a string within an expression of Terraform."""
    return msgspec.json.encode(text).decode()


def alias(region: str) -> str:
    """Return a name of the provider in a region."""
    return region.replace("-", "_")

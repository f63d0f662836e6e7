"""What groups of machines in Terraform share: their sizes, and names of regions."""

from __future__ import annotations

import math

from polysilicon.planning.deploy.machines import Machines


def bounds(one: Machines) -> tuple[int, int]:
    """Return how many machines a group keeps, and how many it may grow to.

    By the hour a plan knows a mean; the group may grow to twice that.
    """
    least = math.floor(one.committed + 1e-6)
    beside = (one.hourly or 0.0) + (one.spot or 0.0)
    return least, max(math.ceil(one.committed + 2 * beside - 1e-6), least, 1)


def alias(region: str) -> str:
    """Return a name of the provider in a region."""
    return region.replace("-", "_")

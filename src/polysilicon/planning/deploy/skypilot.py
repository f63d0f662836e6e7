"""A SkyPilot task: machines in the order in which they are to be tried.

What is committed comes first, then what is rented by the hour, the spot market last. Each machine
joins the gateway that `--env` and `--secret` name. Source:
https://docs.skypilot.co/en/latest/reference/yaml-spec.html
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from polysilicon.planning.deploy.machines import Machines, of_vendors
from polysilicon.planning.deploy.text import yaml_documents

CLOUDS = ("aws", "gcp", "azure", "oci", "lambda", "runpod", "nebius", "fluidstack", "paperspace")


_RUN = """umask 077
printenv POLYSILICON_KEY > polysilicon.key
exec polysilicon pool join "$POLYSILICON_GATEWAY" --key-file polysilicon.key \\
  --listen 0.0.0.0 --name "sky-$(hostname | tr A-Z a-z)-$SKYPILOT_NODE_RANK"
"""


def write(each: Sequence[Machines], notes: Sequence[str]) -> str:
    """Return a task on the machines of the plan.

    Raises:
        InputError: nothing that SkyPilot could rent.
    """
    mine, left_out = of_vendors(each, CLOUDS, "SkyPilot")
    ordered = [
        _resources(one, spot=False) for one in mine if one.committed > 0 or one.hourly is not None
    ]
    ordered += [_resources(one, spot=True) for one in mine if one.spot is not None]
    nodes = sum(one.committed + (one.hourly or 0.0) + (one.spot or 0.0) for one in mine)
    task = {
        "name": "polysilicon",
        "num_nodes": max(math.ceil(nodes - 1e-6), 1),
        "envs": {"POLYSILICON_GATEWAY": None},
        "secrets": {"POLYSILICON_KEY": None},
        "resources": {"ordered": ordered},
        "setup": "pip install polysilicon",
        "run": _RUN,
    }
    return yaml_documents([task], [*notes, *left_out])


def _resources(one: Machines, *, spot: bool) -> dict[str, Any]:
    """Return an entry of resources."""
    return {
        "infra": f"{one.vendor}/{one.region}",
        "instance_type": one.type,
        "use_spot": spot,
    }

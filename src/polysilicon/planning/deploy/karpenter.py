"""Karpenter node pools (karpenter.sh/v1): what is committed first, then by the hour, then spot.

A pool of committed machines is limited to them and has the highest weight, so that nodes are taken
from it as long as there are some. Node classes (image, network, role) are the cluster's own; they
are named `default`. Source: NodePool CRD, https://karpenter.sh/docs/concepts/nodepools
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from polysilicon.planning.deploy.machines import Machines, of_vendors
from polysilicon.planning.deploy.text import yaml_documents

CLASSES = {
    "aws": ("karpenter.k8s.aws", "EC2NodeClass"),
    "azure": ("karpenter.azure.com", "AKSNodeClass"),
    "gcp": ("karpenter.k8s.gcp", "GCENodeClass"),
}
_WEIGHTS = {"committed": 100, "on-demand": 50, "spot": 60}


def write(each: Sequence[Machines], notes: Sequence[str]) -> str:
    """Return node pools.

    Raises:
        InputError: nothing that Karpenter could rent.
    """
    pools = []
    mine, left_out = of_vendors(each, list(CLASSES), "Karpenter")
    for one in mine:
        if one.committed > 0:
            pools.append(_pool(one, "committed", math.ceil(one.committed - 1e-6)))
        if one.hourly is not None:
            pools.append(_pool(one, "on-demand", None))
        if one.spot is not None:
            pools.append(_pool(one, "spot", None))
    told = [*notes, *left_out, "Node classes named default are the cluster's own."]
    return yaml_documents(pools, told)


def _pool(one: Machines, paid: str, units: int | None) -> dict[str, Any]:
    """Return a node pool."""
    group, kind = CLASSES[one.vendor]
    # A commitment is a price: what it pays for is started as on-demand or reserved capacity.
    types = {"committed": ["reserved", "on-demand"]}.get(paid, [paid])
    spec: dict[str, Any] = {
        "weight": _WEIGHTS[paid],
        "template": {
            "metadata": {"labels": {"polysilicon/paid": paid}},
            "spec": {
                "nodeClassRef": {"group": group, "kind": kind, "name": "default"},
                "requirements": [
                    _among("node.kubernetes.io/instance-type", [one.type]),
                    _among("topology.kubernetes.io/region", [one.region]),
                    _among("karpenter.sh/capacity-type", types),
                ],
            },
        },
    }
    if units is not None and one.known is not None and one.known.vcpus:
        spec["limits"] = {"cpu": str(one.known.vcpus * units)}
    return {
        "apiVersion": "karpenter.sh/v1",
        "kind": "NodePool",
        "metadata": {"name": f"{one.label}-{paid}"},
        "spec": spec,
    }


def _among(key: str, values: list[str]) -> dict[str, Any]:
    """Return a requirement."""
    return {"key": key, "operator": "In", "values": values}

"""A KubeRay cluster (ray.io/v1): a group of workers for each offer, with a resource of its name.

Steps that are placed on an offer ask for that resource, as the executor on Ray does. Source:
RayCluster CRD, https://docs.ray.io/en/latest/cluster/kubernetes
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import msgspec

from polysilicon.planning.deploy.machines import Machines
from polysilicon.planning.deploy.text import yaml_documents

IMAGE = "rayproject/ray:2.52.0"
_GIB = 2**30
_KEPT = 0.9
"""Of a machine's CPU and memory; the rest is for Kubernetes itself."""


def write(each: Sequence[Machines], notes: Sequence[str]) -> str:
    """Return a cluster."""
    head = {"cpu": "2", "memory": "8Gi"}
    cluster = {
        "apiVersion": "ray.io/v1",
        "kind": "RayCluster",
        "metadata": {"name": "polysilicon"},
        "spec": {
            "enableInTreeAutoscaling": True,
            "headGroupSpec": {
                "rayStartParams": {"num-cpus": "0"},
                "template": _pod("ray-head", head, {}),
            },
            "workerGroupSpecs": [_group(one) for one in each],
        },
    }
    return yaml_documents([cluster], notes)


def _group(one: Machines) -> dict[str, Any]:
    """Return the workers of an offer."""
    least = math.floor(one.committed + 1e-6)
    mean = one.committed + (one.hourly or 0.0) + (one.spot or 0.0)
    # By the hour the plan knows a mean; the autoscaler may go to twice that.
    most = max(math.ceil(one.committed + 2 * (mean - one.committed) - 1e-6), 1)
    resources = msgspec.json.encode({one.offer: 1}).decode()
    limits: dict[str, str] = {}
    if one.known is not None and one.known.vcpus and one.known.memory_bytes:
        limits["cpu"] = str(max(math.floor(one.known.vcpus * _KEPT), 1))
        limits["memory"] = f"{max(math.floor(one.known.memory_bytes / _GIB * _KEPT), 1)}Gi"
        if one.known.kind == "gpu" and one.known.accelerators:
            limits["nvidia.com/gpu"] = str(one.known.accelerators)
    selector = {
        "node.kubernetes.io/instance-type": one.type,
        "topology.kubernetes.io/region": one.region,
    }
    return {
        "groupName": one.label,
        "replicas": least,
        "minReplicas": least,
        "maxReplicas": max(most, least),
        "rayStartParams": {"resources": f"'{resources}'"},
        "template": _pod("ray-worker", limits, selector),
    }


def _pod(name: str, limits: dict[str, str], selector: dict[str, str]) -> dict[str, Any]:
    """Return the template of a pod."""
    container: dict[str, Any] = {"name": name, "image": IMAGE}
    if limits:
        container["resources"] = {"limits": limits, "requests": limits}
    spec: dict[str, Any] = {"containers": [container]}
    if selector:
        spec["nodeSelector"] = selector
    return {"spec": spec}

"""A KubeRay cluster (ray.io/v1): a group of workers for each offer, with a resource of its name.

Steps that are placed on an offer ask for that resource, as the executor on Ray does. Where models
are placed on GPUs it is a RayService that serves them, too, by the API of OpenAI. Sources: CRDs of
KubeRay, https://docs.ray.io/en/latest/cluster/kubernetes and
https://docs.ray.io/en/latest/serve/llm/index.html
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import msgspec

from polysilicon.planning.deploy.machines import Machines, Served
from polysilicon.planning.deploy.text import yaml_documents

IMAGE = "rayproject/ray:2.58.0"
LLM_IMAGE = "rayproject/ray-llm:2.58.0-py312-cu130"
_DEVICES = {
    ("gpu", "nvidia"): "nvidia.com/gpu",
    ("gpu", "amd"): "amd.com/gpu",
    ("asic", "aws"): "aws.amazon.com/neuron",
}
"""Resource of Kubernetes by which device plugins hand out accelerators."""

_GIB = 2**30
_KEPT = 0.9
"""Of a machine's CPU and memory; the rest is for Kubernetes itself."""


def write(each: Sequence[Machines], notes: Sequence[str]) -> str:
    """Return a cluster, or a service on one."""
    models = [(one, found) for one in each for found in one.served if found.role == "llm"]
    served = [(one, model) for one, model in models if _is_gpu(one)]
    image = LLM_IMAGE if served else IMAGE
    head = {"cpu": "2", "memory": "8Gi"}
    spec = {
        "rayVersion": image.partition(":")[2].partition("-")[0],
        "enableInTreeAutoscaling": True,
        "headGroupSpec": {
            "rayStartParams": {"num-cpus": "0"},
            "template": _pod("ray-head", image, head, {}),
        },
        "workerGroupSpecs": [_group(one, image) for one in each],
    }
    document = {
        "apiVersion": "ray.io/v1",
        "kind": "RayCluster",
        "metadata": {"name": "polysilicon"},
        "spec": spec,
    }
    elsewhere = [model.name for one, model in models if not _is_gpu(one)]
    if elsewhere:
        text = f"Not served by Ray, as they are not on NVIDIA GPUs: {', '.join(elsewhere)}."
        notes = [*notes, text]
    if served:
        document["kind"] = "RayService"
        document["spec"] = {"serveConfigV2": _applications(served), "rayClusterConfig": spec}
    return yaml_documents([document], notes)


def _maker(one: Machines) -> tuple[str, str]:
    """Return the kind of the machines' processors and who makes them, in small letters."""
    chip = one.known.processor if one.known is not None else None
    return ("", "") if chip is None else (chip.kind, chip.vendor.casefold())


def _is_gpu(one: Machines) -> bool:
    """Tell whether machines have NVIDIA GPUs, which the image is for."""
    return _maker(one) == ("gpu", "nvidia")


def _applications(served: Sequence[tuple[Machines, Served]]) -> str:
    """Return the configuration of Ray Serve: each model on the machines of its offer."""
    application = {
        "name": "llm",
        "import_path": "ray.serve.llm:build_openai_app",
        "route_prefix": "/",
        "args": {"llm_configs": [_model(one, model) for one, model in served]},
    }
    return yaml_documents([{"applications": [application]}], [])


def _model(one: Machines, model: Served) -> dict[str, Any]:
    """Return how a model is served: as many copies as its machines hold, on these alone."""
    count = model.count or 1
    per_machine = max((one.known.accelerators or 1) // count, 1) if one.known else 1
    copies = max(math.ceil(model.units * per_machine - 1e-6), 1)
    first = {"GPU": 1, "CPU": 1, one.offer: 1 / per_machine}
    return {
        "model_loading_config": {"model_id": model.name, "model_source": model.published_as},
        "deployment_config": {
            "autoscaling_config": {"min_replicas": copies, "max_replicas": copies},
            "max_ongoing_requests": max(model.concurrency // per_machine, 1),
        },
        "engine_kwargs": {"tensor_parallel_size": count},
        "placement_group_config": {
            "bundles": [first, *({"GPU": 1, "CPU": 1} for _ in range(count - 1))],
            "strategy": "STRICT_PACK",
        },
    }


def _group(one: Machines, image: str) -> dict[str, Any]:
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
        device = _DEVICES.get(_maker(one))
        if device and one.known.accelerators:
            limits[device] = str(one.known.accelerators)
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
        "template": _pod("ray-worker", image, limits, selector),
    }


def _pod(name: str, image: str, limits: dict[str, str], selector: dict[str, str]) -> dict[str, Any]:
    """Return the template of a pod."""
    container: dict[str, Any] = {"name": name, "image": image}
    if limits:
        container["resources"] = {"limits": limits, "requests": limits}
    spec: dict[str, Any] = {"containers": [container]}
    if selector:
        spec["nodeSelector"] = selector
    return {"spec": spec}

"""Terraform for Google Cloud: groups of instances with autoscalers, committed use of CPUs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from polysilicon.planning.deploy.groups import bounds, label, quoted
from polysilicon.planning.deploy.machines import Machines

_GIB = 2**30
_PROMISES: dict[str, Any] = {
    "google_commitments": {
        "type": "map(object({ plan = string, type = string }))",
        "default": {},
        "description": "Plan and type of a commitment by name: it is bought, for its whole term.",
    },
}


def part(mine: Sequence[Machines]) -> dict[str, Any]:
    """Return Google Cloud's part of a module."""
    bound = [one for one in mine if _commits(one)]
    resource: dict[str, Any] = {
        "google_compute_instance_template": {label(one): _template(one) for one in mine},
        "google_compute_region_instance_group_manager": {label(one): _group(one) for one in mine},
        "google_compute_region_autoscaler": {label(one): _autoscaler(one) for one in mine},
    }
    if bound:
        resource["google_compute_region_commitment"] = {label(o): _commitment(o) for o in bound}
    return {
        "required_providers": {"google": {"source": "hashicorp/google", "version": ">= 7"}},
        "provider": {"google": {"project": "${var.google_project}"}},
        "variable": {
            "google_project": {"type": "string", "description": "Project of Google Cloud."},
            "google_images": {"type": "map(string)", "description": "Image by machine type."},
            "google_subnets": {"type": "map(string)", "description": "Subnet by region."},
            **(_PROMISES if bound else {}),
        },
        "resource": resource,
    }


def _commits(one: Machines) -> bool:
    """Tell whether there is something to commit to by CPUs and memory."""
    known = one.known
    cpu = known is not None and known.kind == "cpu" and known.vcpus and known.memory_bytes
    return bool(cpu) and one.committed >= 1 - 1e-6


def _template(one: Machines) -> dict[str, Any]:
    """Return a template of instances."""
    found: dict[str, Any] = {
        "name_prefix": f"{label(one)[:36].rstrip('-')}-",
        "machine_type": one.type,
        "disk": [{"source_image": f"${{var.google_images[{quoted(one.type)}]}}", "boot": True}],
        "network_interface": [{"subnetwork": f"${{var.google_subnets[{quoted(one.region)}]}}"}],
        "lifecycle": [{"create_before_destroy": True}],
    }
    if one.spot is not None:
        found["scheduling"] = [
            {"provisioning_model": "SPOT", "preemptible": True, "automatic_restart": False}
        ]
    return found


def _group(one: Machines) -> dict[str, Any]:
    """Return a group of instances."""
    template = f"${{google_compute_instance_template.{label(one)}.self_link_unique}}"
    return {
        "name": label(one),
        "base_instance_name": label(one),
        "region": one.region,
        "version": [{"instance_template": template}],
    }


def _autoscaler(one: Machines) -> dict[str, Any]:
    """Return what keeps a group at what is committed, and lets it grow when its CPUs are busy."""
    least, most = bounds(one)
    policy = {
        "min_replicas": least,
        "max_replicas": most,
        "cpu_utilization": [{"target": 0.8}],
    }
    return {
        "name": label(one),
        "region": one.region,
        "target": f"${{google_compute_region_instance_group_manager.{label(one)}.id}}",
        "autoscaling_policy": [policy],
    }


def _commitment(one: Machines) -> dict[str, Any]:
    """Return committed use of CPUs and memory; none unless its plan is named."""
    assert one.known is not None
    assert one.known.vcpus is not None
    assert one.known.memory_bytes is not None
    units = math.floor(one.committed + 1e-6)
    of = f'var.google_commitments["{label(one)}"]'
    return {
        "count": f'${{contains(keys(var.google_commitments), "{label(one)}") ? 1 : 0}}',
        "name": label(one),
        "region": one.region,
        "plan": f"${{{of}.plan}}",
        "type": f"${{{of}.type}}",
        "resources": [
            {"type": "VCPU", "amount": str(one.known.vcpus * units)},
            {"type": "MEMORY", "amount": str(one.known.memory_bytes * units * 1024 // _GIB)},
        ],
    }

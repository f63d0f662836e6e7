"""Terraform for AWS: autoscaling groups, reservations of capacity, savings plans."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from polysilicon.planning.deploy.groups import alias, bounds, label, quoted
from polysilicon.planning.deploy.machines import Machines

_PROMISES: dict[str, Any] = {
    "reserve_in": {
        "type": "map(string)",
        "default": {},
        "description": "Zone by name: what is committed is reserved and billed there, used or not.",
    },
    "buy_offerings": {
        "type": "map(string)",
        "default": {},
        "description": "Savings plan offering by name: it is bought, for its whole term.",
    },
}


def part(mine: Sequence[Machines]) -> dict[str, Any]:
    """Return AWS's part of a module."""
    regions = list(dict.fromkeys(one.region for one in mine))
    bound = [one for one in mine if one.committed >= 1 - 1e-6]
    resource: dict[str, Any] = {
        "aws_launch_template": {label(one): _template(one) for one in mine},
        "aws_autoscaling_group": {label(one): _group(one) for one in mine},
    }
    if bound:
        resource |= {
            "aws_ec2_capacity_reservation": {label(one): _reservation(one) for one in bound},
            "aws_savingsplans_savings_plan": {label(one): _savings_plan(one) for one in bound},
        }
    return {
        "required_providers": {"aws": {"source": "hashicorp/aws", "version": ">= 6.53"}},
        "provider": {"aws": [{"alias": alias(r), "region": r} for r in regions]},
        "variable": {
            "image_id": {"type": "map(string)", "description": "Machine image by instance type."},
            "subnet_ids": {"type": "map(list(string))", "description": "Subnets by region."},
            **(_PROMISES if bound else {}),
        },
        "resource": resource,
    }


def _template(one: Machines) -> dict[str, Any]:
    """Return a launch template."""
    found: dict[str, Any] = {
        "provider": f"aws.{alias(one.region)}",
        "name_prefix": f"{label(one)}-",
        "instance_type": one.type,
        "image_id": f"${{var.image_id[{quoted(one.type)}]}}",
    }
    if one.spot is not None:
        found["instance_market_options"] = [{"market_type": "spot"}]
    return found


def _group(one: Machines) -> dict[str, Any]:
    """Return an autoscaling group that keeps what is committed."""
    least, most = bounds(one)
    return {
        "provider": f"aws.{alias(one.region)}",
        "name_prefix": f"{label(one)}-",
        "min_size": least,
        "max_size": most,
        "vpc_zone_identifier": f"${{var.subnet_ids[{quoted(one.region)}]}}",
        "launch_template": [
            {"id": f"${{aws_launch_template.{label(one)}.id}}", "version": "$Latest"}
        ],
    }


def _reservation(one: Machines) -> dict[str, Any]:
    """Return a reservation of capacity for what is committed; none unless a zone is named."""
    return {
        "count": f'${{contains(keys(var.reserve_in), "{label(one)}") ? 1 : 0}}',
        "provider": f"aws.{alias(one.region)}",
        "instance_type": one.type,
        "instance_platform": "Linux/UNIX",
        "availability_zone": f'${{var.reserve_in["{label(one)}"]}}',
        "instance_count": math.floor(one.committed + 1e-6),
    }


def _savings_plan(one: Machines) -> dict[str, Any]:
    """Return a savings plan of what is committed; none unless its offering is named."""
    return {
        "count": f'${{contains(keys(var.buy_offerings), "{label(one)}") ? 1 : 0}}',
        "provider": f"aws.{alias(one.region)}",
        "commitment": f"{one.committed_usd_per_hour:.3f}",
        "savings_plan_offering_id": f'${{var.buy_offerings["{label(one)}"]}}',
    }

"""Terraform in its JSON form (.tf.json): an autoscaling group of AWS for each offer.

Each keeps at least what is committed; images and subnets are variables. Purchases themselves are
left to the person who signs. Source: https://developer.hashicorp.com/terraform/language/syntax/json
and the documentation of the provider hashicorp/aws
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import msgspec

from polysilicon.planning.deploy.machines import Machines, of_vendors


def write(each: Sequence[Machines], notes: Sequence[str]) -> str:
    """Return a module.

    Raises:
        InputError: nothing of AWS.
    """
    mine = of_vendors(each, ["aws"], "this module")
    regions = list(dict.fromkeys(one.region for one in mine))
    module: dict[str, Any] = {
        "//": list(notes),
        "terraform": {"required_providers": {"aws": {"source": "hashicorp/aws"}}},
        "provider": {"aws": [{"alias": _alias(r), "region": r} for r in regions]},
        "variable": {
            "image_id": {"type": "map(string)", "description": "Machine image by instance type."},
            "subnet_ids": {"type": "map(list(string))", "description": "Subnets by region."},
        },
        "resource": {
            "aws_launch_template": {one.label: _template(one) for one in mine},
            "aws_autoscaling_group": {one.label: _group(one) for one in mine},
        },
    }
    return msgspec.json.format(msgspec.json.encode(module), indent=2).decode() + "\n"


def _alias(region: str) -> str:
    """Return a name of the provider in a region."""
    return region.replace("-", "_")


def _template(one: Machines) -> dict[str, Any]:
    """Return a launch template."""
    return {
        "provider": f"aws.{_alias(one.region)}",
        "name_prefix": f"{one.label}-",
        "instance_type": one.type,
        "image_id": f'${{var.image_id["{one.type}"]}}',
    }


def _group(one: Machines) -> dict[str, Any]:
    """Return an autoscaling group that keeps what is committed."""
    least = math.floor(one.committed + 1e-6)
    beside = (one.hourly or 0.0) + (one.spot or 0.0)
    # By the hour the plan knows a mean; the group may grow to twice that.
    return {
        "provider": f"aws.{_alias(one.region)}",
        "name_prefix": f"{one.label}-",
        "min_size": least,
        "max_size": max(math.ceil(one.committed + 2 * beside - 1e-6), least, 1),
        "vpc_zone_identifier": f'${{var.subnet_ids["{one.region}"]}}',
        "launch_template": [
            {"id": f"${{aws_launch_template.{one.label}.id}}", "version": "$Latest"}
        ],
    }

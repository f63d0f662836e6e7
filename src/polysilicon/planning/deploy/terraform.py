"""Terraform in its JSON form (.tf.json): groups of machines of AWS or Google Cloud for each offer.

Those of the spot market are a group of their own beside the others of their offer. Each keeps at
least what is committed; images and subnets are variables. What is committed may be reserved and
bought, too, each only where a person names a zone, an offering or a plan for it: as it is, the
module does neither. Source: https://developer.hashicorp.com/terraform/language/syntax/json and the
documentation of the providers hashicorp/aws, 6.53, and hashicorp/google, 7
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from polysilicon.planning.deploy import terraform_aws, terraform_google
from polysilicon.planning.deploy.groups import apart, literal
from polysilicon.planning.deploy.machines import Machines, of_vendors

_PARTS = {"aws": terraform_aws.part, "gcp": terraform_google.part}


def write(each: Sequence[Machines], notes: Sequence[str]) -> str:
    """Return a module.

    Raises:
        InputError: nothing of these clouds.
    """
    mine, left_out = of_vendors(each, list(_PARTS), "this module")
    mine = [
        msgspec.structs.replace(one, offer=literal(one.offer), region=literal(one.region))
        for one in mine
    ]
    module: dict[str, Any] = {
        "//": [*notes, *left_out],
        "terraform": {"required_providers": {}},
        "provider": {},
        "variable": {},
        "resource": {},
    }
    for vendor, part in _PARTS.items():
        ours = list(apart([one for one in mine if one.vendor == vendor]))
        if ours:
            found = part(ours)
            module["terraform"]["required_providers"] |= found["required_providers"]
            for name in ("provider", "variable", "resource"):
                module[name] |= found[name]
    return msgspec.json.format(msgspec.json.encode(module), indent=2).decode() + "\n"

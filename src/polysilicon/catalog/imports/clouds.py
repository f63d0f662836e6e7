"""Which cloud a table of instance types is of."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

from polysilicon.catalog.imports.vms import Vm
from polysilicon.errors import InputError

_NAMES: Mapping[str, re.Pattern[str]] = {
    "azure": re.compile(r"(Standard|Basic)_\w+"),
    "lambda": re.compile(r"(gpu|cpu)_\d+x_\w+"),
    "aws": re.compile(r"[a-z][a-z0-9-]*\.(metal|nano|micro|small|medium|\d*x?large|metal-\w+)"),
    "gcp": re.compile(
        r"[a-z]\d+\w*-(standard|high\w+|mega\w+|ultra\w+|edge\w+|micro|small|medium)\b.*"
    ),
}
_GCP_REGION = re.compile(r"[a-z]+-[a-z]+\d+")
_CLOUD = re.compile(r"[a-z][a-z0-9-]*")


def check_cloud(cloud: str) -> str:
    """Return a cloud's name where it can be one.

    Raises:
        InputError: it cannot.
    """
    if not _CLOUD.fullmatch(cloud):
        raise InputError(f"{cloud!r} cannot be a cloud", where="--cloud", mend="such as aws")
    return cloud


def cloud_of(vms: Sequence[Vm], where: str) -> str:
    """Return the cloud whose names most rows have.

    Raises:
        InputError: no cloud's names are like these, or two clouds' are.
    """
    votes: Counter[str] = Counter()
    for vm in vms:
        found = [cloud for cloud, name in _NAMES.items() if name.fullmatch(vm.instance)]
        if not vm.instance and _GCP_REGION.fullmatch(vm.region):
            found = ["gcp"]
        votes.update(found[:1])
    if not votes:
        raise InputError("not to tell of which cloud it is", where=where, mend="give --cloud")
    (cloud, count), *others = votes.most_common(2)
    if others and others[0][1] * 10 > count:
        what = f"rows of {cloud} and of {others[0][0]}"
        raise InputError(what, where=where, mend="give --cloud, or one file a cloud")
    return cloud

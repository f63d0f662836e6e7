"""Policy files: what is allowed and wanted, as TOML.

Example:
    objective = "cost"
    redundancy = "region"
    prices = ["on-demand", "1y"]

    [[slo]]
    agent = "support"
    p99_s = 8.0
    interactive = true

    [[residency]]
    data_class = "personal"
    regions = ["eu-central-1", "eu-west-1"]

    [[link]]
    regions = ["us-east-1", "eu-west-1"]
    delay_s = 0.08

    [spot]
    interruptions_per_hour = 0.05
    restart_s = 120.0

    [vendor_share_max]
    aws = 0.7

    [supply_max]
    "aws/p5.48xlarge" = 4
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal

import msgspec

from polysilicon.catalog.fleet import Link, check_links
from polysilicon.catalog.offers import Price
from polysilicon.disk import read_toml
from polysilicon.errors import InputError

_MEND = (
    "known: objective, redundancy, prices, slo, residency, link, spot, vendor_share_max,"
    " supply_max; see docs/running.md and docs/place.md"
)

Objective = Literal["cost", "latency", "energy"]
Redundancy = Literal["machine", "pool", "region", "vendor"]


class Slo(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What tasks of an agent may take.

    Attributes:
        agent: its name.
        p99_s: seconds from a task's arrival to its end that 99 of 100 keep to.
        interactive: somebody waits for the answer, so its steps go before those of batch work.
    """

    agent: str
    p99_s: float
    interactive: bool = False


class Residency(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where data of a class may be.

    Attributes:
        data_class: as in the step record.
        regions: names or patterns of regions, such as `eu-*`; `local` is this machine.
    """

    data_class: str
    regions: tuple[str, ...]


class Spot(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What becomes of machines at spot prices.

    Attributes:
        interruptions_per_hour: how often one is taken away, on average.
        restart_s: until a machine in its place serves.
    """

    interruptions_per_hour: float
    restart_s: float


class Policy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is allowed and wanted.

    Attributes:
        objective: what is to be as little as possible.
        redundancy: what may be lost, any one of them, so that the rest of a fleet still serves all;
            None for nothing.
        prices: which prices of offers may be paid; of those known the cheapest is.
        slo: by agent.
        residency: by class of data; a class that is not named may be anywhere.
        link: ways between regions; one that is not told takes no time.
        spot: what becomes of spot machines; where it is not told, they are taken to stay.
        vendor_share_max: vendor → largest share of all dollars, a fraction.
        supply_max: offer → most units.
    """

    objective: Objective = "cost"
    redundancy: Redundancy | None = None
    prices: tuple[Price, ...] = ("on-demand",)
    slo: tuple[Slo, ...] = ()
    residency: tuple[Residency, ...] = ()
    link: tuple[Link, ...] = ()
    spot: Spot | None = None
    vendor_share_max: Mapping[str, float] = {}
    supply_max: Mapping[str, int] = {}

    def resident(self, data_class: str | None, region: str) -> bool:
        """Tell whether data of a class may be in a region."""
        rules = [rule for rule in self.residency if rule.data_class == data_class]
        return all(any(fnmatchcase(region, p) for p in rule.regions) for rule in rules)

    def check_supply(self, units: Iterable[tuple[str, int]]) -> None:
        """Raise `InputError` where a fleet has more units of an offer than there may be.

        Args:
            units: offer and units of each pool.
        """
        pools = list(units)
        for offer, most in self.supply_max.items():
            found = sum(count for name, count in pools if name == offer)
            if found > most:
                what = f"it has {found} units of {offer}; the policy allows {most}"
                raise InputError(what, where="fleet")

    def slo_of(self, agent: str) -> Slo | None:
        """Return what tasks of an agent may take, or None where nothing is said."""
        return next((slo for slo in self.slo if slo.agent == agent), None)


def read_policy(path: Path) -> Policy:
    """Read a policy file.

    Raises:
        InputError: no such file, not TOML, an unknown key, or rules that cannot be.
    """
    policy = read_toml(path, Policy, mend=_MEND)
    check_policy(policy, str(path))
    return policy


def check_policy(policy: Policy, where: str) -> None:
    """Raise `InputError` where rules cannot be, or contradict each other."""
    _once((slo.agent for slo in policy.slo), f"{where}, slo", "agent")
    if not policy.prices:
        raise InputError("no price may be paid", where=f"{where}, prices", mend="name one")
    _once((rule.data_class for rule in policy.residency), f"{where}, residency", "data_class")
    for slo in policy.slo:
        if not 0 < slo.p99_s < float("inf"):
            place = f"{where}, slo, {slo.agent}"
            raise InputError(f"p99_s is {slo.p99_s:g}", where=place, mend="give seconds above 0")
    for rule in policy.residency:
        if not rule.regions:
            place = f"{where}, residency, {rule.data_class}"
            raise InputError("no region is allowed", where=place, mend="name at least one")
    _check_ways(policy, where)
    for vendor, share in policy.vendor_share_max.items():
        if not 0 <= share <= 1:
            place = f"{where}, vendor_share_max, {vendor}"
            raise InputError(f"the share is {share:g}", where=place, mend="give 0 to 1")
    for offer, units in policy.supply_max.items():
        if units < 0:
            raise InputError(f"{units} units", where=f"{where}, supply_max, {offer}")


def _check_ways(policy: Policy, where: str) -> None:
    """Raise `InputError` where ways between regions or spot machines cannot be as told."""
    check_links(policy.link, where)
    if policy.spot is None:
        return
    told = (policy.spot.interruptions_per_hour, policy.spot.restart_s)
    if not all(0 <= value < float("inf") for value in told):
        what = "interruptions_per_hour and restart_s must be from 0"
        raise InputError(what, where=f"{where}, spot")


def _once(names: Iterable[str], where: str, field: str) -> None:
    """Raise `InputError` where a name is there twice."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise InputError(f"{field} {name!r} is there twice", where=where)
        seen.add(name)

"""How fast the cores of a CPU offer multiply matrices, and in which precision they train.

What a core does in a second goes with its clock and the width of its vectors. So does what it
reads from its first-level cache, and that was measured on 1,600 server types: the rate in float32
is taken in proportion to it, and in bfloat16 some times that where a core has units for it. Both
proportions are fitted by who asks.

Source: `server_scores.csv` and `bf16_units.csv` of the catalog; which runs the proportions are
fitted on: docs/cost_tools.md.
"""

from __future__ import annotations

from functools import lru_cache

import msgspec

from polysilicon.catalog.fleet import LOCAL
from polysilicon.catalog.machine import NO_BF16, detect
from polysilicon.catalog.offers import Offer
from polysilicon.catalog.servers import ServerScore, ServerType, load_servers
from polysilicon.errors import NoBasisError

CPU_VCPUS = 8
"""vCPUs that an encoder or a training step takes on a CPU at most: each keeps few cores busy well,
and the rest of the machine is left to other steps."""


class Cores(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The cores that a step takes on a CPU offer.

    Attributes:
        used: vCPUs of them.
        vcpus: of the whole offer.
        l1_bytes_per_s: that one vCPU reads from its first-level cache while all others do.
        thread_score: PassMark's rating of one thread.
        family: of the chip.
        bf16_unit: as `bf16_units.csv` names it; `none` where there is none.
    """

    used: int
    vcpus: int
    l1_bytes_per_s: float
    thread_score: float
    family: str
    bf16_unit: str


def cores_of(offer: Offer) -> Cores:
    """Return the cores that a step takes on a CPU offer.

    What this machine multiplies bfloat16 with it tells itself; all else is taken from the chip that
    the offer is known or priced as.

    Raises:
        NoBasisError: how many there are, or which, is not known.
    """
    if offer.vcpus is None:
        raise NoBasisError(f"how many vCPUs {offer.name} has is not known")
    servers = load_servers()
    server = servers.of_offer(offer)
    chip = servers.chips.get(server.chip) if server is not None else None
    if server is None or chip is None:
        name = f"the processor of {offer.name}" if offer.processor is None else offer.processor.name
        raise NoBasisError(f"how fast {name} multiplies matrices was not measured")
    score = _score(server)
    unit = servers.bf16_units.get(chip.family)
    told = NO_BF16 if unit is None else unit.unit
    return Cores(
        used=min(offer.vcpus, CPU_VCPUS),
        vcpus=offer.vcpus,
        l1_bytes_per_s=score.l1_read_gbs * 1e9 / server.vcpus,
        thread_score=score.thread_score,
        family=chip.family,
        bf16_unit=detect().bf16_unit if offer.name == LOCAL else told,
    )


@lru_cache(maxsize=4096)
def _score(server: ServerType) -> ServerScore:
    """Return how fast a server type is."""
    return load_servers().score(server)

"""Server types: which chip, how much of it, and over how many sockets and memory nodes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from importlib.resources.abc import Traversable
from statistics import geometric_mean

import msgspec

from polysilicon.catalog.offers import Offer
from polysilicon.catalog.tables import (
    Cell,
    amount,
    blank_or,
    count,
    data_folder,
    day,
    read_rows,
    text,
)


class ServerChip(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A chip as servers have it.

    Attributes:
        chip: short name, unique.
        family: chips of one design.
        isa: the widest instructions that a model can use: neon, sve, avx, avx2, avx512, amx.
        cores_per_socket: that the cloud sells.
        sockets: of a whole machine.
        vcpus_per_core: 2 where both threads of a core are sold.
        numa_per_socket: memory nodes of one socket.
        memory_bandwidth_gbs: of one socket, channels times peak rate.
        year: of the chip.
        processor: its name in the table of processors, or blank.
        source: of the row.
        date: of the row.
    """

    chip: str
    family: str
    isa: str
    cores_per_socket: int
    sockets: int
    vcpus_per_core: int
    numa_per_socket: int
    memory_bandwidth_gbs: float
    year: int
    processor: str
    source: str
    date: str


class ServerType(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A server type by what decides the speed of its processors.

    Attributes:
        instance: `cloud/instance type`.
        chip: a name of the chips; blank where nobody tells.
        series: the type's name without its size.
        vcpus: usable ones.
        host_vcpus: those whose memory and bandwidth it has; more than `vcpus` where the cloud
            sells a machine with some cores switched off.
        cores: physical ones; None where the chip is not known.
        sockets: that it spans.
        numa_nodes: that it spans.
        memory_gib: None where no source tells.
    """

    instance: str
    chip: str
    series: str
    vcpus: int
    host_vcpus: int
    cores: int | None = None
    sockets: int | None = None
    numa_nodes: int | None = None
    memory_gib: float | None = None

    @property
    def bare(self) -> bool:
        """Whether it is a whole machine without a hypervisor, as its name tells."""
        return "metal" in self.instance or self.instance.startswith("vultr/vbm-")


class Bf16Unit(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the cores of a family multiply matrices in bfloat16 with.

    Attributes:
        family: of chips.
        core: design of its cores.
        unit: `amx`, `avx512_bf16`, `bfmmla`, or `none`.
        source: of the row.
        date: when it was read.
    """

    family: str
    core: str
    unit: str
    source: str
    date: str


class ServerScore(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How fast a server type is at two plain benchmarks.

    Attributes:
        instance: `cloud/instance type`.
        thread_score: PassMark's rating of one thread.
        l1_read_gbs: what all threads together read from their first-level caches (bw_mem of
            lmbench, 16 kB each), which grows with threads, clock and width of the vectors.
    """

    instance: str
    thread_score: float
    l1_read_gbs: float


_CHIP_COLUMNS: dict[str, Cell] = {
    "chip": text,
    "family": text,
    "isa": text,
    "cores_per_socket": count,
    "sockets": count,
    "vcpus_per_core": count,
    "numa_per_socket": count,
    "memory_bandwidth_gbs": amount,
    "year": count,
    "processor": str,
    "source": text,
    "date": day,
}
_TYPE_COLUMNS: dict[str, Cell] = {
    "instance": text,
    "chip": str,
    "series": text,
    "vcpus": count,
    "host_vcpus": count,
    "cores": blank_or(count),
    "sockets": blank_or(count),
    "numa_nodes": blank_or(count),
    "memory_gib": blank_or(amount),
}
_UNIT_COLUMNS: dict[str, Cell] = {
    "family": text,
    "core": text,
    "unit": text,
    "source": text,
    "date": day,
}
_SCORE_COLUMNS: dict[str, Cell] = {"instance": text, "thread_score": amount, "l1_read_gbs": amount}
# Where a type was not measured, the geometric mean of so many nearest in size stands for it.
_LIKES = 3


class Servers:
    """All chips and server types that are known.

    Args:
        folder: of the catalog's data files.

    Raises:
        InputError: a table is wrong; names file, row and column.
    """

    def __init__(self, folder: Traversable) -> None:
        self.chips: Mapping[str, ServerChip] = {
            row["chip"]: ServerChip(**row)
            for _, row in read_rows(folder / "server_chips.csv", _CHIP_COLUMNS)
        }
        self.types: Mapping[str, ServerType] = {
            row["instance"]: ServerType(**row)
            for _, row in read_rows(folder / "cc_by_sa" / "server_types.csv", _TYPE_COLUMNS)
        }
        self.scores: Mapping[str, ServerScore] = {
            row["instance"]: ServerScore(**row)
            for _, row in read_rows(folder / "cc_by_sa" / "server_scores.csv", _SCORE_COLUMNS)
        }
        self.bf16_units: Mapping[str, Bf16Unit] = {
            row["family"]: Bf16Unit(**row)
            for _, row in read_rows(folder / "bf16_units.csv", _UNIT_COLUMNS)
        }
        self._by_processor = {c.processor: c for c in self.chips.values() if c.processor}
        self._vcpus_of_size = {
            (name.partition("/")[0], known.chip, name.rpartition(".")[2]): known.vcpus
            for name, known in self.types.items()
            if "." in name
        }

    def of_offer(self, offer: Offer) -> ServerType | None:
        """Return the server type of an offer.

        One that is in no table is laid out from its chip and its vCPUs, as the cloud fills
        sockets: one is full before the next is begun.

        Where an offer does not tell its vCPUs, a type of the same cloud, chip and size name does.

        Returns:
            None where the chip or the number of vCPUs is not known.
        """
        known = self.types.get(offer.name)
        if known is not None:
            return known
        chip = self._by_processor.get(offer.processor.name) if offer.processor else None
        if chip is None:
            return None
        size = offer.name.rpartition(".")[2]
        vcpus = offer.vcpus or self._vcpus_of_size.get((offer.cloud, chip.chip, size))
        return None if vcpus is None else lay_out(offer.name, chip, vcpus)

    def score(self, server: ServerType) -> ServerScore:
        """Return how fast a server type is: as measured, or as types like it are.

        Types like it share its chip, else its family, else its instructions, and are near it in
        size; the caches' rate is taken by vCPU.
        """
        found = self.scores.get(server.instance)
        if found is not None:
            return found
        chip = self.chips.get(server.chip)
        likes: list[ServerType] = []
        for shared in ("chip", "family", "isa"):
            likes = likes or self._nearest(server, shared, chip)
        return ServerScore(
            instance=server.instance,
            thread_score=geometric_mean([self.scores[t.instance].thread_score for t in likes]),
            l1_read_gbs=server.vcpus
            * geometric_mean([self.scores[t.instance].l1_read_gbs / t.vcpus for t in likes]),
        )

    def _nearest(
        self, server: ServerType, shared: str, chip: ServerChip | None
    ) -> list[ServerType]:
        """Return the measured types nearest in vCPUs whose chips share something with a chip.

        Of an unknown chip only its instructions are guessed, the plainest that are common.
        """
        value = getattr(chip, shared, "avx2")
        chips = {name for name, other in self.chips.items() if getattr(other, shared) == value}
        among = [t for t in self.types.values() if t.chip in chips and t.instance in self.scores]
        return sorted(among, key=lambda t: abs(math.log2(t.vcpus / server.vcpus)))[:_LIKES]


def lay_out(instance: str, chip: ServerChip, vcpus: int) -> ServerType:
    """Return a type of so many vCPUs of a chip, sockets filled one after the other."""
    cores = max(vcpus // chip.vcpus_per_core, 1)
    per_node = chip.cores_per_socket / chip.numa_per_socket
    return ServerType(
        instance=instance,
        chip=chip.chip,
        series=instance.partition(".")[0],
        vcpus=vcpus,
        host_vcpus=vcpus,
        cores=cores,
        sockets=min(math.ceil(cores / chip.cores_per_socket), chip.sockets),
        numa_nodes=min(math.ceil(cores / per_node), chip.sockets * chip.numa_per_socket),
    )


@lru_cache(maxsize=1)
def load_servers() -> Servers:
    """Return the servers that come with Polysilicon; they are read once."""
    return Servers(data_folder())

"""Seconds of a tool step: startup + wait + core-seconds times core speed times contention.

Law, with c core-seconds measured on an idle reference core, r the reference's core speed over this
chip's, k threads that the step can use and n threads that want to run on the machine in all:
    service = startup + wait + c·r / (min(k, V)·rate(n))
    rate(n) = throughput(n) / n, in multiples of one thread alone
    throughput(n) = n·kept(n)                       for n up to C cores
                  = (C + (n - C)(g - 1))·kept(C)    for n up to V vCPUs, two threads on a core
                  = throughput(V)                   beyond: threads take turns (processor sharing)
C is V over the threads of a core, g is what both threads of a core do together, kept(n) is what a
core keeps of its speed when others are busy: 1 up to a knee, then linear to the measured value. The
same functions take numbers or arrays, so one estimate and a bulk of them follow one law.

Source: core scores of the catalog (`catalog/scores.py`); constants in `data/cc_by_sa/tools.csv`.
Processor sharing: L. Kleinrock, "Queueing Systems" vol. 2, 1976, section 4.4.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import msgspec
import numpy as np
import numpy.typing as npt

from polysilicon.catalog.hosts import cpu_of
from polysilicon.catalog.offers import Offer
from polysilicon.catalog.processors import Processor
from polysilicon.catalog.scores import core_speeds
from polysilicon.catalog.tables import data_folder
from polysilicon.cost.constants import read_constants
from polysilicon.errors import InputError, NoBasisError

Values = npt.NDArray[np.float64] | float
Numbers = npt.NDArray[np.float64]


class Slowdown(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Core-seconds on one chip for one core-second on another, both cores alone.

    Attributes:
        ratio: best estimate.
        low: lower end of its band, which holds the truth in 90 of 100 cases.
        high: upper end.
    """

    ratio: float
    low: float
    high: float


SAME = Slowdown(ratio=1.0, low=1.0, high=1.0)
"""The step stays on the chip where its core-seconds were measured."""


class Host(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What contention does on one machine.

    Attributes:
        vcpus: threads that can run at once.
        cores: physical cores behind them.
        pair: what both threads of a core do together, as a multiple of one; 1 with one thread.
        pair_low: lower end of its band.
        pair_high: upper end.
        kept: what a core keeps of its speed when all cores are busy.
    """

    vcpus: float
    cores: float
    pair: float = 1.0
    pair_low: float = 1.0
    pair_high: float = 1.0
    kept: float = 1.0


class ToolSeconds(msgspec.Struct, frozen=True, kw_only=True):
    """What tool steps take; all arrays have the steps' shape.

    Attributes:
        service_s: from start to end.
        low_s: lower end of its band.
        high_s: upper end.
        vcpu_s: vCPU-seconds that the step occupies, which is what it pays for.
    """

    service_s: Numbers
    low_s: Numbers
    high_s: Numbers
    vcpu_s: Numbers


@lru_cache(maxsize=1)
def tool_constants() -> Mapping[str, Mapping[str, float]]:
    """Return the fitted constants of tool steps; they are read once."""
    return read_constants(data_folder("polysilicon.cost") / "cc_by_sa" / "tools.csv")


def core_speed(chip: Processor | None, where: str) -> float:
    """Return the speed of one core alone, as a multiple of Graviton3's.

    Args:
        chip: whose cores.
        where: what to call it in an error when there is no chip.

    Raises:
        NoBasisError: it was not measured.
    """
    found = core_speeds().get(chip.name) if chip is not None else None
    if found is not None:
        return found.alone
    if chip is not None and chip.core_speed is not None:
        return chip.core_speed
    name = chip.name if chip is not None else where
    raise NoBasisError(f"the core speed of {name} is not known")


def slowdown(
    known: Processor | None, chip: Processor | None, known_as: str, chip_as: str
) -> Slowdown:
    """Return core-seconds on `chip` for each that was measured on `known`.

    Args:
        known: where the core-seconds were measured.
        chip: where the step is to run.
        known_as: what to call `known` in an error.
        chip_as: what to call `chip` in an error.

    Raises:
        NoBasisError: the core speed of one of them is not known.
    """
    if known is not None and chip is not None and known.name == chip.name:
        return SAME
    ratio = core_speed(known, known_as) / core_speed(chip, chip_as)
    fast = core_speeds()
    firm = all(c is None or (c.name in fast and not fast[c.name].estimated) for c in (known, chip))
    return by_ratio(ratio, estimated=not firm)


def by_ratio(ratio: float, *, estimated: bool = False) -> Slowdown:
    """Return the slowdown of a known ratio of core speeds, such as a calibrated machine's.

    Args:
        ratio: core speed where the step was measured over core speed where it is to run.
        estimated: one of the two rests on fewer benchmarks, so the band is wider.

    Raises:
        InputError: the ratio is not greater than 0.
    """
    if not ratio > 0:
        raise InputError(f"the ratio of core speeds is {ratio:g}", mend="it is greater than 0")
    band = tool_constants()["speed"]
    low, high = ("estimated_low", "estimated_high") if estimated else ("low", "high")
    return Slowdown(ratio=ratio, low=ratio * band[low], high=ratio * band[high])


def host(offer: Offer) -> Host:
    """Return what contention does on an offer's machine.

    A chip whose cores were not measured under load keeps its speed; one that has two threads a core
    and was not measured takes the median of those that were.

    Raises:
        NoBasisError: the number of vCPUs is not known.
    """
    if offer.vcpus is None:
        raise NoBasisError(f"how many vCPUs {offer.name} has is not known")
    chip = cpu_of(offer)
    threads = (chip.vcpus_per_core or 1) if chip is not None else 1
    found = core_speeds().get(chip.name) if chip is not None else None
    kept = 1.0
    if found is not None and chip is not None:
        whole = chip.cores is not None and offer.vcpus > chip.cores * threads / 2
        kept = found.kept_whole if whole else found.kept_quarter
    if threads == 1:
        return Host(vcpus=offer.vcpus, cores=offer.vcpus, kept=kept)
    fitted = tool_constants()["pair"]
    measured = found.pair if found is not None else None
    return Host(
        vcpus=offer.vcpus,
        cores=max(offer.vcpus / threads, 1.0),
        pair=fitted["unmeasured"] if measured is None else measured,
        pair_low=fitted["low"],
        pair_high=fitted["high"],
        kept=kept,
    )


def throughput(threads: Values, machine: Host, pair: float | None = None) -> Numbers:
    """Return what some busy threads do together, in multiples of one thread alone.

    Args:
        threads: how many want to run; any number from 0.
        machine: on which.
        pair: what both threads of a core do together; the machine's by default.
    """
    busy = np.minimum(np.asarray(threads, dtype=np.float64), machine.vcpus)
    gain = machine.pair if pair is None else pair
    on_cores = np.minimum(busy, machine.cores)
    knee = tool_constants()["turbo"]["knee"]
    share = np.clip((on_cores / machine.cores - knee) / (1.0 - knee), 0.0, 1.0)
    kept = 1.0 - (1.0 - machine.kept) * share
    return np.asarray((on_cores + (busy - on_cores) * (gain - 1.0)) * kept)


def rate(threads: Values, machine: Host, pair: float | None = None) -> Numbers:
    """Return how fast each of some threads runs, as a share of one thread alone; 1 at none.

    Args:
        threads: how many want to run; any number from 0.
        machine: on which.
        pair: as in `throughput`.
    """
    wanted = np.maximum(np.asarray(threads, dtype=np.float64), 1.0)
    return np.asarray(np.minimum(throughput(wanted, machine, pair) / wanted, 1.0))


def tool_seconds(
    cpu_s: Values,
    *,
    startup_s: Values = 0.0,
    wait_s: Values = 0.0,
    cores: Values = 1.0,
    speed: Slowdown,
    machine: Host,
    utilisation: Values = 0.0,
) -> ToolSeconds:
    """Return what tool steps take on a machine, elementwise.

    Start-up is part work and part waiting for the system; its best estimate does not scale with
    core speed, its band covers both.

    Args:
        cpu_s: core-seconds on the reference, measured without contention.
        startup_s: until the sandbox or process is ready.
        wait_s: off the CPU (network, a person).
        cores: cores that the step can use at once; below 1 counts as 1.
        speed: from the reference to this machine.
        machine: where it runs.
        utilisation: vCPUs that other work wants, over all vCPUs; above 1 where it wants more.

    Raises:
        InputError: a negative time or utilisation.
    """
    times = {"cpu_s": cpu_s, "startup_s": startup_s, "wait_s": wait_s, "utilisation": utilisation}
    for name, values in times.items():
        if np.any(np.asarray(values) < 0):
            raise InputError(f"{name} is negative", mend="it is 0 or more")
    threads = np.clip(np.asarray(cores, dtype=np.float64), 1.0, machine.vcpus)
    running = threads + np.asarray(utilisation, dtype=np.float64) * machine.vcpus
    each = rate(running, machine)
    work = np.asarray(cpu_s, dtype=np.float64)
    off = np.asarray(wait_s, dtype=np.float64)
    start = np.asarray(startup_s, dtype=np.float64)
    # A thread that waits for its turn on a vCPU does not occupy one.
    turns = np.minimum(machine.vcpus / running, 1.0)
    crowded = rate(running, machine, machine.pair_low)
    roomy = rate(running, machine, machine.pair_high)
    return ToolSeconds(
        service_s=start + off + work * speed.ratio / (threads * each),
        low_s=start * min(speed.low, 1.0) + off + work * speed.low / (threads * roomy),
        high_s=start * max(speed.high, 1.0) + off + work * speed.high / (threads * crowded),
        vcpu_s=work * speed.ratio / each * turns,
    )

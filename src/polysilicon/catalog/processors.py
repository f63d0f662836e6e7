"""Processors: chips as tidy facts, each with value, unit, source and date."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.resources.abc import Traversable
from typing import Any, Literal, get_args

import msgspec

from polysilicon.catalog.tables import day, read_rows, text
from polysilicon.errors import InputError, nearest

ProcessorKind = Literal["cpu", "gpu", "asic"]
KINDS: tuple[str, ...] = get_args(ProcessorKind)

FACTS: dict[str, str] = {
    "vendor": "text",
    "kind": "text",
    "isa": "text",
    "cores": "count",
    "vcpus_per_core": "count",
    "core_speed": "x AWS Graviton3",
    "memory_gb": "GB",
    "memory_bandwidth_peak_gbs": "GB/s",
    "memory_bandwidth_measured_gbs": "GB/s",
    "bf16_tflops": "TFLOP/s",
    "fp16_tflops": "TFLOP/s",
    "fp8_tflops": "TFLOP/s",
    "fp4_tflops": "TFLOP/s",
    "int8_tops": "TOP/s",
    "link_gbs": "GB/s",
    "tdp_w": "W",
    "year": "year",
    "rentable": "text",
    "note": "text",
}
"""Fact → unit; what each means is in the table of columns."""


class Fact(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One fact of one processor."""

    fact: str
    value: str
    unit: str
    source: str
    date: str


class Processor(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A chip; None is what no source tells.

    Attributes:
        name: unique.
        vendor: who makes it.
        kind: `cpu`, `gpu` or `asic`.
        isa: instruction set, in words.
        cores: physical cores (of accelerators: cores as the vendor counts them).
        vcpus_per_core: vCPUs that clouds sell for one core.
        core_speed: speed of one vCPU alone, as a multiple of AWS Graviton3's.
        memory_gb: of accelerators, on the package; decimal gigabytes.
        memory_bandwidth_peak_gbs: by data sheet.
        memory_bandwidth_measured_gbs: of CPUs, all cores reading.
        bf16_tflops: dense peak; so are the next three.
        fp16_tflops: dense.
        fp8_tflops: dense.
        fp4_tflops: dense.
        int8_tops: dense.
        link_gbs: from one accelerator to the others of its machine, in one direction.
        tdp_w: thermal design power.
        year: when it came.
        rentable: where, in words.
        note: what else to know.
        facts: the same with unit, source and date each.
    """

    name: str
    vendor: str
    kind: ProcessorKind
    isa: str | None = None
    cores: int | None = None
    vcpus_per_core: int | None = None
    core_speed: float | None = None
    memory_gb: float | None = None
    memory_bandwidth_peak_gbs: float | None = None
    memory_bandwidth_measured_gbs: float | None = None
    bf16_tflops: float | None = None
    fp16_tflops: float | None = None
    fp8_tflops: float | None = None
    fp4_tflops: float | None = None
    int8_tops: float | None = None
    link_gbs: float | None = None
    tdp_w: float | None = None
    year: int | None = None
    rentable: str | None = None
    note: str | None = None
    facts: tuple[Fact, ...] = ()

    def peak_flops(self, precision: str) -> float | None:
        """Return dense operations a second that arithmetic on `precision` weights can reach.

        Weights of fewer bits than the arithmetic has are widened first, so fp4 weights run at the
        bf16 rate where the chip has no fp4 rate, 8-bit ones where it has no 8-bit rate, and 4-bit
        integers always. A chip whose bf16 rate no source tells is taken to do half its fp8 rate.
        """
        wide = self.bf16_tflops if self.bf16_tflops is not None else self.fp16_tflops
        if wide is None and self.fp8_tflops is not None:
            wide = self.fp8_tflops / 2
        narrow = {"fp8": self.fp8_tflops, "int8": self.int8_tops, "fp4": self.fp4_tflops}.get(
            precision
        )
        tera = narrow if narrow is not None else wide
        return None if tera is None else tera * 1e12

    def bandwidth_bytes_per_s(self) -> float | None:
        """Return bytes a second that its memory delivers; what was measured comes first."""
        gbs = self.memory_bandwidth_measured_gbs
        gbs = self.memory_bandwidth_peak_gbs if gbs is None else gbs
        return None if gbs is None else gbs * 1e9


_COLUMNS = {
    "processor": text,
    "fact": text,
    "value": text,
    "unit": text,
    "source": text,
    "date": day,
}


def read_processors(sources: Iterable[Traversable]) -> dict[str, Processor]:
    """Read processors from files of facts.

    Raises:
        InputError: an unknown fact or unit, a fact told twice, a value of the wrong type, or a
            processor without vendor or kind.
    """
    told: dict[str, dict[str, Fact]] = {}
    last: Traversable | None = None
    for source in sources:
        last = source
        for line, row in read_rows(source, _COLUMNS):
            where = f"{source.name}, row {line}"
            facts = told.setdefault(row.pop("processor"), {})
            fact = Fact(**row)
            _check(fact, facts, where)
            facts[fact.fact] = fact
    return {name: _processor(name, facts, last) for name, facts in told.items()}


def _check(fact: Fact, facts: dict[str, Fact], where: str) -> None:
    """Raise `InputError` where a fact is unknown, has another unit or was told already."""
    unit = FACTS.get(fact.fact)
    if unit is None:
        mend = nearest(fact.fact, FACTS)
        raise InputError(f"unknown fact {fact.fact!r}", where=f"{where}, fact", mend=mend)
    if fact.unit != unit:
        raise InputError(f"{fact.fact} is in {unit}, not {fact.unit}", where=f"{where}, unit")
    if fact.fact in facts:
        raise InputError(f"{fact.fact} is told twice", where=f"{where}, fact")


def _processor(name: str, facts: dict[str, Fact], source: Traversable | None) -> Processor:
    """Build a processor; its fields check the types of the values."""
    values: dict[str, Any] = {fact.fact: fact.value for fact in facts.values()}
    try:
        processor = msgspec.convert({"name": name, **values}, Processor, strict=False)
    except msgspec.ValidationError as error:
        file = source.name if source is not None else ""
        raise InputError(str(error), where=f"{file}, processor {name!r}") from error
    return msgspec.structs.replace(processor, facts=tuple(facts.values()))

"""What is found for a model or for tool work: curves by kind of processor, and their crossings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from polysilicon.catalog.catalog import Catalog
from polysilicon.catalog.machine import isa_class_of
from polysilicon.cost.llm.law import Numbers
from polysilicon.report.price_performance.capacity import (
    Answers,
    Capacity,
    llm_answers,
    tool_answers,
)
from polysilicon.report.price_performance.charts import Line
from polysilicon.report.price_performance.curves import (
    Crossing,
    Curve,
    at_end,
    cheapest,
    crossing,
    usd_per_million,
)
from polysilicon.report.price_performance.studies import TASK, loads

ACCELERATORS = ("gpu", "asic")


class Side(msgspec.Struct, frozen=True, kw_only=True):
    """The cheapest machines of some kind: by best estimates, and at both ends of their bands.

    Attributes:
        capacities: of all machines of the kind.
        best: by best estimates.
        slow: the same machines if all their seconds are at the slow ends.
        fast: at the fast ends.
    """

    capacities: Sequence[Capacity]
    best: Curve
    slow: Curve
    fast: Curve

    def line(self, at: Numbers, units_each: float) -> Line:
        """Return dollars for a million units over load."""
        told = {
            name: np.asarray(usd_per_million(1.0, 1.0, units_each) * curve.usd_per_hour / at)
            for name, curve in (("best", self.best), ("low", self.fast), ("high", self.slow))
        }
        return Line(**told)


class Meeting(msgspec.Struct, frozen=True, kw_only=True):
    """Up to which load a CPU is the cheapest.

    Attributes:
        best: by best estimates.
        low_per_s: always, even if CPUs are as slow and accelerators as fast as their bands allow.
        high_per_s: never above, even if it is the other way round.
    """

    best: Crossing
    low_per_s: float
    high_per_s: float


class Study(msgspec.Struct, frozen=True, kw_only=True):
    """What is found for one kind of work under one SLO.

    Attributes:
        sides: by kind of processor.
        meeting: of CPUs and accelerators; None of tool work.
        by_facts: machines left out because their seconds rest on data sheets alone.
    """

    sides: Mapping[str, Side]
    meeting: Meeting | None
    by_facts: int


class Work(msgspec.Struct, frozen=True, kw_only=True):
    """What is found for a model, or for tool work, under all mixes and SLOs."""

    studies: Mapping[tuple[str, str], Study]
    refused: Mapping[str, int]


def side_of(capacities: Sequence[Capacity], at: Numbers) -> Side:
    """Return the cheapest of some machines over load."""
    best = cheapest(capacities, at)
    slow, fast = (at_end(best, capacities, at, end) for end in ("slow", "fast"))
    return Side(capacities=capacities, best=best, slow=slow, fast=fast)


def study_of(capacities: Sequence[Capacity]) -> Study:
    """Return what is found for an LLM: CPUs against accelerators."""
    at = loads()
    firm = [capacity for capacity in capacities if capacity.basis != "roofline"]
    by_facts = [c for c in capacities if c.basis == "roofline" and c.per_s > 0]
    by_kind = {kind: [c for c in firm if c.offer.kind == kind] for kind in ("cpu", *ACCELERATORS)}
    one = side_of(by_kind["cpu"], at)
    other = side_of([c for c in firm if c.offer.kind in ACCELERATORS], at)
    meeting = Meeting(
        best=crossing(one.best, other.best, at),
        low_per_s=crossing(one.slow, other.fast, at).first_per_s,
        high_per_s=crossing(one.fast, other.slow, at).last_per_s,
    )
    sides = {kind: side_of(of, at) for kind, of in by_kind.items()}
    return Study(sides=sides, meeting=meeting, by_facts=len(by_facts))


def tool_study_of(capacities: Sequence[Capacity]) -> Study:
    """Return what is found for tool work: Arm against x86."""
    at = loads()
    by_isa: dict[str, list[Capacity]] = {"arm": [], "x86": []}
    for capacity in capacities:
        chip = capacity.offer.processor
        isa = "arm" if chip is not None and isa_class_of(chip.isa) == "arm" else "x86"
        by_isa[isa].append(capacity)
    sides = {isa: side_of(of, at) for isa, of in by_isa.items()}
    return Study(sides=sides, meeting=None, by_facts=0)


def model_work(name: str, catalog: Catalog) -> Work:
    """Return what is found for a model."""
    answers: Answers = llm_answers(name, catalog)
    studies = {key: study_of(capacities) for key, capacities in answers.capacities.items()}
    return Work(studies=studies, refused=answers.refused)


def tool_work(catalog: Catalog) -> Work:
    """Return what is found for tool work."""
    answers = tool_answers(TASK, catalog)
    studies = {key: tool_study_of(capacities) for key, capacities in answers.capacities.items()}
    return Work(studies=studies, refused=answers.refused)

"""Coefficients of the serving law: a base value for all, and what a name or a trait adds to it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from importlib.resources.abc import Traversable

import msgspec
import numpy as np

from polysilicon.catalog.models import ModelArchitecture
from polysilicon.catalog.processors import Processor
from polysilicon.catalog.tables import Cell, number, read_rows, text
from polysilicon.cost.llm.law import Numbers
from polysilicon.cost.llm.serving import COEFFICIENTS
from polysilicon.cost.llm.work import Split

EVERYTHING = ""

AT_MOST = {"compute": 0.8}
"""Shares that no chip passes: what is found on fast chips would rise to the data sheet's figures
and above on slow ones. Large matrix products of the fitted engines reach 0.7 to 0.8 of them.

The search for coefficients goes without, because it would come to rest beyond such an edge.
"""

Values = Mapping[tuple[str, str], float]
"""Logarithms by coefficient and tag; the tag of the base value is blank."""


class Prior(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is expected of a coefficient before anything was measured.

    Attributes:
        coefficient: its name.
        tag: blank for the base value; a trait; or a name's kind with a colon, such as `engine:`,
            for what each engine adds. What `peak` adds is for each time e that the chip's peak rate
            is above 1 PFLOP/s.
        mean: natural logarithm of the base value, or what is added to it.
        sd: how sure that is.
        why: in words.
    """

    coefficient: str
    tag: str
    mean: float
    sd: float
    why: str


def read_priors(source: Traversable) -> tuple[Prior, ...]:
    """Read priors.

    Raises:
        InputError: a cell that cannot be.
    """
    columns: dict[str, Cell] = {
        "coefficient": text,
        "tag": str,
        "mean": number,
        "sd": number,
        "why": text,
    }
    return tuple(Prior(**row) for _, row in read_rows(source, columns))


def tags_of(
    model: ModelArchitecture, chip: Processor, engine: str, precision: str, split: Split
) -> dict[str, float]:
    """Return the names and traits that may change a coefficient, and how much of each there is."""
    traits = {
        "mixture": model.experts is not None,
        "latent": model.kv_latent is not None,
        "linear": model.linear_layers > 0,
        "indexed": model.index_topk is not None,
        "ranks": split.ranks > 1,
        "experts": split.experts > 1,
        "asic": chip.kind == "asic",
    }
    wide = "bf16" if precision == "fp16" else precision
    peak = chip.peak_flops(precision)
    return {
        f"engine:{engine}": 1.0,
        f"precision:{wide}": 1.0,
        f"processor:{chip.name}": 1.0,
        f"family:{family_of_cores(chip)}": 1.0,
        "peak": 0.0 if peak is None else float(np.log(peak / 1e15)),
        **{trait: 1.0 for trait, there in traits.items() if there},
    }


def family_of_cores(chip: Processor) -> str:
    """Return what kind of cores a chip has: of Neuron cores the generation too."""
    words = (chip.isa or chip.vendor).split()
    return words[0] if words[0].startswith("NeuronCore") else words[0].rstrip("0123456789")


class Slots:
    """Where each value of the coefficients stands in one array.

    Args:
        priors: of all values; of two for the same value the later one holds.
        tags: of all rows; each name among them gets a value of its own.
    """

    def __init__(self, priors: Iterable[Prior], tags: Iterable[Iterable[str]]) -> None:
        seen = sorted({tag for row in tags for tag in row})
        self.means: list[float] = []
        self.sds: list[float] = []
        self.index: dict[tuple[str, str], int] = {}
        for prior in priors:
            named = prior.tag.endswith(":")
            for tag in [t for t in seen if t.startswith(prior.tag)] if named else [prior.tag]:
                slot = self.index.setdefault((prior.coefficient, tag), len(self.means))
                if slot == len(self.means):
                    self.means.append(prior.mean)
                    self.sds.append(prior.sd)
                else:
                    self.means[slot], self.sds[slot] = prior.mean, prior.sd

    def design(self, tags: Sequence[Mapping[str, float]]) -> dict[str, Numbers]:
        """Return for each coefficient a matrix (rows, values) of how much of each there is."""
        matrices = {name: np.zeros((len(tags), len(self.means))) for name in COEFFICIENTS}
        for i, row in enumerate(tags):
            for name, matrix in matrices.items():
                for tag, much in {EVERYTHING: 1.0, **row}.items():
                    slot = self.index.get((name, tag))
                    if slot is not None:
                        matrix[i, slot] = much
        return matrices


def coefficients(values: Values, tags: Mapping[str, float]) -> dict[str, float]:
    """Return the coefficients for some tags.

    Args:
        values: logarithms by coefficient and tag; the tag of the base value is blank.
        tags: those that are not known change nothing.
    """
    every = {EVERYTHING: 1.0, **tags}
    found = {
        name: float(np.exp(sum(values.get((name, tag), 0.0) * much for tag, much in every.items())))
        for name in COEFFICIENTS
    }
    return found | {name: min(found[name], most) for name, most in AT_MOST.items()}

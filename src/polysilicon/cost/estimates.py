"""What is asked of a bulk of estimates, and what comes of it."""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt

from polysilicon.catalog.catalog import Catalog
from polysilicon.catalog.offers import Offer
from polysilicon.cost.batch import Batch, Codes, Named
from polysilicon.cost.llm.law import Numbers
from polysilicon.cost.money import scarcer_s
from polysilicon.cost.types import Load

REFUSED = -1
"""Basis of a step that was refused."""

COLUMNS = (
    "service_s",
    "low_s",
    "high_s",
    "ttft_s",
    "ttft_low_s",
    "ttft_high_s",
    "tpot_s",
    "tpot_low_s",
    "tpot_high_s",
    "cost_usd",
    "energy_j",
)


class Estimates(msgspec.Struct, kw_only=True):
    """Estimates of a batch on one offer; arrays are (steps,), NaN where nothing is known.

    Attributes:
        columns: by the names of `COLUMNS`; units as in `Estimate`.
        basis: index into `BASES`, or `REFUSED`.
        notes: index into `words`: what the numbers rest on, or why a step was refused.
        words: the texts.
        g_per_j: grams of CO₂ equivalent for a joule; None where the grid is not known.
    """

    columns: dict[str, Numbers]
    basis: npt.NDArray[np.int8]
    notes: npt.NDArray[np.int32]
    words: list[str]
    g_per_j: float | None = None

    def __getitem__(self, column: str) -> Numbers:
        """Return a column."""
        return self.columns[column]

    def note(self, step: int) -> str:
        """Return what an estimate rests on, or why the step was refused."""
        return self.words[int(self.notes[step])]

    def refuse(self, chosen: Codes, reason: str) -> None:
        """Refuse steps."""
        self.basis[chosen] = REFUSED
        self.tell(chosen, reason)
        for column in self.columns.values():
            column[chosen] = np.nan

    def tell(self, chosen: Codes, text: str) -> None:
        """Say what the numbers of steps rest on."""
        if text not in self.words:
            self.words.append(text)
        self.notes[chosen] = self.words.index(text)


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked for."""

    batch: Batch
    offer: Offer
    load: Load
    catalog: Catalog
    usd_per_s: float
    other_price: bool = False


def put(
    found: Estimates, chosen: Codes, told: dict[str, Numbers], basis: npt.NDArray[np.int8]
) -> None:
    """Write columns of some steps."""
    for name, values in told.items():
        found.columns[name][chosen] = values
    found.basis[chosen] = basis


def held_s(steps: Batch, offer: Offer, vcpu_s: Numbers, service_s: Numbers) -> Numbers:
    """Return the machine-seconds that steps answer for; see `money.scarcer_s`."""
    cores_s = vcpu_s / offer.vcpus if offer.vcpus else np.full(len(steps), np.nan)
    return scarcer_s(offer, cores_s, service_s, steps.or_else("memory_bytes", 0.0))


def having(column: Named, text: str) -> npt.NDArray[np.bool_]:
    """Tell which steps have a text."""
    known = list(column.texts)
    if text not in known:
        return np.zeros(len(column.codes), dtype=bool)
    return np.asarray(column.codes == known.index(text))

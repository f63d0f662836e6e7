"""Measured rows as cases of the serving law: what was asked of which chips, and what came."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from polysilicon.catalog.models import ModelArchitecture
from polysilicon.catalog.processors import Processor
from polysilicon.cost.llm.coefficients import tags_of
from polysilicon.cost.llm.residuals import Rows, describe
from polysilicon.cost.llm.work import Split, Work, work_of


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """One measured row.

    Attributes:
        row: where it stands in its file.
        source: who measured it.
        date: when.
        model: that was served.
        chip: on which accelerators.
        engine: by which engine.
        precision: of the weights.
        split: over the accelerators.
        concurrency: steps at once over all ranks.
        new: prompt tokens.
        output: output tokens.
        ttft_s: measured; None where it was not.
        tpot_s: measured; None where it was not.
        cycle_s: of a request from its start to its end under steady load; None as above.
        batch_s: of a whole batch that began together; None as above.
    """

    row: int
    source: str
    date: str
    model: ModelArchitecture
    chip: Processor
    engine: str
    precision: str
    split: Split
    concurrency: float
    new: float
    output: float
    ttft_s: float | None = None
    tpot_s: float | None = None
    cycle_s: float | None = None
    batch_s: float | None = None

    @property
    def truth(self) -> tuple[float | None, ...]:
        """What was measured; the same run listed twice has the same truth."""
        return (self.ttft_s, self.tpot_s, self.cycle_s, self.batch_s)

    @property
    def tags(self) -> dict[str, float]:
        """Names and traits that may change a coefficient."""
        tags = tags_of(self.model, self.chip, self.engine, self.precision, self.split)
        if self.batch_s is None:
            return tags
        # How a chip did in static batches of old engines tells of it only in part.
        return {**tags, "static": 1.0, f"static on:{self.chip.name}": 1.0}

    def work(self) -> Work:
        """Return the work of the row.

        Raises:
            NoBasisError: a fact is missing, or it does not fit.
        """
        tokens = (np.array([self.new]), np.zeros(1), np.array([self.output]))
        return work_of(self.model, self.chip, self.split, self.precision, self.concurrency, tokens)


def rows_of(cases: Sequence[Case]) -> Rows:
    """Return the rows of cases for the residuals."""
    parts = [
        describe(
            (c.chip.name, c.engine, c.model, c.precision, c.split),
            (c.concurrency, np.array([c.new]), np.array([c.output])),
        )
        for c in cases
    ]
    return Rows(
        names=np.concatenate([p.names for p in parts]),
        octaves=np.concatenate([p.octaves for p in parts]),
    )


def together(works: Sequence[Work]) -> Work:
    """Return the works of many rows as one."""
    fields = {
        name: np.concatenate([getattr(work, name) for work in works])
        for name in Work.__struct_fields__
    }
    return Work(**fields)

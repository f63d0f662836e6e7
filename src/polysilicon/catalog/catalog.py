"""The catalog as a whole: read once, looked up by name."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property, lru_cache
from importlib.resources.abc import Traversable
from pathlib import Path

import msgspec

from polysilicon.catalog.aliases import Aliases, read_aliases
from polysilicon.catalog.commitments import (
    Commitment,
    GridCarbon,
    read_commitments,
    read_grid_carbon,
)
from polysilicon.catalog.measurements import Measurement
from polysilicon.catalog.models import (
    ModelArchitecture,
    plain_name,
    read_models,
    read_precisions,
)
from polysilicon.catalog.offers import Offer, read_offers
from polysilicon.catalog.processors import Processor, read_processors
from polysilicon.catalog.rates import LlmRate, read_rates
from polysilicon.catalog.tables import Cell, data_folder, read_rows, text
from polysilicon.catalog.user import user_folder, user_measurements, user_offers
from polysilicon.errors import InputError, nearest


class Comparison(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An offer that "the same work elsewhere" shows by default.

    Attributes:
        offer: name.
        region: where.
        companion: the CPU offer that runs the tools beside an accelerator, else empty.
        companion_region: where that is.
        why: what it stands for.
    """

    offer: str
    region: str
    companion: str
    companion_region: str
    why: str


class Column(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a column (or a fact) of a table is: its unit and its meaning."""

    table: str
    column: str
    unit: str
    meaning: str


class Catalog:
    """Everything that can be bought, and the models that run on it.

    Args:
        folder: of the data files.
        user: folder of the user's own imports; where they tell of an offer in a region, they hold.

    Raises:
        InputError: a data file is wrong; names file, row and field.
    """

    def __init__(self, folder: Traversable, user: Path | None = None) -> None:
        self._folder = folder
        self._user = user
        shared = folder / "cc_by_sa"
        self.processors: Mapping[str, Processor] = read_processors(
            [folder / "processors.csv", shared / "processors_measured.csv"]
        )
        columns = {"id": text, "source": text}
        sources = {
            row["id"]: row["source"] for _, row in read_rows(shared / "offer_sources.csv", columns)
        }
        shipped = read_offers(shared / "offers.csv", sources, self.processors)
        own = () if user is None else user_offers(user, self.processors)
        laid_over = {(offer.name, offer.region): offer for offer in (*shipped, *own)}
        self.offers: tuple[Offer, ...] = tuple(laid_over.values())
        self._by_name: dict[str, list[Offer]] = {}
        for offer in self.offers:
            self._by_name.setdefault(offer.name.casefold(), []).append(offer)

    @cached_property
    def models(self) -> Mapping[str, ModelArchitecture]:
        """Model architectures by name."""
        return read_models(self._folder / "models.csv")

    @cached_property
    def precisions(self) -> Mapping[str, float]:
        """Bytes of one parameter by precision."""
        return read_precisions(self._folder / "precisions.csv")

    @cached_property
    def rates(self) -> Mapping[str, tuple[LlmRate, ...]]:
        """Measured token rates by instance type."""
        return read_rates(self._folder / "cc_by_sa" / "llm_rates.csv")

    @cached_property
    def measurements(self) -> tuple[Measurement, ...]:
        """What the user measured and imported; nothing of it comes with Polysilicon."""
        return () if self._user is None else user_measurements(self._user)

    @cached_property
    def aliases(self) -> Aliases:
        """Other names of processors, models and precisions."""
        return read_aliases(self._folder / "aliases.csv")

    @cached_property
    def commitments(self) -> tuple[Commitment, ...]:
        """Commitment programs."""
        return read_commitments(self._folder / "commitments.csv")

    @cached_property
    def grid_carbon(self) -> Mapping[tuple[str, str], GridCarbon]:
        """Carbon of the grid by cloud and region."""
        return read_grid_carbon(self._folder / "grid_carbon.csv")

    @cached_property
    def comparisons(self) -> tuple[Comparison, ...]:
        """The default offers of "the same work elsewhere"."""
        columns: dict[str, Cell] = {
            "offer": text,
            "region": text,
            "companion": str,
            "companion_region": str,
            "why": text,
        }
        rows = read_rows(self._folder / "comparison.csv", columns)
        return tuple(Comparison(**row) for _, row in rows)

    @cached_property
    def columns(self) -> tuple[Column, ...]:
        """Unit and meaning of the columns of all tables."""
        columns = {"table": text, "column": text, "unit": text, "meaning": text}
        return tuple(Column(**row) for _, row in read_rows(self._folder / "columns.csv", columns))

    def offer(self, name: str, region: str | None = None) -> Offer:
        """Return an offer; without a region the cheapest on-demand one.

        Raises:
            InputError: no such offer; names near ones, or the regions that have it.
        """
        found = self._by_name.get(name.casefold())
        if found is None:
            raise InputError(f"unknown offer {name!r}", mend=nearest(name, self._by_name))
        if region is None:
            return min(found, key=lambda o: (o.on_demand_usd_per_hour or float("inf"), o.region))
        for offer in found:
            if offer.region == region.casefold():
                return offer
        regions = ", ".join(sorted(offer.region for offer in found))
        raise InputError(f"{name} has no price in region {region!r}", mend=f"known: {regions}")

    def offers_named(self, name: str) -> tuple[Offer, ...]:
        """Return an offer in all its regions; none where the name is unknown."""
        return tuple(self._by_name.get(name.casefold(), ()))

    def processor(self, name: str) -> Processor:
        """Return a processor by its name or another that is known; case does not matter.

        Raises:
            InputError: no such processor; names near ones.
        """
        found = self.aliases.processor_name(name, self.processors)
        if found is None:
            raise InputError(f"unknown processor {name!r}", mend=nearest(name, self.processors))
        return self.processors[found]

    def model(self, name: str) -> ModelArchitecture:
        """Return a model by its name, its published name, the name of its file or another one.

        Raises:
            InputError: no such model; names near ones.
        """
        found = self.aliases.model_name(name, self.models)
        if found is None:
            raise InputError(f"unknown model {name!r}", mend=nearest(plain_name(name), self.models))
        return self.models[found]

    def precision(self, name: str) -> str:
        """Return the catalog's name of a precision.

        Raises:
            InputError: no such precision; names near ones.
        """
        found = self.aliases.precision_name(name, self.precisions)
        if found is None:
            raise InputError(f"unknown precision {name!r}", mend=nearest(name, self.precisions))
        return found


@lru_cache(maxsize=1)
def shipped() -> Catalog:
    """Return the catalog that comes with Polysilicon, without the user's imports; read once."""
    return Catalog(data_folder())


@lru_cache(maxsize=1)
def load() -> Catalog:
    """Return the catalog that comes with Polysilicon, under the user's imports; read once."""
    return Catalog(data_folder(), user_folder())

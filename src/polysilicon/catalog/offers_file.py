"""Writes offers as the catalog's own tables, so that they can be read like shipped ones."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from polysilicon.catalog.cells import plain_text
from polysilicon.catalog.offers import COLUMNS, GIB, Offer
from polysilicon.disk import write_whole


def write_offers(offers: Sequence[Offer], path: Path, sources_path: Path) -> None:
    """Write offers, and the table of sources that their `source` column points into.

    Raises:
        PolysiliconError: the disk is full, or the folder cannot be written.
    """
    ids: dict[str, str] = {}
    rows = [_row(offer, ids) for offer in offers]
    write_whole(sources_path, _csv(["id", "source"], [[i, s] for s, i in ids.items()]))
    write_whole(path, _csv(list(COLUMNS), rows))


def _row(offer: Offer, ids: dict[str, str]) -> list[str]:
    """Return the cells of an offer; its source gets an id."""
    gib = None if offer.memory_bytes is None else offer.memory_bytes / GIB
    cells = (
        offer.name,
        offer.region,
        offer.processor.name if offer.processor is not None else None,
        offer.accelerators,
        offer.vcpus,
        gib,
        offer.on_demand_usd_per_hour,
        offer.spot_usd_per_hour,
        offer.reserved_1y_usd_per_hour,
        offer.reserved_3y_usd_per_hour,
        offer.date,
        ids.setdefault(offer.source, f"o{len(ids) + 1}"),
        offer.note,
    )
    return ["" if cell is None else plain_text(str(cell)) for cell in cells]


def _csv(header: list[str], rows: list[list[str]]) -> bytes:
    """Return a CSV file's bytes."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    return text.getvalue().encode()

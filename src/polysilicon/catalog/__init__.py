"""What can be bought: processors, offers, commitments, and models, as data with sources."""

from __future__ import annotations

from polysilicon.catalog.catalog import Catalog, load, shipped
from polysilicon.catalog.commitments import Commitment, GridCarbon
from polysilicon.catalog.models import ModelArchitecture
from polysilicon.catalog.offers import Offer, Price
from polysilicon.catalog.processors import Processor

__all__ = [
    "Catalog",
    "Commitment",
    "GridCarbon",
    "ModelArchitecture",
    "Offer",
    "Price",
    "Processor",
    "load",
    "shipped",
]

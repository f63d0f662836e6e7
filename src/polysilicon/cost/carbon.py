"""Grams of carbon dioxide of joules: the region's grid times the building's overhead."""

from __future__ import annotations

from polysilicon.catalog.catalog import Catalog
from polysilicon.catalog.offers import Offer
from polysilicon.cost.energy import energy_constants
from polysilicon.errors import InputError

J_PER_KWH = 3.6e6


def pue(offer: Offer) -> float:
    """Return power of the building over power of the machines.

    It is the average that the offer's cloud reports, or that of public clouds.
    """
    known = energy_constants()["pue"]
    return known.get(offer.cloud, known["cloud"])


def grams(joules: float, offer: Offer, catalog: Catalog) -> float | None:
    """Return grams of CO₂ equivalent of energy that machines of an offer used.

    Location-based: what the grid of the region emits on average, no certificates.

    Args:
        joules: of the machines, without the building's share.
        offer: where.
        catalog: with the carbon of the grids.

    Returns:
        None where the grid's carbon is not known.

    Raises:
        InputError: negative energy.
    """
    if joules < 0:
        raise InputError(f"energy is {joules:g} J", mend="it is 0 or more")
    grid = catalog.grid_carbon.get((offer.cloud, offer.region))
    if grid is None or grid.g_co2e_per_kwh is None:
        return None
    return joules / J_PER_KWH * grid.g_co2e_per_kwh * pue(offer)

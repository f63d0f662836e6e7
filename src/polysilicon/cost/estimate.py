"""The estimate of one step on one offer."""

from __future__ import annotations

import math

from polysilicon.catalog.catalog import Catalog
from polysilicon.catalog.catalog import load as load_catalog
from polysilicon.catalog.offers import Offer
from polysilicon.cost.batch import batch_of
from polysilicon.cost.bulk import estimate_all
from polysilicon.cost.estimates import REFUSED, Estimates
from polysilicon.cost.money import AnyPrice
from polysilicon.cost.types import BASES, Estimate, Load
from polysilicon.errors import NoBasisError
from polysilicon.workload.record import StepRecord

ALONE = Load()


def estimate(
    step: StepRecord,
    offer: Offer,
    load: Load = ALONE,
    catalog: Catalog | None = None,
    price: AnyPrice = "on-demand",
) -> Estimate:
    """Estimate what a step takes on an offer: seconds, dollars, joules.

    It is `estimate_all` of one step; ask that for many.

    Args:
        step: with tokens (LLM) or core-seconds and the offer that they were spent on.
        offer: where to.
        load: what else the machine does.
        catalog: facts and measurements; those that come with Polysilicon by default.
        price: which price holds.

    Raises:
        NoBasisError: there is no measurement and facts are missing; the text says which.
        InputError: the load cannot be.
    """
    facts = catalog if catalog is not None else load_catalog()
    found = estimate_all(batch_of([step]), offer, load, facts, price)
    if found.basis[0] == REFUSED:
        raise NoBasisError(found.note(0))
    return one_of(found, 0, offer)


def one_of(found: Estimates, step: int, offer: Offer) -> Estimate:
    """Return the estimate of one step of a batch, which was not refused."""
    energy_j = _known(found["energy_j"][step])
    grams = None if energy_j is None or found.g_per_j is None else energy_j * found.g_per_j
    return Estimate(
        offer=offer.name,
        region=offer.region,
        service_s=float(found["service_s"][step]),
        ttft_s=_known(found["ttft_s"][step]),
        ttft_low_s=_known(found["ttft_low_s"][step]),
        ttft_high_s=_known(found["ttft_high_s"][step]),
        tpot_s=_known(found["tpot_s"][step]),
        tpot_low_s=_known(found["tpot_low_s"][step]),
        tpot_high_s=_known(found["tpot_high_s"][step]),
        cost_usd=float(found["cost_usd"][step]),
        energy_j=energy_j,
        carbon_g=grams,
        basis=BASES[int(found.basis[step])],
        low_s=float(found["low_s"][step]),
        high_s=float(found["high_s"][step]),
        note=found.note(step),
    )


def _known(value: float) -> float | None:
    """Return a number, or None where there is none."""
    return None if math.isnan(value) else float(value)

"""Estimates of many steps on an offer at once; that of one step is that of a batch of one."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from polysilicon.catalog.catalog import Catalog
from polysilicon.catalog.offers import Offer
from polysilicon.cost.batch import Batch, Codes, check_amounts
from polysilicon.cost.carbon import grams
from polysilicon.cost.energy import watts_per_unit
from polysilicon.cost.estimates import (
    COLUMNS,
    REFUSED,
    Asked,
    Estimates,
    having,
    held_s,
    put,
)
from polysilicon.cost.kinds import KINDS
from polysilicon.cost.money import AnyPrice, usd_per_s
from polysilicon.cost.types import BASES, Load
from polysilicon.errors import InputError, NoBasisError

# Beyond these a load is a slip of the pen.
MOST_AT_ONCE = 1_000_000
MOST_BUSY = 1000.0


def estimate_all(
    batch: Batch,
    offer: Offer,
    load: Load,
    catalog: Catalog,
    price: AnyPrice = "on-demand",
) -> Estimates:
    """Estimate all steps of a batch on an offer; those that cannot be are refused one by one.

    Where a step was recorded on this very offer, that record is the estimate. Otherwise LLM steps
    go by the law of their model, engine and processor; tools by their core-seconds and measured
    core speeds; embedding and training steps by operations and measured efficiency.

    Args:
        batch: steps.
        offer: where to.
        load: what else the machine does, and how it serves.
        catalog: facts and measurements.
        price: which price holds.

    Raises:
        InputError: an amount, the load, the engine, the precision or the parallelism cannot be.
    """
    check_load(load)
    check_amounts(batch)
    n = len(batch)
    found = Estimates(
        columns={name: np.full(n, np.nan) for name in COLUMNS},
        basis=np.full(n, REFUSED, dtype=np.int8),
        notes=np.zeros(n, dtype=np.int32),
        words=[""],
        g_per_j=grams(1.0, offer, catalog),
    )
    try:
        rate = usd_per_s(offer, price)
    except NoBasisError as error:
        found.refuse(np.arange(n), str(error))
        return found
    asked = Asked(
        batch=batch,
        offer=offer,
        load=load,
        catalog=catalog,
        usd_per_s=rate,
        other_price=price != "on-demand",
    )
    here = _recorded(asked)
    _as_recorded(asked, np.flatnonzero(here), found)
    kinds = batch.texts["kind"]
    for kind, chosen in kinds.groups():
        rest = chosen[~here[chosen]]
        if len(rest):
            KINDS[kind or "tool"](asked, rest, found)
    return found


def check_load(load: Load) -> None:
    """Raise `InputError` where a load cannot be."""
    if not 1 <= load.concurrency <= MOST_AT_ONCE:
        mend = f"it is from 1 to {MOST_AT_ONCE:,}"
        raise InputError(f"concurrency is {load.concurrency:g}", mend=mend)
    if not 0.0 <= load.utilisation <= MOST_BUSY:
        mend = f"it is from 0 to {MOST_BUSY:g}"
        raise InputError(f"utilisation is {load.utilisation:g}", mend=mend)


def _recorded(asked: Asked) -> npt.NDArray[np.bool_]:
    """Tell which steps ran on this offer, with known times."""
    offers, regions = asked.batch.texts["offer"], asked.batch.texts["region"]
    same = having(offers, asked.offer.name)
    near = having(regions, asked.offer.region) | (regions.codes < 0)
    # Clocks that ran backwards tell nothing, and so does a time that is not there.
    timed = asked.batch["end_s"] >= asked.batch["start_s"]
    return same & near & timed


def _as_recorded(asked: Asked, chosen: Codes, found: Estimates) -> None:
    """Take what was recorded as measured."""
    if not len(chosen):
        return
    steps, offer = asked.batch.take(chosen), asked.offer
    service_s = steps["end_s"] - steps["start_s"]
    llm = having(steps.texts["kind"], "llm")
    later = np.where(steps["output_tokens"] > 1, steps["output_tokens"] - 1.0, np.nan)
    ttft_s = np.where(llm, steps["first_token_s"] - steps["start_s"], np.nan)
    tpot_s = np.where(llm, (steps["end_s"] - steps["first_token_s"]) / later, np.nan)
    by_cores = held_s(steps, offer, steps["cpu_s"], service_s) * asked.usd_per_s
    whole = asked.usd_per_s * service_s / asked.load.concurrency
    unit = watts_per_unit(offer) if offer.kind == "cpu" else None
    energy_j = np.full(len(chosen), np.nan) if unit is None else unit.full_w * steps["cpu_s"]
    # What an LLM step on accelerators costs is the time of these, not of the host's cores.
    host = llm & (offer.kind != "cpu")
    usd = np.where(np.isnan(by_cores) | host, whole, by_cores)
    # A record tells what was paid at the price of its run, which was on demand.
    paid = np.full(len(chosen), np.nan) if asked.other_price else steps["cost_usd"]
    told = {
        "service_s": service_s,
        "low_s": service_s,
        "high_s": service_s,
        "ttft_s": ttft_s,
        "ttft_low_s": ttft_s,
        "ttft_high_s": ttft_s,
        "tpot_s": tpot_s,
        "tpot_low_s": tpot_s,
        "tpot_high_s": tpot_s,
        "cost_usd": np.where(np.isnan(paid), usd, paid),
        "energy_j": np.where(np.isnan(steps["energy_j"]), energy_j, steps["energy_j"]),
    }
    put(found, chosen, told, np.full(len(chosen), BASES.index("measured"), dtype=np.int8))
    found.tell(chosen, "as recorded")

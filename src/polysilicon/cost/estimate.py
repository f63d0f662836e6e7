"""The estimate of one step on one offer."""

from __future__ import annotations

from functools import lru_cache

from polysilicon.catalog.catalog import Catalog
from polysilicon.catalog.catalog import load as load_catalog
from polysilicon.catalog.fleet import LOCAL
from polysilicon.catalog.machine import detect, local_offer
from polysilicon.catalog.offers import Offer
from polysilicon.catalog.processors import Processor
from polysilicon.cost.constants import constants
from polysilicon.cost.energy import machine_joules, share_joules
from polysilicon.cost.measured import Tokens, measured_timing
from polysilicon.cost.money import scarcer_usd, usd_per_s
from polysilicon.cost.roofline import PRECISION, roofline_timing
from polysilicon.cost.types import Estimate, Load
from polysilicon.errors import InputError, NoBasisError
from polysilicon.workload.record import StepRecord

ALONE = Load()


def estimate(
    step: StepRecord, offer: Offer, load: Load = ALONE, catalog: Catalog | None = None
) -> Estimate:
    """Estimate what a step takes on an offer: seconds, dollars, joules.

    Where the step was recorded on this very offer, that record is the estimate. Otherwise LLM
    steps go by measured rates of the instance type, else by a roofline; tool and embedding steps
    by their core-seconds and measured core speeds.

    Args:
        step: with tokens (LLM) or core-seconds and the offer that they were spent on.
        offer: where to.
        load: what else the machine does.
        catalog: measured rates and models; the one that comes with Polysilicon by default.

    Raises:
        NoBasisError: there is no measurement and facts are missing; the text says which.
        InputError: the load cannot be.
    """
    if load.concurrency < 1:
        raise InputError("concurrency must be at least 1")
    if _recorded_on(step, offer):
        return _as_recorded(step, offer, load)
    facts = catalog if catalog is not None else load_catalog()
    if step.kind == "llm":
        return _llm(step, offer, load, facts)
    if step.kind == "train":
        raise NoBasisError("training was not measured here, and no law for it is fitted yet")
    return _tool(step, offer, facts)


def _recorded_on(step: StepRecord, offer: Offer) -> bool:
    """Tell whether the step ran on this offer and its times are known."""
    here = step.offer == offer.name and step.region in (None, offer.region)
    return here and step.start_s is not None and step.end_s is not None


def _as_recorded(step: StepRecord, offer: Offer, load: Load) -> Estimate:
    """Return what was recorded as a measured estimate."""
    assert step.start_s is not None
    assert step.end_s is not None
    service_s = step.end_s - step.start_s
    ttft_s = tpot_s = None
    if step.kind == "llm" and step.first_token_s is not None:
        ttft_s = step.first_token_s - step.start_s
        if step.output_tokens is not None and step.output_tokens > 1:
            tpot_s = (step.end_s - step.first_token_s) / (step.output_tokens - 1)
    cost_usd, energy_j = step.cost_usd, step.energy_j
    if step.cpu_s is not None and step.kind != "train":
        if cost_usd is None:
            cost_usd = scarcer_usd(offer, step.cpu_s, service_s, step.memory_bytes)
        energy_j = share_joules(offer, step.cpu_s) if energy_j is None else energy_j
    elif cost_usd is None:
        cost_usd = usd_per_s(offer) * service_s / load.concurrency
    return Estimate(
        offer=offer.name,
        region=offer.region,
        service_s=service_s,
        ttft_s=ttft_s,
        tpot_s=tpot_s,
        cost_usd=cost_usd,
        energy_j=energy_j,
        basis="measured",
        low_s=service_s,
        high_s=service_s,
        note="as recorded",
    )


def _llm(step: StepRecord, offer: Offer, load: Load, catalog: Catalog) -> Estimate:
    """Estimate an LLM step."""
    if step.model is None or step.prompt_tokens is None or step.output_tokens is None:
        raise NoBasisError("an LLM step needs model, prompt_tokens and output_tokens")
    try:
        model = catalog.model(step.model)
    except InputError as error:
        raise NoBasisError(f"no shapes: {error}") from error
    cached = min(step.cached_tokens or 0, step.prompt_tokens)
    # The last prompt token is always computed: the first output token comes out of it.
    new = max(step.prompt_tokens - cached, 1)
    tokens = Tokens(new=new, cached=cached, output=step.output_tokens)
    timing = None
    if load.concurrency == 1:
        timing = measured_timing(tokens, model, offer, catalog)
    if timing is None:
        width = catalog.precisions[PRECISION]
        try:
            timing = roofline_timing(tokens, model, offer, load.concurrency, width)
        except NoBasisError as error:
            many = "one" if load.concurrency == 1 else str(load.concurrency)
            text = f"{model.name} was not measured with {many} at a time, and {error}"
            raise NoBasisError(text) from error
    return Estimate(
        offer=offer.name,
        region=offer.region,
        service_s=timing.service_s,
        ttft_s=timing.ttft_s,
        tpot_s=timing.tpot_s,
        cost_usd=usd_per_s(offer) * timing.service_s * timing.share,
        energy_j=machine_joules(offer, timing.service_s, timing.share),
        basis=timing.basis,
        low_s=timing.low_s,
        high_s=timing.high_s,
        note=timing.note,
    )


def _tool(step: StepRecord, offer: Offer, catalog: Catalog) -> Estimate:
    """Estimate a tool or embedding step: startup + wait + core-seconds at the other core speed."""
    if step.cpu_s is None:
        raise NoBasisError(f"a step of kind {step.kind} needs cpu_s")
    if offer.vcpus is None:
        raise NoBasisError(f"how many vCPUs {offer.name} has is not known")
    needs, has = step.memory_bytes, offer.memory_bytes
    if needs is not None and has is not None and needs > has:
        raise NoBasisError(f"does not fit: {needs} bytes of memory, {offer.name} has {has}")
    ratio, same = _slowdown(reference(step, catalog), offer.processor, step, offer)
    off_cpu_s = (step.startup_s or 0.0) + (step.wait_s or 0.0)
    cpu_s = step.cpu_s * ratio
    busy_s = cpu_s / max(min(step.cores or 1.0, offer.vcpus), 1.0)
    band = {"low": 1.0, "high": 1.0} if same else constants()["core_speed"]
    service_s = off_cpu_s + busy_s
    return Estimate(
        offer=offer.name,
        region=offer.region,
        service_s=service_s,
        cost_usd=scarcer_usd(offer, cpu_s, service_s, needs),
        energy_j=share_joules(offer, cpu_s),
        basis="calibrated",
        low_s=off_cpu_s + busy_s * band["low"],
        high_s=off_cpu_s + busy_s * band["high"],
        note=f"core-seconds times {ratio:.2f}, by core speed",
    )


def _slowdown(
    known: Processor | None, chip: Processor | None, step: StepRecord, offer: Offer
) -> tuple[float, bool]:
    """Return core-seconds on `chip` for one on the step's own, and whether both are the same chip.

    Raises:
        NoBasisError: the core speed of one of them is not known.
    """
    if known is not None and chip is not None and known.name == chip.name:
        return 1.0, True
    if known is None or known.core_speed is None:
        where = step.offer or "the step's own offer, which is not named"
        raise NoBasisError(f"the core speed of {where} is not known")
    if chip is None or chip.core_speed is None:
        raise NoBasisError(f"the core speed of {offer.name} is not known")
    return known.core_speed / chip.core_speed, False


def reference(step: StepRecord, catalog: Catalog) -> Processor | None:
    """Return the processor on which the step's core-seconds were spent; None where unknown.

    Core-seconds of `local` count as those of the processor that this machine is priced as.
    """
    if step.offer is None:
        return None
    if step.offer == LOCAL:
        return here(catalog).processor
    found = catalog.offers_named(step.offer)
    return found[0].processor if found else None


@lru_cache(maxsize=8)
def here(catalog: Catalog) -> Offer:
    """Return the offer `local` of a catalog; this machine is looked at once."""
    return local_offer(catalog, detect())

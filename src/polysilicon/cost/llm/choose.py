"""Which law of LLM steps holds on an offer."""

from __future__ import annotations

import math
from functools import lru_cache

from polysilicon.catalog.catalog import Catalog
from polysilicon.catalog.fleet import LOCAL
from polysilicon.catalog.machine import detect
from polysilicon.catalog.models import ModelArchitecture
from polysilicon.catalog.offers import Offer
from polysilicon.cost.llm.accelerator import AcceleratorLaw
from polysilicon.cost.llm.cpu import USUAL_TOKENS, cpu_law, usual_s
from polysilicon.cost.llm.law import LlmLaw
from polysilicon.cost.llm.local import LocalLaw
from polysilicon.cost.llm.measured_gpu import MeasuredLaw, PairedLaw, measured_gpu_law
from polysilicon.cost.llm.own_rows import fit_for
from polysilicon.cost.llm.setting import Need, setting_of
from polysilicon.cost.profile import Profile
from polysilicon.cost.profile_found import find_profile
from polysilicon.cost.types import Load
from polysilicon.errors import NoBasisError


def law_for(
    model: ModelArchitecture,
    offer: Offer,
    load: Load,
    catalog: Catalog,
    tokens: float,
    usual: tuple[float, float] = USUAL_TOKENS,
) -> LlmLaw:
    """Return the law of a model's steps on an offer.

    Args:
        model: its shapes.
        offer: where.
        load: steps at once, and how the model is served.
        catalog: what was measured, and precisions.
        tokens: prompt and output of the longest step; rounded up to a power of two, it decides how
            many accelerators are taken where the load does not say.
        usual: prompt and output tokens of a usual step; rounded likewise, they decide which engine
            is taken on a CPU where the load does not say.

    Raises:
        NoBasisError: nothing is known, or the model does not fit.
        InputError: an unknown engine or precision, or an impossible parallelism.
    """
    at_most = 2.0 ** max(int(tokens - 1), 1).bit_length()
    prompt, output = (2.0 ** round(math.log2(max(n, 1.0))) for n in usual)
    # Only CPUs are asked for a usual step, so laws of accelerators are not made anew for each.
    shape = (prompt, output) if offer.kind == "cpu" else USUAL_TOKENS
    return _law(model, offer, load, catalog, at_most, shape)


@lru_cache(maxsize=1)
def own_profile() -> Profile | None:
    """Return what `polysilicon calibrate` measured of this machine, as far as it holds; read once.

    Raises:
        InputError: the file is broken.
    """
    return find_profile(detect()).profile


@lru_cache(maxsize=1024)
def _law(
    model: ModelArchitecture,
    offer: Offer,
    load: Load,
    catalog: Catalog,
    tokens: float,
    usual: tuple[float, float],
) -> LlmLaw:
    """Make a law; it is kept, for making one costs more than asking it."""
    if offer.name == LOCAL and (own := _measured_here(model, load, usual)) is not None:
        return own
    if offer.kind == "cpu":
        return cpu_law(model, offer, load.serving, load.concurrency, catalog, usual=usual)
    return _on_accelerators(model, offer, load, catalog, tokens)


def _measured_here(
    model: ModelArchitecture, load: Load, usual: tuple[float, float]
) -> LocalLaw | None:
    """Return the law of what was measured here; None where nothing was, or not of that engine.

    Of several engines the one of which a usual step takes the least of the machine.

    Raises:
        NoBasisError: too little of the model was measured.
    """
    profile = own_profile()
    if profile is None:
        return None
    busy = load.utilisation * profile.cores
    asked = load.serving.engine
    laws = [LocalLaw(one, load.concurrency, busy) for one in profile.engines_of(model.name)
            if asked in ("", one.engine)]  # fmt: skip
    return min(laws, key=lambda law: usual_s(law, usual) * law.share, default=None)


def _on_accelerators(
    model: ModelArchitecture, offer: Offer, load: Load, catalog: Catalog, tokens: float
) -> LlmLaw:
    """Return what was measured on this very offer, or else the law of its accelerators.

    Raises:
        NoBasisError: nothing is known, or the model does not fit.
        InputError: an unknown engine or precision, or an impossible parallelism.
    """
    how, measured = load.serving, None
    # Nobody tells with which parallelism offers were measured.
    if how.tp is None and how.pp is None and how.dp is None and how.ep is None:
        measured = _measured(model, offer, load, catalog)
    if measured is None or tokens > measured.largest_tokens:
        return _by_chip(model, offer, load, catalog, tokens)
    if measured.prompt_s > 0:
        return measured
    try:
        return PairedLaw(measured, _by_chip(model, offer, load, catalog, tokens))
    except NoBasisError:
        return measured


def _measured(
    model: ModelArchitecture, offer: Offer, load: Load, catalog: Catalog
) -> MeasuredLaw | None:
    """Return the law of what was measured on this very offer; None where nothing was."""
    try:
        return measured_gpu_law(model, offer, load.serving, load.concurrency, catalog)
    except NoBasisError:
        return None


def _by_chip(
    model: ModelArchitecture, offer: Offer, load: Load, catalog: Catalog, tokens: float
) -> LlmLaw:
    """Return the law of the offer's accelerators.

    Raises:
        NoBasisError: nothing is known, or the model does not fit.
        InputError: an unknown engine or precision, or an impossible parallelism.
    """
    chip = offer.processor
    if chip is None:
        raise NoBasisError(f"the processor of {offer.name} is not known")
    if offer.accelerators is None:
        raise NoBasisError(f"how much of {chip.name} it has is not known")
    need = Need(concurrency=load.concurrency, tokens=tokens)
    setting = setting_of(model, chip, offer.accelerators, load.serving, need, catalog.precisions)
    return AcceleratorLaw(
        model, chip, offer.accelerators, setting, load.concurrency, fit_for(catalog)
    )

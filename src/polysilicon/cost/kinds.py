"""Estimates of each kind of step: which law holds, and what its seconds cost."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np

from polysilicon.catalog.catalog import Catalog
from polysilicon.catalog.encoders import encoder
from polysilicon.catalog.fleet import LOCAL
from polysilicon.catalog.hosts import cpu_of
from polysilicon.catalog.machine import detect, local_offer
from polysilicon.catalog.offers import Offer
from polysilicon.catalog.processors import Processor
from polysilicon.cost.batch import Codes
from polysilicon.cost.embed import ModelSeconds, embed_seconds
from polysilicon.cost.energy import watts, watts_per_unit
from polysilicon.cost.estimates import Asked, Estimates, held_s, put
from polysilicon.cost.llm.choose import law_for, own_profile
from polysilicon.cost.llm.law import Numbers
from polysilicon.cost.llm.local import LocalLaw
from polysilicon.cost.tools import (
    SAME,
    Slowdown,
    by_ratio,
    core_speed,
    host,
    rate,
    slowdown,
    tool_seconds,
)
from polysilicon.cost.train import Method, measured_seconds, method_of, train_seconds
from polysilicon.cost.types import BASES
from polysilicon.errors import InputError, NoBasisError

REFERENCE = "aws/m7g.large"
"""Core-seconds of steps that name no offer are taken as spent on this one; its core speed is 1."""


def llm(asked: Asked, chosen: Codes, found: Estimates) -> None:
    """Estimate LLM steps, model by model."""
    batch = asked.batch.take(chosen)
    counted = ~np.isnan(batch["prompt_tokens"]) & ~np.isnan(batch["output_tokens"])
    told = counted & (batch.texts["model"].codes >= 0)
    if not told.all():
        found.refuse(chosen[~told], "an LLM step needs model, prompt_tokens and output_tokens")
        chosen, batch = chosen[told], batch.take(np.flatnonzero(told))
    for name, of in batch.texts["model"].groups():
        try:
            _of_model(asked, str(name), chosen[of], found)
        except NoBasisError as error:
            found.refuse(chosen[of], str(error))


def _of_model(asked: Asked, name: str, chosen: Codes, found: Estimates) -> None:
    """Estimate the steps of one model.

    Raises:
        NoBasisError: nothing is known, or the model does not fit.
    """
    steps = asked.batch.take(chosen)
    try:
        model = asked.catalog.model(name)
    except InputError as error:
        raise NoBasisError(f"no shapes: {error}") from error
    prompt, output = steps["prompt_tokens"], steps["output_tokens"]
    # The last prompt token is always computed: the first output token comes out of it.
    cached = np.minimum(steps.or_else("cached_tokens", 0.0), np.maximum(prompt - 1.0, 0.0))
    new = np.maximum(prompt - cached, 1.0)
    # The last output token is never read again, so its place in the cache is not needed.
    tokens = cached + new + np.maximum(output - 1.0, 0.0)
    usual = float(np.mean(cached + new)), float(np.mean(output))
    law = law_for(model, asked.offer, asked.load, asked.catalog, float(tokens.max()), usual)
    large = tokens > law.largest_tokens
    if large.any():
        has = f"a step of more than {law.largest_tokens:.0f} tokens beside {model.name}"
        found.refuse(chosen[large], f"it does not fit: {has} on {asked.offer.name}")
        small = ~large
        chosen, new, cached, output = chosen[small], new[small], cached[small], output[small]
        if not len(chosen):
            return
        # Those that are refused must not decide how many accelerators the others take.
        longest = float(tokens[small].max())
        law = law_for(model, asked.offer, asked.load, asked.catalog, longest, usual)
    crowd = 1.0 if isinstance(law, LocalLaw) else crowding(asked.offer, asked.load.utilisation)
    said = law.seconds(new, cached, output)
    if crowd > 1.0:
        said = said.times(crowd)
    # The first token comes with the prompt.
    later = np.maximum(output - 1.0, 0.0)
    service_s = said.ttft_s + later * said.tpot_s
    machine = watts(asked.offer)
    machine_s = service_s * law.share if said.machine_s is None else said.machine_s
    # Of the machine that it shares with other work it holds only its part.
    machine_s = machine_s / (1.0 + asked.load.utilisation) if crowd > 1.0 else machine_s
    columns = {
        "service_s": service_s,
        "low_s": said.ttft_low_s + later * said.tpot_low_s,
        "high_s": said.ttft_high_s + later * said.tpot_high_s,
        "ttft_s": said.ttft_s,
        "ttft_low_s": said.ttft_low_s,
        "ttft_high_s": said.ttft_high_s,
        "tpot_s": said.tpot_s,
        "tpot_low_s": said.tpot_low_s,
        "tpot_high_s": said.tpot_high_s,
        "cost_usd": asked.usd_per_s * machine_s,
        "energy_j": machine_s * (np.nan if machine is None else machine.full_w),
    }
    put(found, chosen, columns, said.basis)
    found.tell(chosen, law.note)


def crowding(offer: Offer, utilisation: float) -> float:
    """Return by how much other work on the cores stretches LLM steps on a CPU.

    The engine runs a thread on each vCPU; where others want these too, they take turns.
    """
    if offer.kind != "cpu" or utilisation == 0.0:
        return 1.0
    machine = host(offer)
    wanted = machine.vcpus * (1.0 + utilisation)
    return float(rate(machine.vcpus, machine) / rate(wanted, machine))


def tool(asked: Asked, chosen: Codes, found: Estimates) -> None:
    """Estimate tool steps, by the processor that their core-seconds were measured on."""
    steps, offer = asked.batch.take(chosen), asked.offer
    if offer.vcpus is None:
        found.refuse(chosen, f"how many vCPUs {offer.name} has is not known")
        return
    worked = ~np.isnan(steps["cpu_s"])
    if not worked.all():
        found.refuse(chosen[~worked], "a tool step needs cpu_s")
    has = offer.memory_bytes
    large = steps.or_else("memory_bytes", 0.0) > (np.inf if has is None else has)
    if large.any():
        found.refuse(chosen[large], f"does not fit: more memory than {offer.name} has")
    good = np.flatnonzero(worked & ~large)
    chosen, steps = chosen[good], steps.take(good)
    for name, of in steps.texts["offer"].groups():
        try:
            speed = speed_from(name, offer, asked.catalog)
        except NoBasisError as error:
            found.refuse(chosen[of], str(error))
            continue
        _at_speed(asked, chosen[of], speed, found)


def speed_from(known_as: str | None, offer: Offer, catalog: Catalog) -> Slowdown:
    """Return the slowdown of core-seconds from where they were measured to an offer.

    Args:
        known_as: the offer that they were measured on; None where nobody tells.
        offer: where they are to be spent.
        catalog: facts of both.

    Raises:
        NoBasisError: the core speed of one of them is not known.
    """
    if known_as is None:
        raise NoBasisError("which offer its core-seconds were measured on is not told")
    here_as = offer.name
    if known_as == here_as:
        return SAME
    known, chip = reference(known_as, catalog), cpu_of(offer)
    own = own_profile() if LOCAL in (known_as, here_as) else None
    if own is None or own.core_speed is None or own.core_speed.relative is None:
        return slowdown(known, chip, known_as, here_as)
    mine = own.core_speed.relative
    if known_as == LOCAL:
        return by_ratio(mine / core_speed(chip, here_as), estimated=True)
    return by_ratio(core_speed(known, known_as) / mine, estimated=True)


def reference(offer: str, catalog: Catalog) -> Processor | None:
    """Return the CPU on which the core-seconds of an offer were spent; None where unknown.

    Core-seconds of `local` count as those of the processor that this machine is priced as.
    """
    if offer == LOCAL:
        return here(catalog).processor
    found = catalog.offers_named(offer)
    return cpu_of(found[0]) if found else None


@lru_cache(maxsize=8)
def here(catalog: Catalog) -> Offer:
    """Return the offer `local` of a catalog; this machine is looked at once."""
    return local_offer(catalog, detect())


def _at_speed(asked: Asked, chosen: Codes, speed: Slowdown, found: Estimates) -> None:
    """Estimate tool steps whose core-seconds become others by one slowdown."""
    steps, offer = asked.batch.take(chosen), asked.offer
    said = tool_seconds(
        steps["cpu_s"],
        startup_s=steps.or_else("startup_s", 0.0),
        wait_s=steps.or_else("wait_s", 0.0),
        cores=steps.or_else("cores", 1.0),
        speed=speed,
        machine=host(offer),
        utilisation=asked.load.utilisation,
    )
    unit = watts_per_unit(offer)
    columns = {
        "service_s": said.service_s,
        "low_s": said.low_s,
        "high_s": said.high_s,
        "cost_usd": asked.usd_per_s * held_s(steps, offer, said.vcpu_s, said.service_s),
        "energy_j": said.vcpu_s * (np.nan if unit is None else unit.full_w),
    }
    put(found, chosen, columns, np.full(len(chosen), BASES.index("calibrated"), dtype=np.int8))
    found.tell(chosen, f"core-seconds times {speed.ratio:.2f}, by core speed")


def embed(asked: Asked, chosen: Codes, found: Estimates) -> None:
    """Estimate embedding steps: by an encoder where one is named, else as tools."""
    steps = asked.batch.take(chosen)
    named = np.isnan(steps["cpu_s"]) & (steps.texts["model"].codes >= 0)
    plain = np.flatnonzero(~named)
    if len(plain):
        tool(asked, chosen[plain], found)

    def seconds(name: str, tokens: Numbers) -> ModelSeconds:
        return embed_seconds(tokens, encoder(name), asked.offer)

    _by_tokens(asked, chosen[named], seconds, found)


def train(asked: Asked, chosen: Codes, found: Estimates) -> None:
    """Estimate training steps; `prompt_tokens` are the tokens trained on.

    A step whose name begins with `lora` trains adapters, any other one all parameters. On this
    machine adapters are trained as fast as it was calibrated.
    """
    names = asked.batch.texts["name"]
    of_lora = np.array([method_of(text) == "lora" for text in names.texts], dtype=bool)
    adapters = of_lora[names.codes[chosen]]
    methods: tuple[tuple[Method, bool], ...] = (("lora", True), ("full", False))
    own = own_profile() if asked.offer.name == LOCAL else None
    for method, lora in methods:

        def seconds(name: str, tokens: Numbers, method: Method = method) -> ModelSeconds:
            if own is not None and method == "lora" and name in own.train:
                return measured_seconds(tokens, own.train[name])
            model = asked.catalog.model(name)
            return train_seconds(tokens, model, asked.offer, method=method)

        _by_tokens(asked, chosen[adapters == lora], seconds, found)


def _by_tokens(
    asked: Asked,
    chosen: Codes,
    seconds: Callable[[str, Numbers], ModelSeconds],
    found: Estimates,
) -> None:
    """Estimate steps by their model and tokens."""
    steps, offer = asked.batch.take(chosen), asked.offer
    for name, every in steps.texts["model"].groups():
        told = ~np.isnan(steps["prompt_tokens"][every]) & (name is not None)
        if not told.all():
            reason = "an embedding or training step needs model and prompt_tokens"
            found.refuse(chosen[every[~told]], reason)
        of = every[told]
        if name is None or not len(of):
            continue
        tokens = steps["prompt_tokens"][of]
        try:
            said = seconds(name, tokens)
        except (NoBasisError, InputError) as error:
            found.refuse(chosen[of], str(error))
            continue
        machine = watts(offer)
        columns = {
            "service_s": said.service_s,
            "low_s": said.low_s,
            "high_s": said.high_s,
            "cost_usd": asked.usd_per_s * said.service_s * said.share,
            "energy_j": said.service_s
            * (np.nan if machine is None else machine.full_w * said.share),
        }
        basis = np.full(len(of), BASES.index(said.basis), dtype=np.int8)
        put(found, chosen[of], columns, basis)
        found.tell(chosen[of], said.note)


KINDS: dict[str, Callable[[Asked, Codes, Estimates], None]] = {
    "llm": llm,
    "tool": tool,
    "embed": embed,
    "train": train,
}

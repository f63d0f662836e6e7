"""Estimates of many steps on an offer at once; the estimate of one step is that of a batch of one."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import msgspec
import numpy as np
import numpy.typing as npt

from polysilicon.catalog.catalog import Catalog
from polysilicon.catalog.encoders import encoder
from polysilicon.catalog.fleet import LOCAL
from polysilicon.catalog.machine import detect, local_offer
from polysilicon.catalog.offers import Offer
from polysilicon.catalog.processors import Processor
from polysilicon.cost.batch import Batch, Codes, Named, check_amounts
from polysilicon.cost.carbon import grams
from polysilicon.cost.embed import ModelSeconds, embed_seconds
from polysilicon.cost.energy import watts, watts_per_unit
from polysilicon.cost.llm.choose import law_for, own_profile
from polysilicon.cost.llm.law import Numbers
from polysilicon.cost.money import AnyPrice, usd_per_s
from polysilicon.cost.tools import SAME, Slowdown, by_ratio, core_speed, host, slowdown, tool_seconds
from polysilicon.cost.train import Method, train_seconds
from polysilicon.cost.types import BASES, Load
from polysilicon.errors import InputError, NoBasisError

REFUSED = -1
"""Basis of a step that was refused."""

COLUMNS = (
    "service_s",
    "low_s",
    "high_s",
    "ttft_s",
    "ttft_low_s",
    "ttft_high_s",
    "tpot_s",
    "tpot_low_s",
    "tpot_high_s",
    "cost_usd",
    "energy_j",
)


class Estimates(msgspec.Struct, kw_only=True):
    """Estimates of the steps of a batch on one offer; arrays are (steps,), NaN where nothing is known.

    Attributes:
        columns: by the names of `COLUMNS`; units as in `Estimate`.
        basis: index into `BASES`, or `REFUSED`.
        notes: index into `words`: what the numbers rest on, or why a step was refused.
        words: the texts.
        g_per_j: grams of CO₂ equivalent for a joule; None where the grid is not known.
    """

    columns: dict[str, Numbers]
    basis: npt.NDArray[np.int8]
    notes: npt.NDArray[np.int32]
    words: list[str]
    g_per_j: float | None = None

    def __getitem__(self, column: str) -> Numbers:
        """Return a column."""
        return self.columns[column]

    def note(self, step: int) -> str:
        """Return what an estimate rests on, or why the step was refused."""
        return self.words[int(self.notes[step])]

    def refuse(self, chosen: Codes, reason: str) -> None:
        """Refuse steps."""
        self.basis[chosen] = REFUSED
        self.tell(chosen, reason)
        for column in self.columns.values():
            column[chosen] = np.nan

    def tell(self, chosen: Codes, text: str) -> None:
        """Say what the numbers of steps rest on."""
        if text not in self.words:
            self.words.append(text)
        self.notes[chosen] = self.words.index(text)


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
    if load.concurrency < 1:
        raise InputError(f"concurrency is {load.concurrency}", mend="it is at least 1")
    if not 0.0 <= load.utilisation < float("inf"):
        raise InputError(f"utilisation is {load.utilisation:g}", mend="it is 0 or more")
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
    asked = _Asked(batch=batch, offer=offer, load=load, catalog=catalog, usd_per_s=rate)
    here = _recorded(asked)
    _as_recorded(asked, np.flatnonzero(here), found)
    kinds = batch.texts["kind"]
    for kind, chosen in kinds.groups():
        rest = chosen[~here[chosen]]
        if len(rest):
            _KINDS[kind or "tool"](asked, rest, found)
    return found


class _Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked for."""

    batch: Batch
    offer: Offer
    load: Load
    catalog: Catalog
    usd_per_s: float


def _recorded(asked: _Asked) -> npt.NDArray[np.bool_]:
    """Tell which steps ran on this offer, with known times."""
    offers, regions = asked.batch.texts["offer"], asked.batch.texts["region"]
    same = _is(offers, asked.offer.name)
    near = _is(regions, asked.offer.region) | (regions.codes < 0)
    # Clocks that ran backwards tell nothing, and so does a time that is not there.
    timed = asked.batch["end_s"] >= asked.batch["start_s"]
    return same & near & timed


def _is(column: Named, text: str) -> npt.NDArray[np.bool_]:
    """Tell which steps have a text."""
    known = list(column.texts)
    if text not in known:
        return np.zeros(len(column.codes), dtype=bool)
    return np.asarray(column.codes == known.index(text))


def _as_recorded(asked: _Asked, chosen: Codes, found: Estimates) -> None:
    """Take what was recorded as measured."""
    if not len(chosen):
        return
    steps, offer = asked.batch.take(chosen), asked.offer
    service_s = steps["end_s"] - steps["start_s"]
    llm = _is(steps.texts["kind"], "llm")
    later = np.where(steps["output_tokens"] > 1, steps["output_tokens"] - 1.0, np.nan)
    ttft_s = np.where(llm, steps["first_token_s"] - steps["start_s"], np.nan)
    tpot_s = np.where(llm, (steps["end_s"] - steps["first_token_s"]) / later, np.nan)
    by_cores = _scarcer_s(steps, offer, steps["cpu_s"], service_s) * asked.usd_per_s
    whole = asked.usd_per_s * service_s / asked.load.concurrency
    unit = watts_per_unit(offer) if offer.kind == "cpu" else None
    energy_j = np.full(len(chosen), np.nan) if unit is None else unit.full_w * steps["cpu_s"]
    usd = np.where(np.isnan(by_cores), whole, by_cores)
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
        "cost_usd": np.where(np.isnan(steps["cost_usd"]), usd, steps["cost_usd"]),
        "energy_j": np.where(np.isnan(steps["energy_j"]), energy_j, steps["energy_j"]),
    }
    _put(found, chosen, told, np.full(len(chosen), BASES.index("measured"), dtype=np.int8))
    found.tell(chosen, "as recorded")


def _put(
    found: Estimates, chosen: Codes, told: dict[str, Numbers], basis: npt.NDArray[np.int8]
) -> None:
    """Write columns of some steps."""
    for name, values in told.items():
        found.columns[name][chosen] = values
    found.basis[chosen] = basis


def _scarcer_s(steps: Batch, offer: Offer, vcpu_s: Numbers, service_s: Numbers) -> Numbers:
    """Return machine-seconds by the resource of which a step takes the larger share.

    A step that waits uses no core but keeps its memory, so memory counts for the whole time.
    """
    by_cores = vcpu_s / offer.vcpus if offer.vcpus else np.full(len(steps), np.nan)
    if offer.memory_bytes is None:
        return by_cores
    by_memory = service_s * steps.or_else("memory_bytes", 0.0) / offer.memory_bytes
    return np.maximum(by_cores, by_memory)


def _llm(asked: _Asked, chosen: Codes, found: Estimates) -> None:
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


def _of_model(asked: _Asked, name: str, chosen: Codes, found: Estimates) -> None:
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
    cached = np.minimum(steps.or_else("cached_tokens", 0.0), prompt)
    # The last prompt token is always computed: the first output token comes out of it.
    new = np.maximum(prompt - cached, 1.0)
    # The last output token is never read again, so its place in the cache is not needed.
    tokens = cached + new + np.maximum(output - 1.0, 0.0)
    law = law_for(model, asked.offer, asked.load, asked.catalog, float(tokens.max()))
    large = tokens > law.largest_tokens
    if large.any():
        has = f"a step of more than {law.largest_tokens:.0f} tokens beside {model.name}"
        found.refuse(chosen[large], f"it does not fit: {has} on {asked.offer.name}")
        small = ~large
        chosen, new, cached, output = chosen[small], new[small], cached[small], output[small]
        if not len(chosen):
            return
    said = law.seconds(new, cached, output)
    # The first token comes with the prompt.
    later = np.maximum(output - 1.0, 0.0)
    service_s = said.ttft_s + later * said.tpot_s
    machine = watts(asked.offer)
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
        "cost_usd": asked.usd_per_s * service_s * law.share,
        "energy_j": service_s * (np.nan if machine is None else machine.full_w * law.share),
    }
    _put(found, chosen, columns, said.basis)
    found.tell(chosen, law.note)


def _tool(asked: _Asked, chosen: Codes, found: Estimates) -> None:
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
            speed = _speed(name, asked)
        except NoBasisError as error:
            found.refuse(chosen[of], str(error))
            continue
        _at_speed(asked, chosen[of], speed, found)


def _speed(known_as: str | None, asked: _Asked) -> Slowdown:
    """Return the slowdown from an offer to the one asked for.

    Raises:
        NoBasisError: the core speed of one of them is not known.
    """
    if known_as is None:
        raise NoBasisError("which offer its core-seconds were measured on is not told")
    here_as = asked.offer.name
    if known_as == here_as:
        return SAME
    known, chip = reference(known_as, asked.catalog), asked.offer.processor
    own = own_profile() if LOCAL in (known_as, here_as) else None
    if own is None or own.core_speed is None or own.core_speed.relative is None:
        return slowdown(known, chip, known_as, here_as)
    mine = own.core_speed.relative
    if known_as == LOCAL:
        return by_ratio(mine / core_speed(chip, here_as), estimated=True)
    return by_ratio(core_speed(known, known_as) / mine, estimated=True)


def reference(offer: str, catalog: Catalog) -> Processor | None:
    """Return the processor on which the core-seconds of an offer were spent; None where unknown.

    Core-seconds of `local` count as those of the processor that this machine is priced as.
    """
    if offer == LOCAL:
        return here(catalog).processor
    found = catalog.offers_named(offer)
    return found[0].processor if found else None


@lru_cache(maxsize=8)
def here(catalog: Catalog) -> Offer:
    """Return the offer `local` of a catalog; this machine is looked at once."""
    return local_offer(catalog, detect())


def _at_speed(asked: _Asked, chosen: Codes, speed: Slowdown, found: Estimates) -> None:
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
        "cost_usd": asked.usd_per_s * _scarcer_s(steps, offer, said.vcpu_s, said.service_s),
        "energy_j": said.vcpu_s * (np.nan if unit is None else unit.full_w),
    }
    _put(found, chosen, columns, np.full(len(chosen), BASES.index("calibrated"), dtype=np.int8))
    found.tell(chosen, f"core-seconds times {speed.ratio:.2f}, by core speed")


def _embed(asked: _Asked, chosen: Codes, found: Estimates) -> None:
    """Estimate embedding steps: by an encoder where one is named, else as tools."""
    steps = asked.batch.take(chosen)
    named = np.isnan(steps["cpu_s"]) & (steps.texts["model"].codes >= 0)
    plain = np.flatnonzero(~named)
    if len(plain):
        _tool(asked, chosen[plain], found)

    def seconds(name: str, tokens: Numbers) -> ModelSeconds:
        return embed_seconds(tokens, encoder(name), asked.offer, asked.catalog)

    _by_tokens(asked, chosen[named], seconds, found)


def _train(asked: _Asked, chosen: Codes, found: Estimates) -> None:
    """Estimate training steps; `prompt_tokens` are the tokens trained on.

    A step whose name begins with `lora` trains adapters, any other one all parameters.
    """
    names = asked.batch.texts["name"]
    of_lora = np.array([text.startswith("lora") for text in names.texts], dtype=bool)
    adapters = of_lora[names.codes[chosen]]
    for lora in (True, False):

        def seconds(name: str, tokens: Numbers, lora: bool = lora) -> ModelSeconds:
            method: Method = "lora" if lora else "full"
            model = asked.catalog.model(name)
            return train_seconds(tokens, model, asked.offer, asked.catalog, method=method)

        _by_tokens(asked, chosen[adapters == lora], seconds, found)


def _by_tokens(
    asked: _Asked,
    chosen: Codes,
    seconds: Callable[[str, Numbers], ModelSeconds],
    found: Estimates,
) -> None:
    """Estimate steps by their model and tokens."""
    steps, offer = asked.batch.take(chosen), asked.offer
    for name, of in steps.texts["model"].groups():
        tokens = steps["prompt_tokens"][of]
        if name is None or np.isnan(tokens).any():
            found.refuse(chosen[of], "an embedding or training step needs model and prompt_tokens")
            continue
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
            "energy_j": said.service_s * (np.nan if machine is None else machine.full_w * said.share),
        }
        basis = np.full(len(of), BASES.index(said.basis), dtype=np.int8)
        _put(found, chosen[of], columns, basis)
        found.tell(chosen[of], said.note)


_KINDS: dict[str, Callable[[_Asked, Codes, Estimates], None]] = {
    "llm": _llm,
    "tool": _tool,
    "embed": _embed,
    "train": _train,
}

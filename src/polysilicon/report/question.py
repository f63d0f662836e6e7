"""What `estimate` is asked, on the command line or by a program: step, load, offers and SLO."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from polysilicon import units
from polysilicon.catalog.catalog import Catalog
from polysilicon.catalog.encoders import encoder
from polysilicon.catalog.fleet import LOCAL
from polysilicon.catalog.machine import detect, local_offer
from polysilicon.catalog.offers import Offer, Price
from polysilicon.cost import Estimate, Load, Serving
from polysilicon.cost.llm.setting import check_parallelism, engines
from polysilicon.errors import InputError, nearest
from polysilicon.report.offers import Refusal
from polysilicon.workload.record import StepRecord

LARGEST_PROMPT = 10**8
"""Tokens; no model reads longer prompts, so a longer one is a slip of the hand."""

NEEDED: Mapping[str, tuple[str, ...]] = {
    "llm": ("model", "prompt", "output"),
    "tool": ("cpu_s",),
    "train": ("model", "prompt"),
}
"""Options without which a kind cannot be; of `embed` see `_embed`."""

ONLY: Mapping[str, tuple[str, ...]] = {
    "model": ("llm", "embed", "train"),
    "prompt": ("llm", "embed", "train"),
    "output": ("llm",),
    "cached": ("llm",),
    "cpu_s": ("tool", "embed"),
    "measured_on": ("tool", "embed"),
    "method": ("train",),
    "engine": ("llm",),
    "precision": ("llm",),
    "count": ("llm",),
    "tp": ("llm",),
    "dp": ("llm",),
    "ep": ("llm",),
    "concurrency": ("llm",),
    "utilisation": ("llm", "tool", "embed"),
    "slo_ttft": ("llm",),
    "slo_tpot": ("llm",),
}
"""Kinds of steps that an option tells of."""

PARALLEL = ("count", "tp", "dp", "ep")


class Slo(msgspec.Struct, frozen=True, kw_only=True):
    """What an offer must keep; None is no demand."""

    service_s: float | None = None
    ttft_s: float | None = None
    tpot_s: float | None = None

    def keeps(self, found: Estimate) -> bool:
        """Tell whether the best estimates keep all of it."""
        return self._holds(found.service_s, found.ttft_s, found.tpot_s)

    def unsure(self, found: Estimate) -> bool:
        """Tell whether the band of any of the seconds reaches above."""
        return not self._holds(found.high_s, found.ttft_high_s, found.tpot_high_s)

    def _holds(self, *seconds: float | None) -> bool:
        """Tell whether seconds are there and small enough, wherever there is a demand."""
        pairs = zip(seconds, (self.service_s, self.ttft_s, self.tpot_s), strict=True)
        return all(most is None or (s is not None and s <= most) for s, most in pairs)

    def words(self) -> str:
        """Return it in words; blank where nothing is demanded."""
        named = (("", self.service_s), ("first token ", self.ttft_s), ("next ", self.tpot_s))
        told = [f"{name}≤ {units.seconds(most)}" for name, most in named if most is not None]
        return f"the SLO ({', '.join(told)})" if told else ""


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked.

    Attributes:
        title: the step in words.
        step: the step.
        load: what else runs there, and how a model is served.
        offers: where, each once.
        refused: offers that are left out, by reason.
        price: which price holds.
        slo: what offers must keep.
        catalog: facts.
        tokens: that are counted for a rate: output of all LLM steps at once, else the step's own.
    """

    title: str
    step: StepRecord
    load: Load
    offers: Sequence[Offer]
    refused: Sequence[Refusal]
    price: Price
    slo: Slo
    catalog: Catalog
    tokens: float | None


def question_of(asked: Mapping[str, Any], known: Catalog) -> Question:
    """Return what the options ask.

    Raises:
        InputError: an option that the kind needs is missing, or one that it cannot have; an
            unknown model, engine, precision, offer or region, or absurd sizes.
    """
    kind: str = asked["kind"]
    _check_options(kind, asked)
    step = _step(kind, asked, known)
    load = Load(
        concurrency=asked["concurrency"] or 1,
        utilisation=asked["utilisation"] or 0.0,
        serving=_serving(asked, known),
    )
    offers, refused = _offers(asked, known)
    slo = Slo(service_s=asked["slo"], ttft_s=asked["slo_ttft"], tpot_s=asked["slo_tpot"])
    counted = step.output_tokens if kind == "llm" else step.prompt_tokens
    return Question(
        title=_title(step, load),
        step=step,
        load=load,
        offers=offers,
        refused=refused,
        price=asked["price"],
        slo=slo,
        catalog=known,
        tokens=None if counted is None else float(counted * load.concurrency),
    )


def _check_options(kind: str, asked: Mapping[str, Any]) -> None:
    """Raise `InputError` where options are missing or do not belong to the kind."""
    for option, kinds in ONLY.items():
        if asked[option] is not None and kind not in kinds:
            raise InputError(f"--kind {kind} has no {_flag(option)}")
    needed = NEEDED.get(kind)
    if needed is None:
        by_cores = asked["cpu_s"] is not None
        needed = ("cpu_s",) if by_cores else ("model", "prompt")
        if by_cores and not asked["model"] is asked["prompt"] is None:
            what = "--kind embed takes --cpu-s, or --model and --prompt, not both"
            raise InputError(what)
    for option in needed:
        if asked[option] is None:
            raise InputError(f"--kind {kind} needs {_flag(option)}")
    if asked["measured_on"] is not None and asked["cpu_s"] is None:
        raise InputError("--measured-on needs --cpu-s")


def _flag(option: str) -> str:
    """Return an option as it is typed."""
    return f"--{option.replace('_', '-')}"


def _step(kind: str, asked: Mapping[str, Any], known: Catalog) -> StepRecord:
    """Return the step.

    Raises:
        InputError: more is cached than asked, the model or the offer is unknown, or the prompt is
            absurd.
    """
    if asked["cpu_s"] is not None:
        on = asked["measured_on"] or LOCAL
        offer = None if on.casefold() == LOCAL else known.offer(on)
        return StepRecord(
            task_id="estimate",
            step_id="1",
            name=kind,
            kind=kind,  # type: ignore[arg-type]  # `_check_options` has looked
            cpu_s=asked["cpu_s"],
            offer=LOCAL if offer is None else offer.name,
            region=LOCAL if offer is None else offer.region,
        )
    cached = asked["cached"] or 0
    if kind != "train" and asked["prompt"] > LARGEST_PROMPT:
        mend = f"at most {LARGEST_PROMPT}"
        raise InputError(f"{asked['prompt']} prompt tokens", where="--prompt", mend=mend)
    if cached > asked["prompt"]:
        raise InputError("--cached is more than --prompt")
    model = encoder(asked["model"]).name if kind == "embed" else known.model(asked["model"]).name
    return StepRecord(
        task_id="estimate",
        step_id="1",
        name={"llm": "chat", "embed": "embed"}.get(kind, asked["method"] or "full"),
        kind=kind,  # type: ignore[arg-type]  # `_check_options` has looked
        model=model,
        prompt_tokens=asked["prompt"],
        cached_tokens=cached,
        output_tokens=asked["output"],
    )


def _serving(asked: Mapping[str, Any], known: Catalog) -> Serving:
    """Return how the model is served.

    Raises:
        InputError: an unknown engine or precision, or an impossible parallelism.
    """
    engine = asked["engine"] or ""
    names = ("llama.cpp", *engines())
    if engine and engine not in names:
        mend = nearest(engine, names) or f"known: {', '.join(names)}"
        raise InputError(f"unknown engine {engine!r}", where="--engine", mend=mend)
    precision = known.precision(asked["precision"]) if asked["precision"] else ""
    serving = Serving(
        engine=engine, precision=precision, **{name: asked[name] for name in PARALLEL}
    )
    copy = serving.count or serving.tp or serving.dp or serving.ep
    if copy is not None:
        # What is impossible everywhere is told once, not once an offer.
        check_parallelism(known.model(asked["model"]), serving, copy)
    return serving


def _offers(asked: Mapping[str, Any], known: Catalog) -> tuple[list[Offer], list[Refusal]]:
    """Return the offers asked for, each once, and those left out by reason.

    Raises:
        InputError: an unknown offer or region, or no offer is left.
    """
    names, price = list(dict.fromkeys(asked["names"])), asked["price"]
    region = _region(asked["region"], known)
    every = not names
    if every:
        names = list(dict.fromkeys(offer.name for offer in known.offers))
    found = [_one(name, region, price, known) for name in names if name.casefold() != LOCAL]
    if region is None and (every or len(found) < len(names)):
        found.insert(0, local_offer(known, detect()))
    chips = asked["chips"] or ("cpu", "gpu", "asic")
    there = [
        offer
        for offer in found
        if offer.kind in chips and (region is None or offer.region == region)
    ]
    if not there:
        raise InputError("no offer is what --chips, --region and --offer ask for")
    spread = any(asked[name] is not None for name in PARALLEL)
    kept: list[Offer] = []
    refused: dict[str, Refusal] = {}
    for offer in there:
        if offer.price(price) is None:
            reason = f"no {price} price is known" + (" there" if region else "")
        elif spread and offer.kind == "cpu":
            reason = "a model is spread over accelerators, not over CPUs"
        else:
            kept.append(offer)
            continue
        before = refused.get(reason, Refusal(offer=offer.name, reason=reason, count=0))
        refused[reason] = msgspec.structs.replace(before, count=before.count + 1)
    return kept, list(refused.values())


def _one(name: str, region: str | None, price: Price, known: Catalog) -> Offer:
    """Return an offer: in the region where it is sold there, else where this price is lowest.

    Raises:
        InputError: no such offer; names near ones.
    """
    sold = known.offers_named(name)
    if not sold:
        return known.offer(name)
    usd = {offer.region: offer.price(price) for offer in sold}
    return min(
        sold,
        key=lambda o: (o.region != region, usd[o.region] is None, usd[o.region] or 0.0, o.region),
    )


def _region(asked: str | None, known: Catalog) -> str | None:
    """Return a region as the catalog writes it.

    Raises:
        InputError: no offer is there; names near ones.
    """
    if asked is None:
        return None
    regions = {offer.region for offer in known.offers}
    if asked.casefold() not in regions:
        mend = nearest(asked, sorted(regions)) or "see polysilicon catalog list"
        raise InputError(f"unknown region {asked!r}", where="--region", mend=mend)
    return asked.casefold()


def _title(step: StepRecord, load: Load) -> str:
    """Return the step in words."""
    if step.cpu_s is not None:
        return f"{step.kind} step of {step.cpu_s:g} core-seconds on {step.offer}"
    words = f"{step.model}, {step.prompt_tokens} prompt tokens"
    if step.kind == "llm":
        words += f" ({step.cached_tokens} cached), {step.output_tokens} output tokens"
        return f"{words}, {load.concurrency} at once"
    return f"{step.kind} step ({step.name}): {words}" if step.kind == "train" else f"embed: {words}"

"""Measured rows as questions to the cost model, and its answers in the measured metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec
import numpy as np

from polysilicon.catalog.catalog import Catalog
from polysilicon.catalog.fleet import LOCAL
from polysilicon.catalog.measurements import METRICS, Measurement
from polysilicon.catalog.offers import GIB, Offer
from polysilicon.catalog.processors import Processor
from polysilicon.catalog.servers import load_servers
from polysilicon.cost.fit.cases import Case
from polysilicon.cost.fit.tables import case_of
from polysilicon.cost.kinds import here
from polysilicon.cost.llm.choose import law_for
from polysilicon.cost.llm.law import LlmLaw, Seconds
from polysilicon.cost.types import BASES, Basis, Load, Serving
from polysilicon.errors import InputError, NoBasisError
from polysilicon.workload.record import StepRecord

ONE_REQUEST = "llama.cpp"
"""The engine whose rows are of one request at a time, prompt and output apart."""

# Of a host whose memory nobody tells: the model ran on it, so it fitted.
ENOUGH_BYTES = 2**50

_ACCELERATOR_MAKERS = ("nvidia", "tesla", "instinct", "gaudi", "tpu", "trainium", "inferentia")
_ACCELERATOR_BUILDS = ("cuda", "gpu", "rocm")


class Value(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the cost model says of one metric, in the metric's unit, with its band."""

    value: float
    low: float
    high: float


class Prediction(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the cost model says of a row: values by metric, those that were measured."""

    row: Measurement
    values: Mapping[str, Value]
    basis: Basis
    note: str = ""


class Refusal(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A row without a prediction, and why; alike rows have the same reason."""

    row: Measurement
    reason: str


Answer = Prediction | Refusal


class Question(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A row as a step on an offer under a load."""

    step: StepRecord
    offer: Offer
    load: Load


def question(row: Measurement, catalog: Catalog) -> Question:
    """Return what the cost model has to be asked to predict a row.

    A mean of concurrency of less than one request is taken as one.

    Raises:
        NoBasisError: model, precision or accelerator are not known, or tokens are not told.
        InputError: a parallelism that cannot be.
    """
    if row.prompt_tokens is None or row.output_tokens is None:
        raise NoBasisError("prompt_tokens or output_tokens are not told")
    try:
        model = catalog.model(row.model).name
        precision = catalog.precision(row.precision) if row.precision else ""
    except InputError as error:
        raise NoBasisError(error.what) from error
    offer, at_once = offer_of(row, catalog), row.concurrency or 1.0
    serving = Serving(engine=row.engine, precision=precision)
    if offer.kind != "cpu" and offer.processor is not None and row.engine != ONE_REQUEST:
        case = accelerator_case(row, offer.processor, catalog)
        at_once = case.concurrency
        serving = Serving(
            engine=case.engine,
            precision=case.precision,
            count=case.split.gpus,
            dp=case.split.ranks,
            ep=case.split.experts,
        )
        if not offer.region:
            offer = msgspec.structs.replace(offer, accelerators=case.split.gpus)
    step = StepRecord(
        task_id="validate",
        step_id=str(row.row),
        name="chat",
        kind="llm",
        model=model,
        prompt_tokens=max(row.prompt_tokens, 1),
        cached_tokens=0,
        output_tokens=row.output_tokens,
    )
    load = Load(concurrency=max(at_once, 1.0), serving=serving)
    return Question(step=step, offer=offer, load=load)


def accelerator_case(row: Measurement, chip: Processor, catalog: Catalog) -> Case:
    """Return a row as a case of the serving law, with the ranks that its source means.

    Raises:
        NoBasisError: what the law needs is not told.
        InputError: an unknown engine, or a parallelism that cannot be.
    """
    named = msgspec.structs.replace(row, processor=chip.name)
    return case_of(named, catalog)


def offer_of(row: Measurement, catalog: Catalog) -> Offer:
    """Return the offer that a row was measured on, or one made of what the row tells.

    Where the row names a CPU on a host with accelerators, they idled, and the offer is the CPU.

    Raises:
        NoBasisError: the accelerator is not in the catalog.
    """
    if row.instance == LOCAL:
        return here(catalog)
    chip = _chip(row, catalog)
    known = catalog.offers_named(row.instance) if row.instance else ()
    for offer in known:
        if chip is None and offer.kind != "cpu":
            continue
        if chip is None or offer.processor is None or offer.processor.name == chip.name:
            return _with_room(offer)
    if known and chip is not None and chip.kind == "cpu":
        fits = [offer for offer in known if offer.kind == "cpu"]
        if fits:
            return _with_room(fits[0])
    accelerated = chip is not None and chip.kind != "cpu"
    server = load_servers().types.get(row.instance)
    memory_gib = None if server is None else server.memory_gib
    return Offer(
        name=row.instance or row.processor,
        region="",
        kind="cpu" if chip is None else chip.kind,
        processor=chip,
        accelerators=row.count if accelerated else None,
        vcpus=None if accelerated else row.count,
        memory_bytes=ENOUGH_BYTES if memory_gib is None else round(memory_gib * GIB),
    )


def predict(row: Measurement, catalog: Catalog) -> Answer:
    """Predict a row with the laws that come with Polysilicon."""
    try:
        asked = question(row, catalog)
        model = catalog.model(row.model)
        tokens = float((row.prompt_tokens or 0) + (row.output_tokens or 0))
        law = law_for(model, asked.offer, asked.load, catalog, tokens)
        says = ask(law, row)
    except (NoBasisError, InputError) as error:
        return Refusal(row=row, reason=str(error))
    return Prediction(
        row=row, values=from_seconds(row, says), basis=BASES[int(says.basis[0])], note=law.note
    )


def ask(law: LlmLaw, row: Measurement) -> Seconds:
    """Return what a law says of a row; a prompt has at least one token.

    Raises:
        NoBasisError: the step is larger than the memory.
    """
    # The last output token is never read again, so its place in the cache is not needed.
    if (row.prompt_tokens or 0) + (row.output_tokens or 0) - 1 > law.largest_tokens:
        raise NoBasisError("it does not fit: a step is larger than the memory")
    new = np.array([float(max(row.prompt_tokens or 0, 1))])
    return law.seconds(new, np.zeros(1), np.array([float(row.output_tokens or 0)]))


class Shipped:
    """Predicts with the laws and the measurements that come with Polysilicon.

    Args:
        catalog: models, offers, measured rates.
        told: called with the number of rows done, after each.
    """

    def __init__(self, catalog: Catalog, told: Callable[[int], None] | None = None) -> None:
        self._catalog = catalog
        self._told = told

    def predict(self, rows: Sequence[Measurement]) -> list[Answer]:
        """Predict each row."""
        answers: list[Answer] = []
        for row in rows:
            answers.append(predict(row, self._catalog))
            if self._told is not None:
                self._told(len(answers))
        return answers


def from_seconds(row: Measurement, says: Seconds) -> dict[str, Value]:
    """Return what a law says of one step in the metrics that a row has."""
    first = Value(
        value=float(says.ttft_s[0]),
        low=float(says.ttft_low_s[0]),
        high=float(says.ttft_high_s[0]),
    )
    each = Value(
        value=float(says.tpot_s[0]),
        low=float(says.tpot_low_s[0]),
        high=float(says.tpot_high_s[0]),
    )
    return in_metrics(row, first, each)


def in_metrics(row: Measurement, first: Value, each: Value) -> dict[str, Value]:
    """Return the metrics that a row has, from seconds of the first and of each later token.

    Prefill is prompt tokens over the time to the first token. Decode of llama.cpp is a token of
    each request over the time of each later one; of served load it is the output of all concurrent
    requests over the whole time of one, by Little's law.
    """
    later = max((row.output_tokens or 0) - 1, 0)
    whole = Value(
        value=first.value + later * each.value,
        low=first.low + later * each.low,
        high=first.high + later * each.high,
    )
    said = {"ttft_ms": _scaled(first, 1000.0), "tpot_ms": _scaled(each, 1000.0)}
    said["prefill_tokens_per_s"] = _over(float(row.prompt_tokens or 0), first)
    if row.engine == ONE_REQUEST:
        said["decode_tokens_per_s"] = _over(max(row.concurrency or 1.0, 1.0), each)
    else:
        # A mean below one is one request after the other, with gaps.
        tokens = max(row.concurrency or 1.0, 1.0) * (row.output_tokens or 0)
        said["decode_tokens_per_s"] = _over(tokens, whole)
    return {m: said[m] for m in METRICS if getattr(row, m) is not None and said[m].value > 0}


def _chip(row: Measurement, catalog: Catalog) -> Processor | None:
    """Return the processor of a row; None of a CPU that the catalog does not have.

    Raises:
        NoBasisError: it is an accelerator that the catalog does not have.
    """
    name = catalog.aliases.processor_name(row.processor, catalog.processors)
    if name is not None:
        return catalog.processors[name]
    if not row.processor:
        known = catalog.offers_named(row.instance)
        if not known:
            raise NoBasisError("the processor is not told and the instance is not known")
        return known[0].processor
    words = row.engine_version.casefold().split()
    built = bool(words) and words[-1] in _ACCELERATOR_BUILDS
    if built or any(maker in row.processor.casefold() for maker in _ACCELERATOR_MAKERS):
        raise NoBasisError(f"unknown accelerator {row.processor!r}")
    return None


def _with_room(offer: Offer) -> Offer:
    """Return an offer whose memory is known to be enough for what ran on it."""
    if offer.memory_bytes is not None:
        return offer
    return msgspec.structs.replace(offer, memory_bytes=ENOUGH_BYTES)


def _scaled(seconds: Value, factor: float) -> Value:
    """Return seconds in another unit."""
    return Value(value=seconds.value * factor, low=seconds.low * factor, high=seconds.high * factor)


def _over(tokens: float, seconds: Value) -> Value:
    """Return tokens a second; short times make high rates."""
    if seconds.value <= 0:
        return Value(value=0.0, low=0.0, high=0.0)
    low = tokens / seconds.high
    high = tokens / seconds.low if seconds.low > 0 else float("inf")
    return Value(value=tokens / seconds.value, low=low, high=high)

"""Laws fitted anew on measured rows, so that rows that were held out can be scored."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from polysilicon.catalog.catalog import Catalog
from polysilicon.catalog.measurements import Measurement
from polysilicon.catalog.rates import LlmRate
from polysilicon.catalog.servers import load_servers
from polysilicon.catalog.tables import data_folder
from polysilicon.cost.fit.accelerator import fit as fit_accelerators
from polysilicon.cost.fit.accelerator import unique
from polysilicon.cost.fit.cases import Case
from polysilicon.cost.fit.cpu import NORMAL_SPREAD, fit_batching
from polysilicon.cost.fit.robust import huber
from polysilicon.cost.fit.score import Guess, guesses
from polysilicon.cost.llm.accelerator import NINETY
from polysilicon.cost.llm.coefficients import read_priors
from polysilicon.cost.llm.cpu import cpu_law
from polysilicon.cost.llm.cpu_points import FEATURES, KINDS, Vocabulary, features, gather
from polysilicon.cost.llm.cpu_rates import CpuFit, Data, Laws, read_kernel
from polysilicon.cost.llm.cpu_seconds import CpuLaw
from polysilicon.cost.llm.fitted import METRICS, shipped_fit
from polysilicon.cost.llm.fitted import Fit as AcceleratorFit
from polysilicon.cost.predict import (
    ONE_REQUEST,
    Answer,
    Prediction,
    Question,
    Refusal,
    Value,
    accelerator_case,
    ask,
    from_seconds,
    in_metrics,
    offer_of,
    question,
)
from polysilicon.cost.types import BASES, Load
from polysilicon.cost.validate import Fit
from polysilicon.errors import InputError, NoBasisError

_NOTHING_LIKE = "no row outside of the fold is of this kind of processor"


def family_of_row(row: Measurement, catalog: Catalog) -> str:
    """Return the family of a row's processor: chips of one design; accelerators by their name."""
    try:
        offer = offer_of(row, catalog)
    except NoBasisError:
        return row.processor
    if offer.kind != "cpu":
        return offer.processor.name if offer.processor is not None else row.processor
    servers = load_servers()
    server = servers.of_offer(offer)
    chip = None if server is None else servers.chips.get(server.chip)
    return row.processor if chip is None else chip.family


def fitter(catalog: Catalog) -> Fit:
    """Return what fits the laws to rows: that of server CPUs and that of accelerators."""

    def fit(rows: Sequence[Measurement]) -> Refitted:
        return Refitted(rows, catalog)

    return fit


class Refitted:
    """Predicts with laws that know nothing but some rows.

    What is not fitted to rows stays as shipped: what is expected of coefficients before anything
    was measured, and how alike rows are (the kernels).

    Args:
        rows: to be fitted.
        catalog: models, offers, processors.
    """

    def __init__(self, rows: Sequence[Measurement], catalog: Catalog) -> None:
        self._catalog = catalog
        self._cpu = _cpu_fit(rows, catalog)
        # Rows of one model on one server share a law, and making one takes milliseconds.
        self._laws: dict[tuple[str, str, Load], CpuLaw] = {}
        self._accelerators = _accelerator_fit(rows, catalog)

    def predict(self, rows: Sequence[Measurement]) -> list[Answer]:
        """Predict each row."""
        answers: list[Answer | None] = [None] * len(rows)
        cases: dict[int, Case] = {}
        for i, row in enumerate(rows):
            try:
                asked = question(row, self._catalog)
                if asked.offer.kind == "cpu":
                    answers[i] = self._on_cpu(row, asked)
                else:
                    cases[i] = _case(row, asked, self._catalog)
            except (NoBasisError, InputError) as error:
                answers[i] = Refusal(row=row, reason=str(error))
        for i, answer in self._on_accelerators(rows, cases):
            answers[i] = answer
        return [answer for answer in answers if answer is not None]

    def _on_cpu(self, row: Measurement, asked: Question) -> Answer:
        """Predict a row on a CPU.

        Raises:
            NoBasisError: the law refuses it.
        """
        if self._cpu is None:
            return Refusal(row=row, reason=_NOTHING_LIKE)
        key = (row.model, asked.offer.name, asked.load)
        if key not in self._laws:
            self._laws[key] = cpu_law(
                self._catalog.model(row.model),
                asked.offer,
                asked.load.serving,
                asked.load.concurrency,
                self._catalog,
                self._cpu,
            )
        return _of_cpu(row, self._laws[key])

    def _on_accelerators(
        self, rows: Sequence[Measurement], cases: Mapping[int, Case]
    ) -> Iterator[tuple[int, Answer]]:
        """Yield the place and the prediction of each case."""
        found = self._accelerators
        if found is None or not cases:
            yield from ((i, Refusal(row=rows[i], reason=_NOTHING_LIKE)) for i in cases)
            return
        said = guesses(found, list(cases.values()))
        for at, i in enumerate(cases):
            first, each = (_value(said[m], at, found.kernels[m].width) for m in METRICS)
            yield (
                i,
                Prediction(
                    row=rows[i],
                    values=in_metrics(rows[i], first, each),
                    basis="calibrated",
                    note="fitted without this row's fold",
                ),
            )


def _value(guess: Guess, at: int, width: float) -> Value:
    """Return seconds of one case, with the band of nine in ten."""
    reach = float(np.exp(NINETY * width * guess.sd[at]))
    seconds = float(guess.value[at])
    return Value(value=seconds, low=seconds / reach, high=seconds * reach)


def _case(row: Measurement, asked: Question, catalog: Catalog) -> Case:
    """Return a row on accelerators as a case that fits into their memory.

    Raises:
        NoBasisError: a fact is missing, or it does not fit.
        InputError: an unknown engine, or a parallelism that cannot be.
    """
    assert asked.offer.processor is not None
    case = accelerator_case(row, asked.offer.processor, catalog)
    case.work()
    return case


def _accelerator_fit(rows: Sequence[Measurement], catalog: Catalog) -> AcceleratorFit | None:
    """Return the law of accelerators fitted to rows; None where they have none with latencies."""
    cases: list[Case] = []
    for row in rows:
        try:
            asked = question(row, catalog)
            if asked.offer.kind != "cpu":
                cases.append(_case(row, asked, catalog))
        except (NoBasisError, InputError):
            # It tells nothing; where it is asked for, it is refused with the reason.
            continue
    cases = unique(cases)
    served = [case for case in cases if case.ttft_s is not None and case.tpot_s is not None]
    if not served:
        return None
    others = [case for case in cases if case.ttft_s is None or case.tpot_s is None]
    priors = read_priors(data_folder("polysilicon.cost") / "accelerator_priors.csv")
    return fit_accelerators(served, priors, others, shipped_fit().kernels)


def _of_cpu(row: Measurement, law: CpuLaw) -> Prediction:
    """Predict a row on a CPU."""
    says = ask(law, row)
    return Prediction(
        row=row,
        values=from_seconds(row, says),
        basis=BASES[int(says.basis[0])],
        note=law.note,
    )


def _cpu_fit(rows: Sequence[Measurement], catalog: Catalog) -> CpuFit | None:
    """Return the law of CPUs fitted to rows; None where they have none of CPUs."""
    words = Vocabulary(load_servers())
    rates = [rate for row in rows if (rate := _rate(row, catalog)) is not None]
    points, logs, keys = gather(rates, dict(catalog.models), words)
    if not keys:
        return None
    data = Data(words=words, points=points, logs=logs, keys=keys, columns=features(points, words))
    coefficients = np.zeros((len(KINDS), len(FEATURES)))
    # A file may lack a kind of rate altogether; its law then says nothing.
    for kind in np.unique(points.kind):
        chosen = points.kind == kind
        coefficients[kind] = huber(data.columns[chosen], logs[chosen])
    batching, band = fit_batching(data, np.ones(len(logs), dtype=bool))
    laws = Laws(
        coefficients=coefficients,
        spread=np.full(len(KINDS), NORMAL_SPREAD),
        batching=batching,
        batching_band=band,
    )
    folder = data_folder("polysilicon.cost") / "cc_by_sa"
    return CpuFit(data, laws, read_kernel(folder / "cpu_kernel.csv"))


def _rate(row: Measurement, catalog: Catalog) -> LlmRate | None:
    """Return a row as a rate that the law of CPUs is fitted to; None where it is no such."""
    try:
        asked = question(row, catalog)
    except (NoBasisError, InputError):
        return None
    column = _column(row)
    value = row.prefill_tokens_per_s or row.decode_tokens_per_s
    if asked.offer.kind != "cpu" or not row.instance or column is None or value is None:
        return None
    told: dict[str, float] = {f"{column}_tokens_per_s": value}
    if column.startswith("busy"):
        told[f"{column}_concurrency"] = row.concurrency or 1.0
    assert asked.step.model is not None
    return LlmRate(
        offer=row.instance,
        model=asked.step.model,
        engine=row.engine,
        precision=asked.load.serving.precision,
        date=row.date,
        **told,  # type: ignore[arg-type]  # the names are those of its rates
    )


def _column(row: Measurement) -> str | None:
    """Return the start of the name of the rate that a row measured."""
    if row.engine == ONE_REQUEST:
        if row.prefill_tokens_per_s is not None and row.prompt_tokens in (512, 4096):
            return f"prefill_{row.prompt_tokens}"
        return f"decode_{row.output_tokens}" if row.output_tokens in (128, 512) else None
    if (row.prompt_tokens, row.output_tokens) not in ((256, 128), (1024, 256)):
        return None
    load = "busy" if (row.concurrency or 1.0) > 1.0 else "output"
    return f"{load}_{row.prompt_tokens}_{row.output_tokens}"

"""One step on many offers: which keep the SLO, in which order, and which were refused."""

from __future__ import annotations

from typing import Any

import msgspec

from polysilicon import cost, units
from polysilicon.catalog.offers import Offer
from polysilicon.errors import InfeasibleError, InputError, NoBasisError
from polysilicon.report.offers import Answer, Comparison, Refusal
from polysilicon.report.question import Question


def compare(question: Question, *, speed: bool) -> Comparison:
    """Estimate the step on all offers.

    Raises:
        InputError: all offers were refused.
        InfeasibleError: no offer keeps the SLO.
    """
    refused: dict[str, Refusal] = {r.reason: r for r in question.refused}
    answers: list[Answer] = []
    for offer in question.offers:
        try:
            found = cost.estimate(
                question.step, offer, question.load, question.catalog, question.price
            )
        except (NoBasisError, InputError) as error:
            # What is impossible on one offer, such as eight of its four GPUs, may do on others.
            before = refused.get(str(error), Refusal(offer=offer.name, reason=str(error), count=0))
            refused[str(error)] = msgspec.structs.replace(before, count=before.count + 1)
            continue
        answers.append(_answer(question, offer, found))
    reasons = sorted(refused.values(), key=lambda refusal: -refusal.count)
    if not answers:
        words = "; ".join(f"{r.offer}: {r.reason}" for r in reasons[:3])
        raise InputError("no offer can be estimated", mend=words)
    kept = [answer for answer in answers if question.slo.keeps(answer.estimate)]
    if not kept:
        fastest = min((answer.estimate for answer in answers), key=lambda e: e.service_s)
        what = f"no offer keeps {question.slo.words()}; the fastest is {fastest.offer}"
        raise InfeasibleError(f"{what} with {_times(fastest)}")
    kept.sort(
        key=lambda a: (a.estimate.service_s if speed else a.estimate.cost_usd, a.estimate.offer)
    )
    return Comparison(
        title=question.title,
        answers=kept,
        refused=reasons,
        slo=question.slo.words(),
        missed=len(answers) - len(kept),
    )


def _answer(question: Question, offer: Offer, found: cost.Estimate) -> Answer:
    """Return an estimate with what the table says beside it."""
    tokens = question.tokens
    rate = None if tokens is None or not found.service_s else tokens / found.service_s
    unsure = question.slo.unsure(found)
    return Answer(estimate=found, kind=offer.kind, tokens_per_s=rate, unsure=unsure)


def _times(found: cost.Estimate) -> str:
    """Return the seconds of an estimate in words."""
    words = [units.seconds(found.service_s)]
    if found.ttft_s is not None and found.tpot_s is not None:
        first, later = units.seconds(found.ttft_s), units.seconds(found.tpot_s)
        words.append(f"{first} to the first token and {later} for each later one")
    return ", ".join(words)


def comparison_object(found: Comparison, limit: int | None) -> dict[str, Any]:
    """Return what `--json` prints, `limit` offers at most."""
    return {
        "estimates": [_row(answer, found.slo) for answer in found.answers[:limit]],
        "offers": len(found.answers),
        "missed_slo": found.missed,
        "refused": [msgspec.to_builtins(refusal) for refusal in found.refused],
    }


def _row(answer: Answer, slo: str) -> dict[str, Any]:
    """Return an estimate under the names that scripts rely on."""
    values: dict[str, Any] = msgspec.to_builtins(answer.estimate)
    values["usd"], values["joules"] = values.pop("cost_usd"), values.pop("energy_j")
    values["kind"], values["tokens_per_s"] = answer.kind, answer.tokens_per_s
    values["slo"] = ("unsure" if answer.unsure else "kept") if slo else None
    return values

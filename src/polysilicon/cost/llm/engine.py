"""What an engine with continuous batching does in each of its iterations, as numbers to play.

The laws of LLM steps tell seconds of steps under a load. Whoever plays an engine iteration by
iteration needs those of an iteration instead:
    prefill(tokens) + pair·Σ taken·(context + taken/2) + piece·(prompts - 1)
    + base(b) + context(b)·Σ contexts
the first line where it takes prompts, the second where b sequences decode.
On this machine these were measured (`local.py`). The laws of servers and accelerators tell the
passes that steps are made of (`loop.py`), those over prompts with all slots taken. Decodes go along
a line through contexts like those of the steps, so that it is right about where these are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
import numpy as np

from polysilicon.catalog.catalog import Catalog
from polysilicon.catalog.fleet import LOCAL
from polysilicon.catalog.models import ModelArchitecture
from polysilicon.catalog.offers import Offer
from polysilicon.cost.llm.accelerator import AcceleratorLaw
from polysilicon.cost.llm.choose import law_for, own_profile
from polysilicon.cost.llm.cpu_seconds import CpuLaw
from polysilicon.cost.llm.law import LlmLaw, Numbers
from polysilicon.cost.llm.local import rates_of
from polysilicon.cost.llm.loop import BATCH_TOKENS
from polysilicon.cost.profile import LlmProfile
from polysilicon.cost.types import BASES, Basis, Load, Serving
from polysilicon.errors import InputError, NoBasisError

_WEIGHTS = (1 / 6, 2 / 3, 1 / 6)
_STEP_TOKENS = 64.0


class EngineLaw(msgspec.Struct, frozen=True, kw_only=True):
    """One copy of a model at work.

    Attributes:
        slots: sequences at once.
        batch_tokens: that an iteration takes, at most.
        kv_tokens: prompt and output tokens of all sequences that fit into memory together.
        tokens: grid of prompt tokens of an iteration, even steps from 0; shape (p,).
        prefill_s: of an iteration with that many, attention to what is cached left out; (p,).
        pair_s: for each pair of a new and an earlier token.
        piece_s: for each further prompt in an iteration.
        base_s: of an iteration that decodes b sequences at no context; shape (slots + 1,), 0 at 0.
        context_s: more for each token of all their contexts together; shape (slots + 1,).
        request_s: before a step is in the engine, in which it takes nothing from others.
        copies: on one machine.
        basis: of the law.
        low: factor on seconds at the lower end of the band.
        high: factor at the upper end.
        note: what the numbers rest on.
    """

    slots: int
    batch_tokens: int
    kv_tokens: float
    tokens: Numbers
    prefill_s: Numbers
    pair_s: float
    piece_s: float
    base_s: Numbers
    context_s: Numbers
    request_s: float = 0.0
    copies: int = 1
    basis: Basis
    low: float
    high: float
    note: str


class Usual(msgspec.Struct, frozen=True, kw_only=True):
    """Sizes of the steps that an engine will be asked for.

    Attributes:
        prompt: tokens of a usual prompt.
        output: tokens of a usual output.
        longest: prompt and output of the longest step.
        context: mean tokens of the sequences that decode, over all output tokens.
        spread: their standard deviation.
    """

    prompt: float
    output: float
    longest: float
    context: float
    spread: float


def engine_law(
    model: ModelArchitecture,
    offer: Offer,
    catalog: Catalog,
    *,
    concurrency: int,
    count: int | None,
    usual: Usual,
    engine: str = "",
) -> EngineLaw:
    """Return how one copy of a model on an offer's machine iterates.

    Args:
        model: its shapes.
        offer: the machine.
        catalog: facts and measurements.
        concurrency: steps at once on the machine, spread over its copies.
        count: accelerators of a copy; None for the fewest that hold it with its steps.
        usual: sizes of the steps.
        engine: that serves it, on a CPU; blank for the one that is best there.

    Raises:
        NoBasisError: nothing is known, or the model does not fit.
        InputError: a parallelism that cannot be.
    """
    profile = own_profile() if offer.name == LOCAL else None
    for measured in profile.engines_of(model.name) if profile is not None else ():
        if measured.engine == engine:
            return _measured_here(measured, concurrency, usual)
    if offer.kind == "cpu" or not offer.accelerators:
        return _by_law(model, offer, catalog, Serving(engine=engine), (concurrency, 1), usual)
    for accelerators in _counts(count, offer.accelerators):
        copies = offer.accelerators // accelerators
        slots = max(math.ceil(concurrency / copies), 1)
        serving = Serving(count=accelerators)
        try:
            return _by_law(model, offer, catalog, serving, (slots, copies), usual)
        except NoBasisError as error:
            refused = error
    raise refused


def _counts(count: int | None, available: int) -> list[int]:
    """Return how many accelerators a copy may take, fewest first.

    Raises:
        InputError: more than there are.
    """
    if count is None:
        return [2**n for n in range(available.bit_length()) if 2**n < available] + [available]
    if count > available:
        what = f"a copy takes {count} accelerators, the machine has {available}"
        raise InputError(what, mend="give a smaller count")
    return [count]


def _measured_here(measured: LlmProfile, concurrency: int, usual: Usual) -> EngineLaw:
    """Return what was measured on this machine.

    Raises:
        NoBasisError: the longest step does not fit.
    """
    if usual.longest > measured.slot_tokens:
        has = f"{measured.slot_tokens} tokens, the longest step has {usual.longest:.0f}"
        raise NoBasisError(f"it does not fit: a slot holds {has}")
    rates = rates_of(measured)
    slots = min(concurrency, measured.slots)
    sequences = np.arange(slots + 1, dtype=np.float64)
    tokens = np.linspace(0.0, measured.batch_tokens, max(measured.batch_tokens // 32, 1) + 1)
    base_s = rates.decode(sequences, 0.0)
    more_s = rates.decode(sequences, 1.0) - base_s
    base_s[0] = 0.0
    trial = measured.trial
    return EngineLaw(
        slots=slots,
        batch_tokens=measured.batch_tokens,
        kv_tokens=float(measured.slot_tokens * slots),
        tokens=tokens,
        prefill_s=rates.prefill(tokens, 0.0),
        pair_s=rates.pair_s,
        piece_s=rates.piece_s,
        base_s=base_s,
        context_s=more_s / np.maximum(sequences, 1.0),
        basis="measured",
        low=0.7 if trial is None else min(trial.service_low, 1.0),
        high=1.6 if trial is None else max(trial.service_high, 1.0),
        note=f"measured here, {measured.engine} {measured.engine_version}, {slots} at once",
    )


def _by_law(
    model: ModelArchitecture,
    offer: Offer,
    catalog: Catalog,
    serving: Serving,
    shape: tuple[int, int],
    usual: Usual,
) -> EngineLaw:
    """Return the iterations that a law of steps implies.

    Raises:
        NoBasisError: nothing is known, or the longest step does not fit.
    """
    slots, copies = shape
    usual_tokens = (usual.prompt, usual.output)

    def law_at(at_once: float, how: Serving) -> LlmLaw:
        load = Load(concurrency=at_once, serving=how)
        return law_for(model, offer, load, catalog, usual.longest, usual_tokens)

    # With all slots another engine or precision may be taken than with one, and it holds for all.
    full = law_at(float(slots), serving)
    if isinstance(full, CpuLaw | AcceleratorLaw):
        serving = msgspec.structs.replace(serving, engine=full.engine, precision=full.precision)
    alone = full if slots == 1 else law_at(1.0, serving)
    # On CPUs the law of many leaves each of them its part of the memory.
    on_cpu = isinstance(full, CpuLaw)
    holds = (alone if on_cpu else full).largest_tokens
    if usual.longest > holds:
        has = f"{holds:.0f} tokens, the longest step has {usual.longest:.0f}"
        raise NoBasisError(f"it does not fit: the memory of {offer.name} holds {has}")
    contexts = _contexts(usual)
    # Laws of accelerators say nothing of more steps than their memory holds.
    most = slots if on_cpu else min(slots, max(int(holds / contexts[2]), 1))
    grid = sorted({2**n for n in range(most.bit_length()) if 2**n < most} | {most})
    lines = [_line(law_at(float(b), serving), contexts, usual.output) for b in grid]
    base_s, context_s = _decodes(grid, np.array(lines), slots)
    batch = full.batch_tokens if isinstance(full, AcceleratorLaw) else BATCH_TOKENS
    tokens, prefill_s, pair_s = _prefill(full, usual, batch, holds)
    one = np.ones(1)
    prompt, output = usual.prompt * one, max(usual.output, 2.0) * one
    said = alone.seconds(prompt, 0 * one, output)
    # Before its prompt is computed. Where it has the engine to itself nothing is shared with other
    # prompts, which would make its own shorter.
    prompt_s = full.seconds(prompt, 0 * one, output).passes.prompt_s
    request_s = piece_s = 0.0
    if not on_cpu:
        request_s = max(float(said.ttft_s[0] - prompt_s[0]), 0.0)
        piece_s = _piece_s(tokens, prefill_s, usual.prompt)
    later_s = max(usual.output - 1.0, 0.0)
    service_s = float(said.ttft_s[0] + later_s * said.tpot_s[0])
    return EngineLaw(
        slots=slots,
        batch_tokens=max(batch, slots + 1),
        kv_tokens=float(holds),
        tokens=tokens,
        prefill_s=prefill_s,
        pair_s=pair_s,
        piece_s=piece_s,
        base_s=base_s,
        context_s=context_s,
        request_s=request_s,
        copies=copies,
        basis=BASES[int(said.basis[0])],
        low=float(said.ttft_low_s[0] + later_s * said.tpot_low_s[0]) / service_s,
        high=float(said.ttft_high_s[0] + later_s * said.tpot_high_s[0]) / service_s,
        note=full.note,
    )


def _decodes(grid: Sequence[int], lines: Numbers, slots: int) -> tuple[Numbers, Numbers]:
    """Return seconds of iterations that decode, at no context and for each token of all contexts.

    Args:
        grid: sequences at once; beyond the last the line through the last two goes on.
        lines: seconds at no context, and for each token of the mean one; shape (grid, 2).
        slots: sequences at most.

    Returns:
        Both by sequences, shape (slots + 1,); 0 of none.
    """
    sequences = np.arange(slots + 1, dtype=np.float64)
    found = np.stack([np.interp(sequences, grid, line) for line in lines.T])
    if len(grid) > 1:
        slope = (lines[-1] - lines[-2]) / (grid[-1] - grid[-2])
        found += np.maximum(slope, 0.0)[:, None] * np.maximum(sequences - grid[-1], 0.0)
    base_s, more_s = found
    base_s[0] = 0.0
    return base_s, more_s / np.maximum(sequences, 1.0)


def _prefill(law: LlmLaw, usual: Usual, batch: int, holds: float) -> tuple[Numbers, Numbers, float]:
    """Return a grid of prompt tokens, seconds of an iteration with each, and those of a pair."""
    tokens = np.arange(0.0, batch + 1.0, _STEP_TOKENS)
    most = max(holds - usual.output, 1.0)

    def prompt_s(new: Numbers, cached: Numbers) -> Numbers:
        return law.seconds(new, cached, np.full_like(new, usual.output)).passes.prompt_s

    asked = np.clip(tokens, 1.0, most)
    fresh_s = prompt_s(asked, np.zeros_like(asked))
    # What attending to earlier tokens takes, where a prompt is long enough for it to show.
    last = asked[-1:]
    before = min(max(usual.prompt, float(batch)), most - float(last[0]))
    pair_s = 0.0
    if before > 0.0:
        more_s = prompt_s(last, np.array([before]))[0] - fresh_s[-1]
        pair_s = max(float(more_s) / (float(last[0]) * before), 0.0)
    plain_s = np.maximum(fresh_s - pair_s * tokens**2 / 2, fresh_s * 0.25)
    return tokens, np.maximum.accumulate(plain_s), pair_s


def _piece_s(tokens: Numbers, prefill_s: Numbers, usual: float) -> float:
    """Return what each prompt of an iteration takes, however long it is.

    Passes are told of single prompts. Those of several in one iteration take their sum, if they are
    of the usual length.

    Args:
        tokens: grid of prompt tokens of an iteration.
        prefill_s: seconds of one with a single prompt of as many.
        usual: tokens of a prompt.
    """
    each_s, last = float(np.interp(usual, tokens, prefill_s)), float(tokens[-1])
    if usual >= last:
        return 0.0
    slope = (float(prefill_s[-1]) - each_s) / (last - usual)
    return max(each_s - slope * usual, 0.0)


def _contexts(usual: Usual) -> Numbers:
    """Return contexts like those of the steps, shape (3,).

    Three points with the mean and the spread of the contexts, so that a mean over the line is one
    over the law (Gauss-Hermite; M. Abramowitz and I. Stegun, 1964, table 25.10).
    """
    reach = max(np.sqrt(3.0) * usual.spread, 1.0)
    longest = max(usual.longest - usual.output / 2, 1.0)
    return np.clip(usual.context + np.array([-reach, 0.0, reach]), 1.0, longest)


def _line(law: LlmLaw, contexts: Numbers, output: float) -> tuple[float, float]:
    """Return seconds of a decode iteration at no context, and more for each token of the mean.

    Args:
        law: of so many steps at once.
        contexts: of three kinds of steps, the middle ones more often.
        output: tokens of a step.
    """
    cached = np.maximum(contexts - output / 2 - 1.0, 0.0)
    said = law.seconds(np.ones_like(contexts), cached, np.full_like(contexts, output))
    each_s = said.passes.decode_s
    mean, mean_s = (float(np.average(of, weights=_WEIGHTS)) for of in (contexts, each_s))
    more = max(float(each_s[2] - each_s[0]) / max(float(contexts[2] - contexts[0]), 1.0), 0.0)
    base = mean_s - more * mean
    return (base, more) if base > 0.0 else (mean_s, 0.0)

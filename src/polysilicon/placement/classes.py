"""Classes of steps: what is placed together, with a step that stands for all of it.

Steps of one class have the same kind, name, model, agent, region and class of data, core-seconds
that were measured on the same offer, and sizes in the same bins: octaves of new prompt tokens, of
output tokens and of core-seconds, two octaves of the whole prompt. The step that stands for a
class has the mean of each size, since the cost model's laws are near to straight within a bin.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from polysilicon.cost.batch import Batch, Named
from polysilicon.placement.program import Codes, Numbers
from polysilicon.placement.rates import Rates
from polysilicon.workload.groups import NONE, TaskTimes, count_by, labelled, sum_by
from polysilicon.workload.workload import Workload

PERSON = "person"
"""Name of the step in which a person pauses; its time is nobody's to shorten."""

_TEXTS = ("kind", "name", "model", "region", "data_class")
_MEANS = (
    "prompt_tokens",
    "cached_tokens",
    "output_tokens",
    "cpu_s",
    "cores",
    "wait_s",
    "startup_s",
    "memory_bytes",
)
_TIMES = ("start_s", "first_token_s", "end_s", "cost_usd", "energy_j")
_OCTAVES = 64


class StepClass(msgspec.Struct, frozen=True, kw_only=True):
    """A class of steps.

    Attributes:
        name: in words, unique.
        kind: `llm`, `embed`, `tool` or `train`.
        operation: name of the steps.
        model: of LLM, embedding and training steps.
        agent: whose tasks make them.
        region: where they come from.
        data_class: of their data.
        steps: how many the workload has.
        rate_per_s: that the fleet is sized for.
    """

    name: str
    kind: str
    operation: str
    model: str | None
    agent: str
    region: str | None
    data_class: str | None
    steps: int
    rate_per_s: float


class Sizes(msgspec.Struct, frozen=True, kw_only=True):
    """Sizes of steps, arrays of one shape.

    Attributes:
        first: what must be done before the first token: new prompt tokens; 0 of other kinds.
        rest: what is left: later tokens, core-seconds, tokens to embed or train on.
    """

    first: Numbers
    rest: Numbers


class Classes(msgspec.Struct, frozen=True, kw_only=True):
    """Classes of a workload's steps.

    Attributes:
        each: the classes.
        batch: the step that stands for each.
        sizes: of these.
        code: class of each step of the workload, -1 of those that no machine does.
        untold: reason → steps that no machine does.
    """

    each: Sequence[StepClass]
    batch: Batch
    sizes: Sizes
    code: Codes
    untold: dict[str, int]

    @property
    def rates(self) -> Numbers:
        """Steps a second of each class."""
        return np.array([one.rate_per_s for one in self.each])


def classes_of(workload: Workload, times: TaskTimes, rates: Rates, measured_on: str) -> Classes:
    """Return the classes of a workload's steps.

    Args:
        workload: all steps.
        times: of its tasks.
        rates: of its agents.
        measured_on: offer on which the core-seconds of steps without an offer were measured.
    """
    numbers = {name: workload.numbers(name) for name in _MEANS}
    kind, kinds = workload.codes("kind")
    untold, placed = _told(kind, kinds, numbers, workload)
    rows = np.flatnonzero(placed)
    agent_names = list(dict.fromkeys(times.agents))
    agent_of = {name: place for place, name in enumerate(agent_names)}
    agent = np.array([agent_of[name] for name in times.agents], np.int64)[times.codes]
    texts = {name: labelled(workload, name) for name in _TEXTS}
    texts["agent"] = agent, agent_names
    texts["offer"] = _offers(workload, numbers["cpu_s"], measured_on)
    sizes = sizes_of(kind, kinds, numbers)
    bins = _bins(kind == _at(kinds, "llm"), numbers, sizes)
    code, first, count = _grouped([*texts.values()], bins, rows)
    batch = _batch({n: (c[rows], t) for n, (c, t) in texts.items()}, numbers, rows, code, first)
    whole = np.full(len(workload), -1, np.int64)
    whole[rows] = code
    members = rows[first]
    told = {name: [names[c] for c in codes[members]] for name, (codes, names) in texts.items()}
    each = []
    for place, steps in enumerate(count):
        rate = rates.agents[told["agent"][place]]
        label = {name: None if v[place] == NONE else v[place] for name, v in told.items()}
        each.append(
            StepClass(
                name=_name(label, bins[:, members[place]]),
                kind=told["kind"][place],
                operation=told["name"][place],
                model=label["model"],
                agent=told["agent"][place],
                region=label["region"],
                data_class=label["data_class"],
                steps=int(steps),
                rate_per_s=float(steps) / rate.tasks * rate.tasks_per_s,
            )
        )
    means = Sizes(
        first=sum_by(sizes.first[rows], code, len(count)) / np.maximum(count, 1),
        rest=sum_by(sizes.rest[rows], code, len(count)) / np.maximum(count, 1),
    )
    return Classes(each=_numbered(each), batch=batch, sizes=means, code=whole, untold=untold)


def sizes_of(kind: Codes, kinds: Sequence[str], numbers: dict[str, Numbers]) -> Sizes:
    """Return the sizes of steps, 0 where they are not told."""
    prompt, output = numbers["prompt_tokens"], numbers["output_tokens"]
    cached = np.nan_to_num(numbers["cached_tokens"])
    llm = kind == _at(kinds, "llm")
    new = np.maximum(prompt - np.minimum(cached, np.maximum(prompt - 1.0, 0.0)), 1.0)
    rest = np.where(np.isnan(numbers["cpu_s"]), prompt, numbers["cpu_s"])
    return Sizes(
        first=np.where(llm, np.nan_to_num(new), 0.0),
        rest=np.nan_to_num(np.where(llm, np.maximum(output - 1.0, 0.0), rest)),
    )


def _at(names: Sequence[str], name: str) -> int:
    """Return the place of a name, -2 where it is none of them."""
    return list(names).index(name) if name in names else -2


def _told(
    kind: Codes, kinds: Sequence[str], numbers: dict[str, Numbers], workload: Workload
) -> tuple[dict[str, int], np.ndarray[tuple[int, ...], np.dtype[np.bool_]]]:
    """Return why steps take no machine, counted, and which do take one."""
    worked = ~np.isnan(numbers["cpu_s"])
    tokens = ~np.isnan(numbers["prompt_tokens"])
    model = workload.codes("model")[0] >= 0
    llm, tool = (kind == _at(kinds, name) for name in ("llm", "tool"))
    placed = np.where(
        llm,
        tokens & ~np.isnan(numbers["output_tokens"]) & model,
        np.where(tool, worked, worked | (tokens & model)),
    )
    waits = tool & ~worked & ~np.isnan(numbers["wait_s"])
    names, texts = workload.codes("name")
    untold: dict[str, int] = {}
    if waits.any():
        untold["only waits (no core-seconds)"] = int(waits.sum())
    lost = np.flatnonzero(~placed & ~waits)
    pairs, counts = np.unique(np.stack([kind[lost], names[lost]]), axis=1, return_counts=True)
    needs = {"llm": "model, prompt_tokens and output_tokens", "tool": "cpu_s"}
    for (of_kind, name), count in zip(pairs.T, counts, strict=True):
        word = kinds[of_kind]
        need = needs.get(word, "cpu_s, or model and prompt_tokens")
        untold[f"{word} step {texts[name]} does not tell {need}"] = int(count)
    return untold, np.asarray(placed, dtype=np.bool_)


def _offers(workload: Workload, cpu_s: Numbers, measured_on: str) -> tuple[Codes, list[str]]:
    """Return the offers that core-seconds were measured on; that of other steps does not matter."""
    codes, names = workload.codes("offer")
    names = [*names, measured_on, NONE]
    codes = np.where(codes < 0, names.index(measured_on), codes)
    return np.where(np.isnan(cpu_s), len(names) - 1, codes), names


def _bins(llm: np.ndarray[tuple[int, ...], np.dtype[np.bool_]], numbers: dict[str, Numbers],
          sizes: Sizes) -> Codes:  # fmt: skip
    """Return the bins of each step's sizes, shape (3, steps)."""
    first, rest = (_octave(values) for values in (sizes.first, sizes.rest))
    prompt = _octave(np.nan_to_num(numbers["prompt_tokens"])) // 2
    return np.stack([first, rest, np.where(llm, prompt, 0)])


def _octave(values: Numbers) -> Codes:
    """Return the octave of each value, from 0; of 0 it is 0."""
    logs = np.floor(np.log2(np.maximum(values, 2.0**-30))) + 31
    return np.where(values > 0, np.clip(logs, 1, _OCTAVES - 1), 0).astype(np.int64)


def _grouped(
    texts: Sequence[tuple[Codes, Sequence[str]]], bins: Codes, rows: Codes
) -> tuple[Codes, Codes, Codes]:
    """Return the class of each row, the first row of each class among them, and their numbers."""
    key = np.zeros(len(rows), np.int64)
    parts = [(codes[rows], len(names) + 1) for codes, names in texts]
    parts += [(line[rows], _OCTAVES) for line in bins]
    for codes, size in parts:
        # Numbered anew each time, so that the product of all sizes never overflows.
        _, key = np.unique(key * size + codes, return_inverse=True)
    _, first, code = np.unique(key, return_index=True, return_inverse=True)
    return code, first, count_by(code, len(first))


def _batch(
    texts: dict[str, tuple[Codes, Sequence[str]]],
    numbers: dict[str, Numbers],
    rows: Codes,
    code: Codes,
    first: Codes,
) -> Batch:
    """Return the step that stands for each class: means of what its steps tell."""
    groups = len(first)
    named = {}
    for name in ("kind", "name", "model", "offer"):
        codes, words = texts[name]
        mine = codes[first]
        known = np.array([word != NONE for word in words], dtype=bool)
        named[name] = Named(codes=np.where(known[mine], mine, -1), texts=words)
    named["region"] = Named(codes=np.full(groups, -1, np.int64), texts=[])
    means = {}
    for name in _MEANS:
        values = numbers[name][rows]
        told = count_by(code[~np.isnan(values)], groups)
        total = sum_by(values, code, groups)
        means[name] = np.where(told > 0, total / np.maximum(told, 1), np.nan)
    # What ran where is not asked: times of other machines would pass for measured ones.
    means |= {name: np.full(groups, np.nan) for name in _TIMES}
    return Batch(texts=named, numbers=means)


def _name(label: dict[str, str | None], bins: Codes) -> str:
    """Return a class in words, such as `support/chat qwen3-4b 512 new 128 out`."""
    first, rest, _ = (2.0 ** (int(octave) - 31) if octave else 0.0 for octave in bins)
    words = [f"{label['agent'] or NONE}/{label['name']}"]
    words += [text for text in (label["model"], label["data_class"], label["region"]) if text]
    if label["kind"] == "llm":
        return " ".join([*words, f"{first:.0f}+ new", f"{rest + (rest > 0):.0f}+ out"])
    unit = "tokens" if label["kind"] == "train" or label["model"] else "core-s"
    return " ".join([*words, f"{rest:.3g}+ {unit}"])


def _numbered(each: list[StepClass]) -> list[StepClass]:
    """Tell classes of the same name apart: they differ in the whole prompt or the offer."""
    seen: dict[str, int] = {}
    found = []
    for one in each:
        seen[one.name] = seen.get(one.name, 0) + 1
        again = seen[one.name]
        name = one.name if again == 1 else f"{one.name} ({again})"
        found.append(msgspec.structs.replace(one, name=name))
    return found

"""Steps of a run on this machine, predicted from what was known before each of them.

LLM steps: when they begin and how many tokens they have is given; when they end comes from playing
the engine iteration by iteration from that moment on, with the rates of the profile. What is known
of the LLM steps beside is how far they had come at that moment, and when further ones began; how
long any of them takes from there is played too. Of tools beside it is known when they had cores:
the contention is given, what it does to a step is predicted. Whether the machine is as fast as when
it was measured is told by the steps that were over by then.

Tool and embedding steps: how much work they were is given, as the tokens of LLM steps are: their
core-seconds, their seconds off the cores, their start-up. How long that takes is predicted. Who
has a core keeps it for a slice of the system's scheduler; a longer step then waits for its turn
behind the engine, which has the higher priority, and behind other tools. Whether the engine was at
work and how many tools is taken from the moment at which the step began.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import msgspec
import numpy as np

from polysilicon.cost.llm.iterations import (
    Engine,
    EngineSteps,
    Recorded,
    Taken,
    cores_taken,
    play_each,
)
from polysilicon.cost.llm.local import rates_of
from polysilicon.cost.llm.pace import Pace
from polysilicon.cost.profile import LlmProfile, Profile
from polysilicon.cost.train import measured_seconds, method_of
from polysilicon.errors import NoBasisError
from polysilicon.workload.record import StepRecord

SLICE_S = 0.0007
"""What a thread may compute before another one's turn, on one core; more cores make it longer by
their logarithm. Source: sched_base_slice and its scaling, linux/kernel/sched/fair.c, 6.12."""

Busy = Callable[[float], float]
"""`busy(t)` is how many are at work at second t."""

_MOST_CORES = 8
_SHORTEST_S = 1e-6
# Of 170 tool steps of a demo run (2 cores, 2026-11-21): steps below a third of a slice were held up
# in 2 of 100 cases, and whoever was held up waited for less than twice its turns and one more.
_UNDISTURBED = 1 / 3
_LONGER = 2.0
_SLACK = 0.1
_STARTUP = (0.5, 3.0)

_READ_ANEW = 0.1
"""A training step that took so much of the seconds to read a model has read it: it is the first one
of its worker."""


class Predicted(msgspec.Struct, frozen=True, kw_only=True):
    """A step that ran, and what was predicted of it.

    Attributes:
        step: as recorded.
        service_s: predicted seconds from start to end.
        low_s: lower end of the band, which holds the truth in 90 of 100 cases.
        high_s: upper end.
        first_s: predicted seconds to the first token; None of other than LLM steps.
    """

    step: StepRecord
    service_s: float
    low_s: float
    high_s: float
    first_s: float | None = None

    @property
    def measured_s(self) -> float:
        """Seconds that the step took."""
        return _service(self.step)

    @property
    def error(self) -> float:
        """Predicted over measured seconds, less 1."""
        return self.service_s / max(self.measured_s, _SHORTEST_S) - 1.0

    @property
    def inside(self) -> bool:
        """Whether the band holds the truth."""
        return self.low_s <= self.measured_s <= self.high_s


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """Predictions of a run.

    Attributes:
        steps: those that could be predicted.
        refused: reason → how many steps could not.
    """

    steps: tuple[Predicted, ...]
    refused: Mapping[str, int]


def predict_run(steps: Sequence[StepRecord], profile: Profile) -> Run:
    """Predict the steps of a run on this machine.

    Args:
        steps: of one run; those that failed are not predicted.
        profile: of this machine.
    """
    refused: Counter[str] = Counter()
    ran = [step for step in steps if step.start_s is not None and step.end_s is not None]
    refused["it has no start and end"] += len(steps) - len(ran)
    good = [step for step in ran if step.outcome in (None, "ok")]
    refused["it did not end well"] += len(ran) - len(good)
    tools = [step for step in ran if step.kind in ("tool", "embed")]
    busy, taken = busy_tools(tools, profile), _taken(tools)
    known = [step for step in tools if step.outcome in (None, "ok") and step.cpu_s is not None]
    refused["its core-seconds are not known"] += sum(
        step.cpu_s is None for step in good if step.kind in ("tool", "embed")
    )
    serving = at_once([step for step in ran if step.kind == "llm"])
    found = tool_steps(known, profile, busy, serving)
    models = {step.model or "" for step in good if step.kind == "llm"}
    for model in sorted(models):
        mine = [step for step in good if step.kind == "llm" and (step.model or "") == model]
        known = [step for step in mine if step.prompt_tokens and step.output_tokens is not None]
        refused["its tokens are not known"] += len(mine) - len(known)
        try:
            found += llm_steps(known, _profile_of(model, profile), taken)
        except NoBasisError as error:
            refused[str(error)] += len(known)
    trained = [step for step in good if step.kind == "train"]
    told = train_steps(trained, profile)
    refused["training was not measured here"] += len(trained) - len(told)
    found += told
    return Run(steps=tuple(found), refused={r: n for r, n in refused.items() if n})


def train_steps(steps: Sequence[StepRecord], profile: Profile) -> list[Predicted]:
    """Predict steps that train adapters of a model that was calibrated; leaves out all others.

    Args:
        steps: with `prompt_tokens`, those trained on, and `startup_s`, to read the model.
        profile: of this machine.
    """
    found = []
    for step in steps:
        speed = profile.train.get(step.model or "")
        if speed is None or method_of(step.name) != "lora" or not step.prompt_tokens:
            continue
        said = measured_seconds(float(step.prompt_tokens), speed)
        begin_s = step.startup_s or 0.0
        if begin_s > speed.setup_s * _READ_ANEW:
            begin_s += speed.first_s
        found.append(
            Predicted(
                step=step,
                service_s=begin_s + float(said.service_s),
                low_s=begin_s + float(said.low_s),
                high_s=begin_s + float(said.high_s),
            )
        )
    return found


def llm_steps(
    steps: Sequence[StepRecord], measured: LlmProfile, taken: Taken | None = None
) -> list[Predicted]:
    """Predict the LLM steps of one engine, all together.

    Args:
        steps: with start and tokens.
        measured: what the profile tells of the model.
        taken: cores that tools have.

    Raises:
        NoBasisError: too little of the model was measured.
    """
    if not steps:
        return []
    cached = np.array([float(step.cached_tokens or 0) for step in steps])
    prompt = np.array([float(step.prompt_tokens or 0) for step in steps])
    given = EngineSteps(
        start_s=np.array([step.start_s or 0.0 for step in steps]),
        new=np.maximum(prompt - cached, 1.0),
        cached=cached,
        output=np.array([float(step.output_tokens or 1) for step in steps]),
    )
    end_s = np.array([step.end_s or 0.0 for step in steps])
    ready_s = np.array([s.start_s if s.ready_s is None else s.ready_s for s in steps], np.float64)
    recorded = Recorded(
        first_token_s=np.array(
            [
                e if s.first_token_s is None else s.first_token_s
                for s, e in zip(steps, end_s, strict=True)
            ]
        ),
        end_s=end_s,
        ready_s=ready_s,
    )
    engine = Engine(
        rates=rates_of(measured),
        slots=measured.slots,
        batch_tokens=measured.batch_tokens,
        taken=taken,
    )
    played = play_each(given, recorded, engine, Pace())
    service_s = played.end_s - given.start_s
    first_s = played.first_token_s - given.start_s
    low, high = _band(measured)
    return [
        Predicted(step=step, service_s=s, low_s=s * low, high_s=s * high, first_s=f)
        for step, s, f in zip(steps, service_s.tolist(), first_s.tolist(), strict=True)
    ]


def busy_tools(tools: Sequence[StepRecord], profile: Profile) -> Busy:
    """Return how many processes compute for tools at a moment.

    A tool wants a core for its core-seconds, as much longer as the engine makes it, but for no
    longer than it takes; small tools spend most of their time on their way.

    Args:
        tools: as recorded, with start and end.
        profile: of this machine.
    """
    longest = max((p.tool for llm in profile.llm.values() for p in llm.stretch), default=1.0)
    starts = np.array([tool.start_s or 0.0 for tool in tools])
    spans = np.array([_service(tool) for tool in tools])
    wants = np.array([(tool.cpu_s or 0.0) * longest for tool in tools])
    share = np.minimum(wants / np.maximum(spans, _SHORTEST_S), 1.0)

    def busy(now_s: float) -> float:
        inside = (starts <= now_s) & (now_s < starts + spans)
        return float(min(share[inside].sum(), profile.cores))

    return busy


def tool_steps(
    steps: Sequence[StepRecord], profile: Profile, busy: Busy, serving: Busy
) -> list[Predicted]:
    """Predict tool and embedding steps from their work.

    Args:
        steps: with start, end and core-seconds.
        profile: of this machine.
        busy: tool processes over time.
        serving: LLM steps in the engine over time.
    """
    cores = max(profile.cores, 1)
    slice_s = SLICE_S * (1 + math.floor(math.log2(min(cores, _MOST_CORES))))
    points = sorted({(p.busy, p.tool) for llm in profile.llm.values() for p in llm.stretch})
    beside = [float(many) for many, _ in points], [much for _, much in points]
    found = []
    for step in steps:
        start_s, work_s = step.start_s or 0.0, step.cpu_s or 0.0
        others = max(busy(start_s), 1.0)
        stretch = max(others / cores, 1.0)
        if points and serving(start_s) > 0:
            stretch = max(float(np.interp(others, *beside)), stretch)
        turn_s = slice_s * (stretch - 1.0)
        turns = math.floor(work_s / slice_s)
        startup_s, plain_s = step.startup_s or 0.0, (step.wait_s or 0.0) + work_s
        most = 0.0 if work_s < slice_s * _UNDISTURBED else _LONGER * (turns + 1) * turn_s
        found.append(
            Predicted(
                step=step,
                service_s=startup_s + plain_s + turns * turn_s,
                low_s=startup_s * _STARTUP[0] + plain_s * (1.0 - _SLACK),
                high_s=startup_s * _STARTUP[1] + plain_s * (1.0 + _SLACK) + most,
            )
        )
    return found


def at_once(steps: Sequence[StepRecord]) -> Busy:
    """Return how many of some steps run at a moment.

    Args:
        steps: with start and end.
    """
    starts = np.array([step.start_s or 0.0 for step in steps])
    ends = np.array([step.end_s or 0.0 for step in steps])
    return lambda now_s: float(np.sum((starts <= now_s) & (now_s < ends)))


def _taken(tools: Sequence[StepRecord]) -> Taken:
    """Return how many cores tools had over time."""
    starts = np.array([tool.start_s or 0.0 for tool in tools])
    spans = np.array([_service(tool) for tool in tools])
    return cores_taken(starts, spans, np.array([tool.cpu_s or 0.0 for tool in tools]))


def _profile_of(model: str, profile: Profile) -> LlmProfile:
    """Return what the profile tells of a model.

    Raises:
        NoBasisError: nothing.
    """
    if model not in profile.llm:
        raise NoBasisError("its model was not measured here")
    return profile.llm[model]


def _band(measured: LlmProfile) -> tuple[float, float]:
    """Return factors on predicted seconds; a trial with few steps is no better than this.

    A run follows the pace of the machine, which in the trial may have been another than before it:
    the band holds what the trial saw, and the same about its middle.
    """
    if measured.trial is None:
        return 0.7, 1.6
    low, high = measured.trial.service_low, measured.trial.service_high
    middle = math.sqrt(low * high)
    return min(low, low / middle, 0.9), max(high, high / middle, 1.1)


def _service(step: StepRecord) -> float:
    """Return seconds from start to end."""
    assert step.start_s is not None
    assert step.end_s is not None
    return step.end_s - step.start_s

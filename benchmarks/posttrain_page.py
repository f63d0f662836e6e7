"""What a run of `posttrain` in turns took and was predicted to take, as Markdown for its page.

A round is cut into phases where one ends and the next begins, so that every second of it counts:
what no step covers is part of the phase that waits. Of a phase with answers the tokens of each are
given, and how many of its prompt the cache held; the engine is played from its first to its last
token. Of training the tokens are given, and the seconds to start.

A round is predicted twice: by the profile alone, and by it at the pace of the rounds before; of
the round itself no time is looked at. Each kind of phase has a pace of its own (answers with an
adapter, answers without, training, verification), and that of the last phases of any kind while
there was none of its kind.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from itertools import groupby

import msgspec
import numpy as np

from polysilicon.cost.beside import predict_run, train_steps
from polysilicon.cost.llm.iterations import Engine, EngineSteps, play
from polysilicon.cost.llm.local import rates_of
from polysilicon.cost.llm.pace import Pace
from polysilicon.cost.profile import LlmProfile, Profile
from polysilicon.workload.record import StepRecord

PHASES = ("answer", "verify", "train", "evaluate")
_BAR = 0.15
_WORTH = 4
"""Steps that a phase counts for in a pace, which heeds a few of the last: so two phases."""


class Phase(msgspec.Struct, frozen=True, kw_only=True):
    """A phase of a round of one task.

    Attributes:
        task_id: the task.
        number: of the round; 0 is the evaluation before the first.
        name: one of `PHASES`.
        seconds: from the end of the phase before to its own end.
        steps: that ended in it.
    """

    task_id: str
    number: int
    name: str
    seconds: float
    steps: list[StepRecord]

    @property
    def core_s(self) -> float:
        """Core-seconds of its steps."""
        return math.fsum(step.cpu_s or 0.0 for step in self.steps)

    @property
    def adapted(self) -> bool:
        """Whether its answers are with an adapter: the first evaluation's and answers are not."""
        return self.name in ("answer", "evaluate") and self.number > (self.name == "answer")

    @property
    def kind(self) -> str:
        """What has a pace of its own."""
        if self.name in ("train", "verify"):
            return self.name
        return "adapted" if self.adapted else "plain"


def phases(task_id: str, begin_s: float, steps: Sequence[StepRecord]) -> list[Phase]:
    """Return the phases of a task in turns, in order.

    Args:
        task_id: the task.
        begin_s: when it began.
        steps: its steps, all ended.
    """
    found: list[Phase] = []
    number, name, mine = 0, "evaluate", list[StepRecord]()
    last_s = begin_s
    for step in sorted(steps, key=lambda one: one.end_s or 0.0):
        # Verifications belong to an evaluation until the answers of a round have begun.
        here = {"answer": "answer", "lora": "train", "evaluate": "evaluate"}.get(step.name)
        if here is None:
            here = "verify" if name in ("answer", "verify") else "evaluate"
        if here != name:
            if mine:
                until_s = mine[-1].end_s or 0.0
                found.append(
                    Phase(task_id=task_id, number=number, name=name, steps=mine,
                          seconds=until_s - last_s)
                )  # fmt: skip
                last_s = until_s
            number += here == "answer"
            name, mine = here, []
        mine.append(step)
    if mine:
        seconds = (mine[-1].end_s or 0.0) - last_s
        found.append(Phase(task_id=task_id, number=number, name=name, steps=mine, seconds=seconds))
    return found


def where_time_went(found: Sequence[Phase], cores: int) -> str:
    """Return a table of seconds, core-seconds and idle share by phase, all tasks together."""
    whole_s = math.fsum(phase.seconds for phase in found)
    rows = ["| phase | seconds | share | core-seconds of steps | idle |", "|---|---|---|---|---|"]
    for name in (*PHASES, "all"):
        mine = [phase for phase in found if name in (phase.name, "all")]
        seconds = math.fsum(phase.seconds for phase in mine)
        core_s = math.fsum(phase.core_s for phase in mine)
        idle = 1.0 - core_s / max(cores * seconds, 1e-9)
        rows.append(
            f"| {name} | {seconds:.1f} | {seconds / whole_s:.0%} | {core_s:.1f} | {idle:.0%} |"
        )
    return "\n".join(rows)


class Round(msgspec.Struct, frozen=True, kw_only=True):
    """A round of a task, and what was predicted of it.

    Attributes:
        task_id: the task.
        number: of the round.
        phases: of it, in order.
        cold_s: predicted seconds of each phase by the profile alone.
        paced_s: the same at the pace of the rounds before.
    """

    task_id: str
    number: int
    phases: list[Phase]
    cold_s: list[float]
    paced_s: list[float]

    @property
    def seconds(self) -> float:
        """Seconds that it took."""
        return math.fsum(phase.seconds for phase in self.phases)

    @property
    def errors(self) -> tuple[float, float]:
        """Predicted over measured seconds less 1, by the profile alone and with the pace."""
        cold_s, paced_s = math.fsum(self.cold_s), math.fsum(self.paced_s)
        return cold_s / self.seconds - 1.0, paced_s / self.seconds - 1.0


def rounds(found: Sequence[Phase], profile: Profile) -> list[Round]:
    """Return all rounds with their predictions.

    Args:
        found: the phases of tasks that followed each other.
        profile: of this machine.
    """
    paces: defaultdict[str, Pace] = defaultdict(Pace)
    told, now_s = list[Round](), 0.0
    for (task_id, number), group in groupby(found, key=lambda one: (one.task_id, one.number)):
        # Tasks follow each other, and an engine that has had an adapter keeps it.
        mine, loaded = list(group), task_id != found[0].task_id
        cold_s = [predicted_s(phase, profile, loaded=loaded) for phase in mine]
        kinds = [phase.kind if phase.kind in paces else "any" for phase in mine]
        paced_s = [s * paces[kind].at(now_s) for s, kind in zip(cold_s, kinds, strict=True)]
        told.append(
            Round(task_id=task_id, number=number, phases=mine, cold_s=cold_s, paced_s=paced_s)
        )
        for phase, by_rates_s in zip(mine, cold_s, strict=True):
            now_s += phase.seconds
            for kind in (phase.kind, "any") * _WORTH:
                paces[kind].saw(now_s, phase.seconds, by_rates_s)
    return told


def predicted(found: Sequence[Phase], profile: Profile) -> str:
    """Return a table of measured and predicted seconds of each round, and how far off they are.

    Of each phase it has measured seconds and in brackets those by the profile alone and those with
    the pace.
    """
    heads = ("task, round", "measured", "by the profile", "off", "with the pace", "off", *PHASES)
    rows = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    told = rounds(found, profile)
    for one in told:
        parts = {
            phase.name: f"{phase.seconds:.1f} ({cold_s:.1f}, {paced_s:.1f})"
            for phase, cold_s, paced_s in zip(one.phases, one.cold_s, one.paced_s, strict=True)
        }
        cold, paced = one.errors
        cells = (
            f"{one.task_id}, {one.number}", f"{one.seconds:.1f} s",
            f"{math.fsum(one.cold_s):.1f} s", f"{cold:+.0%}",
            f"{math.fsum(one.paced_s):.1f} s", f"{paced:+.0%}",
            *(parts.get(name, "") for name in PHASES),
        )  # fmt: skip
        rows.append(f"| {' | '.join(cells)} |")
    words = [
        f"{how} {np.median(np.abs(off)):.0%} in the median, "
        f"{sum(abs(one) <= _BAR for one in off)} of {len(off)} rounds within {_BAR:.0%}"
        for how, off in zip(
            ("by the profile", "with the pace"),
            zip(*(one.errors for one in told), strict=True),
            strict=True,
        )
    ]
    return "\n".join(rows) + f"\n\nOff: {'; '.join(words)}."


def predicted_s(phase: Phase, profile: Profile, *, loaded: bool) -> float:
    """Return the seconds that a phase was to take; nan where the profile knows nothing of it.

    Args:
        phase: of a task.
        profile: of this machine.
        loaded: the engine has had adapters before this task.
    """
    if phase.name == "train":
        told = train_steps(phase.steps, profile)
        return math.fsum(one.service_s for one in told) if told else math.nan
    if phase.name == "verify":
        checked = predict_run(phase.steps, profile).steps
        # As many at once as there were.
        much = math.fsum(one.service_s for one in checked)
        took = math.fsum(one.measured_s for one in checked)
        return phase.seconds * much / took if took else math.nan
    return _answered_s(phase, profile, loaded=loaded)


def _answered_s(phase: Phase, profile: Profile, *, loaded: bool) -> float:
    """Return the seconds that a phase of answers was to take; see `predicted_s`."""
    asked = sorted((s for s in phase.steps if s.kind == "llm"), key=lambda one: one.start_s or 0.0)
    measured = profile.llm.get(asked[0].model or "")
    if measured is None:
        return math.nan
    seconds = played_s(asked, measured)
    if not phase.adapted and not loaded:
        return seconds
    speed = profile.train.get(asked[0].model or "")
    if speed is None or speed.served is None or speed.beside is None:
        return math.nan
    # An evaluation is the first to ask for its round's adapter.
    load_s = speed.load_s if phase.adapted and phase.name == "evaluate" else 0.0
    return load_s + seconds * (speed.served if phase.adapted else speed.beside).median


def played_s(asked: Sequence[StepRecord], measured: LlmProfile) -> float:
    """Return the seconds of a phase's LLM steps, played from an idle engine on.

    An answer whose parent is another answer of the phase begins when that has ended, as the answers
    to one problem follow each other; all others when there is a slot.

    Args:
        asked: in the order of their starts.
        measured: what the profile tells of the model.
    """
    places = {step.step_id: place for place, step in enumerate(asked)}
    after = [max((places.get(one, -1) for one in step.parent_ids), default=-1) for step in asked]
    cached = np.array([float(step.cached_tokens or 0) for step in asked])
    prompt = np.array([float(step.prompt_tokens or 0) for step in asked])
    steps = EngineSteps(
        start_s=np.zeros_like(prompt),
        new=np.maximum(prompt - cached, 1.0),
        cached=cached,
        output=np.array([float(step.output_tokens or 1) for step in asked]),
        after=np.array(after, np.int64),
    )
    engine = Engine(
        rates=rates_of(measured), slots=measured.slots, batch_tokens=measured.batch_tokens
    )
    return float(play(steps, engine).end_s.max())

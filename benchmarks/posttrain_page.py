"""What a run of `posttrain` in turns took and was predicted to take, as Markdown for its page.

A round is cut into phases where one ends and the next begins, so that every second of it counts:
what no step covers is part of the phase that waits. Of a phase with answers the tokens of each are
given, and how many of its prompt the cache held; the engine is played from its first to its last
token. Of training the tokens are given, and the seconds to start.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
import numpy as np

from polysilicon.cost.beside import predict_run, train_steps
from polysilicon.cost.llm.iterations import Engine, EngineSteps, play
from polysilicon.cost.llm.local import rates_of
from polysilicon.cost.profile import LlmProfile, Profile
from polysilicon.workload.record import StepRecord

PHASES = ("answer", "verify", "train", "evaluate")
_BAR = 0.15


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


def predicted(found: Sequence[Phase], profile: Profile) -> str:
    """Return a table of measured and predicted seconds of each round of each task.

    Below it stands how far off they are; the evaluation before the first round is left out there.
    """
    rows = [
        f"| task, round | measured | predicted | off | {' | '.join(PHASES)} |",
        f"|{'---|' * (4 + len(PHASES))}",
    ]
    rounds: dict[tuple[str, int], list[Phase]] = {}
    off: list[float] = []
    for phase in found:
        rounds.setdefault((phase.task_id, phase.number), []).append(phase)
    for (task_id, number), mine in rounds.items():
        # Tasks follow each other, and an engine that has had an adapter keeps it.
        loaded = task_id != found[0].task_id
        told = {phase.name: predicted_s(phase, profile, loaded=loaded) for phase in mine}
        seconds = math.fsum(phase.seconds for phase in mine)
        made = math.fsum(told.values())
        took = {phase.name: phase.seconds for phase in mine}
        parts = [f"{took[n]:.1f} ({told[n]:.1f})" if n in took else "" for n in PHASES]
        rows.append(
            f"| {task_id}, {number} | {seconds:.1f} s | {made:.1f} s "
            f"| {made / seconds - 1:+.0%} | {' | '.join(parts)} |"
        )
        if number:
            off.append(abs(made / seconds - 1))
    within = sum(one <= _BAR for one in off)
    told_of = f"{within} of {len(off)} rounds within {_BAR:.0%}"
    return "\n".join(rows) + f"\n\nOff: {np.median(off):.0%} in the median, {told_of}."


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
    # The first evaluation is without an adapter, and so are the answers of the first round.
    adapted = phase.number > (phase.name == "answer")
    if not adapted and not loaded:
        return seconds
    speed = profile.train.get(asked[0].model or "")
    if speed is None or speed.served is None or speed.beside is None:
        return math.nan
    # An evaluation is the first to ask for its round's adapter.
    load_s = speed.load_s if adapted and phase.name == "evaluate" else 0.0
    return load_s + seconds * (speed.served if adapted else speed.beside).median


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

"""What a run of `posttrain` was predicted to take: a run that follows the profile is met."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import msgspec
import numpy as np
import pytest

from polysilicon.cost.llm.iterations import Engine, EngineSteps, play
from polysilicon.cost.llm.local import rates_of
from polysilicon.cost.profile import Profile, spread
from polysilicon.workload.record import StepRecord
from profiles import TRAIN_TOKENS_PER_S, llm_profile, profile

PAGE = Path(__file__).parents[2] / "benchmarks" / "posttrain_page.py"
SERVED, BESIDE, LOAD_S, FIRST_S = 1.4, 1.1, 2.0, 0.7
LINES, ANSWERS = 3, 4
"""Problems, and answers to each, which follow each other."""


@pytest.fixture
def page() -> ModuleType:
    spec = importlib.util.spec_from_file_location("posttrain_page", PAGE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def told() -> Profile:
    speed = msgspec.structs.replace(
        profile().train["tiny"], served=spread([SERVED]), beside=spread([BESIDE]), load_s=LOAD_S,
        first_s=FIRST_S,
    )  # fmt: skip
    return profile(train={"tiny": speed})


class Run:
    """A run as the profile has it, task after task."""

    def __init__(self) -> None:
        self.now_s, self.steps = 0.0, list[StepRecord]()

    def task(self, task_id: str, plain: float) -> None:
        """Evaluate, and do two rounds; without an adapter it is `plain` times as slow."""
        self._asked(task_id, "evaluate", 0, plain)
        for number in (1, 2):
            self._asked(task_id, "answer", number, plain if number == 1 else SERVED)
            # The first one of a worker reads the model, and takes longer for its first step, too.
            startup_s, first_s = (1.5, FIRST_S) if number == 1 else (1e-4, 0.0)
            self._add(task_id, f"t{number}", "train", "lora",
                      startup_s + first_s + 600 / TRAIN_TOKENS_PER_S,
                      prompt_tokens=600, startup_s=startup_s, model="tiny")  # fmt: skip
            self.now_s += LOAD_S
            self._asked(task_id, "evaluate", number, SERVED)

    def _asked(self, task_id: str, name: str, number: int, times: float) -> None:
        rng = np.random.default_rng(number)
        count = LINES * ANSWERS
        place = np.arange(count)
        after = np.where(place % ANSWERS == 0, -1, place - 1)
        if name == "evaluate":
            after = np.full(count, -1)
        given = EngineSteps(
            start_s=np.zeros(count), new=rng.integers(1, 40, count) * 1.0,
            cached=np.full(count, 40.0), output=rng.integers(5, 40, count) * 1.0, after=after,
        )  # fmt: skip
        engine = Engine(rates=rates_of(llm_profile()), slots=8, batch_tokens=2048)
        end_s = self.now_s + times * play(given, engine).end_s
        for n in place.tolist():
            parent = (f"{name}{number}.{after[n]}",) if after[n] >= 0 else ()
            self.steps.append(
                StepRecord(
                    task_id=task_id, step_id=f"{name}{number}.{n}", parent_ids=parent, name=name,
                    kind="llm", model="tiny", agent="posttrain", outcome="ok",
                    start_s=self.now_s + n * 1e-6, end_s=float(end_s[n]),
                    prompt_tokens=int(given.new[n] + 40), cached_tokens=40,
                    output_tokens=int(given.output[n]),
                )
            )  # fmt: skip
        self.now_s = float(end_s.max())

    def _add(self, task_id: str, step_id: str, kind: str, name: str, span_s: float, **more) -> None:
        self.steps.append(
            StepRecord(task_id=task_id, step_id=step_id, kind=kind, name=name, agent="posttrain",
                       outcome="ok", start_s=self.now_s, end_s=self.now_s + span_s, **more)
        )  # fmt: skip
        self.now_s += span_s


def test_a_run_as_the_profile_has_it_is_predicted(page: ModuleType) -> None:
    run = Run()
    found = []
    for task_id, plain in (("a", 1.0), ("b", BESIDE)):
        begin_s = run.now_s
        run.task(task_id, plain)
        mine = [step for step in run.steps if step.task_id == task_id]
        found += page.phases(task_id, begin_s, mine)
    names = [(phase.task_id, phase.number, phase.name) for phase in found]
    of_task = [(0, "evaluate"), (1, "answer"), (1, "train"), (1, "evaluate"), (2, "answer"),
               (2, "train"), (2, "evaluate")]  # fmt: skip
    assert names == [(task, *what) for task in "ab" for what in of_task]
    assert sum(phase.seconds for phase in found) == pytest.approx(run.now_s)
    for phase in found:
        predicted_s = page.predicted_s(phase, told(), loaded=phase.task_id == "b")
        assert predicted_s == pytest.approx(phase.seconds, rel=1e-3), phase.name
    rows = page.predicted(found, told()).splitlines()
    assert len(rows[2:-2]) == 6
    assert all(row.split("|")[4].strip() in ("+0%", "-0%") for row in rows[2:-2])
    assert rows[-1] == "Off: 0% in the median, 4 of 4 rounds within 15%."
    assert "nan" in page.predicted(found, profile())


def test_a_slower_machine_is_told(page: ModuleType) -> None:
    run = Run()
    run.task("a", 1.0)
    found = [
        msgspec.structs.replace(one, seconds=one.seconds * 1.5)
        for one in page.phases("a", 0.0, run.steps)
    ]
    assert page.predicted(found, told()).endswith(
        "Off: 33% in the median, 0 of 2 rounds within 15%."
    )

"""What overlapping the phases of post-training gives on pools of their own, simulated.

    python examples/posttrain_overlap.py

The loop of the agent `posttrain` around an 8B model, its sizes assumed: answers and evaluations on
one H100, verification on a machine with CPUs only, gradient steps on a third machine. In turns no
phase begins before the one before it ended. Overlapped, while round i trains, the adapter of round
i - 1 is evaluated and answers round i + 1, as the agent does with `overlap`. All other things are
the same: each answer has the same tokens both times.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from polysilicon.catalog.fleet import Fleet, Pool
from polysilicon.errors import PolysiliconError
from polysilicon.simulate import Result, simulate
from polysilicon.workload.record import StepRecord
from polysilicon.workload.workload import Workload

MODEL = "qwen3-8b"
ROUNDS, ANSWERS, HELD_BACK, TRAINED, EPOCHS = 8, 512, 128, 128, 2
"""Of a round: answers, evaluated problems, answers that are trained on, and how often each."""

PROMPT_TOKENS = 300
OUTPUT_TOKENS, SPREAD, MOST_TOKENS = 600, 0.8, 4096
VERIFY_S, VERIFY_SPREAD = 0.4, 1.4
"""Medians, and deviations of the logarithm."""

ENGINE = Pool(name="engine", offer="aws/p5.4xlarge", region="us-east-1", serves=(f"llm:{MODEL}",),
              engine="openai", concurrency=ANSWERS)  # fmt: skip
TESTS = Pool(name="tests", offer="aws/m9g.8xlarge", region="us-east-1", serves=("tool:*",))
TRAINERS = (("aws/p5.4xlarge", "us-east-1"), ("aws/g6e.xlarge", "us-east-1"),
            ("gcp/g2-standard-4", "us-central1"))  # fmt: skip


class Loop:
    """The steps of one loop, in one task; phases return the step after which they have ended."""

    def __init__(self) -> None:
        self.steps: list[StepRecord] = []
        self._rng = random.Random()  # noqa: S311 - no secret

    def turns(self) -> Workload:
        """Return the loop strictly in turns."""
        last = self._evaluate(0, ())
        for number in range(1, ROUNDS + 1):
            last = self._evaluate(number, self._train(self._sample(number, last, at_once=False)))
        return Workload.from_records(self.steps)

    def overlapped(self) -> Workload:
        """Return the loop with training beside an evaluation and the next round's answers."""
        ready = self._sample(1, (), at_once=True)
        for number in range(1, ROUNDS + 1):
            beside = self._evaluate(number - 1, ready)
            if number < ROUNDS:
                beside += self._sample(number + 1, ready, at_once=True)
            ready = self._end((*self._train(ready), *beside))
        self._evaluate(ROUNDS, ready)
        return Workload.from_records(self.steps)

    def _sample(self, number: int, after: Sequence[str], *, at_once: bool) -> tuple[str, ...]:
        """Answer and verify: each answer as it comes, or all in the end."""
        self._rng = random.Random(f"answer {number}")  # noqa: S311 - no secret
        answers = [self._answer("answer", after) for _ in range(ANSWERS)]
        given = [(answer,) for answer in answers] if at_once else [self._end(answers)] * ANSWERS
        return self._end([self._verify(one) for one in given])

    def _evaluate(self, number: int, after: Sequence[str]) -> tuple[str, ...]:
        self._rng = random.Random(f"evaluate {number}")  # noqa: S311 - no secret
        asked = [self._answer("evaluate", after) for _ in range(HELD_BACK)]
        return self._end([self._verify((answer,)) for answer in asked])

    def _train(self, after: Sequence[str]) -> tuple[str, ...]:
        tokens = EPOCHS * TRAINED * (PROMPT_TOKENS + OUTPUT_TOKENS)
        return (self._add("train", "lora", after, model=MODEL, prompt_tokens=tokens),)

    def _answer(self, name: str, after: Sequence[str]) -> str:
        drawn = OUTPUT_TOKENS * self._rng.lognormvariate(0.0, SPREAD)
        output = min(max(round(drawn), 1), MOST_TOKENS)
        sizes = {"prompt_tokens": PROMPT_TOKENS, "output_tokens": output}
        return self._add("llm", name, after, model=MODEL, **sizes)

    def _verify(self, after: Sequence[str]) -> str:
        cpu_s = VERIFY_S * self._rng.lognormvariate(0.0, VERIFY_SPREAD)
        return self._add("tool", "verify", after, cpu_s=cpu_s, cores=1.0)

    def _end(self, after: Sequence[str]) -> tuple[str, ...]:
        """Wait for all of some steps."""
        return (self._add("tool", "end", after, cpu_s=0.001, cores=1.0),)

    def _add(self, kind: Any, name: str, after: Sequence[str], **fields: Any) -> str:
        step_id = f"{len(self.steps):06d}"
        self.steps.append(
            StepRecord(task_id="loop", step_id=step_id, parent_ids=tuple(after), agent="posttrain",
                       name=name, kind=kind, arrival_s=0.0, **fields)
        )  # fmt: skip
        return step_id


def played(workload: Workload, offer: str, region: str) -> Result:
    """Return how a loop goes with a trainer of an offer."""
    trainer = Pool(name="trainer", offer=offer, region=region, serves=(f"train:{MODEL}",))
    return simulate(workload, Fleet(pool=(ENGINE, TESTS, trainer)), mode="exact")


def main() -> None:
    """Print seconds and dollars of a round, in turns and overlapped, for some trainers."""
    table = Table(box=None, title_justify="left")
    for head in ("trained on", "in turns", "overlapped", "times", "engine at work", "$ a round"):
        table.add_column(head, justify="left" if head == "trained on" else "right", no_wrap=True)
    for offer, region in TRAINERS:
        turns = played(Loop().turns(), offer, region)
        over = played(Loop().overlapped(), offer, region)
        busy = [f"{result.pools['engine'].busy:.0%}" for result in (turns, over)]
        usd = [f"{result.cost_usd / ROUNDS:.2f}" for result in (turns, over)]
        table.add_row(
            offer, *(f"{result.sim_s / ROUNDS:.0f} s" for result in (turns, over)),
            f"{turns.sim_s / over.sim_s:.2f}", " → ".join(busy), " → ".join(usd),
        )  # fmt: skip
    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(f"{ROUNDS} rounds of {ANSWERS} answers by {ENGINE.offer}, tests on {TESTS.offer}")
    console.print(table)


if __name__ == "__main__":
    try:
        main()
    except PolysiliconError as error:
        sys.exit(f"error: {error}")

"""What the page asks: models, prompts, promises, loads."""

from __future__ import annotations

import msgspec
import numpy as np

from polysilicon import units
from polysilicon.cost.llm.law import Numbers


class Mix(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens of a request; nothing of the prompt is in a cache."""

    name: str
    prompt: int
    output: int

    def words(self) -> str:
        """Return it in words."""
        return f"{self.name}: {self.prompt:,} prompt and {self.output:,} output tokens"


class Slo(msgspec.Struct, frozen=True, kw_only=True):
    """What each request must keep.

    Attributes:
        name: of it.
        ttft_s: most seconds to the first token.
        tpot_s: most seconds for each later one.
        run_s: most seconds of a tool run.
    """

    name: str
    ttft_s: float
    tpot_s: float
    run_s: float

    def words(self) -> str:
        """Return it in words."""
        first, later = units.seconds(self.ttft_s), units.seconds(self.tpot_s)
        return f"{self.name}: first token within {first}, each later one within {later}"


class ToolTask(msgspec.Struct, frozen=True, kw_only=True):
    """The tool work of a task.

    Attributes:
        runs: one after another.
        cpu_s: core-seconds of each, one thread, on an idle machine.
        offer: on which these were spent.
    """

    runs: int
    cpu_s: float
    offer: str


MODELS = (
    ("135M", "smollm2-135m-instruct"),
    ("1B", "llama-3.2-1b"),
    ("8B", "llama-3.1-8b-instruct"),
    ("70B", "llama-3.3-70b-instruct"),
)
MIXES = (
    Mix(name="agent step", prompt=1000, output=200),
    Mix(name="writing", prompt=200, output=800),
)
SLOS = (
    Slo(name="interactive", ttft_s=2.0, tpot_s=0.1, run_s=2.0),
    Slo(name="unattended", ttft_s=60.0, tpot_s=0.5, run_s=10.0),
)
TASK = ToolTask(runs=10, cpu_s=1.0, offer="aws/m7g.large")

CONCURRENCIES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)
"""Requests at once in one copy of a model; engines rarely take more."""

MOST_ON_CPUS = 32
"""Requests at once on CPUs: what was measured there is mostly 15 to 45 of 384 tokens each."""

COPIES = (1, 2, 4, 8)
"""Accelerators that one copy of a model is tried on."""

TABLE_LOADS = (0.001, 0.01, 0.1, 1.0, 10.0, 100.0)
"""Requests a second of the tables."""


def loads() -> Numbers:
    """Return requests a second, from nearly idle to a large service; steps of 1 %."""
    return np.asarray(np.geomspace(1e-3, 1e3, 1389))

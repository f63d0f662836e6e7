"""Runs broken at random moments: what was lost, what ran twice, what became of the ledger.

Kills by SIGKILL, full disks (a limit on file sizes), a journal that another process holds, kills of
the engine, and crashes of the PostgreSQL server, each at a uniformly random moment of a run, again
and again until the run is finished. Any broken promise ends the benchmark with what was broken.

    python benchmarks/chaos.py                100 mishaps, 20 of the bundled agents and of posttrain
    python benchmarks/chaos.py 1000 400 100   1,000, 400 and 100

The four bundled agents do all that they do, with an engine in a process of its own that answers at
once. Post-training needs PyTorch (extra `train`); its engine is scripted, and it trains a small
random model for real, so that its curve must be the same to the last bit; every other loop has its
phases overlapped. The count so far goes to stderr.
"""

from __future__ import annotations

import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import chaos_posttrain
from chaos_engine import Engine
from chaos_runs import Tally, Trial
from postgres_server import Server, missing

MISHAPS, OF_BUNDLED, OF_POSTTRAIN = 100, 20, 20
ON_SQLITE = (("kill", 10), ("full", 1), ("busy", 1))
ON_POSTGRES = (("kill", 10), ("restart", 1))
OWN = (("light", 5), ("full", 1))
MOST_OF_A_RUN = 10
"""Mishaps that come to one run."""
OF_BOTH = (("kill", 10), ("engine", 1), ("full", 1), ("busy", 1))
OF_TOOLS_WITH_FILES = tuple(kind for kind in OF_BOTH if kind[0] != "full")
"""Of the pipeline and of training: a tool that finds the disk full fails, which is its result."""

BUNDLED = ("support", "coder", "researcher", "pipeline")
_BEGINNING = 0.2
"""Of the seconds that a run takes, those before its first step, about."""

Weighted = tuple[tuple[str, int], ...]


class Chaos:
    """Breaks runs in folders under `root`, with mishaps drawn from `rng`."""

    def __init__(
        self, root: Path, rng: random.Random, server: Server | None, engine: Engine
    ) -> None:
        self._root, self._rng, self._server, self._engine = root, rng, server, engine
        self._expected: dict[tuple[str, bool], tuple[Any, float]] = {}
        self._runs = 0
        self.tallies: dict[tuple[str, bool], Tally] = {}
        self.runs: Counter[tuple[str, bool]] = Counter()

    def _trial(self, agent: str, postgres: bool, tally: Tally) -> Trial:  # noqa: FBT001
        self._runs += 1
        server = self._server if postgres else None
        address = server.address() if server is not None else None
        engine = self._engine if agent in BUNDLED else None
        return Trial(self._root / str(self._runs), agent, address, tally, server, engine)

    def _unbroken(self, agent: str, postgres: bool) -> tuple[Any, float]:  # noqa: FBT001
        """Return what the run must become, and how many seconds it takes."""
        where = (agent, postgres)
        if where not in self._expected:
            for _ in range(2):  # the very first has to load modules
                trial = self._trial(agent, postgres, Tally())
                span_s = trial.start()
            self._expected[where] = (trial.checked(), span_s)
        return self._expected[where]

    def one_run(self, agent: str, postgres: bool, kinds: Weighted, limit: int) -> int:  # noqa: FBT001
        """Break one run until it is finished, or `limit` mishaps came; return how many came."""
        expected, span_s = self._unbroken(agent, postgres)
        tally = self.tallies.setdefault((agent, postgres), Tally())
        before = tally.mishaps.total()
        trial = self._trial(agent, postgres, tally)
        while not trial.finished:
            if tally.mishaps.total() - before < limit:
                names, weights = zip(*kinds, strict=True)
                mishap = self._rng.choices(names, weights)[0]
                # At any moment of what is left of it; the beginning is always.
                left = max(1.0 - trial.steps / expected["count"], _BEGINNING)
                trial.start(self._rng.uniform(0.0, span_s * left), mishap)
            else:
                trial.start()
        found = trial.checked()
        for what, value in expected.items():
            assert found[what] == value, f"{agent}: {what} differ: {found[what]} not {value}"
        shutil.rmtree(trial.root)
        self.runs[agent, postgres] += 1
        return tally.mishaps.total() - before


def _page(chaos: Chaos, seconds: float) -> Table:
    title = (
        f"{seconds:.0f} s; nothing lost, no finished step again, every ledger as of an unbroken run"
    )
    table = Table(
        "agent",
        "journal",
        "runs",
        "starts",
        "mishaps",
        "steps",
        "cut off, tried again",
        title=title,
    )
    for (agent, postgres), tally in chaos.tallies.items():
        mishaps = ", ".join(f"{n} {kind}" for kind, n in tally.mishaps.items() if n)
        cells = (chaos.runs[agent, postgres], tally.starts, mishaps, tally.kept, tally.again)
        table.add_row(agent, "PostgreSQL" if postgres else "SQLite", *map(str, cells))
    return table


def _break_training(chaos: Chaos, wanted: int) -> None:
    kinds = tuple(kind for kind in OF_TOOLS_WITH_FILES if kind[0] != "engine")
    done = 0
    while done < wanted:
        limit = min(MOST_OF_A_RUN, wanted - done)
        way = chaos_posttrain.WAYS[chaos.runs.total() % 2]
        done += chaos.one_run(way, postgres=False, kinds=kinds, limit=limit)
        _tell("post-training", done, wanted)


def _break_many(chaos: Chaos, rng: random.Random, wanted: int, bundled: int, both: bool) -> None:  # noqa: FBT001
    done = 0
    while done < bundled:
        for agent in BUNDLED:
            kinds = OF_TOOLS_WITH_FILES if agent == "pipeline" else OF_BOTH
            limit = min(MOST_OF_A_RUN, bundled - done)
            done += chaos.one_run(agent, postgres=False, kinds=kinds, limit=limit)
            _tell("bundled agents", done, bundled)
    done = 0
    while done < wanted:
        postgres = both and rng.random() < 0.3
        names, weights = zip(*OWN, strict=True)
        agent = rng.choices(names, weights)[0]
        kinds = ON_POSTGRES if postgres else ON_SQLITE
        done += chaos.one_run(agent, postgres, kinds, min(MOST_OF_A_RUN, wanted - done))
        _tell("graphs", done, wanted)


def _tell(what: str, done: int, wanted: int) -> None:
    print(f"{what}: {done} of {wanted} mishaps, nothing lost", file=sys.stderr, flush=True)


def main() -> None:
    """Break runs, and print what came of it."""
    numbers = [int(word) for word in sys.argv[1:] if word.isdigit()]
    wanted, bundled, trained = (*numbers, *(MISHAPS, OF_BUNDLED, OF_POSTTRAIN)[len(numbers) :])
    rng, begin_s = random.Random(wanted), time.monotonic()
    reason = missing()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = stack.enter_context(Server()) if reason is None else None
        chaos = Chaos(folder, rng, server, stack.enter_context(Engine(folder)))
        if reason is not None:
            print(reason)
        if find_spec("torch") is None or find_spec("gguf") is None:
            trained = 0
            print("post-training is left out: it needs polysilicon[train]")
        try:
            _break_training(chaos, trained)
            _break_many(chaos, rng, wanted, bundled, both=server is not None)
        except KeyboardInterrupt:
            print("interrupted")
    Console(file=sys.stdout).print(_page(chaos, time.monotonic() - begin_s))


if __name__ == "__main__":
    main()

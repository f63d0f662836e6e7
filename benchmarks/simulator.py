"""The simulator beside Vidur and vllm-sr-sim: the same requests, engine and law of an iteration.

    python benchmarks/simulator.py TRACE

TRACE is an Azure LLM inference trace (CSV of TIMESTAMP, ContextTokens, GeneratedTokens;
github.com/Azure/AzurePublicDataset). Its requests are played on H100s with Llama 3.1 8B, at the
pace of the trace for each replica and at one near saturation. The peers are installed into
`build/simulators` from `peers/simulators.txt`.

The law of an iteration is the roofline that vllm-sr-sim makes of GPU and model: seconds for the
weights, for each token of context of what decodes, for each prompt token and for each pair of
tokens attended to. It is given to Vidur, whose own measurements of attention are not in its wheel,
and to ours. Of each simulator the CPU seconds of its event loop are counted: without reading,
start-up, metrics or compilation, and of Vidur without the law. Ours and vllm-sr-sim are the median
of REPEATS, in turns.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table

from polysilicon.errors import PolysiliconError
from polysilicon.simulate import kernel
from polysilicon.simulate.state import World
from polysilicon.workload.files import read
from polysilicon.workload.imports.run import import_files

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from reference_simulator import EnginePool, Law, Step
from simulated import world_of

CASES = ((1, 1.0), (1, 2.5), (32, 32.0), (32, 80.0))
"""Replicas, and how many times faster than in the trace requests come."""

SLOTS, BATCH_TOKENS = 128, 512
REPEATS = 3
HERE = Path(__file__).resolve().parent
PEERS = HERE.parent / "build" / "simulators"
NOTES = """\
Vidur: with one replica every time is ours, to the last digits. With several it deals requests out
  in turn, ours go to the replica with the fewest sequences. Near a full memory it would preempt
  where ours lets requests wait; here memory is never full.
vllm-sr-sim plays requests, not iterations: what a request takes is fixed when it starts, prompts of
  others do not slow it, and its slot is free again after a 128th of that (its seconds over its
  slots), long before its last token. So few seem to run at once, and hardly any load shows in
  its times; they are those of an engine that is almost idle."""

Numbers = npt.NDArray[np.float64]


class Played:
    """What a simulator said.

    Args:
        wall_s: of its event loop.
        first_token_s: of each request.
        end_s: of each request.
    """

    def __init__(self, wall_s: float, first_token_s: Any, end_s: Any) -> None:
        self.wall_s = wall_s
        self.first_token_s = np.array(first_token_s, np.float64)
        self.end_s = np.array(end_s, np.float64)


def requests_of(trace: Path) -> dict[str, list[Any]]:
    """Return arrivals and tokens of a trace, in the order of arrival."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "trace.parquet"
        import_files([trace], output, named="azure-llm")
        workload = read(output)
    columns = ("arrival_s", "prompt_tokens", "output_tokens")
    ready_s, prompt, output_tokens = (workload.numbers(name) for name in columns)
    order = np.argsort(ready_s, kind="stable")
    return {
        "ready_s": ready_s[order].tolist(),
        "prompt": prompt[order].astype(int).tolist(),
        "output": output_tokens[order].astype(int).tolist(),
    }


def peer(script: str, case: dict[str, Any]) -> tuple[Played, dict[str, Any]]:
    """Run a peer's script in the peers' environment."""
    python = PEERS / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(PEERS)], check=True)
        install = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        subprocess.run([*install, "-r", str(HERE / "peers" / "simulators.txt")], check=True)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "case.json"
        path.write_text(json.dumps(case))
        command = [str(python), str(HERE / "peers" / script), str(path)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    said = json.loads(done.stdout.splitlines()[-1])
    return Played(said["wall_s"], said["first_token_s"], said["end_s"]), said


def prepared(case: dict[str, Any]) -> tuple[World, list[int]]:
    """Return our world before anything happens, and which request each row is."""
    law = case["law"]
    pool = EnginePool(
        law=Law(
            grid_tokens=(0, 1),
            grid_s=(0.0, law["token_s"]),
            base_s=(0.0, *(law["base_s"],) * SLOTS),
            context_s=(law["context_s"],) * (SLOTS + 1),
            pair_s=law["pair_s"],
        ),
        replicas=case["replicas"],
        slots=SLOTS,
        batch_tokens=BATCH_TOKENS,
        kv_tokens=law["kv_tokens"],
    )
    rows = zip(case["ready_s"], case["prompt"], case["output"], strict=True)
    steps = [Step(pool=0, ready_s=at, prompt=prompt, output=out) for at, prompt, out in rows]
    return world_of(steps, [pool])


def ours(world: World, names: Sequence[int]) -> Played:
    """Play a copy of a world."""
    world = World(*(column.copy() for column in world))
    rng = np.random.default_rng(0)
    begin_s = time.process_time()
    kernel.run(world, rng, 0, np.inf, 10**9)
    wall_s = time.process_time() - begin_s
    place = np.argsort(names)
    return Played(wall_s, world.steps["first_s"][place], world.steps["end_s"][place])


def played(case: dict[str, Any]) -> dict[str, Played]:
    """Return what each simulator says of a case."""
    _, said = peer("fleet_sim_requests.py", case)
    case["law"] = said["law"]
    world, names = prepared(case)
    ours(world, names)  # compiles
    turns = [(ours(world, names), peer("fleet_sim_requests.py", case)[0]) for _ in range(REPEATS)]
    own, other = (
        sorted(runs, key=lambda run: run.wall_s)[REPEATS // 2] for runs in zip(*turns, strict=True)
    )
    vidur, _ = peer("vidur_requests.py", case)
    return {"Polysilicon": own, "Vidur 0.0.26": vidur, "vllm-sr-sim 0.1.0.dev": other}


def cells(case: dict[str, Any], run: Played) -> list[str]:
    """Return p50 and p99 of TTFT, TPOT and whole requests, in milliseconds."""
    ready_s, output = np.array(case["ready_s"]), np.array(case["output"])
    several = output > 1
    tpot_s = (run.end_s - run.first_token_s)[several] / (output[several] - 1)
    found = []
    for seconds in (run.first_token_s - ready_s, tpot_s, run.end_s - ready_s):
        p50, p99 = np.percentile(seconds, [50, 99]) * 1e3
        found += [f"{p50:,.1f}", f"{p99:,.1f}"]
    return found


def show(case: dict[str, Any], runs: dict[str, Played], rate_per_s: float) -> Table:
    """Return the table of a case."""
    count = len(case["ready_s"])
    title = f"{count:,} requests, {rate_per_s:.1f} a second, on H100s: {case['replicas']}; ms"
    table = Table("", title=title, title_justify="left", box=None)
    heads = ("requests/s", "ours is", "TTFT p50", "p99", "TPOT p50", "p99", "all p50", "p99")
    for head in (*heads, "whole requests differ"):
        table.add_column(head, justify="right")
    own = runs["Polysilicon"]
    for name, run in runs.items():
        ratio = "" if run is own else f"{run.wall_s / own.wall_s:,.0f} x"
        apart = np.abs(run.end_s - own.end_s) / np.maximum(own.end_s - case["ready_s"], 1e-9)
        differs = f"median {np.median(apart):.0%}, most {apart.max():.0%}"
        if apart.max() < 1e-6:
            differs = "" if run is own else f"no, at most by {apart.max():.0e}"
        table.add_row(name, f"{count / run.wall_s:,.0f}", ratio, *cells(case, run), differs)
    return table


def main(arguments: Sequence[str]) -> None:
    """Print a table for each case.

    Raises:
        PolysiliconError: the trace cannot be read.
    """
    if len(arguments) != 1:
        sys.exit("give the path of an Azure LLM inference trace")
    requests = requests_of(Path(arguments[0]))
    console = Console(file=sys.stdout, width=150)
    for replicas, speed in CASES:
        ready_s = [at / speed for at in requests["ready_s"]]
        case = requests | {
            "ready_s": ready_s,
            "replicas": replicas,
            "slots": SLOTS,
            "batch_tokens": BATCH_TOKENS,
        }
        console.print(show(case, played(case), len(ready_s) / (ready_s[-1] - ready_s[0])))
    console.print(NOTES, markup=False, highlight=False)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except PolysiliconError as error:
        sys.exit(f"error: {error}")

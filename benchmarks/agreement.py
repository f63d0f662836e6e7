"""Whether plans and the simulator take an engine to do as much: by offer, model, tokens and load.

A plan (as a placement) takes the seconds of a machine that steps need from the cost model; the
simulator plays the iterations of its engines. Here a machine that is never idle is given forty
steps for each of its slots, and the seconds that it is said to need are set against those in which
the simulator has done them. Of either kind of machines those cases are named that differ most.

Run: .venv/bin/python benchmarks/agreement.py [CPUs|accelerators]
"""

from __future__ import annotations

import sys
from itertools import product

import msgspec
import numpy as np
from rich.console import Console
from rich.table import Table

from polysilicon import catalog
from polysilicon.catalog.fleet import Fleet, OwnPrice, Pool
from polysilicon.cost.batch import batch_of
from polysilicon.cost.bulk import estimate_all
from polysilicon.cost.estimates import REFUSED
from polysilicon.cost.types import Load, Serving
from polysilicon.simulate import simulate
from polysilicon.workload.record import StepRecord
from polysilicon.workload.workload import Workload

SEED, ROUNDS = 7, 40
LOADS = (1, 2, 4, 8, 16, 32, 64)
WORST = 8


class Machines(msgspec.Struct, frozen=True, kw_only=True):
    """Machines that hold models, each copy on so many accelerators; None on CPUs."""

    offers: tuple[str, ...]
    models: tuple[str, ...]
    count: int | None = None


SMALL = ("qwen3-4b", "llama-3.1-8b-instruct")
ON = {
    "CPUs": (
        Machines(
            offers=(
                "aws/m9g.2xlarge", "aws/m9g.4xlarge", "aws/m8g.24xlarge", "gcp/c4-standard-16",
                "azure/Standard_D16as_v6", "aws/m7i.2xlarge",
            ),
            models=("qwen2.5-0.5b-instruct", "gemma-2-2b-it", *SMALL),
        ),
    ),
    "accelerators": (
        Machines(
            offers=(
                "aws/g6.xlarge", "gcp/g2-standard-4", "aws/g6e.xlarge",
                "azure/Standard_NC24ads_A100_v4", "aws/p5.4xlarge", "aws/p6-b200.48xlarge",
            ),
            models=SMALL, count=1,
        ),
        Machines(offers=("aws/p5.48xlarge",), models=("llama-3.3-70b-instruct",), count=4),
        Machines(offers=("aws/p5en.48xlarge",), models=("gpt-oss-120b",), count=2),
        Machines(offers=("aws/p6-b200.48xlarge",), models=("deepseek-r1",), count=8),
        Machines(offers=("aws/trn1.32xlarge",), models=("llama-3.1-8b-instruct",), count=16),
    ),
}  # fmt: skip


class Tokens(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens of steps, drawn evenly between two numbers; a share of the prompt is in a cache."""

    name: str
    prompt: tuple[int, int]
    output: tuple[int, int]
    cached: float = 0.0


TOKENS = (
    Tokens(name="chat", prompt=(500, 1500), output=(100, 300)),
    Tokens(name="long answers", prompt=(50, 200), output=(200, 600)),
    Tokens(name="long prompts", prompt=(2000, 6000), output=(20, 100)),
    Tokens(name="agent, 80 % cached", prompt=(1000, 5000), output=(30, 200), cached=0.8),
    Tokens(name="a label", prompt=(200, 800), output=(2, 8)),
)


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """A machine under a load, and how many times as long the plan's seconds are."""

    offer: str
    model: str
    tokens: str
    at_once: int
    off: float


def steps_of(model: str, tokens: Tokens, count: int) -> Workload:
    """Return tasks of one step each, all at once."""
    rng = np.random.default_rng(SEED)
    prompts, outputs = rng.integers(*tokens.prompt, count), rng.integers(*tokens.output, count)
    return Workload.from_records(
        [
            StepRecord(
                task_id=str(at), step_id="1", agent="a", kind="llm", name="chat", model=model,
                arrival_s=0.0, prompt_tokens=int(prompt), output_tokens=int(output),
                cached_tokens=int(tokens.cached * prompt),
            )
            for at, (prompt, output) in enumerate(zip(prompts, outputs, strict=True))
        ]
    )  # fmt: skip


def case(name: str, model: str, count: int | None, tokens: Tokens, at_once: int) -> Case | None:
    """Set a plan's seconds against the simulator's; None where there is no basis."""
    facts = catalog.load()
    offer = facts.offer(name)
    copies = 1 if count is None else (offer.accelerators or 1) // count
    steps = steps_of(model, tokens, ROUNDS * at_once * copies)
    # At 3,600 dollars an hour dollars are seconds of the machine.
    load = Load(concurrency=at_once, serving=Serving(count=count))
    said = estimate_all(batch_of(steps), offer, load, facts, OwnPrice(usd_per_hour=3600.0))
    if (said.basis == REFUSED).any():
        return None
    pool = Pool(
        name="p", offer=name, units=1, serves=("llm:*",), engine="openai", model=model,
        concurrency=at_once * copies, count=count, price=OwnPrice(usd_per_hour=1.0),
    )  # fmt: skip
    played_s = simulate(steps, Fleet(pool=(pool,))).sim_s
    off = float(said["cost_usd"].sum()) / played_s - 1.0
    return Case(offer=name, model=model, tokens=tokens.name, at_once=at_once, off=off)


def main() -> None:
    """Print all tables."""
    console = Console(file=sys.stdout, width=130)
    for kind in sys.argv[1:] or ON:
        grid = (
            one
            for machines in ON[kind]
            for one in product(machines.offers, machines.models, [machines.count], TOKENS, LOADS)
        )
        found = [one for asked in grid if (one := case(*asked)) is not None]
        table = Table(title=f"{kind}: plan over simulator, from least to most", box=None)
        table.add_column("steps")
        for load in LOADS:
            table.add_column(f"{load} at once", justify="right")
        for tokens in TOKENS:
            cells = []
            for load in LOADS:
                off = [one.off for one in found if (one.tokens, one.at_once) == (tokens.name, load)]
                cells.append(f"{min(off):+.1%} {max(off):+.1%}" if off else "")
            table.add_row(tokens.name, *cells)
        console.print(table)
        sizes = np.abs([one.off for one in found])
        console.print(f"{len(found)} cases, mean {sizes.mean():.1%}, {(sizes > 0.05).sum()} > 5 %")
        for one in sorted(found, key=lambda one: -abs(one.off))[:WORST]:
            told = f"{one.offer} {one.model}, {one.tokens}, {one.at_once} at once: {one.off:+.1%}"
            console.print(f"  {told}")


if __name__ == "__main__":
    main()

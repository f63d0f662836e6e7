"""Where the tasks of a simulation come from: a workload in memory, or a file of any size."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from polysilicon.catalog.policy import Policy
from polysilicon.cost.kinds import REFERENCE
from polysilicon.cost.llm.engine import Usual
from polysilicon.errors import InputError
from polysilicon.schedule.types import Floats
from polysilicon.simulate.program import Program, Route, of_kind, program_of
from polysilicon.workload.files import tables
from polysilicon.workload.groups import task_times
from polysilicon.workload.run_folder import open_workload
from polysilicon.workload.workload import Workload

MOST_ROWS = 4_000_000
"""Files with more rows are read in pieces; their tasks must be in the order of arrival."""

_LATEST_S = 2.0**42


class Survey(msgspec.Struct, frozen=True, kw_only=True):
    """What will come.

    Attributes:
        routes: of all steps.
        usual: sizes of LLM steps, by the model that they name.
        agents: names of all agents.
        tasks: how many.
        steps: how many.
        held: steps that tell how long they took, but not what they would take elsewhere.
        lost: steps of which nothing is known.
        unreferenced: steps on cores that do not tell which offer theirs were spent on.
    """

    routes: tuple[Route, ...]
    usual: dict[str, Usual]
    agents: tuple[str, ...]
    tasks: int
    steps: int
    held: int
    lost: int
    unreferenced: int


class Source:
    """Tasks of a workload, piece by piece, as often as they are asked for.

    Args:
        workload: in memory, or a file or run folder.
        measured_on: offer on which core-seconds were spent of steps that do not say.
        told: is told how many tasks were played, and of how many.

    Raises:
        InputError: it cannot be read, or has no steps.
    """

    def __init__(
        self,
        workload: Workload | Path,
        measured_on: str = REFERENCE,
        told: Callable[[int, int], None] | None = None,
    ) -> None:
        self.measured_on, self.told = measured_on, told
        self._workload, self._path = None, None
        self._program: Program | None = None
        if isinstance(workload, Workload):
            self._workload = workload
        elif _is_large(workload):
            self._path = workload
        else:
            self._workload = open_workload(workload)
        if self._workload is not None and not len(self._workload):
            where = str(workload) if isinstance(workload, Path) else "workload"
            raise InputError("it has no steps", where=where)

    def pieces(self) -> Iterator[Workload]:
        """Yield whole tasks, each piece after those that arrive before it.

        Raises:
            InputError: a large file whose tasks are not whole and in order.
        """
        if self._workload is not None:
            yield self._workload
            return
        assert self._path is not None
        yield from _in_pieces(self._path)

    def programs(self, policy: Policy, routes: tuple[Route, ...]) -> Iterator[Program]:
        """Yield the pieces as arrays; that of a workload in memory is kept from its survey.

        Args:
            policy: as in the survey.
            routes: of the survey.
        """
        if self._program is not None:
            yield self._program
        else:
            for piece in self.pieces():
                yield program_of(piece, policy, routes)

    def survey(self, policy: Policy) -> Survey:
        """Look through all of it once.

        Raises:
            InputError: it cannot be read, or its clock is too far from 0.
        """
        routes: tuple[Route, ...] = ()
        sums: dict[str, Floats] = {}
        agents: dict[str, None] = {}
        tasks = steps = held = lost = unreferenced = 0
        for piece in self.pieces():
            program = program_of(piece, policy, routes)
            _check_clock(program)
            routes = program.routes
            agents |= dict.fromkeys(program.agents)
            tasks, steps = tasks + len(program.tasks), steps + len(program.steps)
            held, lost = held + program.held, lost + program.lost
            cores = np.array([r.kind != "llm" and not r.tokens and r.offer is None for r in routes])
            sent = program.steps["route"] >= 0
            unreferenced += int(cores[program.steps["route"][sent]].sum()) if len(cores) else 0
            _add_sizes(piece, sums)
            self._program = None if self._workload is None else program
        return Survey(
            routes=routes,
            usual={model: _usual(found) for model, found in sums.items()},
            agents=tuple(agents),
            tasks=tasks,
            steps=steps,
            held=held,
            lost=lost,
            unreferenced=unreferenced,
        )


def _check_clock(program: Program) -> None:
    """Refuse arrivals so late that numbers there are a millisecond apart or more.

    Raises:
        InputError: so they are.
    """
    latest_s = float(np.abs(program.tasks["arrival_s"]).max(initial=0.0))
    if latest_s > _LATEST_S:
        mend = "count seconds from the first arrival; nanoseconds of a clock are no seconds"
        raise InputError(f"a task arrives at {latest_s:.3g} s, where clocks tell no milliseconds",
                         where="arrival_s", mend=mend)  # fmt: skip


def _add_sizes(piece: Workload, sums: dict[str, Floats]) -> None:
    """Add what tells the usual sizes of a piece's LLM steps, by model.

    Those are steps, their prompt and output tokens, tokens of the longest, output tokens that are
    decoded, and over these the sums of contexts and of their squares; shape (7,).
    """
    codes, names = piece.codes("model")
    prompt, output = piece.numbers("prompt_tokens"), piece.numbers("output_tokens")
    known = of_kind(piece, "llm") & ~np.isnan(prompt) & ~np.isnan(output)
    for code in np.unique(codes[known]).tolist():
        of = known & (codes == code)
        name = names[code] if code >= 0 else ""
        old = sums.get(name, np.zeros(7))
        context, decoded = prompt[of] + output[of] / 2, np.maximum(output[of] - 1.0, 1e-9)
        longest = max(float(old[3]), float((prompt[of] + output[of]).max()))
        new = (of.sum(), prompt[of].sum(), output[of].sum(), 0.0)
        moments = (decoded.sum(), decoded @ context, decoded @ context**2)
        sums[name] = old + np.array([*new, *moments])
        sums[name][3] = longest


def _usual(sums: Floats) -> Usual:
    """Return the usual sizes of steps, by what `_add_sizes` added."""
    steps, prompt, output, longest, decoded, once, twice = sums.tolist()
    mean = once / decoded
    return Usual(
        prompt=prompt / steps,
        output=output / steps,
        longest=longest,
        context=mean,
        spread=math.sqrt(max(twice / decoded - mean**2, 0.0)),
    )


def _is_large(path: Path) -> bool:
    """Tell whether a file has too many rows to be read at once."""
    if path.is_dir() or path.suffix != ".parquet" or not path.exists():
        return False
    try:
        return bool(pq.read_metadata(path).num_rows > MOST_ROWS)
    except pa.ArrowException:
        return False  # reading it says what is wrong


def _in_pieces(path: Path) -> Iterator[Workload]:
    """Yield whole tasks of a file whose tasks are in the order of arrival.

    Raises:
        InputError: they are not, or the steps of a task are not together.
    """
    rest: Any = None
    last_s = -np.inf
    for table in tables(path):
        joined = table if rest is None else pa.concat_tables([rest, table])
        ids = joined["task_id"].combine_chunks()
        whole = len(ids) - _length_of_last(ids)
        rest = joined.slice(whole)
        if whole:
            last_s = yield from _checked(joined.slice(0, whole), path, last_s)
    if rest is not None and len(rest):
        yield from _checked(rest, path, last_s)


def _length_of_last(ids: Any) -> int:
    """Return how many rows at the end belong to the last task."""
    last = ids[-1]
    values = ids.to_numpy(zero_copy_only=False)
    different = np.flatnonzero(values != last.as_py())
    return len(values) - (int(different[-1]) + 1 if len(different) else 0)


def _checked(table: Any, path: Path, last_s: float) -> Any:
    """Yield a piece, and return when its last task arrives.

    Raises:
        InputError: its tasks do not come after those before.
    """
    piece = Workload(table, where=str(path))
    arrival_s = np.nan_to_num(np.asarray(task_times(piece).arrival_s))
    if arrival_s.min() < last_s:
        mend = "sort it by arrival, or give fewer than 4 million steps at once"
        raise InputError("its tasks are not in the order of arrival", where=str(path), mend=mend)
    yield piece
    return float(arrival_s.max())

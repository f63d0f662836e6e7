"""Workloads out of workloads: scaled, cut, merged, without names.

Files are read table by table, once or twice. What is kept of a whole file is a number for each of
its tasks, never its steps; only a cut by single steps has to see whole tasks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from polysilicon.disk import atomic
from polysilicon.errors import InputError
from polysilicon.workload.checks import breaches, codes_of, first_true
from polysilicon.workload.files import check_other, check_suffix, stream, tables
from polysilicon.workload.imports.gather import whole_tasks
from polysilicon.workload.names import Names, unused_mark
from polysilicon.workload.parents import inherited
from polysilicon.workload.run_folder import RunFolder

LATEST_S = 1e15
"""Thirty million years: far later, seconds are lost in the last digits of a moment."""

MOMENTS = ("arrival_s", "ready_s", "start_s", "first_token_s", "end_s")
HASH_BYTES = 10
TABLE_ROWS = 131_072

Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


class Written(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was written: tasks, steps, and the file."""

    tasks: int
    steps: int
    output: str


class Arrivals(msgspec.Struct, frozen=True, kw_only=True):
    """The first moment of each task of a file.

    Attributes:
        names: ids of the tasks, in order of their first step.
        first_s: shape (tasks,), NaN where no step tells a moment.
        steps: of the file.
    """

    names: list[str]
    first_s: Any
    steps: int

    @property
    def begin_s(self) -> float:
        """The first moment of all; 0 where none is told."""
        return float(np.nanmin(self.first_s)) if not np.isnan(self.first_s).all() else 0.0

    @property
    def period_s(self) -> float:
        """Seconds after which the trace can begin again at the same rate; 0 where none is told."""
        known = self.first_s[~np.isnan(self.first_s)]
        if len(known) < 2:
            return 0.0
        return float(known.max() - known.min()) * len(known) / (len(known) - 1)

    def moved(self, rounds: int, rate: float) -> float:
        """Return the last first moment after some rounds at a rate; infinite where that is."""
        late_s = float(np.fmax.reduce(self.first_s, initial=0.0))
        late_s += rounds * self.period_s if rounds else 0.0
        return self.begin_s + (late_s - self.begin_s) / rate


def steps_of(path: Path) -> Iterator[Any]:
    """Yield the steps of a workload file or a run folder, table by table.

    Raises:
        InputError: nothing is there, it is neither, or a row breaks a rule by itself.
    """
    start = 0
    for table in tables(RunFolder(path).steps_path if path.is_dir() else path):
        for breach in breaches(table):
            row = first_true(breach.rows)
            if row is not None:
                what, mend = breach.told(row)
                where = f"{path}, row {start + row} (from 0), {breach.field}"
                raise InputError(what, where=where, mend=mend)
        start += table.num_rows
        yield table


def arrivals(path: Path) -> Arrivals:
    """Return the first moment of each task of a workload.

    Raises:
        InputError: it cannot be read.
    """
    found: dict[str, float] = {}
    steps = 0
    for table in steps_of(path):
        steps += table.num_rows
        codes, names = codes_of(table["task_id"])
        first = np.full(len(names), np.nan)
        for column in MOMENTS:
            np.fmin.at(first, codes, _floats(table[column]))
        for name, moment_s in zip(names, first.tolist(), strict=True):
            found[name] = float(np.fmin(found.get(name, np.nan), moment_s))
    first_s = np.array(list(found.values()), dtype=np.float64)
    return Arrivals(names=list(found), first_s=first_s, steps=steps)


def scale(
    path: Path,
    output: Path,
    *,
    rate: float = 1.0,
    tasks: int | None = None,
    rng: np.random.Generator,
) -> Written:
    """Change how often tasks arrive and how many there are; a task stays as it is in itself.

    Fewer tasks are drawn without replacement and arrive when they did. More tasks are the workload
    again and again, each time after the last one at the same rate of arrivals, and of the last time
    the first that arrive, as many as are wanted, so that the rate holds to the end.

    Args:
        path: of the workload.
        output: `.parquet` or `.jsonl`.
        rate: by which arrivals are more frequent.
        tasks: how many; all of them by default.
        rng: draws tasks, where fewer are wanted than there are.

    Raises:
        InputError: the workload cannot be read, has no tasks, or a number is out of range.
    """
    if not 0 < rate < np.inf:
        raise InputError(f"{rate:g} is no factor", where="--rate", mend="give a number above 0")
    known = arrivals(path)
    count = len(known.names)
    wanted = count if tasks is None else tasks
    if wanted < 1 or not count:
        raise InputError("a workload without tasks", where=str(path))
    rounds, rest = divmod(wanted, count)
    last_s = known.moved(rounds - (not rest), rate)
    if not last_s <= LATEST_S:
        what = f"tasks would arrive as late as {last_s:g} s, and {LATEST_S:g} s is the latest"
        raise InputError(what, where=str(path), mend="give a larger --rate or fewer --tasks")
    last = np.zeros(count, dtype=np.bool_)
    first = np.argsort(known.first_s, kind="stable")[:rest]
    last[first if rounds else rng.choice(count, size=rest, replace=False)] = True
    mark = unused_mark(known.names)
    at_once = max(1, TABLE_ROWS // max(known.steps, 1))  # a small workload is read once for many

    def made() -> Iterator[Any]:
        for low in range(0, rounds, at_once):
            numbers = np.arange(low, min(low + at_once, rounds))
            yield from _rounds(path, known, numbers, np.ones(count, dtype=np.bool_), rate, mark)
        if rest:
            yield from _rounds(path, known, np.array([rounds]), last, rate, mark)

    return _written(made(), [path], output)


def _rounds(
    path: Path, known: Arrivals, numbers: Codes, taken: Mask, rate: float, mark: str
) -> Iterator[Any]:
    """Yield the tasks that are taken, in some rounds, at their moments, with ids of their own."""
    place = pa.array(known.names, pa.string())
    marks = pa.array([f"{mark}{number}" if number else "" for number in numbers.tolist()])
    for table in steps_of(path):
        of = pc.index_in(table["task_id"], value_set=place).to_numpy()
        rows = np.flatnonzero(taken[of])
        again = np.tile(rows, len(numbers))
        round_of = np.repeat(np.arange(len(numbers)), len(rows))
        first_s = known.first_s[of[again]]
        arrived_s = first_s + numbers[round_of] * known.period_s
        shift_s = known.begin_s + (arrived_s - known.begin_s) / rate - first_s
        part = _later(table.take(pa.array(again)), pa.array(np.nan_to_num(shift_s)))
        ids = pc.binary_join_element_wise(part["task_id"], marks.take(pa.array(round_of)), "")
        yield _with(part, {"task_id": ids})


class Cut(msgspec.Struct, frozen=True, kw_only=True):
    """What is cut out of a workload; what is None does not matter.

    Attributes:
        from_s: the first moment.
        to_s: the moment before which.
        agent: of a step.
        kind: of a step.
        model: of a step.
    """

    from_s: float | None = None
    to_s: float | None = None
    agent: str | None = None
    kind: str | None = None
    model: str | None = None


def cut_tasks(path: Path, output: Path, cut: Cut) -> Written:
    """Keep the tasks that arrive in time and of which at least one step is wanted; they stay whole.

    Raises:
        InputError: the workload cannot be read, or nothing is left.
    """
    known = arrivals(path)
    late = _in_time(known.first_s, cut)
    there = Names()
    names = {name for name, good in zip(known.names, late.tolist(), strict=True) if good}
    wanted: set[str] = set()
    for table in steps_of(path):
        matching = table["task_id"].filter(_matching(table, cut))
        wanted.update(pc.unique(matching).to_pylist())
        there.add(table)
    there.check(agent=cut.agent, model=cut.model)
    kept = pa.array([name for name in known.names if name in names and name in wanted], pa.string())
    made = (t.filter(pc.is_in(t["task_id"], value_set=kept)) for t in steps_of(path))
    return _written(made, [path], output, least=1)


def _in_time(moment_s: Floats, cut: Cut) -> Mask:
    """Tell which moments are in time; one that is not told is, where time does not matter."""
    good = np.ones(len(moment_s), dtype=np.bool_)
    if cut.from_s is not None:
        good &= moment_s >= cut.from_s
    if cut.to_s is not None:
        good &= moment_s < cut.to_s
    return good


def _matching(table: Any, cut: Cut) -> Any:
    """Return which steps are wanted, whenever they were."""
    good = pa.array(np.ones(table.num_rows, dtype=np.bool_))
    for column in ("agent", "kind", "model"):
        value = getattr(cut, column)
        if value is not None:
            equal = pc.fill_null(pc.equal(table[column], value), fill_value=False)
            good = pc.and_(good, equal)
    return good.combine_chunks() if isinstance(good, pa.ChunkedArray) else good


def cut_steps(path: Path, output: Path, cut: Cut) -> Written:
    """Keep single steps that are wanted and start in time.

    Where a parent of a kept step is cut, the parents of that one stand for it, so that what waited
    for one another still does.

    Raises:
        InputError: the workload cannot be read, its steps break a rule, or nothing is left.
    """
    there = Names()

    def made() -> Iterator[Any]:
        for table in whole_tasks(steps_of(path)):
            there.add(table)
            moment_s = np.full(table.num_rows, np.nan)
            for column in ("start_s", "ready_s", "arrival_s"):
                moment_s = np.where(np.isnan(moment_s), _floats(table[column]), moment_s)
            matching = np.asarray(_matching(table, cut).to_numpy(zero_copy_only=False))
            kept = matching & _in_time(moment_s, cut)
            parents = pa.array(inherited(table, kept, str(path)), pa.list_(pa.string()))
            yield _with(table.filter(pa.array(kept)), {"parent_ids": parents})
        there.check(agent=cut.agent, model=cut.model)

    return _written(made(), [path], output, least=1)


def merge(paths: Sequence[Path], output: Path, *, align: bool = False) -> Written:
    """Put workloads together; ids of tasks get the name of their file in front.

    Args:
        paths: of the workloads.
        output: `.parquet` or `.jsonl`.
        align: all begin at 0 s, instead of when they do.

    Raises:
        InputError: a workload cannot be read.
    """

    def made() -> Iterator[Any]:
        taken: set[str] = set()
        for path in paths:
            name, number = path.stem, 1
            while name in taken:
                number += 1
                name = f"{path.stem}-{number}"
            taken.add(name)
            shift = -arrivals(path).begin_s if align else 0.0
            for table in steps_of(path):
                ids = pc.binary_join_element_wise(f"{name}/", table["task_id"], "")
                by_s = pa.array(np.full(table.num_rows, shift))
                yield _later(_with(table, {"task_id": ids}), by_s)

    return _written(made(), paths, output)


def anonymise(
    path: Path,
    output: Path,
    *,
    salt: bytes,
    names: bool = False,
    models: bool = False,
    regions: bool = False,
) -> Written:
    """Replace ids by salted hashes, the same for the same id, and names where that is wanted.

    Without the salt nobody can tell whether a hash is of a name that they guess.

    Args:
        path: of the workload.
        output: `.parquet` or `.jsonl`.
        salt: secret bytes; the same ones give the same hashes.
        names: also of agents and of operations.
        models: also of models.
        regions: also regions, pools and classes of data.

    Raises:
        InputError: the workload cannot be read.
    """
    key = hashlib.blake2b(salt, digest_size=hashlib.blake2b.MAX_KEY_SIZE).digest()

    def hashed(column: Any) -> Any:
        codes, found = codes_of(column)
        made = pa.array([_hash(one, key) for one in found], pa.string())
        return made.take(pa.array(codes, mask=codes < 0))

    def made() -> Iterator[Any]:
        for table in steps_of(path):
            columns = ["task_id", "step_id"]
            columns += ["agent", "name"] if names else []
            columns += ["model"] if models else []
            columns += ["region", "pool", "data_class"] if regions else []
            changed = {column: hashed(table[column]) for column in columns}
            changed["parent_ids"] = _each(table["parent_ids"].combine_chunks(), hashed)
            yield _with(table, changed)

    return _written(made(), [path], output)


def _each(lists: Any, change: Callable[[Any], Any]) -> Any:
    """Return lists whose items are changed; a null list is empty."""
    items = change(pa.chunked_array([lists.flatten()]))
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy()
    offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), items)


def _hash(text: str, key: bytes) -> str:
    """Return a hash that only who has the key can make."""
    return hashlib.blake2b(text.encode(), key=key, digest_size=HASH_BYTES).hexdigest()


def _written(made: Iterable[Any], sources: Iterable[Path], output: Path, least: int = 0) -> Written:
    """Write tables to a file that appears whole or not at all, and count them.

    Raises:
        InputError: the suffix is unknown, the file is one of `sources`, or fewer steps than
            `least` are left.
    """
    check_suffix(output)
    check_other(output, sources)
    steps, names = 0, set[str]()
    with atomic(output) as temporary:
        with stream(temporary, output.suffix) as put:
            for table in made:
                if table.num_rows:
                    put(table)
                    steps += table.num_rows
                    names.update(pc.unique(table["task_id"]).to_pylist())
        if steps < least:
            mend = "no step is all of what was asked for"
            raise InputError("nothing is left of it", where=str(output), mend=mend)
    return Written(tasks=len(names), steps=steps, output=str(output))


def _later(table: Any, by_s: Any) -> Any:
    """Return a table whose moments are later by seconds of each row."""
    return _with(table, {column: pc.add(table[column], by_s) for column in MOMENTS})


def _with(table: Any, columns: dict[str, Any]) -> Any:
    """Return a table with other columns of some names."""
    return pa.table({name: columns.get(name, table[name]) for name in table.column_names})


def _floats(column: Any) -> Floats:
    """Return a column of seconds as an array, NaN where it is null."""
    values = column.cast(pa.float64()).fill_null(float("nan"))
    return np.asarray(values.to_numpy(), dtype=np.float64)

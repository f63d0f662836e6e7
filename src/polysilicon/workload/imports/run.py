"""`import`: trace files into one workload file, in bounded memory.

Each table that an importer gives is checked by itself against all rules of the step record, for a
task lies in one table. What breaks a rule is a task that cannot be used.
"""

from __future__ import annotations

import gc
import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, cast

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from polysilicon.disk import atomic
from polysilicon.errors import InputError
from polysilicon.workload.checks import breaches, codes_of, graph_fault, normalise
from polysilicon.workload.files import check_other, check_suffix, stream, tables
from polysilicon.workload.imports.findings import Findings, Skip
from polysilicon.workload.imports.formats import detect, importer
from polysilicon.workload.imports.source import Source
from polysilicon.workload.imports.spans.traces import SpanImporter, read_files
from polysilicon.workload.imports.types import Clock, Options

MOMENTS = ("arrival_s", "ready_s", "start_s", "first_token_s", "end_s")


class Imported(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an import did.

    Attributes:
        tasks: how many tasks were written.
        steps: how many steps.
        skipped: what was left out, by reason.
        format: of the files; several are joined with a plus.
        notes: what was assumed, and what the trace does not tell.
    """

    tasks: int
    steps: int
    skipped: list[Skip]
    format: str
    notes: list[str]


class _Watched(Source):
    """A source that tells how far it was read, in decompressed bytes; each byte once."""

    def __init__(self, path: Path, told: Callable[[int], None], *, skip_bad: bool) -> None:
        super().__init__(path, skip_bad=skip_bad)
        self._told = told
        self._furthest = 0

    def chunks(self) -> Iterator[bytes]:
        at = 0
        for chunk in super().chunks():
            yield chunk
            at += len(chunk)
            if at > self._furthest:
                self._told(at - self._furthest)
                self._furthest = at


def import_files(
    paths: Sequence[Path],
    output: Path,
    *,
    named: str = "",
    options: Options | None = None,
    skip_bad: bool = False,
    told: Callable[[int], None] | None = None,
) -> Imported:
    """Import trace files into one workload file, which appears whole or not at all.

    Args:
        paths: the files; times of all count from the first moment that any of them tells.
        output: `.parquet` or `.jsonl`.
        named: their format; by default `table` where columns are named, else told by their content.
        options: what the user says of them.
        skip_bad: count malformed records and go on.
        told: called with decompressed bytes as they are read.

    Raises:
        InputError: a file is missing, in no known format, bad, or the output; nothing was written.
        PolysiliconError: the output cannot be written.
    """
    check_suffix(output)
    _check_place(paths, output)
    with _lean():
        return _import(
            paths, output, named, options or Options(), Findings(skip_bad=skip_bad), told
        )


@contextmanager
def _lean() -> Iterator[None]:
    """Keep Python and Arrow from what costs an import more than it saves.

    Python looks for cycles of objects: decoding makes millions, none of them in one, and walking
    through them takes a third of the time. Arrow's own pools give memory back to the system that
    the next batch asks for again.
    """
    was, pool = gc.isenabled(), pa.default_memory_pool()
    gc.disable()
    pa.set_memory_pool(pa.system_memory_pool())
    try:
        yield
    finally:
        pa.set_memory_pool(pool)
        if was:
            gc.enable()


def _import(
    paths: Sequence[Path],
    output: Path,
    named: str,
    options: Options,
    findings: Findings,
    told: Callable[[int], None] | None,
) -> Imported:
    """Import, as `import_files` does."""
    clock = Clock()
    skip_bad = findings.skip_bad
    sources = [
        _Watched(path, told, skip_bad=skip_bad) if told else Source(path, skip_bad=skip_bad)
        for path in paths
    ]
    _tell_apart(sources)
    # Only tables have columns that a user can name.
    named = named or ("table" if options.columns else "")
    names = [named or detect(source) for source in sources]
    done = _Totals()
    with atomic(output) as final:
        first = final.with_suffix(".first.parquet")
        try:
            with stream(first, ids_repeat=False) as put:
                for where, found in _read(sources, names, clock, findings, options):
                    with closing(found):
                        for table in found:
                            put(done.fresh(_sound(table, where, findings), where, findings))
            for source in sources:
                if source.damage:
                    what = f"{source.path.name}: {source.damage}, and nothing after that was read"
                    findings.bad(what, where=str(source.path))
            _finish(first, final, output.suffix, -min(done.least_s, 0.0))
        except MemoryError as error:
            what = "reading it takes more memory than there is"
            raise InputError(what, where=", ".join(map(str, paths))[:300]) from error
        except InputError as error:
            other = "" if done.steps else _other_format(sources, named, error.where)
            mend = other or error.mend
            raise InputError(error.what, where=error.where, mend=mend) from error
        finally:
            first.unlink(missing_ok=True)
    if not done.steps:
        _note_no_steps(sources, named, findings)
    return Imported(
        tasks=done.tasks,
        steps=done.steps,
        skipped=findings.skipped,
        format="+".join(dict.fromkeys(names)),
        notes=findings.notes,
    )


def _check_place(paths: Sequence[Path], output: Path) -> None:
    """Refuse an output that cannot be written, or that would take the place of an input.

    Raises:
        InputError: so it is.
    """
    where, folder, mend = str(output), output.parent, "name another output"
    try:
        if not folder.exists():
            mend = f"make it first: mkdir -p {shlex.quote(str(folder))}"
            raise InputError(f"there is no folder '{folder}'", where=where, mend=mend)
        if not folder.is_dir():
            raise InputError(f"'{folder}' is no folder", where=where, mend=mend)
        if output.is_dir():
            raise InputError("it is a folder", where=where, mend=mend)
        check_other(output, paths)
    except OSError as error:
        what = f"cannot be written: {error.strerror or error}"
        raise InputError(what, where=where, mend=mend) from error


def _other_format(sources: Sequence[Source], named: str, where: str = "") -> str:
    """Return what a file looks like that is not in the format that the user named; else nothing.

    Args:
        sources: the files.
        named: the format; empty where none was named.
        where: what begins with the path of the file that is asked about; empty for any file.
    """
    for source in sources if named else ():
        path = str(source.path)
        if where and where != path and not where.startswith((f"{path},", f"{path} ")):
            continue
        try:
            if importer(named).recognise(source):
                continue
            found = detect(source)
            looks = f"looks like {found}: --format {found} reads it"
        except InputError:
            if named == "table":  # any columns make one
                return ""
            looks = f"does not look like {named}: is --format right?"
        return f"it {looks}" if where else f"{path} {looks}"
    return ""


def _note_no_steps(sources: Sequence[Source], named: str, findings: Findings) -> None:
    """Say why a workload has no steps."""
    count = sum(skip.count for skip in findings.skipped)
    why = f"every record was left out ({count:,})" if count else "there are no records"
    other = _other_format(sources, named)
    findings.note(f"no steps were found: {why}{other and '; '}{other}")


def _tell_apart(sources: Sequence[Source]) -> None:
    """Give several sources names of their own, which stand before the ids of their tasks."""
    taken: set[str] = set()
    for source in sources if len(sources) > 1 else ():
        stem, number = source.name, 1
        while source.name in taken:
            number += 1
            source.name = f"{stem}-{number}"
        taken.add(source.name)
        source.prefix = f"{source.name}/"


def _read(
    sources: Sequence[Source],
    names: Sequence[str],
    clock: Clock,
    findings: Findings,
    options: Options,
) -> Iterator[tuple[str, Any]]:
    """Yield where steps come from and the generator of their tables.

    Files of spans are read together, for the spans of one task may lie in several of them.
    """
    together: list[tuple[SpanImporter, Source]] = []
    for source, name in zip(sources, names, strict=True):
        module = importer(name)
        if hasattr(module, "spans"):
            together.append((cast("SpanImporter", module), source))
        else:
            yield str(source.path), module.read(source, clock, findings, options)
    if together:
        more = f" and {len(together) - 1} more" if len(together) > 1 else ""
        where = f"{together[0][1].path}{more}"
        yield where, read_files(together, clock, findings, options)


class _Totals:
    """Counts tasks and steps of tables, and keeps the earliest moment and who was there."""

    def __init__(self) -> None:
        self.tasks = 0
        self.steps = 0
        self.least_s = 0.0
        self._seen = np.zeros(0, np.int64)

    def fresh(self, table: Any, where: str, findings: Findings) -> Any:
        """Return a normalised table without the tasks that an earlier one had, and count the rest.

        Eight bytes a task are kept.

        Raises:
            InputError: there are such tasks, and bad ones are not to be skipped.
        """
        task, names = codes_of(table["task_id"])
        marks = np.array([hash(name) for name in names], np.int64)  # 64 bits that stand for it
        known = np.isin(marks, self._seen)
        steps = np.bincount(task, minlength=len(names))
        for at in np.flatnonzero(known).tolist():
            what = "there is another task with this id"
            _leave_task(findings, what, int(steps[at]), where=f"{where}, task {names[at]}")
        self._seen = np.union1d(self._seen, marks)
        found = table.filter(pa.array(~known[task])) if known.any() else table
        self.tasks += len(names) - int(known.sum())
        self.steps += int(found.num_rows)
        self.least_s = min(self.least_s, _least(found))
        return found


def _leave_task(findings: Findings, what: str, steps: int, *, where: str, mend: str = "") -> None:
    """Count the steps of a task that is left out whole.

    Raises:
        InputError: bad records are not to be skipped.
    """
    reason = f"steps of a task that is left out: {_plain(what)}"
    findings.bad(reason, where=where, mend=mend, exactly=what, count=steps)
    findings.note("tasks that are left out with all their steps", 1)


def _least(table: Any) -> float:
    """Return the earliest moment of a table; 0 where none is told."""
    found = [pc.min(table[name]).as_py() for name in MOMENTS]
    return min((value for value in found if value is not None), default=0.0)


def shifted(table: Any, by_s: float) -> Any:
    """Return a table whose moments are all later by some seconds."""
    if by_s == 0:
        return table
    for name in MOMENTS:
        at = table.column_names.index(name)
        table = table.set_column(at, name, pc.add(table[name], by_s))
    return table


def _sound(table: Any, where: str, findings: Findings) -> Any:
    """Return a table in the columns of the step record, without the tasks that break a rule.

    Raises:
        InputError: a task breaks one, and bad ones are not to be skipped.
    """
    whole = normalise(table, where)
    whole = _without_bad_rows(whole, where, findings)
    parts = list(_sound_parts(whole, where, findings))
    return pa.concat_tables(parts) if parts else whole.slice(0, 0)


def _without_bad_rows(table: Any, where: str, findings: Findings) -> Any:
    """Return a normalised table without the tasks of which a row breaks a rule by itself."""
    later = shifted(table, -min(_least(table), 0.0))
    task, names = codes_of(table["task_id"])
    left = np.zeros(len(names) + 1, np.bool_)  # the last one stands for no task
    sizes = np.bincount(task % len(left), minlength=len(left))
    for breach in breaches(later):
        if not pc.any(breach.rows).as_py():
            continue
        bad = np.flatnonzero(pc.fill_null(breach.rows, fill_value=False).to_numpy())
        fresh = bad[~left[task[bad]]]
        for row in fresh[np.unique(task[fresh], return_index=True)[1]].tolist():
            what, mend = breach.told(row)
            what = f"{breach.field}: {what}"
            named = names[task[row]] if task[row] >= 0 else ""
            place = f"{where}, task {named}" if named else where
            steps = int(sizes[task[row]])
            _leave_task(findings, what, steps, where=place, mend=mend)
        left[task[fresh]] = True
    return table.filter(pa.array(~left[task])) if left.any() else table


def _sound_parts(table: Any, where: str, findings: Findings) -> Iterator[Any]:
    """Yield the parts of a normalised table that obey all rules; each row does so by itself.

    What breaks one is halved by tasks until the one that does is alone, so that checking takes the
    logarithm of the tasks longer for each bad one, however many there are.
    """
    fault = graph_fault(table)
    if fault is None:
        yield table
        return
    codes, names = codes_of(table["task_id"])
    if len(names) <= 1:
        place = f"{where}, task {names[0]}" if names else where
        what = f"{fault.field}: {fault.what}"
        _leave_task(findings, what, table.num_rows, where=place, mend=fault.mend)
        return
    for half in (codes < len(names) // 2, codes >= len(names) // 2):
        yield from _sound_parts(table.filter(pa.array(half)), where, findings)


def _plain(what: str) -> str:
    """Return a fault without the values of its row, so that alike faults are counted together."""
    return re.sub(r"'[^']*'|\([^)]*\)|-?\d[\d.e+-]*", "…", what)


def _finish(first: Path, final: Path, suffix: str, later_s: float) -> None:
    """Write the final file from the first one, with all moments later by some seconds."""
    if suffix == ".parquet" and later_s == 0:
        first.replace(final)
        return
    with stream(final, suffix, ids_repeat=False) as put:
        for table in tables(first):
            put(shifted(table, later_s))

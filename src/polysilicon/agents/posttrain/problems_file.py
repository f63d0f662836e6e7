"""Problems of a file, such as HumanEval's or MBPP's in its form: JSON Lines.

A row is a function to write: `prompt` (imports, header and docstring), `test` (defines
`check(candidate)`, which asserts), `entry_point` (the function's name). `task_id` names it;
`canonical_solution`, which HumanEval also has, is not looked at. Rows with `held_back` true are
only evaluated; where none says so, that is one row in three, whichever the seed.
"""

from __future__ import annotations

import hashlib
import os
import random
import stat
from functools import lru_cache
from pathlib import Path
from typing import Annotated, BinaryIO

import msgspec
from msgspec import Meta

from polysilicon.agents.posttrain.problems import HELD_BACK_ONE_IN, Problem
from polysilicon.errors import InputError

_MOST_ROWS = 10_000
_MOST_BYTES = 64 * 2**20
_MEND = 'give {"prompt": …, "test": …, "entry_point": …} a line'


class _Row(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    prompt: Annotated[str, Meta(min_length=1, max_length=20_000)]
    test: Annotated[str, Meta(min_length=1, max_length=200_000)]
    entry_point: Annotated[str, Meta(pattern="^[A-Za-z_][A-Za-z0-9_]{0,99}$")]
    task_id: Annotated[str, Meta(max_length=200)] = ""
    canonical_solution: str = ""
    held_back: bool = False


class ProblemsFile:
    """Problems to learn from, and those held back, each in the order of the file."""

    def __init__(self, learnt: list[Problem], held_back: list[Problem]) -> None:
        self._learnt, self._held_back = learnt, held_back

    def draw(self, rng: random.Random, count: int, *, held_back: bool) -> list[Problem]:
        """Return different problems of one side in random order; all where there are fewer."""
        side = self._held_back if held_back else self._learnt
        return rng.sample(side, min(count, len(side)))


def read_problems(path: Path) -> ProblemsFile:
    """Read a file of problems.

    Raises:
        InputError: it cannot be read, is too large, has a bad row (names the line), or leaves
            nothing to learn from or nothing to evaluate with.
    """
    try:
        with _open(path) as stream:
            found = os.fstat(stream.fileno())
        if found.st_size > _MOST_BYTES:
            raise InputError(f"over {_MOST_BYTES >> 20} MiB", where=str(path), mend="split it")
        return _read(path, found.st_mtime_ns)
    except (OSError, ValueError) as error:  # of a name with a zero byte, too
        # Whoever may ask for tasks is not to learn from it what else lies on this machine.
        text = "cannot read the problems"
        raise InputError(text, where=repr(str(path)), mend="name a file of problems") from error


def _open(path: Path) -> BinaryIO:
    """Open a plain file; what others are, such as pipes, might never be read to its end.

    Raises:
        OSError: it cannot be opened, or is none.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError("no plain file")
    return os.fdopen(descriptor, "rb")


@lru_cache(maxsize=1)
def _read(path: Path, _changed_ns: int) -> ProblemsFile:
    """Read a file; tasks of one run, which differ in their seeds, read it once."""
    rows: list[tuple[Problem, bool]] = []
    named: dict[str, int] = {}
    with _open(path) as stream:
        for number, line in enumerate(stream.read(_MOST_BYTES).split(b"\n"), start=1):
            if not line.strip():
                continue
            where = f"{path}, line {number}"
            if len(rows) == _MOST_ROWS:
                raise InputError(f"over {_MOST_ROWS} problems", where=where, mend="split the file")
            row = _row(line, where)
            asked = row.prompt.rstrip()  # as far as the model sees it
            if asked in named:
                mend = "leave one out: a problem must not be learnt and evaluated"
                text = f"the same prompt as in line {named[asked]}"
                raise InputError(text, where=where, mend=mend)
            named[asked] = number
            rows.append((_problem(row, number), row.held_back))
    told = any(held_back for _, held_back in rows)
    aside = _aside([problem for problem, _ in rows])
    held_back = [p for p, given in rows if (given if told else p.prompt in aside)]
    learnt = [p for p, given in rows if not (given if told else p.prompt in aside)]
    if not learnt or not held_back:
        what = "learn from" if not learnt else "evaluate with"
        mend = f"give at least {HELD_BACK_ONE_IN} problems, some of them not held back"
        raise InputError(f"no problem is left to {what}", where=str(path), mend=mend)
    return ProblemsFile(learnt, held_back)


def _row(line: bytes, where: str) -> _Row:
    """Return a row, checked.

    Raises:
        InputError: it is none, or does not hold what it names.
    """
    try:
        row = msgspec.json.decode(line, type=_Row)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"not a problem: {error}", where=where, mend=_MEND) from error
    if f"def {row.entry_point}(" not in row.prompt:
        text = f"the prompt has no `def {row.entry_point}(`"
        raise InputError(text, where=where, mend="begin the function in the prompt")
    if "def check(" not in row.test:
        text = "the test has no `def check(`"
        raise InputError(text, where=where, mend="define check(candidate), which asserts")
    return row


def _problem(row: _Row, number: int) -> Problem:
    name = row.task_id or f"line {number}"
    return Problem(
        name=name, prompt=row.prompt, test=row.test, entry_point=row.entry_point, whole=True
    )


def _aside(problems: list[Problem]) -> set[str]:
    """Return the prompts of one problem in three, whatever their order in the file."""
    ordered = sorted(
        (problem.prompt for problem in problems),
        key=lambda prompt: hashlib.blake2b(prompt.encode(errors="surrogatepass")).digest(),
    )
    return set(ordered[: len(ordered) // HELD_BACK_ONE_IN])

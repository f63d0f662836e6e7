"""HumanEval: 164 functions to write, each with tests (Chen et al. 2021, arXiv 2107.03374; MIT)."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from polysilicon.runtime import assets


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """A line of the file, as far as it is used here."""

    task_id: str
    prompt: str
    entry_point: str
    test: str


def read(path: Path) -> Iterator[Problem]:
    """Yield the problems of a HumanEval file."""
    with gzip.open(path) as stream:
        for line in stream:
            yield msgspec.json.decode(line, type=Problem)


def inputs() -> Iterator[dict[str, Any]]:
    """Yield all problems as inputs of the agent, the tests under `expected`."""
    for problem in read(assets.fetch("humaneval")):
        yield {
            "task_id": problem.task_id,
            "prompt": problem.prompt,
            "entry_point": problem.entry_point,
            "expected": {"test": problem.test},
        }

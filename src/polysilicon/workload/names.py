"""Names that a workload has, and those that it has not."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pyarrow.compute as pc

from polysilicon.errors import InputError, nearest

MOST_NAMED = 8


class Names:
    """Names of agents and models, gathered table by table."""

    def __init__(self) -> None:
        self.agent: set[str] = set()
        self.model: set[str] = set()

    def add(self, table: Any) -> None:
        """Add the names of a table of steps."""
        self.agent.update(pc.unique(table["agent"]).drop_null().to_pylist())
        self.model.update(pc.unique(table["model"]).drop_null().to_pylist())

    def check(self, **wanted: str | None) -> None:
        """Refuse an `agent` or a `model` that no step has.

        Raises:
            InputError: so it is; names those that are near, or the first of those that there are.
        """
        for column, name in wanted.items():
            there = sorted(getattr(self, column))
            if name is None or name in there:
                continue
            more = f" and {len(there) - MOST_NAMED:,} more" if len(there) > MOST_NAMED else ""
            known = f"there are: {', '.join(there[:MOST_NAMED])}{more}" if there else "none is told"
            mend = nearest(name, there) or known
            raise InputError(f"no step is of {column} {name!r}", where=f"--{column}", mend=mend)


def unused_mark(names: Iterable[str]) -> str:
    """Return a mark that stands in no name."""
    mark, known = "~", list(names)
    while any(mark in name for name in known):
        mark += "~"
    return mark

"""Steps as arrays: what estimates need of them, so that many are worked out at once."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from polysilicon.cost.llm.law import Numbers
from polysilicon.errors import InputError
from polysilicon.workload.record import StepRecord
from polysilicon.workload.workload import Workload

Codes = npt.NDArray[np.int64]

TEXTS = ("kind", "name", "model", "offer", "region")
NUMBERS = (
    "prompt_tokens",
    "cached_tokens",
    "output_tokens",
    "cpu_s",
    "cores",
    "wait_s",
    "startup_s",
    "memory_bytes",
    "start_s",
    "first_token_s",
    "end_s",
    "cost_usd",
    "energy_j",
)

AMOUNTS = ("prompt_tokens", "cached_tokens", "output_tokens", "memory_bytes", "cores")
"""Numbers that cannot be below 0; core-seconds and waits are checked where tools are estimated."""


class Named(msgspec.Struct, frozen=True, kw_only=True):
    """A column of texts.

    Attributes:
        codes: (steps,), -1 where there is no text.
        texts: of each code.
    """

    codes: Codes
    texts: Sequence[str]

    def take(self, chosen: Codes) -> Named:
        """Return some steps."""
        return Named(codes=self.codes[chosen], texts=self.texts)

    def groups(self) -> list[tuple[str | None, Codes]]:
        """Return each text that occurs, and which steps have it."""
        found: list[tuple[str | None, Codes]] = []
        for code in np.unique(self.codes):
            text = None if code < 0 else self.texts[int(code)]
            found.append((text, np.flatnonzero(self.codes == code)))
        return found


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """Steps by columns; numbers that are not there are not a number.

    Attributes:
        texts: columns of `TEXTS`.
        numbers: columns of `NUMBERS`, each (steps,).
    """

    texts: dict[str, Named]
    numbers: dict[str, Numbers]

    def __len__(self) -> int:
        """Return the number of steps."""
        return len(self.numbers["prompt_tokens"])

    def __getitem__(self, column: str) -> Numbers:
        """Return a column of numbers."""
        return self.numbers[column]

    def or_else(self, column: str, value: float) -> Numbers:
        """Return a column of numbers with a value where there is none."""
        numbers = self.numbers[column]
        return np.where(np.isnan(numbers), value, numbers)

    def take(self, chosen: Codes) -> Batch:
        """Return some steps."""
        return Batch(
            texts={name: column.take(chosen) for name, column in self.texts.items()},
            numbers={name: column[chosen] for name, column in self.numbers.items()},
        )


def batch_of(steps: Sequence[StepRecord] | Workload) -> Batch:
    """Return steps by columns.

    Raises:
        InputError: a value of the wrong type.
    """
    if isinstance(steps, Workload):
        pairs = {name: steps.codes(name) for name in TEXTS}
        return Batch(
            texts={name: Named(codes=codes, texts=texts) for name, (codes, texts) in pairs.items()},
            numbers={name: steps.numbers(name) for name in NUMBERS},
        )
    return Batch(
        texts={name: _named([getattr(step, name) for step in steps]) for name in TEXTS},
        numbers={name: _numbers([getattr(step, name) for step in steps]) for name in NUMBERS},
    )


def check_amounts(batch: Batch) -> None:
    """Raise `InputError` where an amount is negative or infinite; one that is not there is fine."""
    for name in AMOUNTS:
        numbers = batch[name]
        wrong = numbers[(numbers < 0) | np.isinf(numbers)]
        if len(wrong):
            raise InputError(f"{name} is {wrong[0]:g}", mend="it is a number from 0 up")


def _named(values: Sequence[str | None]) -> Named:
    """Return texts as codes, in order of first appearance."""
    seen = {text: code for code, text in enumerate(dict.fromkeys(v for v in values if v))}
    codes = np.array([seen[v] if v else -1 for v in values], dtype=np.int64)
    return Named(codes=codes, texts=list(seen))


def _numbers(values: Sequence[float | None]) -> Numbers:
    """Return numbers, not a number where there is none."""
    return np.array([np.nan if v is None else v for v in values], dtype=np.float64)

"""Measured token rates: one model, one engine, one server type, alone and busy."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from importlib.resources.abc import Traversable
from typing import Any, Literal

import msgspec

from polysilicon.catalog.tables import amount, blank_or, data_folder, day, text
from polysilicon.errors import InputError

Device = Literal["cpu", "accelerator"]


class LlmRate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one server type did with one model; None was not measured.

    Attributes:
        offer: server type, `cloud/instance type`.
        model: by its catalog name.
        engine: `llama.cpp` or `vllm`.
        precision: of the weights.
        device: what computed, the processors of the host or its accelerator.
        prefill_512_tokens_per_s: prompt of 512 tokens.
        prefill_4096_tokens_per_s: prompt of 4,096 tokens.
        decode_128_tokens_per_s: 128 tokens after no prompt.
        decode_512_tokens_per_s: 512 tokens after no prompt.
        output_256_128_tokens_per_s: 128 output tokens over the whole time of a request with 256
            prompt tokens, one request at a time.
        output_1024_256_tokens_per_s: the same with 256 output and 1,024 prompt tokens.
        busy_256_128_tokens_per_s: output of all requests together when as many as possible run.
        busy_256_128_concurrency: how many ran then, a mean.
        busy_1024_256_tokens_per_s: the same with 256 output and 1,024 prompt tokens.
        busy_1024_256_concurrency: how many ran then, a mean.
        date: of the measurement.
    """

    offer: str
    model: str
    engine: str
    precision: str
    device: Device = "cpu"
    prefill_512_tokens_per_s: float | None = None
    prefill_4096_tokens_per_s: float | None = None
    decode_128_tokens_per_s: float | None = None
    decode_512_tokens_per_s: float | None = None
    output_256_128_tokens_per_s: float | None = None
    output_1024_256_tokens_per_s: float | None = None
    busy_256_128_tokens_per_s: float | None = None
    busy_256_128_concurrency: float | None = None
    busy_1024_256_tokens_per_s: float | None = None
    busy_1024_256_concurrency: float | None = None
    date: str


def _device(cell: str) -> str:
    """Accept `cpu` or `accelerator`."""
    if cell not in ("cpu", "accelerator"):
        raise ValueError("must be cpu or accelerator")
    return cell


_RATE = blank_or(amount)
_COLUMNS = {
    name: {"device": _device, "date": day}.get(
        name, text if name in ("offer", "model", "engine", "precision") else _RATE
    )
    for name in LlmRate.__struct_fields__
}


class RateTable(Mapping[str, tuple[LlmRate, ...]]):
    """Measured rates by server type; a row is checked when it is asked for.

    Reading all cells as text takes milliseconds, checking them all a tenth of a second, and most
    questions are about a few types.

    Args:
        source: the file.

    Raises:
        InputError: another header, or a row with too few or too many cells.
    """

    def __init__(self, source: Traversable) -> None:
        self._name = source.name
        self._rows: dict[str, list[tuple[int, list[str]]]] = {}
        with source.open("r", encoding="utf-8") as lines:
            rows = csv.reader(lines)
            header = next(rows, [])
            if header != list(_COLUMNS):
                what = f"columns are {', '.join(header) or 'missing'}"
                mend = f"must be {', '.join(_COLUMNS)}"
                raise InputError(what, where=source.name, mend=mend)
            for cells in rows:
                if len(cells) != len(_COLUMNS):
                    what = f"has {len(cells)} cells, not {len(_COLUMNS)}"
                    raise InputError(what, where=f"{source.name}, row {rows.line_num}")
                self._rows.setdefault(cells[0], []).append((rows.line_num, cells))

    def __getitem__(self, offer: str) -> tuple[LlmRate, ...]:
        """Return the rates of a server type.

        Raises:
            KeyError: nothing was measured on it.
            InputError: a cell that cannot be; names file, row and column.
        """
        return tuple(self._checked(line, cells) for line, cells in self._rows[offer])

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def _checked(self, line: int, cells: list[str]) -> LlmRate:
        """Return a row as a record."""
        values: dict[str, Any] = {}
        for (name, cell_of), cell in zip(_COLUMNS.items(), cells, strict=True):
            try:
                values[name] = cell_of(cell)
            except ValueError as error:
                where = f"{self._name}, row {line}, {name}"
                raise InputError(f"{cell!r}: {error}", where=where) from error
        return LlmRate(**values)


def read_rates(source: Traversable) -> RateTable:
    """Read measured rates by server type."""
    return RateTable(source)


def load_rates() -> RateTable:
    """Return the rates that come with Polysilicon."""
    return RateTable(data_folder() / "cc_by_sa" / "llm_rates.csv")

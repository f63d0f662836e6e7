"""Measured token rates: one model, one engine, one instance type, one request at a time."""

from __future__ import annotations

from importlib.resources.abc import Traversable

import msgspec

from polysilicon.catalog.tables import amount, blank_or, day, read_rows, text


class LlmRate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one instance type did with one model; None was not measured.

    Attributes:
        offer: instance type.
        model: by its catalog name.
        engine: `llama.cpp` or `vllm`.
        precision: of the weights.
        prefill_512_tokens_per_s: prompt of 512 tokens.
        prefill_4096_tokens_per_s: prompt of 4,096 tokens.
        decode_128_tokens_per_s: 128 tokens after no prompt.
        decode_512_tokens_per_s: 512 tokens after no prompt.
        output_256_128_tokens_per_s: 128 output tokens over the whole time of a request with 256
            prompt tokens.
        output_1024_256_tokens_per_s: the same with 256 output and 1,024 prompt tokens.
        date: of the measurement.
    """

    offer: str
    model: str
    engine: str
    precision: str
    prefill_512_tokens_per_s: float | None = None
    prefill_4096_tokens_per_s: float | None = None
    decode_128_tokens_per_s: float | None = None
    decode_512_tokens_per_s: float | None = None
    output_256_128_tokens_per_s: float | None = None
    output_1024_256_tokens_per_s: float | None = None
    date: str


_RATE = blank_or(amount)
_COLUMNS = {
    "offer": text,
    "model": text,
    "engine": text,
    "precision": text,
    "prefill_512_tokens_per_s": _RATE,
    "prefill_4096_tokens_per_s": _RATE,
    "decode_128_tokens_per_s": _RATE,
    "decode_512_tokens_per_s": _RATE,
    "output_256_128_tokens_per_s": _RATE,
    "output_1024_256_tokens_per_s": _RATE,
    "date": day,
}


def read_rates(source: Traversable) -> dict[str, tuple[LlmRate, ...]]:
    """Read measured rates by instance type."""
    rates: dict[str, list[LlmRate]] = {}
    for _, row in read_rows(source, _COLUMNS):
        rates.setdefault(row["offer"], []).append(LlmRate(**row))
    return {offer: tuple(rows) for offer, rows in rates.items()}

"""The LLM part of a profile as a measurement file, which `validate` and others can read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from polysilicon.catalog.fleet import LOCAL
from polysilicon.catalog.measurements import Measurement, write_measurements
from polysilicon.cost.profile import LlmProfile, Profile

FILE = "measurements.csv"


def write_rows(profile: Profile, beside: Path) -> Path | None:
    """Write the rows of a profile beside it; return where, or None where there are none.

    Raises:
        PolysiliconError: the disk is full, or the folder cannot be written.
    """
    rows = list(measurements(profile))
    if not rows:
        return None
    path = beside.with_name(FILE)
    write_measurements(rows, path)
    return path


def measurements(profile: Profile) -> Iterator[Measurement]:
    """Yield a row for each measured prompt and each measured batch.

    A prompt's row has the tokens that were computed, no output and a concurrency of 1. A batch's
    row is of output after no prompt, twice as long as the context, so that the mean context of its
    tokens is right, and has tokens a second of all sequences together.
    """
    number = 0
    for llm in (*profile.llm.values(), *profile.servers):
        # The file has no column for tokens from a cache.
        for prompt in (p for p in llm.prefill if p.fresh):
            number += 1
            yield msgspec.structs.replace(
                _row(profile, llm, number),
                concurrency=1.0,
                prompt_tokens=prompt.new_tokens,
                output_tokens=0,
                ttft_ms=prompt.seconds.median * 1e3,
                prefill_tokens_per_s=prompt.new_tokens / prompt.seconds.median,
            )
        for batch in llm.decode:
            number += 1
            yield msgspec.structs.replace(
                _row(profile, llm, number),
                concurrency=float(batch.sequences),
                prompt_tokens=0,
                output_tokens=round(2 * batch.context_tokens),
                tpot_ms=batch.seconds.median * 1e3,
                decode_tokens_per_s=batch.sequences / batch.seconds.median,
            )


def _row(profile: Profile, llm: LlmProfile, number: int) -> Measurement:
    """Return what all rows of a model share."""
    return Measurement(
        row=number,
        source=f"polysilicon {profile.version} calibrate",
        date=profile.measured_at[:10],
        instance=LOCAL,
        processor=profile.cpu or profile.arch,
        count=profile.cores,
        engine=llm.engine,
        engine_version=llm.engine_version,
        model=llm.model,
        precision=llm.precision,
    )

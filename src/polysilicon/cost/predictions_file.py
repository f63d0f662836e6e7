"""Predictions as a CSV file: one line for each metric of each row, refused rows with the reason."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

from polysilicon.cost.predict import Answer, Refusal
from polysilicon.disk import write_whole

_OF_ROW = (
    "row",
    "source",
    "instance",
    "processor",
    "count",
    "engine",
    "model",
    "precision",
    "concurrency",
    "prompt_tokens",
    "output_tokens",
)
COLUMNS = (*_OF_ROW, "metric", "measured", "predicted", "low", "high", "basis", "note", "refused")


def write_predictions(answers: Sequence[Answer], path: Path) -> None:
    """Write predictions; on any failure the old file, or none, is left.

    Raises:
        PolysiliconError: the disk is full, or the folder cannot be written.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for answer in answers:
        writer.writerows(_lines(answer))
    write_whole(path, text.getvalue().encode())


def _lines(answer: Answer) -> Iterator[list[object]]:
    """Yield the lines of a row."""
    told = [getattr(answer.row, name) for name in _OF_ROW]
    if isinstance(answer, Refusal):
        yield [*told, *[None] * 7, answer.reason]
        return
    for metric, said in answer.values.items():
        figures = (getattr(answer.row, metric), said.value, said.low, said.high)
        yield [*told, metric, *figures, answer.basis, answer.note, None]

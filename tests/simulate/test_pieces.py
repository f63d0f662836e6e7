"""Large files are played piece by piece, as if they were read at once."""

from __future__ import annotations

import numpy as np
import pytest

from polysilicon.catalog.fleet import Fleet, Pool
from polysilicon.simulate import simulate, source
from polysilicon.workload import files
from polysilicon.workload.record import StepRecord
from polysilicon.workload.workload import Workload

FLEET = Fleet(
    pool=(Pool(name="cpu", offer="aws/m7g.large", region="us-east-1", serves=("tool:*",)),)
)


def made(arrivals_s, rng) -> Workload:
    """Return tasks of two steps, the second after the first."""
    return Workload.from_records(
        StepRecord(
            task_id=f"t{task:04d}",
            step_id=f"s{step}",
            parent_ids=("s0",) if step else (),
            kind="tool",
            name="work",
            arrival_s=arrival_s,
            ready_s=arrival_s + step,
            end_s=arrival_s + step + 1,
            cpu_s=float(rng.exponential()),
            offer="aws/m7g.large",
        )
        for task, arrival_s in enumerate(arrivals_s)
        for step in range(2)
    )


@pytest.mark.parametrize("at_once", [1, 5])
def test_pieces_are_played_as_the_whole(at_once, tmp_path, monkeypatch):
    # Several tasks come at the same moment, also where one piece ends and the next begins.
    rng = np.random.default_rng(1)
    workload = made(np.repeat(np.arange(60 // at_once) * 0.7 * at_once, at_once).tolist(), rng)
    path = tmp_path / "w.parquet"
    files.write(workload, path)
    outputs = [tmp_path / "whole.parquet", tmp_path / "pieces.parquet"]
    simulate(path, FLEET, output=outputs[0])
    monkeypatch.setattr(source, "MOST_ROWS", 10)
    monkeypatch.setattr(source, "tables", lambda _: cut(workload, 13))
    simulate(path, FLEET, output=outputs[1])
    whole, pieces = (by_name(files.read(output)) for output in outputs)
    assert len(whole) == len(workload)
    assert pieces == whole


def cut(workload: Workload, rows: int):
    for first in range(0, len(workload), rows):
        yield workload.table.slice(first, rows)


def by_name(workload: Workload) -> dict:
    return {(step.task_id, step.step_id): step for step in workload.steps()}

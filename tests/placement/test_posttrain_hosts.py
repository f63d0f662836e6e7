"""The example that tells what moving verification off GPU hosts saves."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from polysilicon.workload.files import write
from polysilicon.workload.record import StepRecord
from polysilicon.workload.workload import Workload

EXAMPLE = Path(__file__).parents[2] / "examples" / "posttrain_hosts.py"


def test_heavy_verification_leaves_gpu_hosts_and_light_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = importlib.util.spec_from_file_location("posttrain_hosts", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    monkeypatch.setattr(example, "HEAVIER", (1, 400))
    common = {"agent": "loop", "outcome": "ok"}
    steps = []
    for n in range(60):
        at = {"task_id": f"t{n}", "arrival_s": 10.0 * n}
        steps += [
            StepRecord(step_id="a", name="sample", kind="llm", model="llama-3.1-8b-instruct",
                       prompt_tokens=500, output_tokens=300, **at, **common),
            StepRecord(step_id="b", name="reward", kind="tool", cpu_s=1.0, parent_ids=("a",),
                       offer="aws/m7g.large", **at, **common),
        ]  # fmt: skip
    path = tmp_path / "loop.parquet"
    write(Workload.from_records(steps), path)
    example.main(str(path), "aws/p5.4xlarge")
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    light, heavy = (row for row in rows if row[2:3] == ["fills"])
    assert light[-1].startswith("-")
    assert int(heavy[-1].removesuffix("%")) > 30
    assert int(heavy[3]) > 1  # machines that it fills

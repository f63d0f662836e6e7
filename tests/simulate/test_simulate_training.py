"""Training steps take what the cost model says, adapters what adapters take."""

from __future__ import annotations

import pytest

from polysilicon import catalog
from polysilicon.catalog.fleet import Fleet, Pool
from polysilicon.cost.train import train_seconds
from polysilicon.errors import PolysiliconError
from polysilicon.simulate import simulate
from polysilicon.workload.record import StepRecord
from polysilicon.workload.workload import Workload

H100 = Pool(name="h100", offer="aws/p5.4xlarge", region="us-east-1", serves=("train:*",))


def training(name: str) -> Workload:
    step = StepRecord(
        task_id="t", step_id="1", agent="a", name=name, kind="train", model="qwen3-8b",
        arrival_s=0.0, parent_ids=(), prompt_tokens=200_000,
    )  # fmt: skip
    return Workload.from_records([step])


def test_a_step_that_trains_adapters_is_simulated_as_one() -> None:
    known = catalog.load()
    offer = known.offer("aws/p5.4xlarge", "us-east-1")
    law = train_seconds(200_000.0, known.model("qwen3-8b"), offer, method="lora")
    result = simulate(training("lora"), Fleet(pool=(H100,)))
    assert result.task_s.p50 == pytest.approx(float(law.service_s), rel=1e-3)


def test_full_training_of_the_same_model_does_not_fit_there() -> None:
    with pytest.raises(PolysiliconError, match="does not fit"):
        simulate(training("train"), Fleet(pool=(H100,)))

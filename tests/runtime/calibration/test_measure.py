from __future__ import annotations

import asyncio

import pytest

from polysilicon.catalog.machine import detect
from polysilicon.cost.profile import write_profile
from polysilicon.cost.profile_found import find_profile
from polysilicon.runtime.calibration.extent import Extent
from polysilicon.runtime.calibration.measure import calibrate

SMALL = Extent(
    search=False,
    train=False,
    text_bytes=20_000,
    array_bytes=2**20,
    documents=20,
    prompts=(8, 48),
    extension=8,
    contexts=(32,),
    at_once=(1, 2),
    output=8,
    repeats=1,
    most=1,
    spin_s=0.2,
    trial_steps=3,
)


def test_a_part_that_fails_leaves_the_others():
    told: list[str] = []
    found = asyncio.run(
        calibrate(detect(), "no-such-model", lambda part, what: told.append(part), SMALL)
    )
    assert found.llm == {}
    assert "no model 'no-such-model'" in found.failed["llm"]
    assert found.core_speed is not None
    assert found.memory_bandwidth is not None
    assert found.search is not None
    assert "monty" in found.sandboxes
    assert {"core speed", "memory bandwidth", "search", "llm"} <= set(told)


@pytest.mark.usefixtures("local_model")
def test_the_local_model_is_measured_as_the_runtime_serves_it(tmp_path):
    found = asyncio.run(calibrate(detect(), None, lambda part, what: None, SMALL))
    assert "llm" not in found.failed
    (llm,) = found.llm.values()
    assert llm.slots == 8
    assert llm.prefill_tokens_per_s > 0
    assert llm.decode_tokens_per_s > 0
    assert [point.sequences for point in llm.decode] == [1, 2]
    assert [point.busy for point in llm.stretch] == list(range(1, found.cores + 1))
    assert llm.trial is not None
    assert llm.trial.steps == 3
    path = tmp_path / "profile.json"
    write_profile(found, path)
    again = find_profile(detect(), path)
    assert again.profile == found

from __future__ import annotations

import numpy as np
import pytest
from msgspec.structs import replace

from polysilicon import catalog, cost
from polysilicon.catalog.encoders import encoder
from polysilicon.catalog.machine import detect
from polysilicon.cost import kinds
from polysilicon.cost.beside import predict_run
from polysilicon.cost.embed import embed_seconds
from polysilicon.cost.energy import watts
from polysilicon.cost.estimates import COLUMNS
from polysilicon.cost.kinds import crowding, here, reference
from polysilicon.cost.llm.choose import own_profile
from polysilicon.cost.money import usd_per_s
from polysilicon.cost.profile import profile_path, write_profile
from polysilicon.cost.tools import core_speed
from polysilicon.cost.train import train_seconds
from polysilicon.cost.types import BASES
from polysilicon.workload.record import StepRecord
from profiles import TRAIN_TOKENS_PER_S, profile

CATALOG = catalog.load()
M7G = CATALOG.offer("aws/m7g.large", "us-east-1")
H100 = CATALOG.offer("aws/p5.48xlarge", "us-east-1")
LLAMA = CATALOG.models["llama-3.1-8b-instruct"]


def step(kind, name, **values):
    return StepRecord(task_id="t", step_id="1", name=name, kind=kind, **values)


def bulk(steps, offer, load=None):
    return cost.estimate_all(cost.batch_of(steps), offer, load or cost.Load(), CATALOG)


@pytest.fixture
def own(tmp_path, monkeypatch):
    """This machine as if its cores had been measured: 1.2 times those of AWS Graviton3."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    machine = detect()
    measured = replace(
        profile(),
        cpu=machine.cpu,
        arch=machine.arch,
        cores=machine.cores,
        memory_bytes=machine.memory_bytes,
    )
    profile_path().parent.mkdir(parents=True, exist_ok=True)
    write_profile(measured, profile_path())
    own_profile.cache_clear()
    yield measured
    own_profile.cache_clear()


def ratio_of(found, at=0):
    return float(found.note(at).partition("times ")[2].partition(",")[0])


def test_core_seconds_of_local_are_those_of_the_offer_it_is_priced_as():
    priced_as = here(CATALOG).processor
    assert reference("local", CATALOG) == priced_as
    assert reference("aws/m7g.large", CATALOG) == M7G.processor
    assert reference("aws/nowhere", CATALOG) is None
    found = bulk([step("tool", "code", cpu_s=1.0, offer="local")], M7G)
    speeds = core_speed(priced_as, "local") / core_speed(M7G.processor, M7G.name)
    assert ratio_of(found) == pytest.approx(speeds, abs=0.006)


def test_where_this_machine_was_measured_its_own_speed_counts(own):
    there = bulk([step("tool", "code", cpu_s=1.0, offer="local")], M7G)
    assert ratio_of(there) == pytest.approx(1.2 / core_speed(M7G.processor, M7G.name), abs=0.006)
    assert there["low_s"][0] < there["service_s"][0] < there["high_s"][0]
    back = bulk([step("tool", "code", cpu_s=1.0, offer="aws/m7g.large")], here(CATALOG))
    assert ratio_of(back) == pytest.approx(core_speed(M7G.processor, M7G.name) / 1.2, abs=0.006)
    stays = bulk([step("tool", "code", cpu_s=1.0, offer="local")], here(CATALOG))
    assert ratio_of(stays) == 1.0


def test_embedding_steps_go_by_their_encoder():
    tokens = np.array([500.0, 2000.0])
    steps = [step("embed", "embed", model="all-minilm-l6-v2", prompt_tokens=int(t)) for t in tokens]
    found = bulk(steps, M7G)
    said = embed_seconds(tokens, encoder("all-minilm-l6-v2"), M7G)
    assert found["service_s"].tolist() == said.service_s.tolist()
    assert found["cost_usd"] == pytest.approx(usd_per_s(M7G) * said.service_s * said.share)
    assert found["energy_j"] == pytest.approx(watts(M7G).full_w * said.service_s * said.share)
    assert found.note(0) == said.note


@pytest.mark.parametrize(("name", "method"), [("lora-tune", "lora"), ("tune", "full")])
def test_training_steps_go_by_their_method(name, method):
    found = bulk([step("train", name, model=LLAMA.name, prompt_tokens=10**6)], H100)
    said = train_seconds(np.array([1e6]), LLAMA, H100, method=method)
    assert found["service_s"].tolist() == said.service_s.tolist()
    assert np.isnan(found["ttft_s"]).all()


def test_adapters_are_trained_here_as_fast_as_was_calibrated(own):
    found = bulk(
        [
            step("train", "lora", model="tiny", prompt_tokens=3000),
            step("train", "lora", model=LLAMA.name, prompt_tokens=3000),
        ],
        here(CATALOG),
    )
    assert found["service_s"][0] == pytest.approx(3000 / TRAIN_TOKENS_PER_S)
    assert found["low_s"][0] == pytest.approx(3000 / (1.02 * TRAIN_TOKENS_PER_S))
    assert found.note(0) == "2 threads, bfloat16, lora, as calibrated"
    assert found.note(1) != found.note(0)  # of another model nothing was measured
    ran = [
        step("train", name, model="tiny", prompt_tokens=3000, start_s=5.0, end_s=19.0,
             startup_s=4.0, outcome="ok")
        for name in ("lora", "full")
    ]  # fmt: skip
    run = predict_run(ran, own)
    assert [told.service_s for told in run.steps] == [pytest.approx(4.0 + 10.0)]
    assert run.refused == {"training was not measured here": 1}


def test_tokens_that_are_missing_refuse_only_their_step():
    found = bulk(
        [
            step("embed", "embed", model="all-minilm-l6-v2"),
            step("embed", "embed", model="all-minilm-l6-v2", prompt_tokens=100),
            step("embed", "embed", model="no-such-encoder", prompt_tokens=100),
            step("train", "tune", model="no-such-model", prompt_tokens=100),
            step("train", "tune", prompt_tokens=100),
        ],
        M7G,
    )
    assert (found.basis >= 0).tolist() == [False, True, False, False, False]
    assert found.note(0) == found.note(4)
    assert found.note(0) == "an embedding or training step needs model and prompt_tokens"
    assert "no-such-encoder" in found.note(2)
    assert "no-such-model" in found.note(3)


def test_joules_are_not_told_where_power_is_not_known():
    blank = replace(H100, processor=replace(H100.processor, tdp_w=None))
    found = bulk([step("llm", "chat", model=LLAMA.name, prompt_tokens=9, output_tokens=9)], blank)
    assert np.isnan(found["energy_j"]).all()
    assert (found["service_s"] > 0).all()
    cpu = replace(M7G, processor=replace(M7G.processor, tdp_w=None))
    tools = bulk([step("tool", "code", cpu_s=1.0, offer="aws/m7g.large")], cpu)
    assert np.isnan(tools["energy_j"]).all()


@pytest.mark.parametrize("name", ["aws/m8g.2xlarge", "aws/m7i.4xlarge", "gcp/c4-standard-16"])
def test_threads_of_an_engine_take_turns_with_other_work(name):
    offer = CATALOG.offer(name)
    assert crowding(offer, 0.0) == 1.0
    # A thread on each of V vCPUs and u·V more of others: each runs 1/(1+u) of the time.
    for much in (0.1, 1.0, 3.0, 1000.0):
        assert crowding(offer, much) == pytest.approx(1.0 + much)
    assert crowding(H100, 3.0) == 1.0


def test_other_work_stretches_llm_steps_on_cpus_at_the_same_dollars():
    offer = CATALOG.offer("gcp/c4-standard-16")
    asked = [step("llm", "chat", model="smollm-135m", prompt_tokens=512, output_tokens=64)]
    serving = cost.Serving(engine="llama.cpp")
    alone, busy = (
        bulk(asked, offer, cost.Load(utilisation=much, serving=serving)) for much in (0.0, 1.5)
    )
    for name in ("service_s", "low_s", "high_s", "ttft_s", "ttft_high_s", "tpot_s", "tpot_low_s"):
        assert busy[name] == pytest.approx(2.5 * alone[name])
    # It holds its part of the machine for so much longer.
    assert busy["cost_usd"] == pytest.approx(alone["cost_usd"])
    assert busy["energy_j"] == pytest.approx(alone["energy_j"], nan_ok=True)
    assert (BASES[alone.basis[0]], BASES[busy.basis[0]]) == ("measured", "calibrated")


def test_other_work_on_the_host_does_not_slow_accelerators():
    asked = [step("llm", "chat", model=LLAMA.name, prompt_tokens=512, output_tokens=64)]
    alone, busy = (bulk(asked, H100, cost.Load(utilisation=much)) for much in (0.0, 1.5))
    for name in COLUMNS:
        assert np.array_equal(busy[name], alone[name], equal_nan=True)
    assert busy.basis == alone.basis


def test_a_step_of_no_kind_that_is_known_cannot_be():
    assert set(kinds.KINDS) == {"llm", "tool", "embed", "train"}

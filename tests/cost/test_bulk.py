from __future__ import annotations

import numpy as np
import pytest
from msgspec.structs import replace

from polysilicon import catalog, cost
from polysilicon.catalog.fleet import OwnPrice
from polysilicon.cost.carbon import grams
from polysilicon.cost.estimates import COLUMNS
from polysilicon.cost.types import BASES
from polysilicon.errors import InputError, NoBasisError
from polysilicon.workload.record import StepRecord
from polysilicon.workload.workload import Workload

CATALOG = catalog.load()
M7G = CATALOG.offer("aws/m7g.large", "us-east-1")
H100 = CATALOG.offer("aws/p5.48xlarge", "us-east-1")
L4 = CATALOG.offer("gcp/g2-standard-4", "us-central1")
TPU = CATALOG.offer("gcp/tpu-v6e-16", "us-central1")


def llm(step_id, **values):
    asked = {"model": "llama-3.1-8b-instruct", "prompt_tokens": 1000, "output_tokens": 100} | values
    return StepRecord(task_id="t", step_id=step_id, name="chat", kind="llm", **asked)


def tool(step_id, **values):
    asked = {"cpu_s": 1.0, "offer": "aws/m7g.large"} | values
    return StepRecord(task_id="t", step_id=step_id, name="code", kind="tool", **asked)


MIXED = [
    llm("1"),
    tool("2"),
    llm("3", model="qwen2.5-7b-instruct"),
    llm("4", model=None),
    tool("5", cpu_s=None),
    llm("6", prompt_tokens=1200, cached_tokens=900),
    tool("7", startup_s=0.5, wait_s=1.0, cores=2.0, memory_bytes=2**30),
    tool("8", offer="aws/m8a.large"),
    StepRecord(
        task_id="t", step_id="9", name="embed", kind="embed", model="all-minilm-l6-v2",
        prompt_tokens=500,
    ),
    StepRecord(
        task_id="t", step_id="10", name="lora", kind="train", model="llama-3.1-8b-instruct",
        prompt_tokens=100_000,
    ),
    llm("11", offer="aws/p5.48xlarge", start_s=1.0, end_s=4.0, first_token_s=2.0),
]  # fmt: skip


def bulk(steps, offer, load=None, **more):
    return cost.estimate_all(cost.batch_of(steps), offer, load or cost.Load(), CATALOG, **more)


@pytest.mark.parametrize("offer", [M7G, H100, L4, TPU], ids=lambda o: o.name)
@pytest.mark.parametrize("concurrency", [1, 16])
def test_one_step_and_many_agree_to_the_last_bit(offer, concurrency):
    load = cost.Load(concurrency=concurrency)
    found = bulk(MIXED, offer, load)
    answered = 0
    for i, step in enumerate(MIXED):
        if found.basis[i] == cost.REFUSED:
            with pytest.raises(NoBasisError) as caught:
                cost.estimate(step, offer, load)
            assert str(caught.value) == found.note(i)
            assert all(np.isnan(found[name][i]) for name in COLUMNS)
            continue
        answered += 1
        guess = cost.estimate(step, offer, load)
        for name in COLUMNS:
            told = getattr(guess, name)
            assert told == found[name][i] or (told is None and np.isnan(found[name][i])), name
        assert guess.basis == BASES[found.basis[i]]
        assert guess.note == found.note(i)
    assert answered >= 4


def test_records_and_a_workload_are_estimated_alike():
    one, other = (
        bulk(MIXED, H100),
        cost.estimate_all(cost.batch_of(Workload.from_records(MIXED)), H100, cost.Load(), CATALOG),
    )
    for name in COLUMNS:
        assert np.array_equal(one[name], other[name], equal_nan=True)
    assert [one.note(i) for i in range(len(MIXED))] == [other.note(i) for i in range(len(MIXED))]


def test_more_steps_than_are_corrected_one_by_one():
    rng = np.random.default_rng(5)
    sizes = zip(rng.integers(2000, 4000, 300), rng.integers(5, 90, 300), strict=True)
    steps = [
        llm(str(i), prompt_tokens=int(p), output_tokens=int(o)) for i, (p, o) in enumerate(sizes)
    ]
    load = cost.Load(concurrency=8, serving=cost.Serving(count=1))
    found = bulk(steps, H100, load)
    for i in range(0, 300, 20):
        guess = cost.estimate(steps[i], H100, load)
        assert found["ttft_s"][i] == pytest.approx(guess.ttft_s, rel=0.01)
        assert found["tpot_s"][i] == pytest.approx(guess.tpot_s, rel=0.01)
        assert found["cost_usd"][i] == pytest.approx(guess.cost_usd, rel=0.01)


def test_a_step_that_is_refused_does_not_change_the_others():
    alone = bulk([llm("1")], H100)
    beside = bulk([llm("1"), llm("2", prompt_tokens=10**12), llm("3", model="no such")], H100)
    for name in COLUMNS:
        assert beside[name][0] == alone[name][0]
    assert beside.basis.tolist() == [alone.basis[0], cost.REFUSED, cost.REFUSED]
    assert "a step of more than" in beside.note(1)


def test_the_longest_step_that_fits_is_answered():
    refused = bulk([llm("1", prompt_tokens=10**9)], L4).note(0)
    most = int(refused.partition("more than ")[2].partition(" ")[0])
    found = bulk(
        [
            llm("1"),
            llm("2", prompt_tokens=most - 9, output_tokens=10),
            llm("3", prompt_tokens=most - 8, output_tokens=10),
        ],
        L4,
    )
    assert (found.basis >= 0).tolist() == [True, True, False]
    assert found.note(2) == refused


def test_reasons_can_be_counted():
    steps = [tool("1", cpu_s=None), llm("2"), tool("3", cpu_s=None), llm("4", model=None)]
    found = bulk(steps, M7G)
    assert found.note(0) == found.note(2) == "a tool step needs cpu_s"
    assert found.notes[0] == found.notes[2]
    assert found.note(3) == "an LLM step needs model, prompt_tokens and output_tokens"
    assert len(found.words) == len(set(found.words))


def test_an_unknown_price_refuses_all():
    found = bulk(MIXED, replace(H100, on_demand_usd_per_hour=None))
    assert (found.basis == cost.REFUSED).all()
    assert {found.note(i) for i in range(len(MIXED))} == {
        "no on-demand price of aws/p5.48xlarge in us-east-1 is known"
    }


def test_a_price_that_the_user_states():
    priced = bulk(MIXED[:3], M7G, price=OwnPrice(usd_per_hour=2 * M7G.usd_per_hour()))
    usual = bulk(MIXED[:3], M7G)
    assert priced["cost_usd"] == pytest.approx(2 * usual["cost_usd"], nan_ok=True)
    assert np.array_equal(priced["service_s"], usual["service_s"], equal_nan=True)


def test_no_steps():
    found = bulk([], H100)
    assert found.basis.shape == (0,)
    assert found["service_s"].shape == (0,)


def test_what_was_recorded_here_stays_what_it_was():
    found = bulk(MIXED, H100)
    assert found.note(10) == "as recorded"
    assert found["service_s"][10] == found["low_s"][10] == found["high_s"][10] == 3.0
    assert found["ttft_s"][10] == 1.0
    assert BASES[found.basis[10]] == "measured"
    assert found["cost_usd"][10] == pytest.approx(H100.usd_per_hour() / 3600 * 3.0)
    # The host's few core-seconds are not what an accelerator's time costs.
    hosted = llm("1", offer=H100.name, start_s=1.0, end_s=4.0, first_token_s=2.0, cpu_s=0.01)
    assert bulk([hosted], H100)["cost_usd"] == found["cost_usd"][10]
    shared = bulk([hosted], H100, cost.Load(concurrency=4))
    assert shared["cost_usd"] == pytest.approx(H100.usd_per_hour() / 3600 * 3.0 / 4)
    # A tool step there does cost its cores.
    worked = bulk([tool("1", cpu_s=0.5, offer=H100.name, start_s=1.0, end_s=4.0)], H100)
    assert worked["cost_usd"] == pytest.approx(H100.usd_per_hour() / 3600 * 0.5 / H100.vcpus)
    assert bulk(MIXED, L4).note(10) != "as recorded"
    # One output token leaves nothing to divide by.
    one = bulk([llm("1", output_tokens=1, offer=L4.name, start_s=0.0, end_s=1.0)], L4)
    assert np.isnan(one["tpot_s"][0])
    assert np.isnan(one["ttft_s"][0])


def test_the_load_is_checked_before_anything_else():
    for load in (
        cost.Load(concurrency=0),
        cost.Load(concurrency=1_000_001),
        cost.Load(utilisation=-1.0),
        cost.Load(utilisation=1001.0),
    ):
        with pytest.raises(InputError):
            bulk([], H100, load)


def test_grams_by_the_grid_of_the_region():
    found = bulk(MIXED[:1], H100)
    assert found.g_per_j == grams(1.0, H100, CATALOG)
    assert bulk(MIXED[:1], replace(H100, region="moon-1")).g_per_j is None


def test_refusing_clears_what_was_there():
    found = bulk(MIXED[:2], M7G)
    found.refuse(np.array([1]), "out of order")
    assert found.note(1) == "out of order"
    assert found.basis[1] == cost.REFUSED
    assert np.isnan(found["cost_usd"][1])

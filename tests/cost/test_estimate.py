from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from msgspec.structs import replace

from polysilicon import catalog, cost
from polysilicon.cost.constants import constants, read_constants
from polysilicon.cost.energy import watts
from polysilicon.cost.llm.choose import law_for
from polysilicon.cost.money import usd_per_s
from polysilicon.cost.tools import by_ratio, host, slowdown, tool_seconds
from polysilicon.errors import InputError, NoBasisError
from polysilicon.workload.record import StepRecord

CATALOG = catalog.load()
SMOL = CATALOG.models["smollm2-135m-instruct"]
GRAVITON4 = CATALOG.offer("aws/m8g.2xlarge", "us-east-1")
H100 = CATALOG.offer("aws/p5.48xlarge")


def llm(**values):
    asked = {"model": SMOL.name, "prompt_tokens": 1, "output_tokens": 128} | values
    return StepRecord(task_id="t", step_id="1", name="chat", kind="llm", **asked)


def tool(**values):
    asked = {"cpu_s": 1.0, "offer": "aws/m7g.large"} | values
    return StepRecord(task_id="t", step_id="1", name="code", kind="tool", **asked)


def numbers(*values):
    return np.array(values, dtype=np.float64)


@pytest.mark.parametrize(
    "offer", [GRAVITON4, H100, CATALOG.offer("gcp/a2-highgpu-1g")], ids=lambda o: o.name
)
def test_an_llm_step_is_what_its_law_says(offer):
    step = llm(prompt_tokens=300, cached_tokens=100, output_tokens=50)
    guess = cost.estimate(step, offer)
    law = law_for(SMOL, offer, cost.Load(), CATALOG, 349.0)
    said = law.seconds(numbers(200), numbers(100), numbers(50))
    assert (guess.ttft_s, guess.tpot_s) == (said.ttft_s[0], said.tpot_s[0])
    assert (guess.ttft_low_s, guess.ttft_high_s) == (said.ttft_low_s[0], said.ttft_high_s[0])
    assert (guess.tpot_low_s, guess.tpot_high_s) == (said.tpot_low_s[0], said.tpot_high_s[0])
    assert guess.service_s == pytest.approx(guess.ttft_s + 49 * guess.tpot_s)
    assert guess.low_s == pytest.approx(guess.ttft_low_s + 49 * guess.tpot_low_s)
    assert guess.high_s == pytest.approx(guess.ttft_high_s + 49 * guess.tpot_high_s)
    assert guess.low_s < guess.service_s < guess.high_s
    assert guess.note == law.note
    # Of an accelerator a step takes nothing before it is in the engine.
    machine_s = guess.service_s * law.share if said.machine_s is None else said.machine_s[0]
    assert machine_s <= guess.service_s * law.share * (1 + 1e-12)
    usd = usd_per_s(offer) * machine_s
    assert guess.cost_usd == pytest.approx(usd)
    machine = watts(offer)
    if machine is None:
        assert guess.energy_j is None
    else:
        assert guess.energy_j == pytest.approx(machine.full_w * machine_s)


def test_a_measured_rate_is_returned_as_it_was_measured():
    offer = CATALOG.offer("aws/m9g.2xlarge", "us-east-1")
    (rate,) = [
        r
        for r in CATALOG.rates[offer.name]
        if r.model == "smollm-135m" and r.engine == "llama.cpp" and r.device == "cpu"
    ]
    load = cost.Load(serving=cost.Serving(engine="llama.cpp"))
    guess = cost.estimate(llm(), offer, load)
    assert guess.tpot_s == pytest.approx(1 / rate.decode_128_tokens_per_s, rel=0.05)
    prompt = cost.estimate(llm(prompt_tokens=512, output_tokens=1), offer, load)
    assert prompt.ttft_s == pytest.approx(512 / rate.prefill_512_tokens_per_s, rel=0.05)
    assert prompt.service_s == prompt.ttft_s


def test_cached_tokens_cost_no_prefill():
    found = [
        cost.estimate(llm(prompt_tokens=400, cached_tokens=c, output_tokens=1), GRAVITON4).ttft_s
        for c in (None, 0, 200, 399, 400, 5000)
    ]
    # The last prompt token is always computed, and no more can be cached than the prompt has.
    assert found[0] == found[1] > found[2] > found[3] == found[4] == found[5]


def test_carbon_is_that_of_the_joules():
    guess = cost.estimate(llm(), GRAVITON4)
    grid = CATALOG.grid_carbon["aws", "us-east-1"]
    assert guess.carbon_g >= guess.energy_j / 3.6e6 * grid.g_co2e_per_kwh
    nowhere = cost.estimate(llm(), replace(GRAVITON4, region="moon-1"))
    assert nowhere.carbon_g is None


def test_a_tool_step_scales_by_core_speed():
    offer = CATALOG.offer("aws/m9g.large", "us-east-1")
    guess = cost.estimate(tool(startup_s=0.2, wait_s=0.3), offer)
    known = CATALOG.offer("aws/m7g.large").processor
    speed = slowdown(known, offer.processor, "aws/m7g.large", offer.name)
    assert speed.ratio < 1
    said = tool_seconds(
        numbers(1.0),
        startup_s=numbers(0.2),
        wait_s=numbers(0.3),
        cores=numbers(1.0),
        speed=speed,
        machine=host(offer),
    )
    assert guess.service_s == said.service_s[0]
    assert guess.low_s < guess.service_s < guess.high_s
    assert guess.cost_usd == pytest.approx(usd_per_s(offer) * said.vcpu_s[0] / 2)
    assert (guess.basis, guess.ttft_s, guess.tpot_s) == ("calibrated", None, None)
    assert f"{speed.ratio:.2f}" in guess.note


def test_a_tool_step_uses_the_cores_that_it_can():
    offer = CATALOG.offer("aws/m7g.2xlarge")
    one, four, many = (
        cost.estimate(tool(cpu_s=8.0, cores=cores), offer) for cores in (None, 4.0, 64.0)
    )
    assert one.service_s == pytest.approx(8.0, rel=0.01)
    assert four.service_s == pytest.approx(2.0, rel=0.01)
    assert many.service_s == pytest.approx(1.0, rel=0.01)
    assert one.cost_usd == pytest.approx(four.cost_usd, rel=0.01)
    assert one.low_s == one.service_s == one.high_s  # the same chip


def test_other_work_on_the_machine_slows_tools():
    offer = CATALOG.offer("aws/m7g.2xlarge")
    idle = cost.estimate(tool(), offer)
    full = cost.estimate(tool(), offer, cost.Load(utilisation=2.0))
    assert full.service_s > 1.9 * idle.service_s


def test_dollars_by_the_scarcer_resource():
    offer = CATALOG.offer("aws/m7g.large", "us-east-1")
    idle = cost.estimate(tool(cpu_s=0.0, wait_s=10.0), offer)
    half = cost.estimate(tool(cpu_s=0.0, wait_s=10.0, memory_bytes=offer.memory_bytes // 2), offer)
    assert idle.cost_usd == 0
    assert half.cost_usd == pytest.approx(offer.usd_per_hour() / 3600 * 10 / 2)
    small = cost.estimate(tool(cpu_s=2.0, memory_bytes=1), offer)
    assert small.cost_usd == cost.estimate(tool(cpu_s=2.0), offer).cost_usd
    large = cost.estimate(tool(cpu_s=2.0, memory_bytes=offer.memory_bytes), offer)
    assert large.cost_usd == pytest.approx(usd_per_s(offer) * large.service_s)


def test_embedding_with_core_seconds_goes_as_a_tool_step():
    step = replace(tool(), kind="embed", name="embed")
    offer = CATALOG.offer("aws/m7g.large")
    assert cost.estimate(step, offer).service_s == cost.estimate(tool(), offer).service_s


def test_what_was_recorded_on_the_offer_is_the_estimate():
    offer = CATALOG.offer("aws/m7g.2xlarge", "us-east-1")
    step = llm(
        offer="aws/m7g.2xlarge", start_s=1.0, first_token_s=1.5, end_s=3.5, output_tokens=5,
        cost_usd=0.25, energy_j=7.0,
    )  # fmt: skip
    guess = cost.estimate(step, offer)
    assert (guess.service_s, guess.low_s, guess.high_s, guess.basis) == (2.5, 2.5, 2.5, "measured")
    assert (guess.ttft_s, guess.tpot_s) == (0.5, 0.5)
    assert (guess.ttft_low_s, guess.tpot_high_s) == (0.5, 0.5)
    assert (guess.cost_usd, guess.energy_j) == (0.25, 7.0)
    unpriced = cost.estimate(replace(step, cost_usd=None, energy_j=None), offer)
    assert unpriced.cost_usd == pytest.approx(offer.usd_per_hour() / 3600 * 2.5)
    shared = cost.estimate(replace(step, cost_usd=None), offer, cost.Load(concurrency=5))
    assert shared.cost_usd == pytest.approx(unpriced.cost_usd / 5)
    by_cores = cost.estimate(replace(step, cost_usd=None, energy_j=None, cpu_s=1.0), offer)
    assert by_cores.cost_usd == pytest.approx(cost.share_usd(offer, 1.0))
    assert by_cores.energy_j > 0
    abroad = cost.estimate(replace(step, region="eu-west-1"), offer)
    assert abroad.note != "as recorded"
    # What was paid tells nothing of another price.
    priced = replace(offer, spot_usd_per_hour=offer.usd_per_hour() / 4)
    spot = cost.estimate(step, priced, price="spot")
    assert spot.cost_usd == pytest.approx(offer.usd_per_hour() / 3600 * 2.5 / 4)
    assert (spot.note, spot.energy_j) == ("as recorded", 7.0)
    backwards = cost.estimate(replace(step, end_s=0.5), offer)
    assert backwards.note != "as recorded"
    assert backwards.service_s > 0


def test_estimates_rise_with_the_price_and_with_nothing_else():
    dear = replace(H100, on_demand_usd_per_hour=2 * H100.usd_per_hour())
    one, other = cost.estimate(llm(), H100), cost.estimate(llm(), dear)
    assert other.cost_usd == pytest.approx(2 * one.cost_usd)
    assert other.service_s == one.service_s
    cheap = replace(H100, spot_usd_per_hour=H100.usd_per_hour() / 4)
    spot = cost.estimate(llm(), cheap, price="spot")
    assert spot.cost_usd == pytest.approx(one.cost_usd / 4)


REFUSALS = [
    (llm(prompt_tokens=None), "aws/m9g.large", "an LLM step needs model, prompt_tokens and"),
    (llm(output_tokens=None), "aws/p5.48xlarge", "an LLM step needs model, prompt_tokens and"),
    (llm(model=None), "aws/m9g.large", "an LLM step needs model, prompt_tokens and output"),
    (llm(model="gpt-17"), "aws/m9g.large", "no shapes: unknown model 'gpt-17'"),
    (llm(model="lama-3.1-8b"), "aws/p5.48xlarge", "did you mean llama-3.1-8b"),
    (llm(model="deepseek-r1"), "aws/g6.xlarge", "GB of weights on 24 GB of NVIDIA L4"),
    (llm(model="llama-3.1-8b", prompt_tokens=10**12), "aws/p5.48xlarge", "a step of more than"),
    (llm(model="llama-3.1-8b", output_tokens=10**12), "aws/g6.xlarge", "it does not fit"),
    (llm(model="qwen2.5-7b-instruct"), "aws/g6f.xlarge", "how much of NVIDIA L4 it has"),
    (tool(cpu_s=None), "aws/m9g.large", "a tool step needs cpu_s"),
    (tool(offer=None), "aws/m9g.large", "which offer its core-seconds were measured on"),
    (tool(offer="aws/nowhere"), "aws/m9g.large", "core speed of aws/nowhere"),
    (tool(), "azure/Standard_ND96isr_H100_v5", "core speed of azure/Standard_ND96isr_H100_v5"),
    (tool(), "gcp/tpu-v6e-16", "how many vCPUs gcp/tpu-v6e-16 has is not known"),
    (tool(memory_bytes=2**50), "aws/m9g.large", "does not fit: more memory than aws/m9g.large"),
    (replace(tool(), kind="train", name="tune"), "aws/m9g.large", "training step needs model"),
]


@pytest.mark.parametrize(("step", "offer", "words"), REFUSALS)
def test_what_cannot_be_known_is_refused_with_the_reason(step, offer, words):
    with pytest.raises(NoBasisError) as caught:
        cost.estimate(step, CATALOG.offer(offer))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_reasons_are_the_same_for_alike_cases():
    reasons = set()
    for prompt, output in ((10**9, 5), (10**12, 5), (2, 10**10)):
        step = llm(model="llama-3.1-8b", prompt_tokens=prompt, output_tokens=output)
        with pytest.raises(NoBasisError) as caught:
            cost.estimate(step, CATALOG.offer("aws/g6.xlarge"))
        reasons.add(str(caught.value))
    assert len(reasons) == 1


@pytest.mark.parametrize("concurrency", [0, -1, 0.5, 1_000_001, float("nan"), float("inf")])
def test_concurrency_is_a_number_from_1_to_a_million(concurrency):
    with pytest.raises(InputError) as caught:
        cost.estimate(llm(), H100, cost.Load(concurrency=concurrency))
    words = f"concurrency is {concurrency:g}; it is from 1 to 1,000,000"
    assert str(caught.value) == words


@pytest.mark.parametrize("utilisation", [-0.1, 1000.1, float("nan"), float("inf")])
def test_utilisation_is_a_number_from_0_to_a_thousand(utilisation):
    with pytest.raises(InputError) as caught:
        cost.estimate(tool(), GRAVITON4, cost.Load(utilisation=utilisation))
    assert str(caught.value) == f"utilisation is {utilisation:g}; it is from 0 to 1000"


def test_the_largest_loads_are_answered():
    assert cost.estimate(llm(), H100, cost.Load(concurrency=1_000_000)).service_s > 0
    full = cost.estimate(tool(), GRAVITON4, cost.Load(utilisation=1000.0))
    assert full.service_s > 500 * cost.estimate(tool(), GRAVITON4).service_s


@pytest.mark.parametrize(("prompt", "output"), [(1000, 200), (2000, 100), (500, 500)])
def test_dollars_do_not_fall_when_only_the_queue_grows(prompt, output):
    step = llm(model="llama-3.1-8b-instruct", prompt_tokens=prompt, output_tokens=output)
    l4 = CATALOG.offer("aws/g6.xlarge")
    found = [cost.estimate(step, l4, cost.Load(concurrency=many)) for many in (256, 1024, 4096)]
    # 24 GB hold some fifty such steps; all others wait, each as long as those before it.
    for near, far in pairwise(found):
        assert far.ttft_s == pytest.approx(4 * near.ttft_s, rel=0.3)
        assert far.tpot_s == pytest.approx(near.tpot_s)
        assert far.cost_usd == pytest.approx(near.cost_usd, rel=1e-9)
        assert far.energy_j == pytest.approx(near.energy_j, rel=1e-9)
    # They pay for what the machine does meanwhile: as many steps as run at once share it.
    assert found[0].cost_usd > usd_per_s(l4) * found[0].service_s / 256
    assert found[2].cost_usd < usd_per_s(l4) * found[2].service_s


@pytest.mark.parametrize(
    ("step", "words"),
    [
        (llm(prompt_tokens=-5), "prompt_tokens is -5"),
        (llm(output_tokens=-5), "output_tokens is -5"),
        (llm(cached_tokens=-5), "cached_tokens is -5"),
        (llm(prompt_tokens=float("inf")), "prompt_tokens is inf"),
        (tool(cpu_s=-1.0), "cpu_s is negative"),
        (tool(wait_s=-1.0), "wait_s is negative"),
        (tool(memory_bytes=-1), "memory_bytes is -1"),
    ],
)
def test_amounts_below_nothing_are_the_users_mistake(step, words):
    with pytest.raises(InputError, match=words):
        cost.estimate(step, GRAVITON4)


def test_tokens_that_are_not_a_number_are_not_told():
    with pytest.raises(NoBasisError, match="an LLM step needs"):
        cost.estimate(llm(prompt_tokens=float("nan")), H100)


@pytest.mark.parametrize(
    ("serving", "words"),
    [
        ({"engine": "vlm"}, "unknown engine 'vlm' on NVIDIA H100 SXM5 80GB; did you mean vllm?"),
        ({"precision": "fp9"}, "unknown precision 'fp9'; did you mean fp8"),
        ({"tp": 3, "count": 8}, "impossible parallelism: tp=3 on 8"),
        ({"tp": 16}, "impossible parallelism: 16 of 8 accelerators"),
        ({"ep": 8}, "llama-3.1-8b has no experts to spread"),
    ],
)
def test_a_way_of_serving_that_cannot_be(serving, words):
    load = cost.Load(serving=cost.Serving(**serving))
    with pytest.raises(InputError) as caught:
        cost.estimate(llm(model="llama-3.1-8b"), H100, load)
    assert words in str(caught.value)


def test_an_unknown_price_is_refused():
    offer = replace(CATALOG.offer("aws/m7g.large"), on_demand_usd_per_hour=None)
    with pytest.raises(NoBasisError, match="no on-demand price"):
        cost.estimate(tool(), offer)


def test_speed_by_a_ratio_is_what_it_says():
    half = by_ratio(0.5)
    said = tool_seconds(
        numbers(4.0),
        startup_s=numbers(0),
        wait_s=numbers(0),
        cores=numbers(1),
        speed=half,
        machine=host(GRAVITON4),
    )
    assert said.service_s == pytest.approx(2.0, rel=0.01)


def test_every_constant_has_a_source(tmp_path):
    assert 0 < constants()["memory"]["usable_share"] < 1
    file = tmp_path / "c.csv"
    file.write_text("family,constant,value,source,date\ngpu,x,1,,2026\n", "utf-8")
    with pytest.raises(InputError, match="row 2, source"):
        read_constants(file)
